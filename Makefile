# Every command a developer needs. Each sets up what it needs first; nothing is installed by hand.
.DEFAULT_GOAL := help
SHELL := /bin/bash
# A runner that fails fails its rule, also where its output passes through tee.
.SHELLFLAGS := -o pipefail -c
TOOLS := target/tools
DENY := $(TOOLS)/bin/cargo-deny
MUTANTS := $(TOOLS)/bin/cargo-mutants
# What the test runners said last.
SAID := target/test-output

.PHONY: help run demo test test-rust test-page test-e2e test-interop test-cluster check lint deny mutants soak-sim bench bench-browser bench-link bench-hop counts setup clean

help: ## Lists the commands.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: ## Sets up, builds and starts Lectern for everybody on this network.
	@scripts/setup.sh run
	cargo build --release --locked -p lectern
	target/release/lectern up --open-if-private $(ARGS)

demo: ## Publishes the bundled lesson into the server that `make run` started.
	@scripts/setup.sh run
	cargo build --release --locked -p lectern
	target/release/lectern demo $(ARGS)

test: setup test-rust test-page test-e2e ## Sets up and runs every test, those in Chromium included.
	@scripts/closing-lines.sh $(SAID)

setup: ## Installs what building and testing need.
	@scripts/setup.sh test

test-rust: setup
	cargo build --locked --workspace --all-targets
	@mkdir -p $(SAID)
	cargo test --locked --workspace 2>&1 | tee $(SAID)/rust

test-page: setup
	@mkdir -p $(SAID)
	cd frontend && npm run --silent test 2>&1 | tee ../$(SAID)/page

test-e2e: setup
	cargo build --locked --workspace
	@mkdir -p $(SAID)
	cd frontend && npm run --silent e2e 2>&1 | tee ../$(SAID)/e2e

# The table is of a whole run in which everything went as expected; that of any other is target/interop/interop.md.
test-interop: ## Plays with other people's publishers and players, and writes docs/interop.md.
	@scripts/setup.sh interop
	cargo build --locked --workspace
	@rm -f target/interop/*.json
	cd frontend && npm run --silent e2e:interop
	@if grep -q '| not tried |' target/interop/interop.md; then \
		echo "not everything was tried: target/interop/interop.md, and docs/interop.md as it was"; \
	else cp target/interop/interop.md docs/interop.md; fi

# The program moves itself into network namespaces of its own, for which it needs root. `make test` has a few of its rows.
test-cluster: setup ## Ends parts of a cluster and cuts others off while 300 watch, and checks what they notice (root; 25 minutes).
	cargo build --release --locked -p lectern -p load-tests
	@mkdir -p $(SAID)
	target/release/lectern-load faults --chromium --json $(SAID)/cluster.json $(ARGS)

check: lint deny ## Formatting, lints and licences: what a commit must pass.

lint: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cd frontend && npm run --silent check

# Advisories need a database from elsewhere and are left to whoever has one: cargo deny check advisories.
deny: $(DENY)
	$(DENY) --locked check bans licenses sources

# Not optimised: it runs for seconds, and its release profile links all of it as one unit.
$(DENY):
	cargo install --locked --debug --root $(TOOLS) --version 0.20.2 cargo-deny

# Each changed line is a build and a test of one crate: an hour or more, and so nothing for every change.
mutants: setup $(MUTANTS) ## Changes the media path line by line and lists what no test notices (an hour or more).
	$(MUTANTS) mutants --package rtc --gitignore true --output target $(ARGS) \
		$(foreach part,egress viewer sequence srtp ring,--file 'crates/rtc/src/$(part)*.rs' --file 'crates/rtc/src/$(part)/**/*.rs')

$(MUTANTS):
	cargo install --locked --root $(TOOLS) --version 27.1.0 cargo-mutants

soak-sim: ## Plays 10,000 clusters with faults in virtual time; ARGS="--seed 7" plays one again.
	@scripts/setup.sh run
	cargo build --release --locked -p sim
	target/release/sim $(or $(ARGS),--seeds 10000)

bench: ## Measures what one node carries, as a table, beside what this machine could carry.
	@scripts/setup.sh run
	cargo build --release --locked -p lectern -p load-tests
	target/release/lectern-load bench $(ARGS)

bench-browser: setup ## Measures joins and latency in Chromium, with the release build.
	cargo build --release --locked -p lectern
	cd frontend && LECTERN_BIN=../target/release/lectern npm run --silent e2e:bench

# The program moves itself into network namespaces of its own, for which it needs root.
bench-link: setup ## Measures viewers behind slow links beside MediaMTX; ARGS="--links 3 --gops 2 --players load" for a part.
	@scripts/rivals.sh || echo "MediaMTX is left out" >&2
	cargo build --release --locked -p lectern -p load-tests
	target/release/lectern-load bottleneck $(ARGS)

bench-hop: ## Measures a hop from node to node: CPU beside quinn alone, the time that it adds, the first picture.
	@scripts/setup.sh run
	cargo bench --locked -p link --bench hop

counts: setup ## Compares what the hot paths cost, in instructions, with the committed counts; ARGS=update accepts.
	cargo build --release --locked -p counts
	target/release/counts $(or $(ARGS),check)

clean: ## Removes what was built.
	rm -rf target frontend/dist frontend/node_modules frontend/e2e/interop/clients/npm/node_modules .venv
