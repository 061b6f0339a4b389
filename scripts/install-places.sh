#!/bin/sh
# Read by the scripts that install and uninstall, with the arguments DESTDIR and PREFIX: where each file goes.
# shellcheck disable=SC2034
set -eu

destdir=$1
prefix=$2

refuse() {
    echo "make: $*" >&2
    exit 1
}

# The path ends up in units, in a crontab and behind a #!, where most other characters mean something.
case $prefix in
    *[!A-Za-z0-9/._+-]* | *//* | */ | */.. | */../* | */. | */./*) refuse "PREFIX=$prefix: only letters, digits and . _ + - are understood" ;;
    /home/* | /root | /root/* | /run/* | /tmp/* | /var/tmp/*) refuse "PREFIX=$prefix: the service cannot see what is there. Take /usr/local or /opt/autorelease" ;;
    /?*) ;;
    *) refuse "PREFIX=$prefix: an absolute path is needed" ;;
esac

# systemd looks in these two places and in /etc alone.
case $prefix in
    /usr) system=/usr ;;
    *) system=/usr/local ;;
esac

program=$prefix/lib/autorelease
command=$prefix/bin/autorelease
units=$system/lib/systemd/system
sysusers=$system/lib/sysusers.d/autorelease.conf
tmpfiles=$system/lib/tmpfiles.d/autorelease.conf
documents=$prefix/share/doc/autorelease
manual=$prefix/share/man/man1/autorelease.1
bash_completion=$prefix/share/bash-completion/completions/autorelease
zsh_completion=$prefix/share/zsh/site-functions/_autorelease
fish_completion=$prefix/share/fish/vendor_completions.d/autorelease.fish
crontab=/etc/cron.d/autorelease

# On this host itself, and not in a folder for a package: nothing is exchanged under a tick that is running. It loads
# parts of the program when it first needs them.
refuse_during_a_tick() {
    if [ -n "$destdir" ] || [ ! -d /run/systemd/system ]; then
        return
    fi
    case $(systemctl show --property=ActiveState --value autorelease.service) in
        inactive | failed) ;;
        *) refuse "a tick is running. Wait for its end, or: systemctl stop autorelease.service" ;;
    esac
}
