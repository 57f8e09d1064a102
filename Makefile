# Everything runs from .venv, which holds exactly what requirements-dev.lock says.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help migrate rehearse test test-fast check format bench snapshot picture base lock clean

help:  ## what there is to make: these lines
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.venv/installed: requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later on the PATH; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

migrate: .venv/installed  ## alembic upgrade head: here, or where DATABASE_URL or DB_* point
	@$(BIN)/alembic upgrade head
	@$(BIN)/neuraknot-db verify

rehearse: .venv/installed  ## the whole way to AWS and back, on this machine, no account
	@$(BIN)/launcher rehearse

CORES = $$(getconf _NPROCESSORS_ONLN)
test: .venv/installed  ## every test
	@$(BIN)/pytest --maxschedchunk 2 --numprocesses $$(( 2 * $(CORES) ))  # half of them wait

test-fast: .venv/installed  ## each test once that needs neither Docker nor half a second
	@$(BIN)/pytest --maxschedchunk 2 --numprocesses $(CORES) --fast

check: .venv/installed  ## format, lint, types, imports, generated files, ways back; no tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/neuraknot-db renumber --check
	@$(BIN)/neuraknot-db lint
	@$(BIN)/neuraknot-db snapshot --check
	@test ! -e alembic/queries.sql || $(BIN)/neuraknot-db compat check
	@$(BIN)/neuraknot-db test

format: .venv/installed  ## put the code in its usual shape, and mend what ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

snapshot: .venv/installed  ## after a new revision: all files that are made from revisions
	@$(BIN)/neuraknot-db snapshot

picture: .venv/installed  ## draw a run of `launcher rehearse` for the README
	@$(BIN)/python docs/rehearsal.py

bench: .venv/installed  ## the figures in docs/figures.md, measured anew
	@$(BIN)/python -m benchmarks

base:  ## pin the image's base by the digest that its registry has now
	@$(PYTHON) docker/base.py

# The first lines of a lock file repeat its command, for Renovate to run: it takes these options only, and with "=".
COMPILE = $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --universal --python-version=3.11 --generate-hashes
lock: .venv/installed  ## pin the newest packages that pyproject.toml allows
	$(COMPILE) --output-file=requirements.lock
	$(COMPILE) --extra=dev --output-file=requirements-dev.lock

clean:  ## remove .venv, caches and the embedded database
	rm -rf .venv .postgres .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
