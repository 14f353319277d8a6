# make demo   draw 1,000 images and train on them (seven to ten minutes on two CPU cores)
# make test   lint, types and the fast tests
# make coverage  the fast tests, and which share of the lines of each file they run (half an hour)
# make mutants  whether the tests notice the mutations of tests/mutants/table.py (a quarter of an hour)
# All set up .venv with pinned dependencies first. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow coverage mutants lint format clean

demo: $(STAMP)
	$(BIN)/frugan demo demo

test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" -n 2

test-slow: $(STAMP)
	$(BIN)/pytest -q -m slow

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -m "not slow"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

mutants: $(STAMP)
	$(BIN)/python -m tests.mutants

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo
