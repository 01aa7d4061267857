# `make demo` and `make test` do all the set-up that a fresh machine needs; `make help` lists the rest.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# -qq: errors only; warnings about unused package indices are noise.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# One thread for each test process: two processes with two threads each are slower on two cores.
TEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow lint format bench clean distclean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: $(STAMP) ## Make .venv and install the package with its development tools

# torch goes first and alone, so that the index chooses the build that fits this machine.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed and $(PYTHON) is older: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install "$$(grep '^torch==' constraints.txt)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

# One thread: for so small a model a second one saves nothing, and on a busy machine the two wait for one another.
demo: $(STAMP) ## Train on bundled real data and write results and figures into demo/
	@mkdir -p demo
	@OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m multiomics_vae.demo

test: $(STAMP) ## Run the fast tests
	@$(TEST) -m "not slow" -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(STAMP) ## Run the slow tests
	@$(TEST) -m slow -n $(WORKERS) $(PYTEST_ARGS)

lint: $(STAMP) ## Check style, types and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Compare with the peers (hours; benchmarks/README.md says what it needs)
	@$(BIN)/python benchmarks/embedding.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/baselines.py

clean: ## Remove caches and outputs
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks data -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## Remove .venv as well
	rm -rf $(VENV)
