#!/bin/sh
set -eu
# What the pages and the runbook tell a reader to type, typed where it belongs; read by the checks.
# shellcheck disable=SC2034

# lines FILE [HEADING]: the lines of its shell blocks (below this heading alone), without comments, less those of
# typed-elsewhere.
lines() {
    awk -v heading="${2:-}" '
        /^ *```sh$/ { is_shell = is_wanted || heading == ""; next }
        /^ *```/ { is_shell = 0; next }
        /^## / { is_wanted = $0 == "## " heading }
        is_shell { sub(/^ +/, ""); sub(/(^|[ \t]+)# .*/, ""); if ($0 != "") print }
    ' "$1" >/checks/lines
    cut -f 1 /checks/typed-elsewhere >/checks/elsewhere
    grep --line-regexp --fixed-strings --invert-match --file=/checks/elsewhere /checks/lines
}

# may_end LINE: the exit codes that are as the page says. A sweep may have broken rows to tell of, or no refusal to answer.
may_end() {
    case $1 in
        *'|'*) echo 0 ;;
        *' tick --once --confirm '*) echo 0 3 7 ;;
        *' tick --once'* | *' release '*) echo 0 3 ;;
        *'autorelease health'* | *'autorelease doctor'*) echo 0 9 ;;
        'systemctl status '*) echo 0 3 ;;
        *) echo 0 ;;
    esac
}

# type_line LINE: with what a reader fills in.
type_line() {
    line=$(echo "$1" | sed -e 's/ SID/ paid/' -e 's/ TEXT/ because/' -e 's/ --confirm N/ --confirm 1/')
    case $line in
        # Each page begins where the situation is the one that it is about.
        *' autorelease init') mv /var/lib/autorelease/journal.db /checks/journal.db ;;
        *' grep ,invalid,') sql 'INSERT INTO vm_allocations (sid, status, expires_at) VALUES ("broken", "Active", "soon")' ;;
        *' unhold '*) runuser -u autorelease -- autorelease hold paid --reason because >/checks/output ;;
    esac
    # What an enabled timer has begun by itself is another one's tick.
    while systemctl is-active autorelease.service | grep --quiet activating; do
        sleep 0.2
    done
    code=0
    (cd /checks && sh -c "$line") >/checks/output 2>&1 </dev/null || code=$?
    sql 'DELETE FROM vm_allocations WHERE sid = "broken"'
    case " $(may_end "$line") " in
        *" $code "*) echo "ok: exit $code: $line" ;;
        *)
            cat /checks/output
            is "exit of: $line" "$code" "$(may_end "$line")"
            ;;
    esac
}

# type_all FILE [HEADING]
type_all() {
    lines "$@" >/checks/to-type
    is "there is something to type" "$(test -s /checks/to-type && echo yes)" "yes"
    while IFS= read -r line <&3; do
        type_line "$line"
    done 3</checks/to-type
}
