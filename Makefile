# `make` alone lists the targets. Everything that is installed goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'

# One virtual environment, filled as far as a target needs it.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "K2 Ingest needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --no-deps -r requirements/demo.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.all: requirements/all.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes --no-deps -r requirements/all.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.demo

.PHONY: install
install: $(VENV)/.all ## install everything, tools of development included

.PHONY: demo
demo: $(VENV)/.demo ## the main job end to end, with faults, in DEMO_SECONDS (60)
	$(BIN)/python -m tests.demo

.PHONY: test
test: $(VENV)/.all ## unit tests, then those that need the real Kafka, Prometheus and processes
	$(UNIT)
	$(INTEGRATION)
UNIT := $(BIN)/python -m pytest -q -n 2 -m 'not integration and not slow and not soak'
# A module stays in one worker, whose broker and service it shares; most of its time is waiting, so that two of them fit.
INTEGRATION := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m 'integration and not slow and not soak'

.PHONY: test-unit
test-unit: $(VENV)/.all ## unit tests alone
	$(UNIT)

.PHONY: lint
lint: $(VENV)/.all ## style, types, import directions, spelling, shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.:plugins $(BIN)/lint-imports
	$(BIN)/codespell
	git ls-files -z '*.sh' .ci/run | xargs -0 -r shellcheck

.PHONY: kafka
kafka: $(VENV)/.demo ## one real Kafka in the foreground, on port 9092
	$(BIN)/python -m tests.support.kafka --port 9092

.PHONY: registry
registry: $(VENV)/.demo ## a small schema registry in the foreground, on port 8081
	$(BIN)/python -m tests.support.registry --port 8081

.PHONY: docs
docs: $(VENV)/.all ## the documentation as HTML in docs/_build, warnings are errors
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs docs/_build

.PHONY: locks
locks: ## make the locked requirement files again (needs uv)
	uv pip compile -q pyproject.toml --all-extras --group dev $(LOCK) -o requirements/all.txt
	uv pip compile -q pyproject.toml -c requirements/all.txt $(LOCK) -o requirements/service.txt
	printf 'mypy\nsetuptools\n' | uv pip compile -q - -c requirements/all.txt $(LOCK) -o requirements/build.txt
	echo setuptools | uv pip compile -q pyproject.toml - --extra sim -c requirements/all.txt $(LOCK) -o requirements/demo.txt
	uv pip compile -q pyproject.toml --extra reports --extra airflow -c requirements/all.txt $(LOCK) -o requirements/airflow.txt
LOCK := --generate-hashes --no-strip-extras --no-emit-index-url --no-header --python-version 3.11

.PHONY: clean
clean: ## remove what the targets made, the virtual environment excepted
	rm -rf .cache build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

-include mk/*.mk
