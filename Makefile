# Everything runs inside the checkout and needs only python3 and make: each target sets up the environment it uses, from
# a lock with hashes, and does nothing when that environment is up to date (tools/venv.py).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A version manager may refuse to run its python3 here when it does not have the version in .python-version.
PYTHON3 := $(shell python3 -c '' 2>/dev/null && echo python3 || echo /usr/bin/python3)
VENV := $(PYTHON3) tools/venv.py
BIN := .venv/bin
WORKERS ?= 2
PYTEST_ARGS ?=
SOAK_ARGS ?=
# Where the tests are that run under the next DuckDB as well: those of them that ask a DuckDB file something.
OVER_DUCKDB = tests/sql tests/warehouse tests/relay tests/tiers
# Exported, a source folder would be imported instead of the installed packages.
unexport PYTHONPATH

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: setup
setup: ## the development environment, .venv/ (Python 3.13)
	@$(VENV) .venv 3.13 requirements-dev.lock

.PHONY: setup-duckdb2
setup-duckdb2:
	@$(VENV) .venv-duckdb2 3.13 requirements-duckdb2.lock

.PHONY: setup-311
setup-311:
	@$(VENV) .venv-311 3.11 requirements-dev.lock

.PHONY: demo
demo: setup ## record a session and look at it, on this machine
	@$(BIN)/ledger demo

.PHONY: check
check: setup ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: setup ## rewrite the code in the project's format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# The SQL tests run under the next DuckDB first, so that the main run's closing line is the last one printed.
.PHONY: test
test: setup test-duckdb2 ## the tests that run offline, but for the slowest over the emulator
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and not (slow and emulator)" $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: setup ## the store contract over BigQuery and the writers at once, through the emulator
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and slow and emulator" $(PYTEST_ARGS)

.PHONY: soak
soak: setup ## a relay killed 200 times among 500 faults, then both sides compared (SOAK_ARGS="--seed 7")
	cd tests && ../$(BIN)/python -m faults.soak $(SOAK_ARGS)

.PHONY: outage
outage: setup ## appends for a minute before and during an outage of the warehouse, and how long they take
	cd tests && ../$(BIN)/python -m faults.outage

.PHONY: test-duckdb2
test-duckdb2: setup-duckdb2 ## the SQL tests under DuckDB 2, which the emulator cannot run on
	.venv-duckdb2/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "duckdb and not remote and not emulator" $(PYTEST_ARGS) $(OVER_DUCKDB)

.PHONY: test-311
test-311: setup-311 ## all tests that need no emulator, on Python 3.11
	.venv-311/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and not emulator" $(PYTEST_ARGS)

.PHONY: test-remote
test-remote: setup ## the tests against the real BigQuery (LEDGER_TEST_BIGQUERY=project.dataset)
	$(BIN)/python -m pytest -m remote $(PYTEST_ARGS)

.PHONY: bench
bench: setup ## the benchmarks
	@shopt -s nullglob; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: docs
docs: setup ## write the references of the CLI, the settings and the fields, and run every example of README and docs
	$(BIN)/python -m ledger.cli.reference docs
	$(BIN)/python -m pytest tests/docs $(PYTEST_ARGS)

# No flag names an index: uv's default is the public one, and neither index nor path is written into the lock.
LOCK = $$($(PYTHON3) tools/venv.py uv) pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-config --custom-compile-command "make lock" --quiet $(LOCK_ARGS)

.PHONY: lock
lock: ## resolve the locks again (LOCK_ARGS=--upgrade for newer releases)
	$(LOCK) --group dev --output-file requirements-dev.lock
	$(LOCK) --group duckdb2 --output-file requirements-duckdb2.lock
	@! grep -nE '(://|^-|file:|/(home|root|opt|usr|tmp)/)' requirements-*.lock

.PHONY: wheel
wheel: setup ## the wheel, in dist/
	$(BIN)/python -m hatchling build --target wheel

.PHONY: clean
clean: ## remove environments, caches and build products
	rm -rf .venv .venv-duckdb2 .venv-311 .tools .tools.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
