#!/usr/bin/env bash
# Holds the crates to the arrows in ARCHITECTURE.md: one line for each rule that holds, and exit 1 when one does not.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
broken=false

# rule SENTENCE OFFENCES: holds when there are no offences.
rule() {
  if [[ -z $2 ]]; then
    echo "ok: $1"
  else
    echo "BROKEN: $1" >&2
    printf '%s\n' "$2" | sed 's/^/    /' >&2
    broken=true
  fi
}

# Lines "crate > dependency", one for each that a crate of ours names.
arrows=$(cargo tree --quiet --workspace --edges normal,build --depth 1 --no-dedupe --prefix depth --format ' {p}' |
  awk '$1 == 0 { from = $2 } $1 == 1 { print from, ">", $2 }')

# What a crate links, however deep.
links() {
  cargo tree --quiet --package "$1" --edges normal,build --prefix none --format '{p}' | awk '{ print $1 }' | sort -u
}

# Lines of code below the folders that match, comments aside.
lines() {
  local pattern=$1
  shift
  find "$@" -name target -prune -o -name node_modules -prune -o -name '*.rs' -exec grep -HnE "$pattern" {} + |
    grep -vE '^[^:]*:[0-9]+: *//' || true
}

# Tests and benchmarks may look at anything.
rule "crates import along the arrows only" "$(
  grep ' > reelmill-' <<<"$arrows" | grep -vE '^reelmill-(e2e|benches) ' | grep -vxF \
    -e 'reelmill-platform > reelmill-media' \
    -e 'reelmill-av > reelmill-media' \
    -e 'reelmill-coordinator > reelmill-media' \
    -e 'reelmill-coordinator > reelmill-platform' \
    -e 'reelmill-worker > reelmill-media' \
    -e 'reelmill-worker > reelmill-platform' \
    -e 'reelmill-worker > reelmill-av' \
    -e 'reelmill-edge > reelmill-media' \
    -e 'reelmill-edge > reelmill-platform' \
    -e 'reelmill > reelmill-media' \
    -e 'reelmill > reelmill-platform'
)"

rule "only reelmill-av names libav" "$(grep ' > ffmpeg' <<<"$arrows" | grep -v '^reelmill-av ')"

for crate in reelmill-coordinator reelmill-edge reelmill; do
  linked=$(links "$crate")
  rule "$crate links no libav" "$(grep '^ffmpeg' <<<"$linked")"
done

linked=$(links reelmill-media)
rule "reelmill-media links nothing that does I/O" \
  "$(grep -xE 'tokio.*|async-.*|object_store|hyper.*|reqwest|mio|socket2|rustix|nix|tempfile|quinn.*|ffmpeg.*' <<<"$linked")"

rule "reelmill-media touches no file, socket, process, environment or clock" \
  "$(lines '\bstd::(fs|net|process|env|thread)\b|\b(SystemTime|Instant|Timestamp|Zoned)::now\b' media/src)"

rule "unsafe code is in worker/av only" \
  "$(lines '(allow|expect)\(.*unsafe_code|\bunsafe (\{|fn|impl|extern|trait)' . | grep -v '^\./worker/av/')"

# worker/av may say its own, for the one lint that it must lift.
rule "every crate takes the workspace's lints" "$(
  for manifest in */Cargo.toml; do
    grep -A1 -Fx '[lints]' "$manifest" | grep -qFx 'workspace = true' || echo "$manifest"
  done
)"

! $broken
