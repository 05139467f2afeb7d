# What a developer does with this project; `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Enough to keep two cores busy; the tests share nothing.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install start test test-all test-browser pictures lint format bench infra infra-az fuzz drill generated lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed node_modules/.installed ## packages for Python and the storage emulator

$(VENV)/.installed: requirements-dev.txt dev/host/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt \
		|| { echo "pip could not install requirements-dev.txt: see the lines above"; exit 1; }
	@# Microsoft's worker library asks for 3.13 but runs on 3.11; Azure itself brings it, so the app does not list it.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python \
		-r dev/host/requirements.txt \
		|| { echo "pip could not install dev/host/requirements.txt: see the lines above"; exit 1; }
	@touch $@

node_modules/.installed: package-lock.json
	@command -v npm >/dev/null || { echo "Node.js 20 or newer with npm is needed for the storage emulator"; exit 1; }
	@npm ci --no-audit --no-fund --loglevel=error >/dev/null \
		|| { echo "npm could not install the storage emulator: see the lines above"; exit 1; }
	@touch $@

start: ## everything on this machine, with a live demonstration; Ctrl-C ends it
	@$(PYTHON) -m dev.machine
	@$(MAKE) -q install || echo "Installing packages for Python and the storage emulator: one to three minutes, once …"
	@$(MAKE) --no-print-directory --silent install
	@exec $(BIN)/python -m dev.start

# What needs the Bicep compiler says so: make infra goes without one only where BICEP=skip asks for it.
BICEP ?= $(shell command -v bicep)
NO_BICEP = not tested: what needs the Bicep compiler

# Those of infra/ have their own target. They start dozens of processes, which shall not compile everything again.
PYTEST = exec env PYTHONDONTWRITEBYTECODE= BICEP="$(or $(BICEP),skip)" \
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup --ignore=tests/infra --ignore=tests/browser

test: install ## tests on the storage emulator and the PBX simulator, but for the slow ones; on the host of HOST_COMMAND
	@$(PYTEST) -m "not slow"

test-all: install ## the slow ones too: outages, processes that die at every step, years of history
	@$(PYTEST)

test-browser: install ## the page as a person uses it, in Chromium
	@exec $(BIN)/python -m pytest -q tests/browser

pictures: install ## the page's pictures in docs/images, made again
	@exec $(BIN)/python -m pytest -q tests/browser/pictures.py

lint: install ## ruff, mypy, and the directions of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

format: install ## let ruff fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install ## speed, as ratios against a limit measured in the same run; writes docs/benchmarks.md
	@$(BIN)/python -m dev.bench

infra: install ## templates by the Bicep compiler, scripts against a stand-in, workflows by evaluating them
	@$(if $(filter-out skip,$(BICEP)),command -v "$(BICEP)" >/dev/null || { echo "no Bicep compiler at $(BICEP)"; exit 1; }, \
		$(if $(BICEP),echo "BICEP=skip: $(NO_BICEP)", \
		{ echo "no Bicep compiler: put bicep on the PATH, name it in BICEP, or say BICEP=skip"; exit 1; }))
	@BICEP="$(BICEP)" $(BIN)/python -m pytest -q -rs -n $(WORKERS) tests/infra
	@$(BIN)/shellcheck infra/*.sh .github/*.sh tests/infra/stand_in/*
	@$(if $(filter-out skip,$(BICEP)),BICEP="$(BICEP)" $(BIN)/python tests/infra/checkov.py)

infra-az: install ## every call of az in the scripts, against the real az's parser; installs it beside the project
	@$(BIN)/python -m tests.infra.az

fuzz: install ## thousands of requests to /api/v2 made from its own definition, over HTTP
	@$(BIN)/python -m dev.fuzz

drill: install ## outages of ten minutes with real processes: nothing is lost, and everything recovers by itself
	@$(BIN)/python -m dev.drill

generated: install ## write again what follows from the tables: connector, settings, docs/deploy.md's tables
	@$(BIN)/python -m dev.generated
	@$(if $(filter-out skip,$(BICEP)),BICEP="$(BICEP)" $(BIN)/python -m tests.infra.docs, \
		echo "docs/deploy.md is left as it is: its tables need the Bicep compiler")

lock: install ## write requirements.txt and requirements-dev.txt again from dev/requirements
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		dev/requirements/app.in -o requirements.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate \
		dev/requirements/dev.in -o requirements-dev.txt

clean: ## remove what was installed and made here
	@rm -rf $(VENV) .venv-az node_modules .azurite .pytest_cache .mypy_cache .ruff_cache
