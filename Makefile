# All targets run inside the checkout and require only python3 and make. Each sets up the environment it uses from a
# lock with hashes, unless that environment is up to date (tools/venv.py).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# A version manager's python3 fails if the version in .python-version is not installed.
PYTHON3 := $(shell python3 -c '' 2>/dev/null && echo python3 || echo /usr/bin/python3)
VENV := $(PYTHON3) tools/venv.py
BIN := .venv/bin
WORKERS ?= 2
PYTEST_ARGS ?=
SOAK_ARGS ?=
MUTANTS_ARGS ?=
TORTURE_ARGS ?=
INTERRUPTS_ARGS ?=
FAULTS_ARGS ?= --faults 300 --seed 1 2 3
DOUBLES_ARGS ?= --doubles 100000
# Tests that also run under the next DuckDB: those of the SQL and of code that uses a DuckDB file.
OVER_DUCKDB = tests/sql tests/warehouse tests/relay tests/tiers
# An exported PYTHONPATH could replace installed packages.
unexport PYTHONPATH

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: setup
setup: ## Set up the development environment, .venv/ (Python 3.13)
	@$(VENV) .venv 3.13 requirements-dev.lock

.PHONY: setup-duckdb2
setup-duckdb2:
	@$(VENV) .venv-duckdb2 3.13 requirements-duckdb2.lock

.PHONY: setup-agent-analytics
setup-agent-analytics:
	@$(VENV) .venv-agent-analytics 3.13 requirements-agent-analytics.lock

.PHONY: setup-dbt
setup-dbt:
	@$(VENV) .venv-dbt 3.13 requirements-dbt.lock

.PHONY: setup-311
setup-311:
	@$(VENV) .venv-311 3.11 requirements-dev.lock

.PHONY: demo
demo: setup ## Record a session and read it back, without an account
	@$(BIN)/ledger demo

.PHONY: check
check: setup ## Check lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: setup ## Fix lint and format
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

# The SQL tests under the next DuckDB run first, so that the summary of the main run is printed last.
.PHONY: test
test: setup test-duckdb2 ## Run the offline tests, except the slowest ones through the emulator
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and not dbt and not (slow and emulator)" $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: setup setup-agent-analytics test-dbt ## Run the store contract over BigQuery and the concurrency tests, through the emulator; a minute of torture
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and slow and emulator" $(PYTEST_ARGS)
	cd tests && ../$(BIN)/python -m faults.torture --seed 7 --minutes 1

.PHONY: soak
soak: setup ## Kill a relay 200 times among 500 faults, then compare store and warehouse (SOAK_ARGS="--seed 7")
	cd tests && ../$(BIN)/python -m faults.soak $(SOAK_ARGS)

.PHONY: billed
billed: setup ## Print what BigQuery would bill for some operations, by a model (BILLED_ARGS="--day-mb 500 --buffer-mb 100")
	cd tests && ../$(BIN)/python -m service.bytes_billed $(BILLED_ARGS)

.PHONY: bigquery-faults
bigquery-faults: setup ## Append to BigQuery amid 300 faults for each seed (FAULTS_ARGS="--faults 300 --seed 1 2 3")
	cd tests && ../$(BIN)/python -m faults.bigquery_faults $(FAULTS_ARGS)

.PHONY: doubles
doubles: setup ## Send doubles and recorded runs to BigQuery and back (DOUBLES_ARGS="--doubles 100000 --seed 1 --runs FILE")
	cd tests && ../$(BIN)/python -m service.roads $(DOUBLES_ARGS)

.PHONY: torture
torture: setup ## Kill, fork, interrupt and fail disks for an hour, then check everything (TORTURE_ARGS="--seed 7 --minutes 60")
	cd tests && ../$(BIN)/python -m faults.torture $(TORTURE_ARGS)

.PHONY: interrupts
interrupts: setup ## Raise an exception at each place of each method in turn (INTERRUPTS_ARGS="--seed 7 --share 0.1")
	cd tests && ../$(BIN)/python -m faults.interrupts $(INTERRUPTS_ARGS)

.PHONY: outage
outage: setup ## Measure appends for a minute before and during an outage of the warehouse
	cd tests && ../$(BIN)/python -m faults.outage

.PHONY: test-duckdb2
test-duckdb2: setup-duckdb2 ## Run the SQL tests under DuckDB 2, which the emulator does not support
	.venv-duckdb2/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "duckdb and not remote and not emulator" $(PYTEST_ARGS) $(OVER_DUCKDB)

.PHONY: test-dbt
test-dbt: setup-dbt ## Build the dbt package over a DuckDB file that a ledger shipped
	.venv-dbt/bin/python -m pytest -m dbt $(PYTEST_ARGS) tests/dbt

.PHONY: test-311
test-311: setup-311 ## Run all tests without an emulator on Python 3.11
	.venv-311/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not remote and not dbt and not emulator" $(PYTEST_ARGS)

.PHONY: test-remote
test-remote: setup ## Run the tests against the BigQuery service (LEDGER_TEST_BIGQUERY=project.dataset)
	env -u BIGQUERY_EMULATOR_HOST -u BIGQUERY_EMULATOR_GRPC_HOST $(BIN)/python -m pytest -m remote $(PYTEST_ARGS)

.PHONY: mutants-map
mutants-map: setup ## Record which test runs which line, for mutants (MUTANTS_ARGS="--pytest tests/relay")
	$(BIN)/python tools/mutants.py map --workers $(WORKERS) $(MUTANTS_ARGS)

.PHONY: mutants
mutants: setup ## Change the code in small ways and list changes that no test notices (MUTANTS_ARGS="--guards --seed 7")
	@test -e .mutants.json || $(BIN)/python tools/mutants.py map --workers $(WORKERS)
	$(BIN)/python tools/mutants.py run --workers $(WORKERS) $(MUTANTS_ARGS)

.PHONY: bench
bench: setup ## Run the benchmarks
	@shopt -s nullglob; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: docs
docs: setup ## Generate references, AsyncSessionLedger's types and the dbt package; run every example in README and docs
	$(BIN)/python -m ledger.cli.reference docs
	$(BIN)/python tools/aio_methods.py
	$(BIN)/python tools/dbt_package.py
	$(BIN)/python tools/cost_tables.py
	$(BIN)/python -m pytest tests/docs $(PYTEST_ARGS)

# No flag sets an index, so uv uses its default, the public one; the lock contains neither an index nor a path.
LOCK_UV = $$($(PYTHON3) tools/venv.py uv) pip compile
LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-config \
  --custom-compile-command "make lock" --quiet $(LOCK_ARGS)
LOCK = $(LOCK_UV) pyproject.toml --all-extras $(LOCK_FLAGS)

# dbt-core-experimental-parser is left out of its lock: to build it downloads a wheel without a hash, for --use-v2-parser.
.PHONY: lock
lock: ## Resolve the locks again (LOCK_ARGS=--upgrade for newer releases)
	$(LOCK) --group dev --output-file requirements-dev.lock
	$(LOCK) --group duckdb2 --output-file requirements-duckdb2.lock
	$(LOCK_UV) $(LOCK_FLAGS) --group agent-analytics --output-file requirements-agent-analytics.lock
	$(LOCK) --group dbt --no-emit-package dbt-core-experimental-parser --output-file requirements-dbt.lock
	@! grep -nE '(://|^-|file:|/(home|root|opt|usr|tmp)/)' requirements-*.lock

.PHONY: wheel
wheel: setup ## Build the wheel in dist/
	$(BIN)/python -m hatchling build --target wheel

.PHONY: clean
clean: ## Remove environments, caches and build products
	rm -rf .venv .venv-duckdb2 .venv-agent-analytics .venv-dbt .venv-311 .tools .tools.lock .mutants.json .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
