# Bubble Timer. `make help` lists what there is.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := edge timer_service sharing_service connection_service runtime cli bench
PYTEST_ARGS ?= -n 4 --dist loadgroup
FAULT_ROUNDS ?= 50
SOAK_MINUTES ?= 15

.DEFAULT_GOAL := help
.PHONY: help run doctor test test-faults test-sabotage compose-test lint proto proto-check lock load screenshots clean android bench scaling soak

help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

run: $(VENV)/runtime ## The whole system on this machine; data in ./data; Ctrl-C stops it
	@exec $(BIN)/python -m cli run  # as the process of the recipe: make hands its SIGTERM on to that one only

doctor: $(VENV)/runtime ## What runs, how it is, and what is wrong
	@$(BIN)/python -m cli doctor

test: $(VENV)/dev ## All tests (those for MongoDB when MONGODB_URI is set); PYTEST_ARGS="-k name" for some
	$(BIN)/python -m pytest $(PYTEST_ARGS)

android: $(VENV)/dev ## The example client for Android: its own tests, and on the real system (needs a JDK and Maven)
	$(BIN)/python -m pytest tests/android tests/docs/test_android.py

test-faults: $(VENV)/dev ## The fault tests in full: FAULT_ROUNDS=50 rounds on each store, which takes some 10 minutes each
	FAULT_ROUNDS=$(FAULT_ROUNDS) $(BIN)/python -m pytest -s tests/faults/test_faults.py

test-sabotage: $(VENV)/dev ## Breaks each mechanism on purpose, to see that a test fails
	$(BIN)/python -m tests.faults.sabotage

soak: $(VENV)/dev ## The trial: all kinds of clients on the same timers for SOAK_MINUTES=15 (needs a JDK, Maven and Chromium)
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES)

compose-test: $(VENV)/dev ## The system in containers (needs Docker; minutes): up, scaled, killed, upgraded, down
	$(BIN)/python -m pytest tests/compose -s

lint: $(VENV)/dev proto-check ## Format, lint, types, import directions, protos
	$(BIN)/ruff format --check $(SOURCES) tests
	$(BIN)/ruff check $(SOURCES) tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m compileall -q $(SOURCES) proto tests
	@if command -v npm >/dev/null; then npm install --no-save --silent --no-audit --no-fund && node_modules/.bin/buf lint; \
	else echo "buf lint left out: there is no npm here"; fi

proto: $(VENV)/dev ## Generate the Python code of the protos
	@sh proto/generate .

proto-check: $(VENV)/dev
	@generated=$$(mktemp -d) && trap 'rm -rf "$$generated"' EXIT && sh proto/generate "$$generated" && \
	for file in $$(cd "$$generated" && find proto -name '*_pb2*'); do \
		cmp -s "$$generated/$$file" "$$file" || { echo "$$file is not what its proto says: run make proto"; exit 1; }; \
	done

load: $(VENV)/dev ## Load a running system (make run, with BUBBLE_MESSAGES_PER_SECOND=0)
	$(BIN)/python -m bench.load

screenshots: $(VENV)/dev ## Take the pictures of the page in docs/ anew (needs Chromium)
	$(BIN)/python -m bench.screenshots

bench: $(VENV)/dev ## Ours and its peers side by side, into docs/performance.md (15 minutes); SCENARIOS="name ..." for some
	$(BIN)/python -m bench $(SCENARIOS) $(BENCH_ARGS)

scaling: $(VENV)/dev ## What more of it costs, into docs/scaling.md (10 minutes); PARTS="name ..." for some
	$(BIN)/python -m bench.scaling $(PARTS)

lock: $(VENV)/dev ## Pin the dependencies of pyproject.toml anew
	$(BIN)/uv pip compile -q pyproject.toml --python-version 3.11 --universal --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" -o requirements/runtime.lock
	$(BIN)/uv pip compile -q pyproject.toml --group dev --python-version 3.11 --universal --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" -o requirements/dev.lock

clean: ## Remove everything that was made here, the data excepted
	rm -rf $(VENV) .peers node_modules examples/android/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed (set PYTHON to one)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: requirements/runtime.lock | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	@touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
