#!/usr/bin/env bash
# Runs the tests with the programs that they start named in the environment. Arguments go to the test runner.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

NATS_SERVER_BIN=$(scripts/nats-server.sh)
CHROMIUM_BIN=$(scripts/chromium.sh)
FFMPEG_BIN=${FFMPEG_BIN:-$(command -v ffmpeg)}
NODE_BIN=${NODE_BIN:-$(command -v node)}
export NATS_SERVER_BIN CHROMIUM_BIN FFMPEG_BIN NODE_BIN
if PROMETHEUS_BIN=$(scripts/prometheus.sh --installed); then
  export PROMETHEUS_BIN
fi
if HTTP3_TOOLS=$(scripts/http3-tools.sh --installed); then
  export HTTP3_TOOLS
fi

# Packages that the arguments name are all that is tested.
packages=(--workspace)
if [[ " $* " =~ \ (-p|--package)[\ =] ]]; then packages=(); fi

# End-to-end tests start the real binaries, which a test build alone does not make.
cargo build --workspace --bins
if cargo nextest --version >/dev/null 2>&1; then
  exec cargo nextest run "${packages[@]}" "$@"
else
  exec cargo test "${packages[@]}" "$@"
fi
