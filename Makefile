# The one door: what CI runs is what a developer runs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/.tools/bin:$(PATH):$(HOME)/.cargo/bin
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SEKISHO := $(TARGET_DIR)/release/sekisho
KERNELS ?= 6.1 6.12 newest
# The test of the crate under tests/ that runs inside the virtual machines.
KERNEL_TEST ?= packets
KERNEL_TEST_ARGS ?=
FUZZ_FRAMES ?= 1000000
FUZZ_SECONDS ?= 60
CHAOS ?= 20

.ONESHELL:

.PHONY: help bootstrap build demo check test fuzz fuzz-formats fuzz-packets chaos bench bonds kernels test-kernel clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

bootstrap: ## install what is missing to build and to test
	@scripts/bootstrap test

build: ## the release binary, with the XDP program in it
	@scripts/bootstrap
	@cargo build --release --package sekisho 1>&2

# Standard output belongs to the demo alone.
demo: build ## real packets to listed and clean addresses, between network namespaces; DEMO_ARGS="--json"
	@$(SEKISHO) demo $(DEMO_ARGS)

check: ## formatting and lints only
	@scripts/bootstrap
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets -- -D warnings

# Under emulation the verifier takes ten seconds a program and more. Here kernel 6.1 verifies each role
# and setting, with a share of the corpus going through; the programs of what is skipped are those of
# the corpus again. `make kernels` tries everything, and `make bonds` every mode of a bond.
test-kernel: export SEKISHO_CORPUS_STEP := 11
test-kernel:
	@$(MAKE) kernels KERNELS=6.1 KERNEL_TEST_ARGS="--skip fuzz:: --skip record::"
	@$(MAKE) bonds KERNELS=6.1 BONDS="802_3ad wire partner"

# All that `make test` compiles is compiled once, in one profile with one set of features; and
# nextest comes last, as its closing line is the result.
test: check ## everything: check, documentation tests, kernel 6.1, all tests
	@scripts/bootstrap test
	@cargo test --workspace --doc --quiet
	@$(MAKE) test-kernel
	@cargo nextest run --workspace $(TEST_ARGS)

# `make test` runs the same targets for a moment each.
fuzz: fuzz-formats fuzz-packets ## the next two

fuzz-formats: ## every parser on changed input, FUZZ_SECONDS each (60); FUZZ_TARGET="stix" for one
	@scripts/bootstrap
	@SEKISHO_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release --package sekisho-rules --test fuzz -- --nocapture --test-threads=2 $(FUZZ_TARGET)

fuzz-packets: ## changed frames through the XDP program and the host's parser; FUZZ_FRAMES=1000000
	@scripts/bootstrap test
	@SEKISHO_FUZZ_FRAMES=$(FUZZ_FRAMES) cargo nextest run --package sekisho-tests --test packets --no-capture fuzz::

chaos: ## CHAOS (20) times as many kills, upgrades and ruleset swaps under traffic as `make test`
	@scripts/bootstrap test
	@SEKISHO_CHAOS=$(CHAOS) cargo nextest run --package sekisho-tests --test upgrade --no-capture

bench: ## the benchmarks, beside what else a user could pick; BENCH_ARGS="--quick"
	@scripts/bootstrap
	@scripts/bench-peers
	@cargo run --release --package sekisho-bench -- $(BENCH_ARGS)

bonds: ## members of bonds under those kernels, as few others have bonds built in; KERNELS="6.1 6.12 newest"
	@$(MAKE) kernels KERNEL_TEST=bonds KERNEL_TEST_ARGS="--ignored $(BONDS)"

kernels: ## the XDP program on older and newer kernels under qemu; KERNELS="6.1 6.12 newest", TABLE=docs/architecture.md
	@scripts/bootstrap test
	@cargo build --workspace --all-targets
	@program=$$(cargo test --workspace --test $(KERNEL_TEST) --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p')
	tests/kernels/run $(if $(TABLE),--table "$(TABLE)") $(KERNELS) -- "$$program" --test-threads=2 --nocapture $(KERNEL_TEST_ARGS)

clean: ## what was built; .tools stays
	@cargo clean
