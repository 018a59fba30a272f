#!/usr/bin/env bash
# Prints the path of a Prometheus, which tests ask what deploy/keda asks: PROMETHEUS_BIN, one on the path, or Debian's.
#
# Debian's package would start a server for this machine, so it is only unpacked, into .tools/; the program needs no libraries.
# With --installed nothing is fetched: it fails without a word when there is none.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kept="$root/.tools/prometheus"

for name in "${PROMETHEUS_BIN:-}" prometheus "$kept/prometheus"; do
  if [[ -n $name ]] && command -v "$name"; then
    exit
  fi
done
[[ ${1:-} != --installed ]] || exit 1

fail() {
  echo "Prometheus $1." >&2
  exit 1
}
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
  fail "is fetched on Debian only; set PROMETHEUS_BIN to one"
fi

mkdir -p "$root/.tools"
# Beside the final place, so that the last step is a rename and parallel runs cannot see half of it.
work=$(mktemp -d "$root/.tools/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "Fetching Debian's Prometheus into .tools/" >&2
# In a folder of root's, apt reads and writes as root.
download() {
  (cd "$work" && apt-get -qq -o APT::Sandbox::User=root download prometheus) >&2
}
# A bare machine has no lists of packages yet.
download || { apt-get -qq update >&2 && download; } || fail "could not be fetched"
dpkg-deb --extract "$work"/prometheus_*.deb "$work/root"
mkdir -p "$kept"
mv "$work/root/usr/bin/prometheus" "$kept/prometheus"
"$kept/prometheus" --version >/dev/null 2>&1 || {
  rm -rf "$kept"
  fail "was fetched and does not run here"
}
echo "$kept/prometheus"
