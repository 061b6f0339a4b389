#!/bin/sh
set -eu
# On a host with systemd where `make install` has put the program into /usr/local; as root.
. /checks/checks.sh

ends 0 /usr/local/bin/autorelease --version
systemd-sysusers autorelease.conf
systemd-tmpfiles --create autorelease.conf
is "the state directory" "$(owner_and_mode /var/lib/autorelease)" "autorelease:autorelease 750"
ends 0 systemd-analyze verify --recursive-errors=yes autorelease.timer autorelease.service
is "systemd has nothing to say of it" "$(cat /checks/output)" ""
is "nothing is enabled" "$(systemctl is-enabled autorelease.timer || true)" "disabled"
ends 4 runuser -u autorelease -- /usr/local/bin/autorelease tick --once
says "/etc/autorelease/config.toml"
touch /checks/passed
