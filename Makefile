# Every target installs what it needs by itself, in .venv; nothing else is touched except that `make test`, run by root on
# Debian, installs Chromium, Redis and nginx.

# For `make serve`; what is not given is tidelog's own default: port 8000 on 127.0.0.1, and its own README and docs.
PORT ?=
DOCS ?=
# Not `?=`: some shells export HOST as the machine's own name.
HOST =
# More arguments for the command behind the target: make test ARGS="tests/test_log.py -x"
ARGS ?=
JOBS ?= 2
PYTHON ?= $(shell sh scripts/python.sh)

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test install check lint types snippets contracts bench soak screenshots pins format clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'

serve: export DOCS := $(patsubst ~/%,$(HOME)/%,$(DOCS))
serve: .venv/.runtime ## starts tidelog; PORT=8000, HOST=127.0.0.1, DOCS=folder
	@exec $(BIN)/tidelog serve $(if $(HOST),--host "$(HOST)") $(if $(PORT),--port "$(PORT)") $${DOCS:+--docs "$$DOCS"} $(ARGS)

test: .venv/.everything ## every test; in a browser too, where there is one
	@sh scripts/chromium.sh
	@sh scripts/redis.sh
	@sh scripts/nginx.sh
	$(PYTEST) -n $(JOBS) --dist loadfile --durations 10 --durations-min 2 $(ARGS)

install: .venv/.everything ## prepares .venv, with PYTHON=python3.11 or later

check: lint types snippets contracts ## lint, types, import contracts

lint: .venv/.everything
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.everything
	$(BIN)/mypy

# What users copy must satisfy the strictest checker that they may run.
snippets: .venv/.everything
	$(BIN)/python scripts/snippets.py

contracts: .venv/.everything
	$(BIN)/lint-imports --no-cache

bench: .venv/.everything ## the figures, side by side with other servers
	$(BIN)/python -m bench $(ARGS)

soak: .venv/.everything ## the large counts of the tests
	@sh scripts/chromium.sh
	@sh scripts/redis.sh
	@sh scripts/nginx.sh
	SOAK=1 $(PYTEST) -m soak --timeout 3600 --durations 0 --durations-min 5 $(ARGS)

screenshots: .venv/.everything ## the pictures in docs/images
	@sh scripts/chromium.sh
	$(BIN)/python scripts/screenshots.py

pins: ## writes constraints.txt anew, with the newest versions that pyproject.toml allows
	PYTHON="$(PYTHON)" sh scripts/pins.sh

format: .venv/.everything ## what `ruff` can mend by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## removes what the other targets made, .venv too; never a database
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist bench/.venv bench/.node bench/.nginx bench/.build
	find src tests bench scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# hatchling comes first, pinned like everything else: a build in isolation would fetch one of its own each time.
.venv/.runtime: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing tidelog into .venv (once, about a minute) ..."
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable ".[documents,metrics,websocket]"
	@touch $@

.venv/.everything: .venv/.runtime
	@echo "Installing the tools for tests and checks into .venv (once, about a minute) ..."
	@$(PIP) --no-build-isolation --editable ".[test,check]"
	@touch $@

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "tidelog needs Python 3.11 or later: install it, or name it with PYTHON=/path/to/python." >&2; exit 1; }
	@$(PYTHON) -m venv .venv
