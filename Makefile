# Everything runs from .venv, which holds exactly what requirements-dev.lock says.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help migrate rehearse test test-fast check format bench snapshot picture base lock clean

help:  ## these lines
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.venv/installed: requirements-dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later on the PATH; name one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

migrate: .venv/installed  ## alembic upgrade head, on the embedded PostgreSQL unless DATABASE_URL or DB_* name another
	@$(BIN)/alembic upgrade head
	@$(BIN)/neuraknot-db verify

rehearse: .venv/installed  ## the whole pipeline on this machine, with no AWS account
	@$(BIN)/launcher rehearse

CORES = $$(getconf _NPROCESSORS_ONLN)
test: .venv/installed  ## every test
	@$(BIN)/pytest --maxschedchunk 2 --numprocesses $$(( 2 * $(CORES) ))  # half of them wait

test-fast: .venv/installed  ## each test once that needs neither Docker nor half a second
	@$(BIN)/pytest --maxschedchunk 2 --numprocesses $(CORES) --fast

check: .venv/installed  ## formatting, lint, types, the rooms' imports; the revisions' own lint, their snapshots and pictures
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/neuraknot-db lint
	@$(BIN)/neuraknot-db snapshot --check
	@$(BIN)/neuraknot-db diagram --check -o docs/schema.svg
	@$(BIN)/neuraknot-db diagram --check -o docs/schema.mmd

format: .venv/installed  ## put the code in its usual shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

snapshot: .venv/installed  ## after a new revision: its snapshot, and the pictures in docs/
	@$(BIN)/neuraknot-db snapshot
	@$(BIN)/neuraknot-db diagram -o docs/schema.svg
	@$(BIN)/neuraknot-db diagram -o docs/schema.mmd

picture: .venv/installed  ## draw a run of `launcher rehearse` for the README
	@$(BIN)/python docs/rehearsal.py

bench: .venv/installed  ## measure against plain Alembic, in the same run
	@$(BIN)/python -m benchmarks

base:  ## pin the image that Dockerfile.migrate builds on by the digest that its registry has now
	@$(PYTHON) docker/base.py

# The first lines of a lock file repeat its command, for Renovate to run: it takes these options only, and with "=".
COMPILE = $(BIN)/uv pip compile --quiet --upgrade pyproject.toml --universal --python-version=3.11 --generate-hashes
lock: .venv/installed  ## pin the newest releases that pyproject.toml allows
	$(COMPILE) --output-file=requirements.lock
	$(COMPILE) --extra=dev --output-file=requirements-dev.lock

clean:  ## .venv, caches and the embedded database
	rm -rf .venv .postgres .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
