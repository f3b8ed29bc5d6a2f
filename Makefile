# Every command creates its virtual environment first. README and docs/contributing.md describe them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test processes at the same time. Each starts its own Postgres server.
PROCESSES ?= 2

.PHONY: demo test lint full clean constraints

demo: $(VENV)/.demo
	$(BIN)/datahub-eventlog demo

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile -m "not browser and not clock and not long" \
		--durations 20

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

.PHONY: conformance conformance-postgres
conformance: $(STAMP)
	$(BIN)/python -m conformance --database sqlite

conformance-postgres: $(STAMP)
	$(BIN)/python -m conformance --database postgres

# dbt needs other versions of the linters' dependencies, so it has its own virtual environment.
.PHONY: dbt
dbt: $(VENV)-dbt/.installed
	$(VENV)-dbt/bin/python -m pytest tests/test_dbt.py

$(VENV)-dbt/.installed: pyproject.toml constraints-dbt.txt
	$(PYTHON) -m venv $(VENV)-dbt
	$(VENV)-dbt/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-dbt/bin/python -m pip install --quiet --constraint constraints-dbt.txt \
		--editable '.[all]' --group dbt
	touch $@

# Needs chromium and chromium-driver (Debian), or Chrome and its driver.
.PHONY: browser
browser: $(STAMP)
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest -m browser

# Tests of the same as others, in a larger size.
.PHONY: long
long: $(STAMP)
	$(BIN)/python -m pytest -m long

# Tests that wait for schedules, which tick once a minute.
.PHONY: clock
clock: $(STAMP)
	$(BIN)/python -m pytest -m clock

# All Hypothesis tests with fifty times as many examples. One file:
# `make properties PROPERTIES=tests/test_ledger_machine.py`.
.PHONY: properties
PROPERTIES ?= $(shell grep -l hypothesis tests/test_*.py)
properties: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --timeout 7200 \
		--hypothesis-profile thorough $(PROPERTIES)

.PHONY: matrix corners corners-more
matrix: $(STAMP)
	$(BIN)/python -m nox

corners: $(STAMP)
	$(BIN)/python -m nox --session wheel oldest newest

corners-more: $(STAMP)
	$(BIN)/python -m nox --session wheel oldest newest -- more

.PHONY: chaos chaos-sqlite soak
chaos: $(STAMP)
	$(BIN)/python -m chaos --storage postgres --seed 1 --minutes 0.75

chaos-sqlite: $(STAMP)
	$(BIN)/python -m chaos --storage sqlite --seed 2 --minutes 0.5

soak: $(STAMP)
	$(BIN)/python -m chaos --storage postgres --seed 3 4 5 --minutes 15
	$(BIN)/python -m chaos --storage sqlite --seed 6 --minutes 10

# Benchmarks. Each has options for parts and sizes: `python -m benchmarks.delivery --help`.
.PHONY: bench-delivery bench-overhead
bench-delivery: $(STAMP)
	$(BIN)/python -m benchmarks.delivery

bench-overhead: $(STAMP)
	$(BIN)/python -m benchmarks.overhead --job-pairs 3

full: lint docs test long properties clock dbt browser conformance conformance-postgres corners-more \
	matrix chaos chaos-sqlite soak

constraints: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header \
		--no-emit-index-url --no-annotate --all-extras --group dev pyproject.toml -o constraints.txt
	$(BIN)/uv pip compile --quiet --python-version 3.10 --resolution lowest-direct --upgrade \
		--no-header --no-emit-index-url --no-annotate --extra datahub --extra postgres \
		--group quick pyproject.toml -o matrix/oldest.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --upgrade --no-header \
		--no-emit-index-url --no-annotate --all-extras --group dbt pyproject.toml \
		-o constraints-dbt.txt

clean:
	rm -rf $(VENV) $(VENV)-dbt datahub-eventlog-demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(STAMP): $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@ $(VENV)/.demo
