# Everything runs in .venv, which the first target makes (uv if it is installed, else venv and pip).
# make PYTHON=/path/to/python3.12 ... chooses the interpreter; make demo ARGS=--help passes options on.

READY := .venv/.ready
BIN := .venv/bin
PYTHON ?=
unexport PYTHONDONTWRITEBYTECODE # each program that a test starts would compile everything again

.PHONY: help setup demo test lint format dashboards pictures bench clean

help:
	@echo "make demo       200 LLM calls against a server of our own, then what the hub knows of them (hub-demo.db)"
	@echo "make test       formatting, lint, types, layers, tests"
	@echo "make format     format the code and mend what ruff can"
	@echo "make dashboards write dashboards/grafana again from the list of panels"
	@echo "make pictures   draw docs/*.svg again from a real run of the demo"
	@echo "make bench      the benchmarks, full size"
	@echo "make clean      remove what these made"

setup: $(READY)

$(READY): pyproject.toml uv.lock .ci/setup
	@PYTHON="$(PYTHON)" sh .ci/setup
	@touch $@

demo: $(READY)
	@HUB_SPOOL_DIR=$${HUB_SPOOL_DIR:-.hub-spool} $(BIN)/hub demo $(ARGS)

test: lint
	$(BIN)/pytest -n auto

lint: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

dashboards: $(READY)
	$(BIN)/python -m hub.dashboards

pictures: $(READY)
	$(BIN)/python -m tests.pictures

bench: $(READY)
	for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv dist build .hub-spool .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache hub-demo.db*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
