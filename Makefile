# Always through the shell, so that the PATH below counts for every command.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# A shell that was open when Rust was installed does not have it on its path yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Steps come in order; cargo is parallel enough.
.NOTPARALLEL:

reelmill := $(or $(CARGO_TARGET_DIR),target)/release/reelmill

.PHONY: help demo up build test bench bench-publish bench-schedule bench-crashes bench-transcode check deps
help: ## Say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

# exec: the program itself, not a shell around it, gets Ctrl-C and ends in its own time.
demo: build ## Build everything and show a video's way from upload to player
	@exec $(reelmill) demo $(if $(DATA),--data "$(DATA)")

up: build ## Build everything and run it on this machine; DATA=folder says where it keeps its data
	@exec $(reelmill) up $(if $(DATA),--data "$(DATA)")

build: deps ## Build the release binaries
	@cargo build --release

test: testdeps check ## Check the code and run every test; ARGS="-p reelmill-media" chooses
	@scripts/test.sh $(ARGS)

bench: build ## Measure a clip's way beside ffmpeg; benches/README.md says how to read it
	@cargo build --release -p reelmill-benches
	@$(dir $(reelmill))journey

bench-publish: build ## Measure how soon uploads play; ARGS="--runs 20 --seconds 10,60" chooses
	@cargo build --release -p reelmill-benches
	@$(dir $(reelmill))publish $(ARGS)

bench-schedule: build ## Measure decisions, tasks on their way and starts; ARGS="--finished 0" leaves a part out
	@cargo build --release -p reelmill-benches
	@NATS_SERVER_BIN=$$(scripts/nats-server.sh) $(dir $(reelmill))schedule $(ARGS)

bench-crashes: build ## Measure what workers cost that die, or are slow; ARGS="--rounds 1" chooses
	@cargo build --release -p reelmill-benches
	@$(dir $(reelmill))crashes $(ARGS)

bench-transcode: build ## Measure the transcode engine beside ffmpeg; ARGS="--minutes 30" bounds it
	@cargo build --release -p reelmill-benches
	@$(dir $(reelmill))transcode $(ARGS)

check: deps ## Check format, lints, the arrows between crates, and the shell scripts
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings
	@scripts/architecture.sh
	@scripts/deploy.sh
	@if command -v shellcheck >/dev/null; then shellcheck scripts/*.sh .ci/run; fi

deps: ## Install what is missing to build and run
	@scripts/deps.sh

.PHONY: testdeps
testdeps:
	@scripts/deps.sh test
