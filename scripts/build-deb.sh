#!/bin/sh
# build-deb.sh [PYTHON]: build a Debian package of this tree, in dist/, for this Debian's own Python.
set -eu
umask 022
python=$(realpath "${1:-/usr/bin/python3}")

missing=
for tool in dpkg-deb dpkg-gencontrol dpkg-shlibdeps dpkg-parsechangelog gzip; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
    echo "make deb: missing:$missing. On Debian: apt-get install dpkg-dev" >&2
    exit 1
fi
# The libraries are built for one version of Python: the package depends on that of Debian, by name.
if ! dpkg-query --search "$python" >/dev/null 2>&1; then
    echo "make deb: $python belongs to no Debian package. Take Debian's own: make deb PYTHON=/usr/bin/python3" >&2
    exit 1
fi
interpreter=$(basename "$python")

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' autorelease/__init__.py)
maintainer="${DEBFULLNAME:-Local build} <${DEBEMAIL:-root@localhost}>"
# The same tree gives the same package: its date is that of the last commit, where there is one.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stage=$work/stage
documents=$stage/usr/share/doc/autorelease
libraries=$stage/usr/lib/autorelease/lib/$interpreter/site-packages

sh scripts/install-program.sh "$stage" /usr "$python"
sh scripts/install-files.sh "$stage" /usr
# Where Debian has these, and in the form that it has them in.
mkdir -p "$stage/usr/share/zsh/vendor-completions"
mv "$stage/usr/share/zsh/site-functions/_autorelease" "$stage/usr/share/zsh/vendor-completions/"
rmdir "$stage/usr/share/zsh/site-functions"
gzip --best --no-name "$stage/usr/share/man/man1/autorelease.1"
rm "$documents/LICENSE"
cat deploy/debian/copyright LICENSE >"$documents/copyright"

# What Debian's tools want to know of a source package.
mkdir "$work/debian"
sed "s|@MAINTAINER@|$maintainer|" deploy/debian/control >"$work/debian/control"
cat >"$work/debian/changelog" <<END
autorelease ($version) unstable; urgency=medium

  * What has changed is in /usr/share/doc/autorelease/CHANGELOG.md.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
END
gzip --best --no-name --stdout "$work/debian/changelog" >"$documents/changelog.gz"
mkdir -p "$stage/usr/share/lintian/overrides" "$stage/DEBIAN"
cp deploy/debian/lintian-overrides "$stage/usr/share/lintian/overrides/autorelease"
cp deploy/debian/conffiles "$stage/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    cp "deploy/debian/$script" "$stage/DEBIAN/$script"
    chmod 0755 "$stage/DEBIAN/$script"
done
echo "python:Depends=$interpreter" >"$work/debian/substvars"
(
    cd "$work"
    find "$libraries" -name '*.so' -exec dpkg-shlibdeps --warnings=0 -Tdebian/substvars {} +
    dpkg-gencontrol -pautorelease -Tdebian/substvars -P"$stage"
    cd "$stage"
    find usr etc -type f ! -path etc/cron.d/autorelease -exec md5sum {} + | LC_ALL=C sort -k 2 >DEBIAN/md5sums
)

mkdir -p dist
dpkg-deb --root-owner-group --build "$stage" dist
