#!/bin/sh
set -eu
# On a host where systemd runs, as root.
. /checks/checks.sh

timer_state() {
    echo "$(systemctl is-enabled autorelease.timer 2>/dev/null || true) $(systemctl is-active autorelease.timer || true)"
}

service_property() {
    systemctl show --property="$1" --value autorelease.service
}

echo "--- the package where systemd runs"
is "nothing is there before" "$(traces)" ""
install_package
check_installed
is "nothing is enabled" "$(timer_state)" "disabled inactive"
ends 0 systemd-analyze verify --recursive-errors=yes autorelease.timer autorelease.service 'autorelease-failure@x.service'
is "systemd has nothing to say of it" "$(cat /checks/output)" ""
ends 0 systemd-analyze security --threshold=12 autorelease.service
ends 0 man --where autorelease
ends 0 man --whatis autorelease
says "release virtual machines"

echo "--- started unconfigured"
ends 1 systemctl start autorelease.service
is "its exit status" "$(service_property ExecMainStatus)" "4"
waits_for "the alarm" journalctl --quiet --identifier=autorelease-failure --priority=alert --lines=1 --output=cat \
    --grep '^autorelease.service failed: result=exit-code exit=exited/4'

echo "--- a sweep, confined"
configure
ends 0 systemctl start autorelease.service
is "its exit status" "$(service_property ExecMainStatus)" "0"
is "what is released" "$(released)" "due"
ends 0 runuser -u autorelease -- autorelease history --sid due --format json
says '"actor": "autorelease (uid '

echo "--- the timer"
ends 0 systemctl enable --now autorelease.timer
is "the timer" "$(timer_state)" "enabled active"
ends 0 systemctl list-timers autorelease.timer
says "autorelease.service"
says "1 timers listed"

echo "--- an upgrade"
install_package
is "the timer runs on" "$(timer_state)" "enabled active"
systemctl stop autorelease.timer
install_package
is "a timer that was stopped stays so" "$(timer_state)" "enabled inactive"
systemctl start autorelease.timer

echo "--- an upgrade while a tick runs"
printf '#!/bin/sh\ntouch /var/lib/autorelease/begun\nsleep 5\necho "released $1"\n' >/usr/local/sbin/release-vm
/usr/lib/autorelease/bin/python -c '
import sqlite3
connection = sqlite3.connect("/var/lib/autorelease/allocations.db")
connection.execute("UPDATE vm_allocations SET expires_at = 1700000000 WHERE sid = \"never\"")
connection.commit()'
systemctl start --no-block autorelease.service
waits_for "the tick began" test -e /var/lib/autorelease/begun
install_package
is "the tick was told to stop, and that is no failure" "$(service_property ExecMainStatus) $(service_property Result)" "143 success"
is "what it had begun, it ended" "$(released)" "due never"
rm /var/lib/autorelease/begun

echo "--- remove and purge"
check_removal
is "no timer is enabled any more" "$(timer_state)" " inactive"
ends 0 dpkg --install /checks/autorelease.deb
is "installed again, nothing is enabled" "$(timer_state)" "disabled inactive"
ends 0 dpkg --purge autorelease

touch /checks/passed
