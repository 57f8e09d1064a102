"""Run the revisions in one transaction, as a reset does: some work only after the COMMIT of an earlier one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import engine, session, sqlstate
from neuraknot_db.database.create import scratch_database
from neuraknot_db.errors import InterruptedRunError
from neuraknot_db.migrate.reset import sharing_transaction
from neuraknot_db.revisions.containment import contained, demand_run, words
from neuraknot_db.settings import Settings

_OLDER = 16
"""The newest server that refuses every value added to an enum until the COMMIT."""


def on(server: int) -> str:
    """Return how a failure on this major version begins."""
    return f"PostgreSQL {server}: "


def standing(kept: str, found: str, server: int) -> str:
    """Return the failure to write: the one found on this server, but for one that was kept of another."""
    by_other = re.match(r"PostgreSQL \d+: ", kept) and not kept.startswith(on(server))
    return kept if by_other else found


def failing(script: ScriptDirectory, server: Settings) -> Mapping[str, str]:
    """Return the first revision that fails in a reset's transaction, and why; nothing if none does.

    Args:
        script: where the revisions are.
        server: any database of the server on which to try.
    """
    found, version = _first_failure(script, server)
    if found is None and version > _OLDER:
        # To a newer server a type that was made in a savepoint is as old as every type is to an older one.
        found, _ = _first_failure(script, server, within=lambda connection: connection.begin_nested())
        if found and sqlstate.of(found.error) == sqlstate.UNSAFE_NEW_ENUM_VALUE:
            version = _OLDER
        else:
            found = None
    return {found.revision: f"{on(version)}{found.told}"} if found else {}


class _Failure(NamedTuple):
    revision: str
    error: Exception

    @property
    def told(self) -> str:
        """What failed, as a clause."""
        error = self.error
        if isinstance(error, AssertionError) and not str(error):  # Alembic's, without a word
            return "it leaves its transaction (autocommit_block)"
        origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
        return words(origin).strip().split("\n", 1)[0]


def _first_failure(
    script: ScriptDirectory,
    server: Settings,
    within: Callable[[Connection], AbstractContextManager[object]] = contextlib.nullcontext,
) -> tuple[_Failure | None, int]:
    """Run the revisions in one transaction, each within a context; return what failed, and the server's version."""
    revision = ""
    with scratch_database(server) as where, engine.connect(where) as connection:
        version = session.driver(connection).server_version // 10_000
        try:
            with connection.begin(), contained(), Operations.context(MigrationContext.configure(connection)):
                for each in sharing_transaction(script):
                    revision = each.revision
                    session.restore(connection, settings.limits())
                    with within(connection):
                        demand_run(each.module.upgrade())
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a revision does is its author's to read
            return _Failure(revision, error), version
    return None, version
