# The commands of the README. All of them make their own virtual environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint full clean constraints

demo: $(VENV)/.demo
	$(BIN)/datahub-eventlog demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: conformance conformance-postgres
conformance: $(STAMP)
	$(BIN)/python conformance --database sqlite

conformance-postgres: $(STAMP)
	$(BIN)/python conformance --database postgres

.PHONY: chaos soak
chaos: $(STAMP)
	$(BIN)/python chaos --storage postgres --seed 1 --minutes 0.75
	$(BIN)/python chaos --storage sqlite --seed 2 --minutes 0.5

soak: $(STAMP)
	$(BIN)/python chaos --storage postgres --seed 3 4 5 --minutes 15
	$(BIN)/python chaos --storage sqlite --seed 6 --minutes 10

full: lint test conformance conformance-postgres chaos

constraints: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header \
		--no-emit-index-url --no-annotate --all-extras --group dev pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) datahub-eventlog-demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@ $(VENV)/.demo
