#!/bin/sh
set -eu
# What the checks on every host have in common; read by them.
# shellcheck disable=SC2034

# is WHAT FOUND EXPECTED
is() {
    if [ "$2" != "$3" ]; then
        printf 'FAILED: %s: found\n%s\nwhere this was expected:\n%s\n' "$1" "$2" "$3"
        exit 1
    fi
    echo "ok: $1"
}

# ends CODE COMMAND...: the command's output is shown where the code is another.
ends() {
    wanted=$1
    shift
    code=0
    "$@" >/checks/output 2>&1 || code=$?
    if [ "$code" -ne "$wanted" ]; then
        cat /checks/output
    fi
    is "exit $wanted: $*" "$code" "$wanted"
}

# says WORDS: in the output of the last command.
says() {
    if ! grep --quiet --fixed-strings -e "$1" /checks/output; then
        cat /checks/output
        echo "FAILED: it does not say: $1"
        exit 1
    fi
    echo "ok: it says: $1"
}

# waits_for WHAT COMMAND...: until it succeeds, for two minutes at most.
waits_for() {
    what=$1
    shift
    tries=0
    until "$@" >/checks/output 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            cat /checks/output
            is "$what" "no" "yes"
        fi
        sleep 0.2
    done
    echo "ok: $what"
}

owner_and_mode() {
    stat --format='%U:%G %a' "$1"
}

# What anybody who looks would take for a part of it, outside of the checks themselves and the logs of apt and dpkg.
traces() {
    find / -xdev \( -path /proc -o -path /sys -o -path /checks -o -path /var/cache -o -path /var/log \) -prune \
        -o -name '*autorelease*' -print | LC_ALL=C sort
}

install_package() {
    ends 0 env DEBIAN_FRONTEND=noninteractive apt-get install --yes --reinstall --no-install-recommends /checks/autorelease.deb
}

# Installed, and not configured.
check_installed() {
    ends 0 autorelease --version
    says "autorelease "
    is "the user" "$(getent passwd autorelease | cut -d: -f1,6,7)" "autorelease:/var/lib/autorelease:/usr/sbin/nologin"
    is "the state directory" "$(owner_and_mode /var/lib/autorelease)" "autorelease:autorelease 750"
    is "the state directory is empty" "$(ls -A /var/lib/autorelease)" ""
    is "the configuration's directory" "$(owner_and_mode /etc/autorelease)" "root:autorelease 750"
    is "the credentials' directory" "$(owner_and_mode /etc/autorelease/credentials)" "root:root 700"
    is "there is no configuration" "$(ls -A /etc/autorelease)" "credentials"
    is "what is in the crontab is switched off" "$(grep -cv -e '^#' -e '^[A-Z]*=' /etc/cron.d/autorelease || true)" "0"
    for unit in autorelease.service autorelease.timer autorelease-failure@.service; do
        is "$unit" "$(owner_and_mode "/usr/lib/systemd/system/$unit")" "root:root 644"
    done
    for file in man/man1/autorelease.1.gz bash-completion/completions/autorelease zsh/vendor-completions/_autorelease \
        fish/vendor_completions.d/autorelease.fish doc/autorelease/README.md doc/autorelease/runbook.md \
        doc/autorelease/examples/config.toml doc/autorelease/changelog.gz doc/autorelease/copyright; do
        is "$file" "$(owner_and_mode "/usr/share/$file")" "root:root 644"
    done
    is "it writes nothing of its own" "$(dpkg --verify autorelease)" ""
    is "what is in /usr/lib/autorelease is the package's" \
        "$(find /usr/lib/autorelease | LC_ALL=C sort)" "$(dpkg -L autorelease | grep ^/usr/lib/autorelease | LC_ALL=C sort)"
    ends 4 runuser -u autorelease -- autorelease tick --once
    says "/etc/autorelease/config.toml"
}

# A configuration with a release program, and a ledger in which one VM of three is due.
configure() {
    mkdir -p /usr/local/sbin
    printf '#!/bin/sh\necho "released $1"\n' >/usr/local/sbin/release-vm
    chmod 0755 /usr/local/sbin/release-vm
    cat >/etc/autorelease/config.toml <<'END'
[ledger]
url = "sqlite:////var/lib/autorelease/allocations.db"
[provisioners.default]
kind = "command"
argv = ["/usr/local/sbin/release-vm", "{sid}"]
[guard]
max_percent = 100
END
    chown root:autorelease /etc/autorelease/config.toml
    chmod 0640 /etc/autorelease/config.toml
    ends 0 runuser -u autorelease -- autorelease init
    runuser -u autorelease -- /usr/lib/autorelease/bin/python -c '
import sqlite3, time
connection = sqlite3.connect("/var/lib/autorelease/allocations.db")
connection.execute("CREATE TABLE vm_allocations (sid TEXT PRIMARY KEY, status TEXT, expires_at INTEGER, released_at INTEGER)")
rows = [("due", time.time() - 3600), ("paid", time.time() + 86400), ("never", None)]
connection.executemany("INSERT INTO vm_allocations (sid, status, expires_at) VALUES (?, \"Active\", ?)", rows)
connection.commit()'
}

# sql STATEMENT: as the ledger's own application would.
sql() {
    /usr/lib/autorelease/bin/python -c '
import sqlite3, sys
connection = sqlite3.connect("/var/lib/autorelease/allocations.db")
connection.execute(sys.argv[1])
connection.commit()' "$1"
}

released() {
    /usr/lib/autorelease/bin/python -c '
import sqlite3
connection = sqlite3.connect("file:/var/lib/autorelease/allocations.db?mode=ro", uri=True)
print(*[sid for sid, in connection.execute("SELECT sid FROM vm_allocations WHERE status = \"Released\"")])'
}

# Removed: the program is gone, what the operator has is there. Then purged.
check_removal() {
    ends 0 dpkg --remove autorelease
    is "no program" "$(ls -d /usr/bin/autorelease /usr/lib/autorelease 2>/dev/null || true)" ""
    is "the journal, the ledger and the configuration are there" \
        "$(ls /var/lib/autorelease/journal.db /var/lib/autorelease/allocations.db /etc/autorelease/config.toml | wc -l)" "3"
    ends 0 dpkg --purge autorelease
    says "/var/lib/autorelease is not empty"
    is "only the operator's ledger is left" "$(traces)
$(ls -A /var/lib/autorelease)" "/var/lib/autorelease
allocations.db"
    ends 0 dpkg --install /checks/autorelease.deb
    rm /var/lib/autorelease/allocations.db
    ends 0 dpkg --purge autorelease
    is "nothing is left" "$(traces)" ""
}
