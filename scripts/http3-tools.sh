#!/usr/bin/env bash
# Prints a folder with programs of other people's that speak HTTP/3, curl, gtlsclient, gtlsserver and nginx, and with Varnish,
# which stands beside the edge in its benchmark.
#
# Stable distributions have them late or without HTTP/3, so that they are taken from a newer Debian, by the mirror and
# with the keys of this machine's own apt. They lie in .tools/ with the libraries that they were linked with: nothing is
# installed, and no rights are needed. With --installed nothing is fetched: it fails without a word when they are not there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=trixie
kept="$root/.tools/http3"
packages=(curl ngtcp2-client ngtcp2-server nginx libvarnishapi3 libjemalloc2 libedit2 libncursesw6)
# With its dependencies it would bring a compiler, for its configuration; that of this machine does as well.
bare=varnish
programs=(usr/bin/curl usr/bin/gtlsclient usr/sbin/gtlsserver usr/sbin/nginx usr/sbin/varnishd)

if [[ -x $kept/bin/varnishd ]]; then
  echo "$kept/bin"
  exit
fi
[[ ${1:-} != --installed ]] || exit 1

fail() {
  echo "Tools that speak HTTP/3 $1." >&2
  exit 1
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  fail "are fetched on Debian only"
fi
# shellcheck disable=SC2016 # the names are apt's
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$') ||
  fail "cannot be fetched: apt here knows no mirror of Debian"
keys=/usr/share/keyrings/debian-archive-keyring.gpg

mkdir -p "$root/.tools"
# Beside the final place, so that the last step is a rename and parallel runs cannot see half of them.
work=$(mktemp -d "$root/.tools/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
# A world of its own for apt: no package is installed there, so that all libraries come along.
mkdir -p "$work"/apt/{apt.conf.d,preferences.d,none,state/lists/partial,cache/archives/partial} "$work/root/bin"
touch "$work/apt/status"
echo "deb [signed-by=$keys] $mirror $suite main" >"$work/apt/sources.list"
cat >"$work/apt/apt.conf" <<CONF
Dir::Etc "$work/apt";
Dir::Etc::sourceparts "none";
Dir::State "$work/apt/state";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Debug::NoLocking "true";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$work/apt/apt.conf"
echo "Fetching ${packages[*]} $bare of Debian $suite into .tools/" >&2
{
  apt-get -qq update && apt-get -qq install --yes --no-install-recommends --download-only "${packages[@]}" &&
    (cd "$work/apt/cache/archives" && apt-get -qq download "$bare")
} >&2 || fail "could not be fetched"
for archive in "$work"/apt/cache/archives/*.deb; do
  dpkg-deb --extract "$archive" "$work/root"
done
libraries=usr/lib/$(basename "$(dirname "$(find "$work/root/usr/lib" -name 'ld-linux*.so.*' | head -n 1)")")
loader=$(basename "$(find "$work/root/$libraries" -maxdepth 1 -name 'ld-linux*.so.*')")
for program in "${programs[@]}"; do
  wrapper="$work/root/bin/$(basename "$program")"
  cat >"$wrapper" <<WRAPPER
#!/bin/sh
exec $kept/$libraries/$loader --library-path $kept/$libraries $kept/$program "\$@"
WRAPPER
  chmod 755 "$wrapper"
done
rm -rf "$kept"
mv "$work/root" "$kept"
if ! { "$kept/bin/curl" --version | grep -qw HTTP3 && "$kept/bin/varnishd" -V 2>/dev/null; }; then
  rm -rf "$kept"
  fail "were fetched and do not run here"
fi
echo "$kept/bin"
