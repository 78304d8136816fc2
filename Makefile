SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SILENT:
MAKEFLAGS += --no-print-directory --no-builtin-rules

BIN      := .venv/bin
ARGS     ?=

# A module's tests share what they set up, so they stay together. Without these a single test starts faster:
# .venv/bin/python -m pytest tests/shared/test_plan.py
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder

# Sets up what a target needs, once; PYTHON=… chooses the interpreter.
SETUP := tools/setup.sh
export PYTHON

.PHONY: help venv demo test test-all coverage check check-types check-rest check-infra infra-docs format docs bench cost simulate crash dist lock clean bench-peers oracles mutants hostile soak

help: ## show this list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## make .venv with the command .venv/bin/tailpipe-exports, from hashed requirements
	$(SETUP) run

demo: ## watch the real handlers onboard and heal three clouds on this machine (ARGS="aws --scopes 12")
	$(SETUP) demo
	$(BIN)/python -m cli.main demo $(ARGS)

# What `make check` runs of the tests is not run again.
test: ## run the tests, in random order, on loopback only (ARGS="-k name": some)
	$(SETUP) test
	$(PYTEST) -m "not slow" $(or $(ARGS),--ignore=tests/infra/checks)

test-all: ## run all tests, the slow ones too, with all examples of the properties
	$(SETUP) test
	THOROUGH=1 $(PYTEST) $(ARGS)

coverage: ## measure which branches of the engine and the functions their own tests run (ARGS="--cov-report=term-missing")
	$(SETUP) test
	$(PYTEST) -m "not slow" --cov $(or $(ARGS),--cov-report=) $(addprefix tests/,shared aws_lambda azure_function gcp_function)

check: ## check format, lint, types, spelling, imports, workflows, the project's rules, the documentation and infra/
	$(SETUP) check
	$(BIN)/ruff format --check --quiet . || { echo "format: run make format" >&2; exit 1; }
	$(BIN)/ruff check --quiet .
	$(MAKE) -j2 check-types check-rest

# On a fresh checkout the types take 20 seconds on one core, as long as most of the rest.
check-types:
	$(BIN)/mypy --no-error-summary

check-rest:
	$(BIN)/lint-imports --no-cache >.import-contract.log 2>&1 || { cat .import-contract.log >&2; rm -f .import-contract.log; exit 1; }
	rm -f .import-contract.log
	$(BIN)/codespell
	$(BIN)/codespell --builtin en-GB_to_en-US
	$(BIN)/zizmor --offline --quiet --persona=pedantic --strict-collection --no-progress .
	$(BIN)/python -m tools.check_rules
	$(BIN)/python -m tools.documents --check
	$(BIN)/python -m tools.site
	$(PYTEST) tests/infra/checks

check-infra: ## check infra/: Terraform, policy scan, what the modules have in common (ARGS="-k name")
	$(SETUP) check
	$(PYTEST) tests/infra/checks $(ARGS)

infra-docs: ## write what is made from infra/ and the settings: tables in the documents, docs/settings.md, policies
	$(SETUP) test
	$(BIN)/python -m tools.documents

format: ## format the code and apply the safe lint fixes
	$(SETUP) check
	$(BIN)/ruff check --quiet --fix . || true
	$(BIN)/ruff format --quiet .

docs: ## build the documentation as a site in build/site; a link that leads nowhere fails
	$(SETUP) check
	$(BIN)/python -m tools.site
	echo "build/site/index.html"

bench: ## print one JSON line a measure, and write docs/performance.md (ARGS="setup engine aws azure gcp monitor")
	$(SETUP) test
	$(BIN)/python -m tests.bench $(ARGS)

bench-peers: ## play one story for what people do today and for this project, and write docs/performance.md
	$(SETUP) test
	$(BIN)/python -m tests.bench peers

cost: ## count what a deployment costs a month and write docs/cost.md (ARGS="aws azure gcp")
	$(SETUP) test
	$(BIN)/python -m tests.bench.cost --count $(ARGS)

simulate: ## play random years on three simulated clouds (SEEDS=200 or 17-20, DAYS=365, CLOUD="aws azure gcp", STORY='…')
	$(SETUP) test
	$(BIN)/python -m tests.simulation --seeds "$(or $(SEEDS),200)" --days "$(or $(DAYS),365)" \
		--clouds "$(or $(CLOUD),aws azure gcp)" --story '$(STORY)' $(if $(RECORD),--record)

crash: ## break every answer and kill after every call on three clouds (CLOUD=aws, STORY=heal, WAY=lost, CASE=…, FIRST=1)
	$(SETUP) test
	$(BIN)/python -m tests.crash --clouds "$(or $(CLOUD),aws azure gcp)" --stories "$(STORY)" --ways "$(WAY)" \
		--case "$(CASE)" $(if $(FIRST),--first) $(if $(LASTING),--lasting) $(if $(RECORD),--record)

hostile: ## let everything that reads a document read random and damaged ones (COUNT=1000000, SEED=7, RECORD=1)
	$(SETUP) test
	$(BIN)/python -m tests.hostile --count "$(or $(COUNT),100000)" --seed "$(or $(SEED),0)" $(if $(RECORD),--record)

mutants: ## change the code in one place at a time and expect a test to fail (GROUPS="guards engine", ONLY='shared/plan.py*')
	$(SETUP) test
	$(BIN)/python -m tests.mutants $(if $(GROUPS),--groups "$(GROUPS)") --only '$(ONLY)' $(if $(RECORD),--record)

soak: ## invoke each function a thousand times in one warm process and expect that nothing grows (CLOUD=aws, CALLS=1000, RECORD=1)
	$(SETUP) test
	$(BIN)/python -m tests.soak --clouds "$(or $(CLOUD),aws azure gcp)" --calls "$(or $(CALLS),1000)" $(if $(RECORD),--record)

oracles: ## count how often a vendor's own description was asked about the local clouds (RECORD=1 writes docs/testing.md)
	$(SETUP) test
	$(BIN)/python -m tests.oracles $(if $(RECORD),--record)

dist: ## write everything that a release consists of to dist/ (ARGS="--tag v0.2.0")
	$(SETUP) run
	$(SETUP) release
	$(BIN)/python -m tools.release $(ARGS)

lock: ## pin and hash requirements/*.txt anew from pyproject.toml (ARGS="--upgrade")
	$(SETUP) run
	env -u PIP_FIND_LINKS $(BIN)/python tools/locks.py $(ARGS)

clean: ## remove everything that can be made again
	rm -rf .venv node_modules build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .cache .coverage*
	rm -f .setup.log .setup.lock
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
