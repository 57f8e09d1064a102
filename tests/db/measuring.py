"""Effects that a test measures: of a project's revisions, as `neuraknot-db snapshot` does it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from alembic.script import ScriptDirectory

from neuraknot_db.database.create import scratch_database
from neuraknot_db.dev.measure import measure
from neuraknot_db.errors import NeuraknotError
from neuraknot_db.revisions import files
from neuraknot_db.schema import effects
from neuraknot_db.schema.effects import Effects
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Server


def settings_of(database: Database | Server) -> Settings:
    """How the package itself would name it."""
    name = database.name if isinstance(database, Database) else "postgres"
    return Settings(database.host, database.port, "postgres", None, name)


def loaded(script: ScriptDirectory) -> ScriptDirectory:
    """Read its revisions as every command does; what can't be loaded has tests of its own."""
    with contextlib.suppress(NeuraknotError):
        files.load(script)
    return script


def measured(root: Path, server: Database | Server) -> dict[str, Effects]:
    """Measure a project's revisions, and write the files that plan and lint read."""
    script = loaded(ScriptDirectory(str(root / "alembic")))
    with scratch_database(settings_of(server)) as where:
        found = dict(measure(script, where))
    (root / "alembic" / "snapshots").mkdir(exist_ok=True)
    for revision, each in found.items():
        effects.path_of(script, revision).write_text(effects.render(revision, each), encoding="utf-8")
    return found
