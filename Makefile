# A fresh machine needs Python 3.11 or newer, make, git and a package index. `make help` lists what there is.

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input -c constraints.txt

export MPLBACKEND := Agg

.DEFAULT_GOAL := help
.PHONY: help demo test test-all mutants lint bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.for-demo  ## install what is needed, show the built-in photographs to both networks, leave an atlas
	$(BIN)/unitscope demo --to unitscope-demo

test: $(VENV)/.for-test  ## install what is needed, run all tests (WORKERS=2 processes)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-all: $(VENV)/.for-test  ## all tests, and those that take minutes: simulations of every test, crashes at every point
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m ""

mutants: $(VENV)/.for-test  ## plant known bugs in a copy, one by one, and see whether the tests fail (long)
	$(BIN)/python benchmarks/mutants.py

lint: $(VENV)/.for-test  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.for-test  ## the benchmarks, each a script that prints ratios measured in one run (half an hour)
	@for name in fields survey calibration maximize perturb tuning; do \
	    echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py || exit 1; done

docs: $(VENV)/.for-docs  ## the documentation, into docs/_build
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## remove the environment, caches and what the demo left
	rm -rf $(VENV) unitscope-demo docs/_build build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "unitscope needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first, under its constraint, so that nothing else brings another one.
$(VENV)/.for-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) -e '.[analysis,demo]'
	@touch $@

# torchvision's wheels are built for one torch each: they and timm come without dependencies, since the rest is there. So does
# stimupy, an oracle of tests, which asks for an older numpy than it needs.
$(VENV)/.for-test: pyproject.toml constraints.txt | $(VENV)/.for-demo
	$(PIP) -e '.[analysis,demo,network,test]' huggingface_hub pyyaml
	$(PIP) --no-deps torchvision timm stimupy
	@touch $@

$(VENV)/.for-docs: pyproject.toml constraints.txt | $(VENV)/.for-demo
	$(PIP) -e '.[analysis,demo,docs]'
	@touch $@
