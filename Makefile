SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SILENT:
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV   := .venv
BIN    := $(VENV)/bin
LOCKED := $(VENV)/.locked
STAMP  := $(VENV)/.installed
NODE_STAMP := node_modules/.installed
AZURE_RUNTIME := $(VENV)/azure-runtime
AZURE_STAMP := $(AZURE_RUNTIME)/.installed
SCANNER := $(VENV)/infra-check
SCANNER_STAMP := $(SCANNER)/.installed
SCHEMAS := $(VENV)/infra-schemas
SCHEMAS_STAMP := $(SCHEMAS)/.fetched
PACKAGES := shared aws_lambda azure_function gcp_function localcloud cli
BENCH  := $(BIN)/python -m tests.bench
ARGS   ?=

# The first interpreter that is new enough and can make an environment; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3.11 python3 python3.13 python3.12; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv demo test test-all check check-infra infra-docs format bench simulate lock clean

help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with the command .venv/bin/tailpipe-exports, from hashed requirements

$(LOCKED): requirements/dev.txt
	if [[ -z "$(PYTHON)" ]]; then \
		echo "Python 3.11 or newer with its venv module is needed and was not found as python3.11 or python3;" \
			"install it, or name it: make venv PYTHON=/path/to/python3.11" >&2; exit 1; fi
	echo "setting up $(VENV) from requirements/dev.txt (once, about a minute)" >&2
	if [[ ! -x $(BIN)/python ]]; then $(PYTHON) -m venv --clear $(VENV) >&2; fi
	$(BIN)/python -m pip install -qq --no-input --require-hashes -r requirements/dev.txt >&2
	touch $@

# The storage emulator of the local Azure is an npm package; nothing else here runs on Node.
$(NODE_STAMP): package-lock.json package.json .npmrc
	if ! command -v node >/dev/null || ! command -v npm >/dev/null; then \
		echo "Node.js 20 or newer with npm is needed for the local Azure's storage emulator and was not found;" \
			"install it and run make venv again" >&2; exit 1; fi
	if ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then \
		echo "Node.js 20 or newer is needed for the local Azure's storage emulator; this one is $$(node --version)" >&2; \
		exit 1; fi
	echo "setting up node_modules from package-lock.json (once, about half a minute)" >&2
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
	touch $@

# Azure's worker runtime has a folder to itself: its wheels hold a package `tests`, which would hide ours. Without it the
# Azure function is run by its library, and the output says so; so a Python that it does not install on is no error.
$(AZURE_STAMP): $(LOCKED) requirements/azure_runtime.txt
	rm -rf $(AZURE_RUNTIME)
	mkdir -p $(AZURE_RUNTIME)
	$(BIN)/python -m pip install -qq --no-input --no-deps --ignore-requires-python --require-hashes --no-compile \
		--target $(AZURE_RUNTIME) -r requirements/azure_runtime.txt >&2 || { rm -rf $(AZURE_RUNTIME); mkdir -p $(AZURE_RUNTIME); \
		echo "Azure's worker runtime could not be installed; its library's FunctionApp stands in for it;" \
			"to try again remove $(AZURE_RUNTIME)" >&2; }
	touch $@

# The scanner of infra/ pins an AWS SDK that is not ours, so it has an environment of its own. Neither it nor the schemas
# are needed for anything else: what could not be fetched is said here and again, as `not run`, by the check.
$(SCANNER_STAMP): requirements/infra_check.txt | $(LOCKED)
	echo "setting up $(SCANNER) from requirements/infra_check.txt (once, about half a minute)" >&2
	rm -rf $(SCANNER)
	$(BIN)/python -m venv $(SCANNER) >&2
	$(SCANNER)/bin/python -m pip install -qq --no-input --no-deps --no-compile --require-hashes \
		-r requirements/infra_check.txt >&2 || { rm -rf $(SCANNER); mkdir -p $(SCANNER); \
		echo "the scanner of infra/ could not be installed; to try again remove $(SCANNER)" >&2; }
	touch $@

$(SCHEMAS_STAMP): $(wildcard tools/infra/schemas/package*.json tools/infra/distil.py tools/infra/published.py) | $(STAMP)
	echo "fetching the published schemas of azurerm, azuread and google (once, 60 MB)" >&2
	rm -rf $(SCHEMAS)
	mkdir -p $(SCHEMAS)
	$(BIN)/python -m tools.infra --schemas >&2 || \
		echo "the published schemas could not be fetched; to try again remove $(SCHEMAS)" >&2
	touch $@

# A package that appears is mapped into the environment; nothing is fetched for it.
$(STAMP): $(LOCKED) $(NODE_STAMP) $(AZURE_STAMP) pyproject.toml $(wildcard $(PACKAGES:%=%/__init__.py))
	$(BIN)/python -m pip install -qq --no-input --no-deps --no-build-isolation --no-index --editable . >&2
	touch $@

demo: $(STAMP) ## watch the real handler onboard and heal a local organisation (ARGS="--scopes 12")
	$(BIN)/tailpipe demo $(ARGS)

test: $(STAMP) $(SCHEMAS_STAMP) ## run the tests, in random order, on loopback only (ARGS="-k name")
	$(BIN)/python -m pytest -q -m "not slow" $(ARGS)

test-all: $(STAMP) $(SCHEMAS_STAMP) ## run all tests, the slow ones too
	$(BIN)/python -m pytest -q $(ARGS)

check: $(STAMP) ## check format, lint, types, the import contract, the project's rules and infra/
	$(BIN)/ruff format --check --quiet . || { echo "format: run make format" >&2; exit 1; }
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-cache >.import-contract.log 2>&1 || { cat .import-contract.log >&2; rm -f .import-contract.log; exit 1; }
	rm -f .import-contract.log
	$(BIN)/python -m tools.check_rules
	$(MAKE) check-infra

check-infra: $(STAMP) $(SCANNER_STAMP) $(SCHEMAS_STAMP) ## check infra/: schemas, names, house rules, policy scan (ARGS="--fresh")
	$(BIN)/python -m tools.infra $(ARGS)

infra-docs: $(STAMP) ## write what is made from infra/: inputs, outputs and rights in the documents, the operator's policies
	$(BIN)/python -m tools.infra --write

format: $(STAMP) ## format the code and apply the safe lint fixes
	$(BIN)/ruff check --quiet --fix . || true
	$(BIN)/ruff format --quiet .

bench: $(STAMP) ## print one JSON line a measure and nothing else
	$(BENCH) $(ARGS)

simulate: $(STAMP) ## run the simulations of long operation in virtual time (ARGS="-k name")
	$(BIN)/python -m pytest -q tests/simulation $(ARGS)

lock: $(STAMP) ## pin and hash requirements/*.in anew (ARGS="--upgrade")
	for source in requirements/*.in; do \
		env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null \
			CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe \
			--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
			--output-file "$${source%.in}.txt" $(ARGS) "$$source"; done

clean: ## remove everything that can be made again
	rm -rf $(VENV) node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
