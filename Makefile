# Everything a user or developer starts. Each target first brings .venv and the browser assets up to the locks.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PYTEST_ARGS ?=
LOCK := $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help setup dev run test check format format-check lint types imports migrations templates bench chaos parity rewrite-migrations lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv and install what running needs
	@$(PYTHON) tradebot/setup/prepare.py --venv $(VENV)

dev: ## the same, and what tests and checks need
	@$(PYTHON) tradebot/setup/prepare.py --venv $(VENV) --dev

run: setup ## start Tradebot on this machine
	@exec $(PY) manage.py serve

# Compiled once, rather than by every worker and by every process that a test starts, whatever the machine is set to.
test: export PYTHONDONTWRITEBYTECODE :=
test: dev ## all tests, in parallel and random order (PostgreSQL when TEST_DATABASE_URL is set)
	$(PY) -m pytest -n auto $(PYTEST_ARGS)

check: format-check lint types imports migrations templates test ## everything a change must pass

format: dev ## rewrite code and templates in the house format
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix-only --quiet .
	@find templates -name '*.html' -exec $(VENV)/bin/djade --target-version 5.2 {} +

format-check: dev ## is the code in the house format
	$(PY) -m ruff format --check .

lint: dev ## ruff's rules
	$(PY) -m ruff check .

types: dev ## mypy
	DEBUG=1 $(PY) -m mypy

imports: dev ## do dependencies point one way
	$(VENV)/bin/lint-imports

migrations: dev ## does a model change lack its migration
	DATABASE_URL=sqlite://:memory: $(PY) manage.py makemigrations --check --dry-run

templates: dev ## are the templates in the house format
	find templates -name '*.html' -exec $(VENV)/bin/djade --check --target-version 5.2 {} +

bench: dev ## measure speed; prints figures, fails nothing
	$(PY) -m pytest tests/bench -o python_files='bench_*.py' -p no:randomly -s $(PYTEST_ARGS)

chaos: dev ## kill processes at every step for a while and look for lost or doubled orders
	$(PY) -m pytest tests/chaos -o python_files='chaos_*.py' -s $(PYTEST_ARGS)

parity: dev ## the fills of backtests against those of replays through the cycle, on all recordings (an hour)
	$(PY) -m pytest tests/parity -o python_files='parity_*.py' -p no:randomly -s $(PYTEST_ARGS)

rewrite-migrations: dev ## write the migrations anew (until the first release)
	DEBUG=1 DATABASE_URL=sqlite://:memory: $(PY) manage.py rewrite_migrations
	$(PY) -m ruff check --fix-only --quiet */migrations tradebot/core/migrations
	$(PY) -m ruff format --quiet */migrations tradebot/core/migrations

lock: dev ## lock versions again after a change of an .in file or package.json (UPGRADE=1: newest of everything)
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) requirements-assets.in -o requirements-assets.txt
	npm install --package-lock-only

clean: ## remove what set-up and tests made; your data stays
	rm -rf $(VENV) static/vendor staticfiles test-results .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
