# `make demo` and `make test` work as the first command on a machine with Python 3.11 and pip.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PARITY := .parity/.ready

.PHONY: help demo test lint acceptance parity survive mutation format docs style clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        the whole loop on the embedded world, with a report (about four minutes)"
	@echo "make test        lint and the test suite"
	@echo "make lint        ruff, mypy and import-linter"
	@echo "make acceptance  21 runs over three seeds with the claims of the docs checked (about an hour)"
	@echo "make parity      losses and gradients against those of TRL, in an environment of its own"
	@echo "make docs        docs/recipe.md and docs/errors.md, written anew from the source"
	@echo "make survive     kills and faults that runs come back from, bad files and recipes (about half an hour)"
	@echo "make mutation    every small change to core/ has to make a test fail (about five minutes)"

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

# Two versions of TRL: the newest, and in a folder of its own the last one that has PPO.
$(PARITY): pyproject.toml constraints.txt tests/parity/requirements.txt tests/parity/requirements-ppo.txt
	@test -x .parity/bin/python || $(PYTHON) -m venv .parity
	.parity/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.parity/bin/python -m pip install --quiet --disable-pip-version-check -r tests/parity/requirements.txt -e .
	.parity/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target .parity/trl-1.12.0 -r tests/parity/requirements-ppo.txt
	@touch $(PARITY)

PARITY_TESTS := OMP_NUM_THREADS=1 .parity/bin/python -m pytest -m parity --disable-warnings

parity: $(PARITY)
	@rm -rf .parity/results
	@failed=0; \
	$(PARITY_TESTS) tests/parity --ignore tests/parity/test_parity_ppo.py || failed=1; \
	PYTHONPATH=.parity/trl-1.12.0 $(PARITY_TESTS) tests/parity/test_parity_ppo.py || failed=1; \
	.parity/bin/python benchmarks/parity.py || failed=1; \
	exit $$failed

survive: $(READY)
	@$(BIN)/python benchmarks/survive.py

# mutmut lies beside the environment, as it is needed nowhere else, and works on a copy of the tree.
mutation: $(READY)
	@test -d .mutation/lib || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--target .mutation/lib mutmut==3.8.1
	@PYTHONPATH=.mutation/lib $(BIN)/python benchmarks/mutation.py

style: $(READY)
	@$(BIN)/python benchmarks/style.py

docs: $(READY)
	@$(BIN)/python -m concordant.pipeline.reference > docs/recipe.md
	@$(BIN)/python tests/messages/errors_page.py > docs/errors.md

format: $(READY)
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv .parity build dist .pytest_cache .mypy_cache .ruff_cache
