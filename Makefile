# Everything a contributor runs. Alone, `make` lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# processes of tests, each with a Kafka and a Redis of its own when its tests ask for them
TEST_PROCESSES ?= 4
MINUTES ?= 5
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test fmt lint types arch check chaos bench bench-quality simulate-faults lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.compiled ## make .venv with the locked packages and this project in it

demo: setup ## a generated shop, live, with nothing else installed; ARGS="..." is passed on
	$(BIN)/journey demo $(ARGS)

test: setup ## all tests, with a real Kafka and Redis; ARGS="..." is passed on
	scripts/test-deps
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist worksteal $(ARGS)

fmt: setup ## format the code, and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: setup ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy, strict
	$(BIN)/mypy

arch: setup ## who may import whom
	$(BIN)/lint-imports

check: lint types arch ## lint, types and arch

chaos: setup ## kills, zombies, broken brokers for MINUTES (5), each round examined; ARGS="..." is passed on
	scripts/test-deps
	$(BIN)/python -m tests.chaos --minutes $(MINUTES) $(ARGS)

bench: setup ## the benchmarks; ARGS="..." is passed on
	scripts/test-deps
	$(BIN)/python -m benchmarks $(ARGS)

bench-quality: setup ## how good the models are, on the event files of JOURNEY_DATA; ARGS="..." is passed on
	$(BIN)/python -m benchmarks.quality $(ARGS)

simulate-faults: setup ## crashes, zombies, lost and late answers by the seed, for two minutes; ARGS="..." is passed on
	$(BIN)/python -m tests.protocol $(ARGS)

lock: $(VENV)/.locked ## pin all packages again; newer ones with ARGS=--upgrade
	$(COMPILE) $(ARGS) --all-extras -o requirements/lock.txt pyproject.toml
	$(COMPILE) --no-annotate --extra build --extra rocksdb -c requirements/lock.txt -o requirements/runtime.txt pyproject.toml
	$(COMPILE) --no-annotate $(ARGS) -o requirements/peers.txt requirements/peers.in

clean: ## remove all that was made here: .venv, Kafka, caches
	rm -rf $(VENV) .cache build dist *.egg-info
	rm -f *__mypyc*.so journey/*.so streams/*.so streams/compiled.json
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.locked: requirements/lock.txt scripts/setup
	PYTHON=$(PYTHON) scripts/setup
	@touch $@

# by its path, not by setuptools' finder: compiled modules share one library beside the packages
$(VENV)/.installed: $(VENV)/.locked pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings editable_mode=compat --editable .
	@touch $@

# what every event passes, as C extensions where there is a compiler
$(VENV)/.compiled: $(VENV)/.installed scripts/compile $(wildcard journey/*.py journey/models/*.py) setup.py streams/arrivals.py streams/plain.py
	scripts/compile
	@touch $@
