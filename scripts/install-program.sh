#!/bin/sh
# install-program.sh DESTDIR PREFIX [PYTHON]: install the program, in a virtual environment that is its own.
set -eu
umask 022
here=$(dirname "$0")
# shellcheck source=scripts/install-places.sh
. "$here/install-places.sh"
chosen=${3:-}

# base PYTHON: the interpreter itself, which has to be where the service can see it.
base() {
    found=$("$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
    case $found in
        /home/* | /root/* | /run/* | /tmp/* | /var/tmp/*)
            refuse "the service cannot see $found. Name a Python of the system: PYTHON=/usr/bin/python3"
            ;;
    esac
    echo "$found"
}

refuse_during_a_tick
work=$(mktemp -d)
new=$destdir$program.new
trap 'rm -rf "$work" "$new"' EXIT

if [ -n "$chosen" ]; then
    python=$(base "$chosen")
    sh "$here/make-venv.sh" "$work/build" "$chosen"
else
    PATH=/usr/local/bin:/usr/bin:/bin sh "$here/make-venv.sh" "$work/build"
    python=$(base "$work/build/bin/python")
fi

# First everything that has to be fetched or built; then the installation, from that alone.
"$work/build/bin/python" -m pip wheel --quiet --constraint constraints.txt --wheel-dir "$work/wheels" .
rm -rf "$new"
mkdir -p "$(dirname "$new")"
"$python" -m venv --without-pip "$new"
"$work/build/bin/python" -m pip --python "$new/bin/python" install --quiet --no-index --no-compile \
    --find-links "$work/wheels" --no-warn-script-location autorelease

# One of the libraries asks for pip, for a command of its own. Here it would be one more program that nobody updates.
rm -rf "$new"/lib/python3*/site-packages/pip "$new"/lib/python3*/site-packages/pip-*
# Of the programs only ours is for use. It was made under another name than it will have.
for file in "$new"/bin/*; do
    case ${file##*/} in
        python | python3 | python3.*) ;;
        autorelease) sed -i "1s|^#!.*|#!$program/bin/python|" "$file" ;;
        *) rm -f "$file" ;;
    esac
done
sed -i '/^command = /d' "$new/pyvenv.cfg"
# Compiled here and once: the service cannot write there. Text and code are only ever exchanged together.
"$python" -m compileall -q --invalidation-mode unchecked-hash -s "$new" -p "$program" "$new/lib"

if [ -e "$destdir$program" ]; then
    rm -rf "$destdir$program.old"
    mv "$destdir$program" "$destdir$program.old"
fi
mv "$new" "$destdir$program"
rm -rf "$destdir$program.old"
mkdir -p "$destdir$prefix/bin"
ln -sfn ../lib/autorelease/bin/autorelease "$destdir$command"
