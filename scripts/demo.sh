#!/bin/sh
# demo.sh AUTORELEASE: show a sweep on a sample ledger in ./demo, and check every number that is shown.
set -eu

autorelease=$1
python=$(dirname "$autorelease")/python
marker=demo/.made-by-autorelease-demo

step() {
    printf '\n\033[1m$ autorelease --config demo/config.toml %s\033[0m\n' "$*"
}

# expect CODE ARGUMENTS...: run the program, show what it prints, and insist on its exit code.
expect() {
    wanted=$1
    shift
    step "$@"
    code=0
    "$autorelease" --log-level error --config demo/config.toml "$@" || code=$?
    echo "(exit $code)"
    if [ "$code" -ne "$wanted" ]; then
        echo "demo: FAILED: exit $code where $wanted was expected" >&2
        exit 1
    fi
}

# count FIELD ARGUMENTS...: a number from the program's JSON.
count() {
    field=$1
    shift
    "$autorelease" --log-level error --config demo/config.toml "$@" --format json |
        "$python" -c 'import json, sys; print(json.load(sys.stdin)["counts"][sys.argv[1]])' "$field"
}

same() {
    if [ "$2" != "$3" ]; then
        echo "demo: FAILED: $1: $2 where $3 was expected" >&2
        exit 1
    fi
    echo "demo: $1: $2, as it must be"
}

if [ -e demo ]; then
    if [ ! -e "$marker" ]; then
        echo "demo: ./demo is there and was not made by an earlier demo: move it away" >&2
        exit 1
    fi
    rm -rf demo
fi

unset AUTORELEASE_CONFIG AUTORELEASE_LEDGER AUTORELEASE_LOG_LEVEL AUTORELEASE_LOG_FORMAT
printf '\033[1m$ autorelease init demo --sample\033[0m\n'
"$autorelease" init demo --sample
: >"$marker"

expect 0 list-expired
same 'allocations to release' "$(count release list-expired)" 37
same 'invalid rows' "$(count invalid list-expired)" 3

# One VM expires a minute after the sample was made. At its very instant the owner still has it; a second later not.
instant=$("$python" -c '
import sqlite3
from datetime import datetime, timedelta, timezone
found = sqlite3.connect("file:demo/allocations.db?mode=ro", uri=True).execute(
    "SELECT expires_at FROM vm_allocations WHERE sid = ?", ("soon-000",)).fetchone()[0]
at = datetime.fromtimestamp(found, timezone.utc)
print(at.isoformat(), (at + timedelta(seconds=1)).isoformat())')
same 'at the very instant of soon-000' "$(count release list-expired --at "${instant% *}")" 37
same 'a second after it' "$(count release list-expired --at "${instant#* }")" 38

echo
echo 'In three days 180 VMs of one plan end together. The guard will refuse to release so many unasked:'
step list-expired --at +73h --format json
guard=$("$autorelease" --log-level error --config demo/config.toml list-expired --at +73h --format json |
    "$python" -c 'import json, sys; print(*(reason["message"] for reason in json.load(sys.stdin)["guard"]["reasons"]))')
same 'the verdict of the guard' "$guard" '218 of 291 live rows (74.9 %) would be released, the limit is 50 %'
expect 7 tick --once --dry-run --at +73h

expect 3 tick --once
"$python" scripts/demo_check.py demo/allocations.db
expect 3 tick --once
"$python" scripts/demo_check.py demo/allocations.db
same 'left to release' "$(count release list-expired)" 0

echo
echo 'demo: all as it must be. Look around: demo/ holds the configuration, the ledger and the journal.'
