# Everything runs in .venv, which is made on first use. Needs make, Python 3.11 or newer and pip.
#   make demo PYTHON=python3.12                  another Python
#   make standard DATA_DIR=~/data ARGS="--device cuda"
PYTHON ?= python3
DATA_DIR ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install demo standard test test-all docs benchmarks clean

help:
	@echo "make demo        install, then a real run on small data and its report"
	@echo "make test        lint, types, import rules and tests"
	@echo "make test-all    the same, with the long real runs"
	@echo "make standard    the CIFAR-10 run: DATA_DIR=folder-with-cifar10, ARGS='more options'"
	@echo "make docs        the documentation as a site, in build/site"
	@echo "make benchmarks  the cost of the probes beside their floor"
	@echo "make install     the program alone, into .venv"
	@echo "make clean       remove .venv, build outputs and caches (runs/ stays)"

install: $(VENV)/.installed-core

demo: $(VENV)/.installed-core
	$(BIN)/landscape run santurkar --preset quick $(ARGS)

# VGG-A/8 on CIFAR-10. Stopping it loses nothing: the same command goes on where it stopped.
standard: $(VENV)/.installed-parquet
	$(BIN)/landscape run santurkar --preset standard $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(ARGS)

test: lint $(VENV)/.installed-peers
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: lint $(VENV)/.installed-peers
	$(BIN)/python -m pytest $(ARGS)

.PHONY: lint
lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/command_line.py
	$(BIN)/mkdocs build --quiet
	@echo "the documentation: build/site/index.html"

benchmarks: $(VENV)/.installed-peers
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || exit 1; done

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing. A stamp says which extras .venv has; whoever installs more stamps the smaller ones too, so
# that `make demo` and `make test` never undo each other's work.
INPUTS := pyproject.toml constraints.txt $(BIN)/python
define install
	@echo "Installing into $(VENV) (several minutes the first time)..."
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable ".$(1)"
	@touch $(foreach extra,$(2),$(VENV)/.installed-$(extra))
endef

$(VENV)/.installed-core: $(INPUTS)
	$(call install,,core)

$(VENV)/.installed-parquet: $(INPUTS)
	$(call install,[parquet],core parquet)

$(VENV)/.installed-dev: $(INPUTS)
	$(call install,[dev],core parquet dev)

# The tools that curvature is cross-checked and timed against; why without their dependencies, the list says.
$(VENV)/.installed-peers: $(VENV)/.installed-dev benchmarks/peers.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --requirement benchmarks/peers.txt
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is not that ($$($(PYTHON) --version 2>&1))."; \
	  echo "Name one that is: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
