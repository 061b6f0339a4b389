#!/bin/sh
set -eu
# run.sh PACKAGE: check the Debian package, and `make install`, on new hosts of this Debian: one with systemd, booted in
# a container, and one without. As root; the hosts themselves are offline.

package=$1
here=$(dirname "$0")

if [ "$(id -u)" -ne 0 ]; then
    echo "make test-host: only root can make hosts: sudo make test-host" >&2
    exit 1
fi
missing=
for tool in lintian mmdebstrap systemd-nspawn; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    echo "make test-host: missing:$missing. On Debian: apt-get install lintian mmdebstrap systemd-container" >&2
    exit 1
fi

suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
work=$(mktemp -d /var/tmp/autorelease-test-host.XXXXXX)
trap 'rm -rf "$work"' EXIT

# make_host NAME PACKAGES: a new Debian in $work/NAME, with what the package will want from the archive laid ready.
make_host() {
    echo "--- making a host: $1"
    mkdir -p "$work/checks"
    cp "$here"/*.sh "$here/typed-elsewhere" "$work/checks"
    cp "$package" "$work/checks/autorelease.deb"
    mmdebstrap --quiet --variant=minbase --include="$2" --skip=cleanup/apt \
        --customize-hook="copy-in $work/checks /" \
        --customize-hook="chroot \"\$1\" apt-get install -qq --yes --no-install-recommends --download-only /checks/autorelease.deb" \
        "$suite" "$work/$1"
}

# enter NAME OPTIONS...: a container in that host, with a network of its own and a limit of time.
enter() {
    root=$work/$1
    shift
    timeout --kill-after=30 900 systemd-nspawn --quiet --register=no --keep-unit --settings=no --private-network \
        --resolv-conf=off --timezone=off --link-journal=no --directory="$root" "$@" </dev/null
}

# passed NAME: whether its checks came to their end.
passed() {
    if [ ! -e "$work/$1/checks/passed" ]; then
        echo "make test-host: FAILED on the host $1" >&2
        exit 1
    fi
}

echo "--- lintian"
lintian --allow-root --fail-on error,warning "$package"

echo "--- README's quick start, in a new clone, by an ordinary user"
clone="$work/a clone"
git clone --quiet . "$clone"
chmod 0711 "$work"
chown -R nobody "$clone"
awk '/^## /{is_wanted = $0 == "## Quick start"} /^```/{is_shell = is_wanted && $0 == "```sh"; next} is_shell' README.md |
    grep -v '^make test' >"$work/quick-start"
code=0
(
    cd "$clone"
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups \
        env HOME="$clone" PATH=/usr/local/bin:/usr/bin:/bin sh -e "$work/quick-start"
) >"$work/console" 2>&1 || code=$?
# Its last command is a tick over a sample with broken rows, and each before that ends with 0 or as make does.
if [ "$code" -ne 3 ]; then
    cat "$work/console"
    echo "make test-host: FAILED: README, Quick start: exit $code" >&2
    exit 1
fi
rm -r "$clone"

make_host with-systemd systemd-sysv,dbus,man-db
cp "$here/checks.service" "$work/with-systemd/etc/systemd/system/"
mkdir -p "$work/with-systemd/etc/systemd/system/multi-user.target.wants"
ln -s ../checks.service "$work/with-systemd/etc/systemd/system/multi-user.target.wants/"
: >"$work/with-systemd/checks/log"
enter with-systemd --boot >"$work/console" 2>&1 || cat "$work/console"
cat "$work/with-systemd/checks/log"
passed with-systemd

make_host without-systemd cron,busybox-syslogd,systemd-standalone-sysusers,systemd-standalone-tmpfiles
enter without-systemd --as-pid2 /bin/sh /checks/without-systemd.sh
passed without-systemd

echo "--- make install, and uninstall"
root=$work/with-systemd
rm "$root/checks/passed"
make install DESTDIR="$root" PREFIX=/usr/local PYTHON=/usr/bin/python3
enter with-systemd --as-pid2 /bin/sh /checks/installed.sh
passed with-systemd
make uninstall DESTDIR="$root" PREFIX=/usr/local
left=$(cd "$root" && find . \( -path ./checks -o -path ./var/cache -o -path ./var/log \) -prune -o -name '*autorelease*' -print | LC_ALL=C sort)
if [ "$left" != "./etc/autorelease
./var/lib/autorelease" ]; then
    echo "make test-host: FAILED: make uninstall has left $left" >&2
    exit 1
fi
echo "make test-host: everything passed"
