# The project's commands; `.ci/run` calls the same targets. `make` alone prints them.
PYTHON ?= .venv/bin/python
BIN := $(dir $(PYTHON))

help: ## print the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand --tabs 14

install: ## create .venv with the package in editable form and the developers' tools
	python3 -m venv .venv
	.venv/bin/pip install --quiet --editable '.[dev]' --constraint constraints.txt

test: ## run all tests
	$(PYTHON) -m pytest

fast: ## run the tests that are not marked slow
	$(PYTHON) -m pytest -m "not slow"

check: lint types imports spelling definitions pinned ## run every check that is not a test

lint: ## check style and format
	$(BIN)ruff check .
	$(BIN)ruff format --check .

types: ## check types
	$(BIN)mypy

imports: ## check the direction of imports
	$(BIN)lint-imports --no-cache --no-logo

spelling: ## check the spelling of every tracked file
	git ls-files -z | xargs -0 $(BIN)codespell

definitions: ## check that Dagster can load the definitions
	$(BIN)dg check defs

ratios: ## check that nothing has become slower, by ratios of CPU seconds within one run
	$(PYTHON) -m adc_pipeline_tests.benchmarks.ratios

docs: ## build the documentation in docs/_build; the tests build it too, and check its links
	$(PYTHON) -m sphinx -W --keep-going -q docs docs/_build

pinned: ## check that constraints.txt has the versions that are installed
	$(PYTHON) -m adc_pipeline_tests.constraints

constraints: ## write the versions that are installed to constraints.txt
	$(PYTHON) -m adc_pipeline_tests.constraints --write

# The image's locks: the versions of constraints.txt, with hashes. torch comes from one of two locks, by its build.
LOCK := uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt \
	--generate-hashes --no-annotate --custom-compile-command "make locks" --quiet

locks: ## write the image's locks (needs uv and torch's index)
	$(LOCK) pyproject.toml --extra deploy --constraint deploy/torch-cpu.lock --no-emit-package torch \
		--output-file deploy/requirements.lock
	grep '^torch==' constraints.txt | $(LOCK) - --output-file deploy/torch-cuda.lock

.PHONY: help install test fast check lint types imports spelling definitions docs pinned ratios constraints locks
