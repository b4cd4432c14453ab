# Two commands matter: `make demo` (the main job, on simulated machines) and `make test`.
# Everything is installed into .venv and .tools; nothing is fetched after set-up.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# One BLAS thread: the agent's matrices are small, and its neighbours on the Pi want the other cores.
export OPENBLAS_NUM_THREADS := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev servers demo test check bench prove lock format lint types arch wheel-test clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "edge-agent: Python 3.11 or newer is missing: sudo apt-get install -y python3 python3-venv" >&2; exit 1; }
	@echo "edge-agent: making .venv with $$($(PYTHON) --version)" >&2
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) >&2 || { rm -rf $(VENV); echo "edge-agent: python3-venv is missing: sudo apt-get install -y python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/.python
	@echo "edge-agent: installing the locked requirements into .venv (about a minute, once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/.python
	@echo "edge-agent: installing the locked development requirements into .venv (a minute or two, once)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2
	@touch $@ $(VENV)/.runtime

setup: $(VENV)/.runtime  ## install what the agent needs into .venv

setup-dev: $(VENV)/.dev  ## the same with the tools of `make check`

servers: $(VENV)/.dev
	@sh tests/install-servers.sh >&2

demo: $(VENV)/.runtime  ## the main job on simulated machines; ARGS="--headless --seconds 60 --json"
	@$(BIN)/edge-agent demo $(ARGS)

test: $(VENV)/.dev servers  ## the suite, against real servers
	@$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not alone" $(ARGS) || [ $$? -eq 5 ] # 5: ARGS chose none
	@$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? -eq 5 ]

format: $(VENV)/.dev  ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.dev
	@$(BIN)/mypy

arch: $(VENV)/.dev
	@$(BIN)/lint-imports

check: lint types arch test  ## all of CI

bench: $(VENV)/.dev  ## measure; needs a quiet machine
	@$(BIN)/python -m benchmarks $(ARGS)

prove: $(VENV)/.dev servers  ## the long fault campaign; HOURS=4 for longer, SEED= for another
	@$(BIN)/python -m tests.prove $(ARGS)

lock:  ## make requirements/*.txt anew (needs uv)
	@uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra demo --group build pyproject.toml -o requirements/runtime.txt
	@uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra demo --group build --group dev pyproject.toml -o requirements/dev.txt

clean:  ## remove what set-up and tests made
	@rm -rf $(VENV) .tools dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache edge-agent-state
