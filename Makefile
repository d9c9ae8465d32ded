# Everything a checkout needs beyond Python 3.11, pip and make is installed into .venv, once.

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

.DEFAULT_GOAL := help
.PHONY: help book test test-all test-cross bench lint index clean

help: ## what there is to make
	@echo "make TARGET [PYTHON=python3.12] [JOBS=2] [ARGS=\"more for pytest\"]"
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'

book: $(INSTALLED)book ## the book, in _build/html; only what changed is executed again
	@$(BIN)/python chapters/_book --jobs $(JOBS)

test: $(INSTALLED)test ## the quick tests
	$(PYTEST) --hypothesis-profile=quick $(ARGS)

test-all: $(INSTALLED)test ## the slow tests too, with many more examples
	$(PYTEST) --slow --hypothesis-profile=thorough $(ARGS)

test-cross: $(INSTALLED)cross ## compares with other people's implementations (installs PyTorch and more)
	$(PYTEST) --slow --cross --hypothesis-profile=quick tests/cross $(ARGS)

bench: $(INSTALLED)cross ## times the engine and the kernels beside PyTorch and NumPy (alone on the machine, please)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-columns=min,median,iqr $(ARGS)

lint: $(INSTALLED)dev ## ruff, pyright and the floors of the house
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

index: $(INSTALLED)test ## the generated files: index.json and references.bib
	$(BIN)/python -m minitf.papers.index
	$(BIN)/python -m minitf.papers.bibliography

clean: ## removes what was built; .venv stays
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .benchmarks

$(INSTALLED)%: pyproject.toml | $(VENV)/.created
	@echo "installing minitf[$*] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "minitf needs Python 3.11 or later, and \"$(PYTHON)\" is not one." \
	       "Name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

.PRECIOUS: $(INSTALLED)%
