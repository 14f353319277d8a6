# make demo   draw 100 images, train on them and watch augmentation adapt (about ten minutes on two CPU cores)
# make test   lint, types and the fast tests (half an hour on two cores)
# make coverage  the fast tests, and which share of the lines of each file they run (half an hour)
# make mutants  whether the tests notice the mutations of tests/mutants/table.py (a quarter of an hour)
# make docs   the documentation site in site/, with the explorer of the sample generator (a minute; once, 33 MB are fetched for it)
# All set up .venv with pinned dependencies first. PYTHON chooses the interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS = $(shell $(BIN)/python -c "import os; print(min(os.cpu_count() + 1, 9))")
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.installed-demo
PIP := $(BIN)/pip install --quiet --constraint constraints.txt

.PHONY: demo docs test test-slow coverage mutants lint format clean

demo: $(DEMO_STAMP)
	$(BIN)/frugan demo demo

test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -m "not slow" -n $(WORKERS) --dist worksteal

test-slow: $(STAMP)
	$(BIN)/pytest -q -m slow

coverage: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -m "not slow"
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

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

$(STAMP): $(DEMO_STAMP)
	$(PIP) --editable ".[dev]"
	touch $(STAMP)

$(DEMO_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(PIP) --editable ".[demo,explorer,metrics,video]"
	touch $(DEMO_STAMP)

clean:
	rm -rf $(VENV) demo site .cache
