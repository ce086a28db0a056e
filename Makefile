# `make help` lists the targets. Everything is installed into .venv, nothing outside it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# what `make setup` brings beside the run-time needs; `make setup EXTRAS=offline,openai` changes it
EXTRAS ?= offline,sentence,sweep
# for a CPU build on a machine where PyPI's torch would bring CUDA:
#   make setup TORCH_FLAGS="--index-url https://download.pytorch.org/whl/cpu"
TORCH_FLAGS ?=
# --no-warn-conflicts: the one conflict is RecBole's cap on Ray, see the recipe below
PIP := $(BIN)/python -m pip --disable-pip-version-check install --no-warn-conflicts --constraint constraints.txt
# one moving line on a terminal, silence in a log; errors come on standard error in both
SHOW := awk -v tty=$$(test -t 1 && echo 1 || echo 0) \
	'tty && /^(Collecting|Downloading|Installing)/ {printf "\r\033[K   %s", substr($$0, 1, 70); fflush()} END {if (tty) printf "\r\033[K"}'

.PHONY: help setup demo test test-slow lint types clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed  ## make .venv and install everything, pinned (about 3 minutes, once)

# The one place that knows how RecBole is installed: RecBole 1.2.1 caps Ray at 2.6.3, which
# no longer imports, so RecBole comes last and without its dependencies; they stand in setup.cfg.
$(VENV)/.installed: setup.cfg pyproject.toml constraints.txt
	@echo "== setup: Python environment in $(VENV), about 2.3 GB"
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, found: $$("$(PYTHON)" --version 2>&1). Try: make setup PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "   1 of 3  torch"
	@$(PIP) $(TORCH_FLAGS) torch | $(SHOW)
	@$(PIP) setuptools | $(SHOW)
	@echo "   2 of 3  recbole_llmgraph[$(EXTRAS)] and what it needs"
	@$(PIP) --no-build-isolation --editable ".[$(EXTRAS)]" | $(SHOW)
	@echo "   3 of 3  RecBole"
	@$(PIP) --no-deps recbole | $(SHOW)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "== setup: tools for tests, lint and types"
	@$(PIP) --no-build-isolation --editable ".[$(EXTRAS),dev]" | $(SHOW)
	@touch $@

demo: setup  ## HeLLM, LightGCN and SASRec on ml-100k, a few minutes, ends with a leaderboard
	@echo "== demo: three models on MovieLens-100K (ships inside RecBole, nothing is downloaded)"
	@$(BIN)/python benchmarks/run.py --model=HeLLM,LightGCN,SASRec --dataset=ml-100k --preset quick

test: $(VENV)/.installed-dev  ## every test that takes no more than a few seconds
	@echo "== test"
	@$(BIN)/python -m pytest -q

test-slow: $(VENV)/.installed-dev  ## the long ones: killed processes, wheels, whole cells
	@echo "== test-slow"
	@$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/.installed-dev  ## ruff: rules and format
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev  ## mypy --strict on the package
	@echo "== types"
	@$(BIN)/mypy --strict recbole_llmgraph

clean:  ## caches and build folders; keeps .venv, data, runs and artifacts
	@echo "== clean"
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
