# One command each; `make help` lists them. Nothing here needs a compiler.

VENV   := .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# The default selection of `make test`; `make test-all` runs everything that can run here.
FAST   := not slow and not docker

# Test processes side by side, a file in one of them. Most tests wait for processes they have started.
WORKERS ?= 2

# Passed to `make bench`: one benchmark's name (empty: all), seconds per run, --full for everything.
NAME    ?=
SECONDS ?= 10
ARGS    ?=

# Passed to `make sim`: how many seeds, from which, on how many cores; or one seed alone.
RUNS    ?= 100
FROM    ?= 1
JOBS    ?= 1
SEED    ?=
LEDGER  ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-all lint fmt bench sim golden clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Create .venv with the nodedb command; nothing to do if it is up to date

# Rebuilt only when pyproject.toml has changed, or when the virtual environment is gone.
$(VENV)/.installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python -m compileall -q nodedb sql cluster
	@touch $@

run: setup ## Start a node in the foreground (data in node-data/, no passwords on loopback)
	$(BIN)/nodedb start --store node-data --insecure

test: setup ## Unit, golden, property, tidy, oracle, end-to-end and short kill tests
	$(PYTEST) -m '$(FAST)' -n $(WORKERS) --dist loadfile $(ARGS)

test-all: setup ## Every test, the slow ones too
	$(PYTEST) -m 'not docker' $(ARGS)

lint: setup ## ruff, formatting, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: setup ## Format and sort imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: setup ## Side by side with PostgreSQL 15; NAME=one SECONDS=10 ARGS=--full
	$(BIN)/python -m bench.side_by_side --seconds $(SECONDS) $(if $(NAME),--name $(NAME)) $(ARGS)

sim: setup ## Simulated clusters; RUNS=100 FROM=1 JOBS=1, or SEED=42; LEDGER=date adds a line
	$(BIN)/python -m tests.simulation.run $(if $(SEED),--seed $(SEED) -v,--runs $(RUNS) --from $(FROM)) \
		--jobs $(JOBS) $(if $(LEDGER),--ledger $(LEDGER))

golden: setup ## Record the golden scripts again, then show what changed
	GOLDEN_REWRITE=1 $(PYTEST) tests/golden tests/unit/sql || true
	git diff --stat -- tests

clean: ## Remove caches and build output; keeps .venv and node-data
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
