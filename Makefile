# The two commands of the README are `make run` and `make test`.
#
#   run       guard this host with the built-in defaults (or /etc/palisade/palisade.toml), in the foreground
#   test      install what the tests need, lint, run every test
#   demo      the whole story in throw-away namespaces; touches nothing of this host
#   bench     the benchmarks, each beside its rival; needs root (BENCH=--write: into docs/benchmarks.md too)
#   vm-test   the units, journald, a reboot and Debian's own kernel, in a QEMU guest (about six minutes without KVM)
#   deps      only install what the tests need
#   freebsd-check  compile the program for FreeBSD, with Debian's compiler for web browsers; nothing is run
#   lint      formatting, clippy, licences (where cargo-deny is installed)
#   fuzz      every fuzz target for a minute (tests/fuzz says what else)
#   audit     known vulnerabilities of the dependencies; asks the network
.PHONY: run test demo bench vm-test deps lint freebsd-check audit fuzz release
# Each step prints to the same screen and most share the same two locks (apt's and cargo's).
.NOTPARALLEL:

PALISADE := target/release/palisade
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)

run: release
	$(SUDO) $(PALISADE) run

# Lint first: it fails sooner, and the last line is then cargo test's own count.
test: deps lint freebsd-check
	cargo test --workspace --locked

demo: release
	$(PALISADE) demo

bench: deps
	cargo build --release --locked -p palisade -p palisade-bench
	$(SUDO) target/release/palisade-bench $(BENCH)

vm-test: release
	tests/vm/run --binary $(PALISADE)

deps:
	tests/deps

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --offline --locked check licenses bans sources; \
	else echo "lint: cargo-deny is not installed, licences and sources were not checked"; fi

freebsd-check:
	tests/freebsd-check

fuzz:
	tests/fuzz

audit:
	cargo deny --locked check advisories

release:
	cargo build --release --locked -p palisade
