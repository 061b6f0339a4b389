#!/bin/sh
set -eu
# pythons.sh PYTHON: the tests of the core with the Python and the SQLite of one Debian after the other, and with the
# oldest SQLite that is supported. As root; PYTHON, of the developers' environment, gets the Python packages.
# SUITES and TESTS in the environment choose some of them.

python=$1
# The oldest that is supported, and the newest that there are.
suites=${SUITES:-bookworm trixie sid}
folders=${TESTS:-'tests/ledger tests/journal tests/rules tests/deciding tests/sweep tests/e2e/test_sweep.py tests/e2e/test_belief.py'}
old_sqlite=.old-sqlite

if [ "$(id -u)" -ne 0 ]; then
    echo "make test-pythons: only root can make a Debian: sudo make test-pythons" >&2
    exit 1
fi
for tool in mmdebstrap unshare; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "make test-pythons: $tool is missing. On Debian: apt-get install mmdebstrap" >&2
        exit 1
    fi
done

work=$(mktemp -d /var/tmp/autorelease-test-pythons.XXXXXX)
# What may still be mounted there, where this was interrupted, is not ours.
trap 'rm -rf --one-file-system "$work"' EXIT
failed=

# enter SUITE COMMAND...: run it there. What is mounted for it is gone with it.
enter() {
    root=$work/$1
    shift
    # shellcheck disable=SC2016
    unshare --mount --pid --fork --kill-child sh -ec '
        root=$1
        shift
        mount --rbind /dev "$root/dev"
        mount -t proc proc "$root/proc"
        exec chroot "$root" env -i PATH=/venv/bin:/usr/bin:/bin HOME=/root LANG=C.UTF-8 "$@"
    ' sh "$root" "$@" </dev/null
}

# check SUITE WORDS...: the tests there; the words come before the interpreter.
check() {
    suite=$1
    shift
    # shellcheck disable=SC2086
    enter "$suite" "$@" sh -ec '
        cd /src
        python -c "import sqlite3, sys; print(\"--- Python\", sys.version.split()[0], \"SQLite\", sqlite3.sqlite_version)"
        exec python -m pytest -q -n 1 -p no:cacheprovider "$@"
    ' sh $folders || failed="$failed $suite"
}

"$python" -m pip --quiet --quiet wheel --no-deps --wheel-dir "$work/wheels" .
for suite in $suites; do
    echo "--- $suite"
    # In a namespace of its own, for what it mounts. A mirror that is behind is good enough: nothing of this is kept.
    unshare --mount mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,tzdata,faketime \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$work/$suite"
    version=$(enter "$suite" python3 -c 'import sys; print(*sys.version_info[:2], sep=".")')
    # What only looks at the source need not be there.
    grep -vE '^(mypy|ruff|librt|ast_serialize|types-)' constraints.txt >"$work/packages.txt"
    "$python" -m pip --quiet --quiet download --no-deps --only-binary :all: --python-version "$version" \
        --dest "$work/$suite/wheels" --requirement "$work/packages.txt"
    cp "$work"/wheels/* "$work/$suite/wheels"
    mkdir "$work/$suite/src"
    cp -R autorelease tests docs deploy bench scripts ./*.* Makefile LICENSE "$work/$suite/src"
    enter "$suite" python3 -m venv /venv
    enter "$suite" sh -ec 'pip --quiet --disable-pip-version-check install --no-index --no-deps /wheels/*'
    check "$suite"
done

first=${suites%% *}
echo "--- $first, with the oldest SQLite"
sh scripts/old-sqlite.sh "$old_sqlite"
cp -R "$old_sqlite" "$work/$first/"
check "$first" env LD_LIBRARY_PATH="/$old_sqlite"

if [ -n "$failed" ]; then
    echo "make test-pythons: FAILED:$failed" >&2
    exit 1
fi
echo "make test-pythons: everything passed"
