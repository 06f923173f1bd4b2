# Two commands set everything up: `make demo` and `make test` build .venv from nothing and do their job.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
STAMP := $(VENV)/.installed
LOWEST := .venv-lowest

# Tests start many processes; with compiled files each of them starts faster.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-lowest extras kill fuzz check lint format types doctest coverage bench docs docs-outputs clean

demo: $(STAMP)
	$(BIN)/univae demo

test: check doctest
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

# With the slow tests, and those of the extras that take long to install.
test-all: check doctest
	$(BIN)/pip install -q -c constraints.txt -e '.[test,docs,explore,faiss,onnx]'
	$(BIN)/python -m pytest -n auto --dist loadfile

# The ground, the core and the estimators with the lowest versions that setup.cfg allows.
test-lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -n auto tests/univae/attention tests/univae/latent \
		tests/univae/test_checkpoint.py tests/density/estimation tests/density/coding \
		tests/experiments/data tests/experiments/cli

# Every extra alone, in an environment of its own; ten minutes.
extras: $(STAMP)
	$(BIN)/python -m tests.extras build/extras

# Commands killed before every file operation, and on full disks; an hour. make test has a short form.
kill: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.kills --random 10 --signals 10
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.full_disk

# Mutated files of every kind, for five minutes: each is read, or refused in one line.
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --minutes 5

check: lint types

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Rewrites files.
format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

doctest: $(STAMP)
	$(BIN)/python -m pytest --doctest-modules univae density gan experiments --ignore=experiments/benchmarks

coverage: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt pytest-cov
	$(BIN)/python -m pytest -n auto --dist loadfile --cov=univae --cov=density --cov=gan \
		--cov=experiments --cov-report=term-missing:skip-covered

# Ratios with peers and with plain versions: an hour. univae bench has the quick ones.
bench: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/univae bench --all

# The site, in build/site; every notebook runs once.
docs: $(STAMP)
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Runs the blocks of the pages, and rewrites the outputs that they show; ten minutes.
docs-outputs: $(STAMP)
	$(BIN)/python -m tests.documentation --write README.md docs/tutorials/*.md

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $(STAMP)

$(LOWEST)/.installed: setup.cfg pyproject.toml constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install -q -c constraints-lowest.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info
