#!/bin/sh
# install-files.sh DESTDIR PREFIX: install what belongs to the program: units, man page, completions. Enables nothing.
set -eu
umask 022
# shellcheck source=scripts/install-places.sh
. "$(dirname "$0")/install-places.sh"

# put SOURCE PLACE: a file, with the paths of this installation in it.
put() {
    mkdir -p "$destdir$(dirname "$2")"
    sed -e "s|/usr/bin/autorelease|$command|g" -e "s|/usr/share/doc/autorelease|$documents|g" "$1" >"$destdir$2.new"
    chmod 0644 "$destdir$2.new"
    mv -f "$destdir$2.new" "$destdir$2"
}

for unit in autorelease.service autorelease.timer autorelease-failure@.service; do
    put "deploy/systemd/$unit" "$units/$unit"
done
put deploy/systemd/sysusers.d/autorelease.conf "$sysusers"
put deploy/systemd/tmpfiles.d/autorelease.conf "$tmpfiles"
put deploy/man/autorelease.1 "$manual"
put deploy/completions/autorelease.bash "$bash_completion"
put deploy/completions/_autorelease "$zsh_completion"
put deploy/completions/autorelease.fish "$fish_completion"
for document in README.md runbook.md CHANGELOG.md LICENSE docs/*.md docs/schema/*.json; do
    put "$document" "$documents/$document"
done
put deploy/config.toml "$documents/examples/config.toml"
put deploy/cron/autorelease "$documents/examples/cron"
# A line that somebody has switched on stays on.
if [ ! -e "$destdir$crontab" ]; then
    put deploy/cron/autorelease "$crontab"
fi

if [ -z "$destdir" ]; then
    echo "installed $command, and enabled nothing. What comes next: docs/operating.md, Running it every hour"
fi
