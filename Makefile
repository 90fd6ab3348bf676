# Every target sets up what it needs. `make` alone lists them.
SHELL := bash
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/.ready
WORKERS := $(shell nproc 2>/dev/null || echo 2)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: install ## synthesize patients, serve them over FHIR, make the report from them
	@$(BIN)/crps-outcomes demo

install: $(READY) ## set up .venv from requirements.lock (done by the other targets too)

# Keyed on what decides the set-up: nothing runs while these files are older than the stamp.
$(READY): requirements.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" bash tools/setup.sh
	@touch $@

test: install ## the test suite, but for the slow simulations
	@bash tools/setup.sh tests
	@$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: install ## simulations over many seeds
	@$(BIN)/pytest -m slow

lint: install ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install ## mypy --strict
	@$(BIN)/mypy

check: install ## read the study folder and say what is wrong in it
	@$(BIN)/crps-outcomes check

try: check ## MEASURE=id: one measure against its golden file, and its page
	@$(BIN)/pytest -q tests/unit/test_golden_measures.py tests/unit/test_golden_coverage.py -k "$(MEASURE)"
	@$(BIN)/crps-outcomes measure docs docs

docs: install ## write the pages in docs/ that the catalogue and the tables generate
	@$(BIN)/crps-outcomes measure docs docs

faults-table: install ## write docs/faults.md: what a pull makes of every fault of the catalogue
	@$(BIN)/python tools/fault_table.py

up: install ## local Prefect server and worker with both deployments, on 127.0.0.1
	@$(BIN)/python tools/local_server.py up

down: install ## stop exactly what `make up` started
	@$(BIN)/python tools/local_server.py down

lock: install ## renew requirements.lock from pyproject.toml, hashes and all
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --extra demo --extra dev --output-file requirements.lock pyproject.toml

clean: ## remove .venv, dist/ and caches; runs and snapshots in build/ stay
	@rm -rf .venv dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo install test test-slow lint types check try docs faults-table up down lock clean
