"""Run the revisions in one transaction, as a reset does: some work only after the COMMIT of an earlier one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from neuraknot_db import settings
from neuraknot_db.database import engine, session
from neuraknot_db.database.create import scratch_database
from neuraknot_db.errors import InterruptedRunError
from neuraknot_db.migrate.reset import sharing_transaction
from neuraknot_db.revisions.containment import contained, demand_run, words
from neuraknot_db.settings import Settings


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
    revision = ""
    with scratch_database(server) as where, engine.connect(where) as connection:
        try:
            with connection.begin(), contained(), Operations.context(MigrationContext.configure(connection)):
                for each in sharing_transaction(script):
                    revision = each.revision
                    session.restore(connection, settings.limits())
                    demand_run(each.module.upgrade())
        except InterruptedRunError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a revision does is its author's to read
            origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
            told = words(origin).strip().split("\n", 1)[0]
            if isinstance(error, AssertionError) and not str(error):  # Alembic's, without a word
                told = "it leaves its transaction (autocommit_block)"
            return {revision: f"{on(session.driver(connection).server_version // 10_000)}{told}"}
    return {}
