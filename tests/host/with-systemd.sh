#!/bin/sh
set -eu
# On a host where systemd runs, as root.
. /checks/checks.sh
. /checks/documents.sh

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

echo "--- what the pages and the runbook say to type"
groupadd allocators
type_all /usr/share/doc/autorelease/docs/operating.md "Running it every hour"
type_all /usr/share/doc/autorelease/runbook.md
gpasswd --delete autorelease allocators
groupdel allocators
is "the timer, at the end of the runbook" "$(timer_state)" "enabled active"

echo "--- a refusal, looked at and answered"
sql 'UPDATE vm_allocations SET status = "Active", released_at = NULL, expires_at = 1700000000 WHERE sid = "paid"'
sed -i 's/^max_percent = 100/max_percent = 1\nmin_fleet = 1/; $a [release]\nhold_grace = "0s"' /etc/autorelease/config.toml
ends 0 runuser -u autorelease -- autorelease unhold paid
ends 1 systemctl start autorelease.service
is "its exit status" "$(service_property ExecMainStatus)" "7"
ends 9 autorelease health
says "the guard refuses: max_percent"
ends 0 runuser -u autorelease -- autorelease tick --once --confirm 1
is "what is released" "$(released)" "due paid"
sed -i 's/^max_percent = 1$/max_percent = 100/' /etc/autorelease/config.toml

echo "--- a ledger elsewhere, which only the service sees read-only"
mkdir -m 2770 /srv/allocations
chown root:autorelease /srv/allocations
mv /var/lib/autorelease/allocations.db /srv/allocations/
chown root:autorelease /srv/allocations/allocations.db
chmod 0660 /srv/allocations/allocations.db
sed -i 's|^url = .*|url = "sqlite:////srv/allocations/allocations.db"|' /etc/autorelease/config.toml
ends 1 systemctl start autorelease.service
is "its exit status" "$(service_property ExecMainStatus)" "5"
ends 9 runuser -u autorelease -- autorelease doctor --format plain
says "ReadWritePaths=/srv/allocations"
mkdir -p /etc/systemd/system/autorelease.service.d
printf '[Service]\nReadWritePaths=/srv/allocations\n' >/etc/systemd/system/autorelease.service.d/ledger.conf
systemctl daemon-reload
ends 1 systemctl start autorelease.service
is "it can be written now, and is another ledger" "$(service_property ExecMainStatus)" "7"
rm -r /etc/systemd/system/autorelease.service.d
systemctl daemon-reload
mv /srv/allocations/allocations.db /var/lib/autorelease/
chown autorelease:autorelease /var/lib/autorelease/allocations.db
rmdir /srv/allocations
sed -i 's|^url = .*|url = "sqlite:////var/lib/autorelease/allocations.db"|' /etc/autorelease/config.toml
ends 0 systemctl start autorelease.service

echo "--- an upgrade"
install_package
is "the timer runs on" "$(timer_state)" "enabled active"
systemctl stop autorelease.timer
install_package
is "a timer that was stopped stays so" "$(timer_state)" "enabled inactive"
systemctl start autorelease.timer

echo "--- an upgrade while a tick runs"
printf '#!/bin/sh\ntouch /var/lib/autorelease/begun\nsleep 5\necho "released $1"\n' >/usr/local/sbin/release-vm
sql 'UPDATE vm_allocations SET expires_at = 1700000000 WHERE sid = "never"'
systemctl start --no-block autorelease.service
waits_for "the tick began" test -e /var/lib/autorelease/begun
install_package
is "the tick was told to stop, and that is no failure" "$(service_property ExecMainStatus) $(service_property Result)" "143 success"
is "what it had begun, it ended" "$(released)" "due paid never"
rm /var/lib/autorelease/begun

echo "--- remove and purge"
check_removal
is "no timer is enabled any more" "$(timer_state)" " inactive"
ends 0 dpkg --install /checks/autorelease.deb
is "installed again, nothing is enabled" "$(timer_state)" "disabled inactive"
ends 0 dpkg --purge autorelease

touch /checks/passed
