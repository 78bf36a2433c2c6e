# `make lab` and `make test` set up all they need, on Debian or Ubuntu, as root or as a user who may use sudo.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help lab test check static tests format bench conformance lock clean

PYTHON ?= python3
LAB ?= 01
COURSE := .venv/bin/course
UV_VERSION := 0.13.9
# Root for Debian's packages and the tests of the node; root itself needs no sudo.
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo || command -v doas || echo sudo)
# The tests of the node run as root: what the user compiled is copied to where their root may write.
NODE_CACHE = $(shell .venv/bin/python -c 'from helpers import settings; print(settings.node_cache_dir())')
USER_CACHE = $(shell .venv/bin/python -c 'from helpers import settings; print(settings.cache_dir())')
AS_ROOT = $(if $(SUDO),$(SUDO) -E env HOME=/root COURSE_CACHE=$(NODE_CACHE) PYTHONDONTWRITEBYTECODE=1)
# uv brings certificates of its own; this machine's store is what its administrator keeps, and what pip and Go use.
export UV_SYSTEM_CERTS ?= 1
# Compiled once, not by every process: without it each start of `course` or of a page costs seconds more.
unexport PYTHONDONTWRITEBYTECODE

help: ## what each target does
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	  echo "Python 3.11 or newer is needed, this is $$($(PYTHON) --version). Next: make lab PYTHON=python3.12"; exit 2; }
	$(PYTHON) -c 'import ensurepip' 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv; }
	[ -x .venv/bin/python ] || { rm -rf .venv; $(PYTHON) -m venv .venv; }
	echo "Installing the course's Python packages into .venv (about a minute the first time)"
	.venv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	.venv/bin/uv pip install -q --require-hashes -r requirements.lock
	.venv/bin/uv pip install -q --no-deps -e .
	touch $@

lab: .venv/installed ## open lab 01 and start the embedded cluster, built behind the page the first time (LAB=02, HEADLESS=1)
	@$(COURSE) lab $(LAB) $(if $(HEADLESS),--headless)

test: static tests ## everything that CI runs: format, lint, types, notebooks, manifests, tests

check: test ## the same

static: .venv/installed ## format, lint, types, notebooks
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/marimo check --strict labs solutions helpers/classroom/board/notebook.py

tests: .venv/installed ## the tests alone: what needs no cluster first, then the rest, two files at a time
	@command -v chromium >/dev/null && command -v nft >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core nftables; }
	# What comes after the unit tests is imported before them: a file that cannot be is known in seconds, not an hour later.
	.venv/bin/pytest tests --ignore tests/unit --collect-only -qq | tail -n 20
	# What the tests after them would wait for is built meanwhile, in the moments that they leave (SCHED_IDLE).
	# Not where a password would be asked for behind the tests.
	$(if $(SUDO),$(SUDO) -n true 2> /dev/null &&) chrt --idle 0 $(COURSE) prefetch > /dev/null 2>&1 &
	trap "kill $$! 2> /dev/null || true" EXIT
	.venv/bin/pytest tests/unit -n 2
	# All labs, solved once and kept for the tests after it. They measure queues, outages and what scales: nothing runs beside.
	.venv/bin/pytest tests/live/test_journey.py
	$(if $(SUDO),$(COURSE) up --name tests && $(COURSE) down --delete --name tests)
	$(if $(SUDO),$(SUDO) cp -a --no-clobber $(USER_CACHE)/binaries $(NODE_CACHE)/)
	$(AS_ROOT) .venv/bin/python -m pytest $(if $(SUDO),-p no:cacheprovider) tests/embedded -n 2 --dist loadfile
	# Two workers, each with a cluster of its own; the longest files come first. Two clusters on two cores keep an answer
	# waiting now and then: a file in which a test fails (1) is run once more, whole, with the machine to itself.
	.venv/bin/pytest tests/browser tests/live tests/notebooks tests/contract --ignore tests/live/test_journey.py \
	  -n 2 --dist loadfile --no-loadscope-reorder --cache-clear || {
	  [ $$? = 1 ] || exit 1
	  .venv/bin/pytest $$(.venv/bin/python tests/failed_files.py); }

format: .venv/installed ## rewrite the code in the project's format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: .venv/installed ## the benchmarks whose figures the README quotes
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; .venv/bin/python "$$file"; done

conformance: .venv/installed ## upstream's NetworkPolicy suite against an embedded cluster (about 11 minutes)
	.venv/bin/python tests/conformance/netpol.py

lock: .venv/installed ## solve pyproject.toml's ranges again into requirements.lock
	.venv/bin/uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-header -q --upgrade pyproject.toml -o requirements.lock

clean: ## remove the virtual environment (clusters and caches stay: `course down --delete`, `course cache --delete`)
	rm -rf .venv
