# Every target makes the virtual environment .venv when it is not there; `make help` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python that is new enough; `make install PYTHON=/path/to/python3.12` takes another.
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
# Optional dependencies: exactly one of cpu, gpu, gpu-cuvs.
EXTRAS ?= cpu,eval
# cpu, or cuda to let pip take its default build of PyTorch.
FOOTNOTE_TORCH ?= cpu
unexport FOOTNOTE_TORCH
HOST ?= 127.0.0.1
PORT ?= 8080
# Folder or files that `make run` reads.
DOCUMENTS ?= docs/manual
# Data folder of `make run`.
FOOTNOTE_HOME ?= data
# Processes that run the tests.
TEST_WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
# Written when an installation is complete, so that the next run starts at once.
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test

.PHONY: help install run test check bench faults soak clean distclean require-python

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  %-16s%s\n", $$1, $$2}'
	@echo
	@echo '  make run HOST=0.0.0.0 PORT=9000 DOCUMENTS=~/papers'
	@echo '  make install FOOTNOTE_TORCH=cuda EXTRAS=gpu,eval      (a machine with an NVIDIA GPU)'

install: $(INSTALLED)  ## Make .venv with the command .venv/bin/footnote

run: $(INSTALLED)  ## Ingest the manual, answer one question, then serve; Ctrl-C stops it
	@exec $(BIN)/footnote quickstart $(DOCUMENTS) --serve --home $(FOOTNOTE_HOME) --host $(HOST) --port $(PORT)

test: check  ## Every check, then the tests: what must pass before a change is merged
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --ignore tests/faults

check: $(INSTALLED_TEST)  ## Static checks: lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Collections in BEIR layout; without them only what needs none is measured.
BENCH_DATA ?= ../shared/data
BENCH_RESULTS := benchmarks/results
bench: $(INSTALLED_TEST)  ## Run the benchmark scripts, for about an hour; each writes JSON to benchmarks/results
	@mkdir -p $(BENCH_RESULTS)/tmp; set -e; \
	run() { echo "== $$1"; $(BIN)/python -m benchmarks."$$@" --json $(BENCH_RESULTS)/$$1.json; }; \
	run search; run lexical; run service; run ingest --data $(BENCH_DATA)/wiki-passages-6k/corpus.jsonl; \
	[ -d $(BENCH_DATA) ] || { echo 'no collections in $(BENCH_DATA): the rest is left out'; exit 0; }; \
	run encoder --data $(BENCH_DATA); run answers_squad $(BENCH_DATA)/squad-dev23; \
	run answers_confidence $(BENCH_DATA); \
	echo '== chunking'; $(BIN)/python -m benchmarks.chunking --work-dir $(BENCH_RESULTS)/tmp \
		$(BENCH_DATA)/cranfield $(BENCH_DATA)/covidqa-a > $(BENCH_RESULTS)/chunking.jsonl

faults: $(INSTALLED_TEST)  ## Tests that kill processes, fill disks and cut connections, for about a quarter of an hour
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist load tests/faults

# For how long `make soak` works and kills.
MINUTES ?= 30
soak: $(INSTALLED_TEST)  ## Work under kills for MINUTES (default 30), until something is not as promised
	@mkdir -p $(BENCH_RESULTS); $(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --json $(BENCH_RESULTS)/soak.json

clean:  ## Remove caches and build products
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

distclean: clean  ## Remove .venv too
	rm -rf $(VENV)

$(INSTALLED): pyproject.toml scripts/install.py | require-python
	@$(PYTHON) scripts/install.py --venv $(VENV) --extras '$(EXTRAS)' --torch $(FOOTNOTE_TORCH)
	@touch $@

$(INSTALLED_TEST): pyproject.toml scripts/install.py | require-python
	@$(PYTHON) scripts/install.py --venv $(VENV) --extras '$(EXTRAS),test' --torch $(FOOTNOTE_TORCH)
	@touch $(INSTALLED) $@

require-python:
	@[ -n '$(PYTHON)' ] || { echo 'Footnote needs Python 3.11 or newer, and none was found: install one, or name it with PYTHON=/path/to/python3' >&2; exit 1; }
