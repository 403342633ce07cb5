# Included by the Makefile at the top, whose TARGET and `plugins` it uses. `make bench` measures the server; BENCH holds
# arguments for it, as in `make bench BENCH="--rounds 9 --scale 10000"`. README.md here says what the table means.

BENCH_TARGET := $(TARGET)/bench
BENCH_GUESTS := $(BENCH_TARGET)/guests

.PHONY: bench
bench: toolchain plugins ## measure the server beside a bare websocket server and websocketd
	cargo build --release --locked --package distillery --package distillery-bench
	cargo build --release --locked --target wasm32-wasip2 --manifest-path tests/bench/guests/once/Cargo.toml \
		--target-dir $(BENCH_GUESTS)
	$(TARGET)/release/bench --distillery $(TARGET)/release/distillery --json $(BENCH_TARGET)/results.json \
		--once $(BENCH_GUESTS)/wasm32-wasip2/release/once.wasm $(BENCH)
