"""A statement outside of a transaction is measured to its end, however slow the sessions are that hold the tables."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from neuraknot_db.database.session import open_session
from neuraknot_db.dev import observe
from neuraknot_db.dev.holders import Holders
from neuraknot_db.dev.measure import one_way
from neuraknot_db.schema.effects import LockMode
from tests.db.conftest import Database, Project
from tests.db.measuring import settings_of
from tests.db.running import wait_until

BUILDING = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE phase = 'waiting for writers before build')"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 't'::regclass AND mode = '{}Lock'"


def test_a_holder_that_comes_back_late_is_no_deadlock(
    empty: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the build with a snapshot, as it read the catalogs of a changed table; the build waits for that."""
    database.run("CREATE TABLE t (a int)")
    # The build is to be the one that notices.
    database.run(f"ALTER DATABASE \"{database.name}\" SET deadlock_timeout = '1min'")
    empty.add("001", "CREATE INDEX CONCURRENTLY i ON t (a)", after="", extra="transactional = False")
    writer = database.engine().connect()
    writing = threading.Thread(target=lambda: writer.exec_driver_sql("LOCK TABLE t IN ROW EXCLUSIVE MODE"))
    locks = 0

    class Late(Holders):
        def __init__(self, *how: Any) -> None:
            super().__init__(*how)
            writing.start()
            wait_until(lambda: database.value(WAITING.format("RowExclusive")))

    def sent(_connection: Connection, _cursor: Any, sql: str, *_more: object) -> None:
        nonlocal locks
        if "LOCK TABLE ONLY t " in sql:
            locks += 1
            if locks == 2:
                wait_until(lambda: database.value(BUILDING))
                ending.start()

    def end() -> None:
        wait_until(lambda: database.value(WAITING.format("AccessExclusive")))
        writer.rollback()

    ending = threading.Thread(target=end)
    monkeypatch.setattr(observe, "Holders", Late)
    event.listen(Engine, "before_cursor_execute", sent)
    try:
        revision = ScriptDirectory(str(empty.root / "alembic")).get_revision("001")
        with open_session(settings_of(database)) as connection:
            connection.exec_driver_sql("SET deadlock_timeout = '1s'")
            connection.commit()
            way = one_way(connection, settings_of(database), revision, "upgrade")
    finally:
        event.remove(Engine, "before_cursor_execute", sent)
        writing.join()
        ending.join()
        writer.close()
    assert not way.failure
    assert [effect.lock for effect in way.statements[0].effects] == [LockMode.SHARE_UPDATE_EXCLUSIVE]
