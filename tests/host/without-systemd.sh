#!/bin/sh
set -eu
# On a host without systemd, as root: cron does the work.
. /checks/checks.sh

echo "--- the package where no systemd runs"
is "no systemd runs" "$(ls -d /run/systemd/system 2>&1 || true)" "ls: cannot access '/run/systemd/system': No such file or directory"
is "none is installed" "$(command -v systemctl || true)" ""
is "nothing is there before" "$(traces)" ""
install_package
is "none was installed with it" "$(command -v systemctl || true)" ""
check_installed

echo "--- a sweep by cron"
configure
# Every minute, as the hour is long.
sed -i 's/^#17 /* /' /etc/cron.d/autorelease
busybox syslogd -O /checks/syslog
cron
waits_for "cron started a sweep" grep 'success (exit 0)' /checks/syslog
is "what is released" "$(released)" "due"
is "no error in the system log" "$(grep ' cron.err autorelease:' /checks/syslog || true)" ""
kill "$(cat /var/run/crond.pid)"

echo "--- remove and purge"
ends 0 dpkg --remove autorelease
is "what cron would run now does nothing" "$(sed -n 's/^\* \* \* \* \* autorelease //p' /etc/cron.d/autorelease | sh 2>&1)" ""
ends 0 dpkg --install /checks/autorelease.deb
is "the line is still switched on" "$(grep -c '^\* \* \* \* \* autorelease' /etc/cron.d/autorelease)" "1"
check_removal

touch /checks/passed
