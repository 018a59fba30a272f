#!/usr/bin/env bash
# Installs what Reelmill is built and run with, and says nothing when all is there.
# "deps.sh test" adds what only its tests need.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
for_tests=false
[[ ${1:-} != test ]] || for_tests=true
PATH=$PATH:$HOME/.cargo/bin # a shell that was open when Rust came does not have it yet

packages=() # Debian's names of what is missing
# need PACKAGE CHECK...: the check is a command that succeeds when the package's content is here
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || packages+=("$package")
}
have_libclang() {
  [[ -n ${LIBCLANG_PATH:-} ]] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib*/libclang*.so*'
}
have_certificates() {
  [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/ssl/cert.pem || -d /etc/pki/tls/certs ]]
}
have_chromium() {
  scripts/chromium.sh
}
have_compiler() {
  command -v cc && command -v c++ && command -v make
}

find_missing() {
  packages=()
  need build-essential have_compiler
  need pkg-config command -v pkg-config
  need clang command -v clang
  need libclang-dev have_libclang
  need cmake command -v cmake
  local library
  for library in avcodec avformat avutil avfilter swscale swresample; do
    need "lib$library-dev" pkg-config --exists "lib$library"
  done
  need ffmpeg command -v ffmpeg
  need curl command -v curl
  need ca-certificates have_certificates
  need nodejs command -v node
  need npm command -v npm
  if ! scripts/nats-server.sh --installed >/dev/null 2>&1; then
    need python3 command -v python3
    need python3-pip python3 -m pip --version
  fi
  if $for_tests; then
    need chromium have_chromium
    need strace command -v strace
    need python3-venv python3 -c 'import ensurepip'
  fi
}

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "Root rights are needed to run: $*" >&2
    exit 1
  fi
}

updated=false
apt_install() {
  if ! $updated; then
    as_root apt-get -qq update
    updated=true
  fi
  # Its errors still show.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
}

install_packages() {
  find_missing
  [[ ${#packages[@]} -gt 0 ]] || return 0
  if ! command -v apt-get >/dev/null; then
    echo "Please install what these Debian packages hold: ${packages[*]}" >&2
    exit 1
  fi
  echo "Installing ${packages[*]}" >&2
  apt_install "${packages[@]}" || {
    echo "Debian's packages could not be installed: ${packages[*]}" >&2
    exit 1
  }
}

check_rust() {
  local least here
  least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  ! $for_tests || least=1.92 # of the S3 server that tests start
  if ! cargo --version >/dev/null 2>&1; then
    # Only newer Debians have it, and older ones know its name.
    if ! command -v rustup >/dev/null && LC_ALL=C apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
      echo "Installing rustup" >&2
      apt_install rustup
    fi
    if command -v rustup >/dev/null; then
      echo "Installing the stable Rust toolchain" >&2
      rustup toolchain install stable --profile minimal --component clippy --component rustfmt >&2
      rustup default stable >&2
    fi
  fi
  if ! here=$(cargo --version 2>/dev/null); then
    echo "Rust $least or newer is needed: install it with rustup (rust-lang.org/tools/install says how)." >&2
    exit 1
  fi
  here=${here#cargo }
  here=${here%% *}
  if [[ $(printf '%s\n' "$least" "$here" | sort -V | head -n 1) != "$least" ]]; then
    echo "Rust $least or newer is needed, and cargo here is $here: run \"rustup update stable\"." >&2
    exit 1
  fi
}

# What npm installed last is older than what the lock file asks for.
npm_outdated() {
  [[ ! $1/node_modules/.package-lock.json -nt $1/package-lock.json ]]
}

npm_packages() {
  local folder=$1
  npm_outdated "$folder" || return 0
  (
    # Two npm in one folder would remove each other's files.
    if command -v flock >/dev/null; then
      mkdir -p .tools
      exec 9>.tools/npm.lock
      flock 9
    fi
    npm_outdated "$folder" || exit 0
    echo "Installing Node packages in $folder" >&2
    npm --prefix "$folder" ci --no-audit --no-fund --loglevel=error >&2
  ) || {
    echo "The Node packages of $folder could not be installed." >&2
    exit 1
  }
}

# Clients in Python that tests are judged by beside one in JavaScript; they do without where those cannot be had, unless CI is
# set.
python_clients() {
  local wanted=coordinator/tests/clients/requirements.txt folder=.tools/clients
  ! cmp -s "$wanted" "$folder/installed" || return 0
  echo "Installing Python clients in $folder" >&2
  if python3 -m venv "$folder" && "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted" >&2; then
    cp "$wanted" "$folder/installed"
  else
    rm -rf "$folder"
    echo "The Python clients could not be installed: their tests are left out." >&2
  fi
}

# Other people's clients of HTTP/3; their tests do without where they cannot be had.
http3_tools() {
  scripts/http3-tools.sh >/dev/null || echo "The tests with curl and gtlsclient over HTTP/3 are left out." >&2
}

# A monitoring server; its test does without where it cannot be had.
prometheus() {
  scripts/prometheus.sh >/dev/null || echo "The test with Prometheus is left out." >&2
}

install_packages
check_rust
scripts/nats-server.sh >/dev/null
npm_packages edge/player
if $for_tests; then
  http3_tools
  prometheus
  npm_packages e2e/browser
  npm_packages coordinator/tests/clients
  python_clients
fi
