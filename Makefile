# Two commands matter: `make demo` and `make test`. Each builds .venv first when it is missing or out of date.
# Read: the variables, then `setup`, which holds the only logic; every other target is one or two lines.

.DEFAULT_GOAL := help
.PHONY: help setup test check format demo soak bench bench-quick pins clean

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.ready
# A python3 of your choice to build .venv with, and words to add to a command: make test ARGS="-k search"
PYTHON ?=
ARGS   ?=

# A HOME that is missing or read-only must not matter: the installers then work without a cache.
NO_CACHE := $(shell if [ -d "$$HOME" ] && [ -w "$$HOME" ]; then :; else echo --no-cache-dir; fi)
UV_PIP    = uv pip install --quiet $(NO_CACHE:--no-cache-dir=--no-cache) --python $(PY)
# Every version and hash is in requirements/dev.txt, and nothing is built from source, so nothing unpinned is fetched.
PINNED   := --require-hashes --only-binary :all: -r requirements/dev.txt
EDITABLE := --no-deps --no-build-isolation -e .

# The peers of the benchmarks, in an environment of their own: one list each, so that one that fails costs only itself.
PEERS     := .venv-peers
PIN_PEERS  = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--quiet --custom-compile-command "make pins"

# The stamp names the tree that .venv was set up for: in a copied or moved tree, or broken, it is set up anew.
$(shell if [ -e $(STAMP) ]; then \
	{ [ "$$(cat $(STAMP))" = "$(CURDIR)" ] && $(PY) -c '' 2>/dev/null; } || rm -f $(STAMP); fi)

help: ## this list
	@echo "Threadline: make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv, when it is missing or the pinned versions changed

$(STAMP): requirements/dev.txt pyproject.toml
	@set -eu; \
	say() { echo "make setup: $$*" >&2; }; \
	find_python() { \
	  for name in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	    "$$name" -c "import sys; assert sys.version_info >= (3, 11); import $$1; print(sys.executable)" \
	      2>/dev/null && return; \
	  done; return 1; }; \
	no_python() { \
	  say "no Python >= 3.11 found (looked for: $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14)."; \
	  say "Install one, or name it: make setup PYTHON=/path/to/python3"; exit 1; }; \
	sound() { $(PY) -c "import sys; assert sys.version_info >= (3, 11); import $$1" 2>/dev/null; }; \
	if command -v uv >/dev/null 2>&1; then \
	  if ! sound sys; then \
	    python=$$(find_python sys) || no_python; \
	    say "building $(VENV) with uv and $$python"; rm -rf $(VENV); \
	    uv venv --quiet --no-python-downloads --python "$$python" $(NO_CACHE:--no-cache-dir=--no-cache) $(VENV); \
	  fi; \
	  $(UV_PIP) $(PINNED); $(UV_PIP) $(EDITABLE); \
	else \
	  pip="$(PY) -m pip"; \
	  if ! sound pip; then \
	    find_python sys >/dev/null || no_python; rm -rf $(VENV); \
	    if python=$$(find_python 'venv, ensurepip'); then \
	      say "building $(VENV) with $$python"; "$$python" -m venv $(VENV); \
	    elif python=$$(find_python 'venv, pip'); then \
	      say "building $(VENV) with $$python and the pip beside it"; "$$python" -m venv --without-pip $(VENV); \
	      pip="$$python -m pip --python $(PY)"; \
	    else \
	      say "$$(find_python sys) cannot build a virtual environment: it comes without ensurepip and pip."; \
	      say "On Debian and Ubuntu: apt-get install python3-venv. Elsewhere: put uv on the PATH."; exit 1; \
	    fi; \
	  fi; \
	  pip="$$pip --quiet --disable-pip-version-check $(NO_CACHE)"; \
	  $$pip install $(PINNED); $$pip install $(EDITABLE); \
	fi; \
	echo "$(CURDIR)" > $(STAMP)

test: setup ## every test
	$(PY) -m pytest -n auto --maxprocesses=4 --dist=loadgroup $(ARGS)

check: setup ## format, lint, types, architecture
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy --strict src
	$(PY) -m pytest -q tests/architecture

format: setup ## format the code and sort its imports
	$(PY) -m ruff check --select I --fix --quiet .
	$(PY) -m ruff format .

demo: setup ## the main job, end to end, in under 20 seconds; PG=1: on PostgreSQL and Valkey
	@$(VENV)/bin/threadline demo $(if $(PG),--servers) $(ARGS)

soak: setup ## the long forms of the crash, concurrency and state-machine tests
	THREADLINE_SOAK=1 $(PY) -m pytest -m soak --timeout=7200 $(ARGS)

bench: $(PEERS)/.ready ## everything, beside the peers, an hour or so; writes docs/benchmarks.md. CONVERSATIONS=file.jsonl, ARGS="--minutes 50"
	$(PEERS)/bin/python benchmarks/run.py $(if $(CONVERSATIONS),--conversations "$(CONVERSATIONS)") $(ARGS)

# In the peers' environment where `make bench` has built it, else in .venv, which has LangGraph's savers; nothing is
# downloaded for it. Peers that are not there are named.
bench-quick: setup ## a taste of it in three minutes, with the peers that are there; writes benchmarks/results/
	$(if $(wildcard $(PEERS)/.ready),$(PEERS)/bin/python,$(PY)) benchmarks/run.py --quick $(ARGS)

# Their Python is that of .venv; 10xgraph needs 3.12: make bench PEERS_PYTHON=python3.12
$(PEERS)/.ready: $(wildcard benchmarks/peers/*.txt) benchmarks/peers/install.py | setup
	@set -eu; python="$(or $(PEERS_PYTHON),$(PY))"; \
	[ -x $(PEERS)/bin/python ] || "$$python" -m venv $(PEERS) || \
	  { rm -rf $(PEERS); "$$python" -m venv --without-pip $(PEERS); $(PY) -m pip --python $(PEERS)/bin/python install --quiet pip; }; \
	$(PEERS)/bin/python benchmarks/peers/install.py; \
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(NO_CACHE) $(EDITABLE); \
	touch $@

pins: ## pin requirements/dev.txt anew from pyproject.toml (needs uv; ARGS=--upgrade for newer versions)
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --quiet --custom-compile-command "make pins" \
	  --output-file requirements/dev.txt $(ARGS)
	$(PIN_PEERS) benchmarks/peers/*.in --output-file $(PEERS)-all.txt $(ARGS)
	for name in benchmarks/peers/*.in; do \
	  $(PIN_PEERS) "$$name" -c $(PEERS)-all.txt --output-file "$${name%.in}.txt" $(ARGS); done
	rm $(PEERS)-all.txt

clean: ## remove caches and build output, and keep .venv
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov .coverage benchmarks/out
	find src tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
