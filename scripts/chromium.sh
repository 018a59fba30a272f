#!/usr/bin/env bash
# Prints the path of the browser that tests drive: CHROMIUM_BIN, or a Chromium or Chrome on the path.
set -euo pipefail

for name in "${CHROMIUM_BIN:-}" chromium chromium-browser google-chrome; do
  if [[ -n $name ]] && command -v "$name"; then
    exit
  fi
done
echo "Chromium is needed for the browser tests: install it, or set CHROMIUM_BIN to one." >&2
exit 1
