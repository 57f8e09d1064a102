"""After a run: did it really happen, and does the database hold what it should?"""

from __future__ import annotations

from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from neuraknot_db import guards
from neuraknot_db.console import log
from neuraknot_db.errors import MigrationFailedError
from neuraknot_db.steps import Walk


def check(engine: Engine, script: ScriptDirectory, walk: Walk, *, production: bool) -> None:
    """Look at the database on a new connection, as its next user will.

    Raises:
        MigrationFailedError: the version is not what the run took itself to have committed.
        SchemaDiffersError: in production, the schema is not what its revision should hold.
    """
    with engine.connect() as connection:
        found = guards.inspect(connection).versions
        if frozenset(found) != walk.heads:
            raise MigrationFailedError(
                f"The run ended without an error, but the database is at {', '.join(found) or 'no revision'} and not"
                f" at {', '.join(sorted(walk.heads)) or 'no revision'}: something rolled it back.",
                hint="See neuraknot-db log and the server's own log, then run the command again.",
            )
        if not (len(walk.heads) == 1 and walk.steps[-1].is_upgrade):
            return
        from neuraknot_db import snapshots
        from neuraknot_db.verify import verify

        if not all(snapshots.path_of(script, head).exists() for head in walk.heads):
            return
        report = verify(connection, script)
        if production:
            report.demand()
        for difference in report.differences:
            log.warning("the schema is not what its revision should hold: %s", difference)
