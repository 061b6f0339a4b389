#!/bin/sh
# uninstall.sh DESTDIR PREFIX: remove what make install has installed. Configuration, journal and ledger stay.
set -eu
here=$(dirname "$0")
# shellcheck source=scripts/install-places.sh
. "$here/install-places.sh"

if [ -L "$destdir/etc/systemd/system/timers.target.wants/autorelease.timer" ]; then
    refuse "the timer is enabled. First: systemctl disable --now autorelease.timer"
fi
refuse_during_a_tick

rm -rf "$destdir$program" "$destdir$documents"
for file in "$command" "$units/autorelease.service" "$units/autorelease.timer" "$units/autorelease-failure@.service" \
    "$sysusers" "$tmpfiles" "$manual" "$bash_completion" "$zsh_completion" "$fish_completion" "$crontab"; do
    rm -f "$destdir$file"
done

if [ -z "$destdir" ]; then
    echo "removed. /etc/autorelease, /var/lib/autorelease and the user autorelease are still there"
fi
