# Two commands set everything up: `make demo` and `make test` build .venv from nothing and do their job.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types doctest bench clean

demo: $(STAMP)
	$(BIN)/univae demo

test: check doctest
	$(BIN)/python -m pytest -n auto --dist loadfile

check: lint types

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

doctest: $(STAMP)
	$(BIN)/python -m pytest --doctest-modules univae density gan experiments --ignore=experiments/benchmarks

# Ratios with peers and with plain versions; every script prints JSON and takes minutes. Needs the extra `bench`.
bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	for script in experiments/benchmarks/[a-z]*.py; do \
		name=$$(basename $$script .py); \
		[ $$name = harness ] || $(BIN)/python -m experiments.benchmarks.$$name || exit 1; \
	done

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info
