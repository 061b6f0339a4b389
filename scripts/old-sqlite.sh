#!/bin/sh
set -eu
# The oldest SQLite that autorelease works with, as libsqlite3.so.0 in FOLDER: sh scripts/old-sqlite.sh FOLDER
# A program that is started with LD_LIBRARY_PATH=FOLDER has it. Its source is the one that the npm package better-sqlite3
# carries; npm fetches that as it does everything else. A library that is there already stays.

version=3.34.0
package=better-sqlite3@7.1.2
digest=c515a816d5915d664f86f573e5fa5a2389155a9611805464fa85d0be1e7c0b85

test $# -eq 1 || { echo "usage: $0 FOLDER" >&2; exit 2; }
folder=$1
if test -e "$folder/libsqlite3.so.0"; then
    exit 0
fi
for program in npm gcc tar sha256sum; do
    command -v "$program" >/dev/null || { echo "$0: $program is missing: install it" >&2; exit 1; }
done

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cd "$build"
npm pack --silent "$package" >/dev/null
tar -xzf better-sqlite3-*.tgz package/deps/sqlite3.tar.gz
echo "$digest  package/deps/sqlite3.tar.gz" | sha256sum --check --quiet
tar -xzf package/deps/sqlite3.tar.gz
grep -q "^#define SQLITE_VERSION  *\"$version\"" sqlite3.h
# What Python's sqlite3 module links against, and what distributions switch on. Quick to build, not to run.
gcc -O0 -w -fPIC -shared -Wl,-soname,libsqlite3.so.0 \
    -DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_JSON1 -DSQLITE_ENABLE_COLUMN_METADATA -DSQLITE_ENABLE_DESERIALIZE \
    -DSQLITE_ENABLE_LOAD_EXTENSION -o libsqlite3.so.0 sqlite3.c -lm -ldl -lpthread
# Last, and at once, so that one that is half built is never taken for whole.
mv libsqlite3.so.0 "$folder/.libsqlite3.so.0.$$"
mv "$folder/.libsqlite3.so.0.$$" "$folder/libsqlite3.so.0"
