# Included by the Makefile at the top. `make bench` measures the server; BENCH holds arguments for it, such as
# `make bench BENCH="--rounds 9 --scale 10000"`. tests/bench/README.md says what the table means.

CARGO ?= cargo
BENCH_TARGET := $(or $(CARGO_TARGET_DIR),target)
BENCH_GUESTS := $(BENCH_TARGET)/bench/guests

.PHONY: bench
bench: plugins
	$(CARGO) build --release --package distillery --package distillery-bench
	$(CARGO) build --release --target wasm32-wasip2 --manifest-path tests/bench/guests/once/Cargo.toml \
		--target-dir $(BENCH_GUESTS)
	$(BENCH_TARGET)/release/bench \
		--distillery $(BENCH_TARGET)/release/distillery \
		--once $(BENCH_GUESTS)/wasm32-wasip2/release/once.wasm \
		--json $(BENCH_TARGET)/bench/results.json $(BENCH)
