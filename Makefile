# `make demo` and `make test` work as the first command on a machine with Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test lint acceptance format docs style clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        the whole loop on the embedded world, with a report (about two minutes)"
	@echo "make test        lint and the test suite"
	@echo "make lint        ruff, mypy and import-linter"
	@echo "make acceptance  three seeds of the demo with the claims of the docs checked (about ten minutes)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "concordant needs Python 3.11 or newer; say make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	@$(BIN)/concordant demo

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > .lint-imports.log 2>&1 || { cat .lint-imports.log; exit 1; }

test: lint
	@$(BIN)/python -m pytest -n 2

acceptance: $(READY)
	@$(BIN)/python -m pytest -m acceptance -s tests/acceptance

style: $(READY)
	@$(BIN)/python benchmarks/style.py

docs: $(READY)
	@$(BIN)/python -m concordant.pipeline.reference > docs/recipe.md

format: $(READY)
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
