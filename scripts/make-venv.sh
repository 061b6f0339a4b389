#!/bin/sh
# make-venv.sh FOLDER [PYTHON]: make a virtual environment with PYTHON, or with the newest Python of 3.11 or later.
set -eu

folder=$1
chosen=${2:-}
fits='import sys; sys.exit(sys.version_info < (3, 11))'
can_make='import ensurepip, venv'
without_venv=

if [ -n "$chosen" ]; then
    candidates=$chosen
else
    candidates='python3.20 python3.19 python3.18 python3.17 python3.16 python3.15 python3.14 python3.13 python3.12 python3.11 python3'
fi

for python in $candidates; do
    "$python" -c "$fits" >/dev/null 2>&1 || continue
    if "$python" -c "$can_make" >/dev/null 2>&1; then
        echo "making $folder with $("$python" --version)"
        rm -rf "$folder"
        exec "$python" -m venv "$folder"
    fi
    without_venv="$without_venv $python"
done

if [ -n "$without_venv" ]; then
    echo "make-venv: found$without_venv, but without its venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2
else
    echo "make-venv: no Python of 3.11 or later was found (tried: $candidates). Name one: make PYTHON=/path/to/python3" >&2
fi
exit 1
