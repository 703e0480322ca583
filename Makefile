# Each target sets up its own virtual environment when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-fast reproduce lint format

$(STAMP): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/tfmtl demo

test: $(STAMP)
	$(BIN)/pytest -n 2 -m 'not slow'
	$(BIN)/pytest -n 2 -m slow

test-fast: $(STAMP)
	$(BIN)/pytest -n 2 -m 'not slow'

# Rewrites docs/results from scratch; DATA is the folder of the logs. A finished cell is kept.
reproduce: $(STAMP)
	$(BIN)/python -m benchmarks.paper_tables
	$(BIN)/python -m benchmarks.reproduce --data-dir $(DATA) --jobs 2

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
