"""Who is in the way of a statement that builds or drops beside the application, as the server has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from tests.db.conftest import Database, Project
from tests.db.plan.test_plan import planned

MADE = """
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE TABLE t PARTITION OF parts FOR VALUES IN (1);
CREATE INDEX i ON t (a);
CREATE TABLE elsewhere (a int);
CREATE TABLE seen (a int);
CREATE MATERIALIZED VIEW m AS SELECT a FROM seen;
CREATE UNIQUE INDEX ON m (a)
"""
ALONE = [
    "-- Beside the application.\nCREATE INDEX CONCURRENTLY i2 ON t (a)",
    "DROP INDEX CONCURRENTLY i",
    "REINDEX INDEX CONCURRENTLY i",
    "REINDEX (VERBOSE, CONCURRENTLY) TABLE t",
    "ALTER TABLE parts DETACH PARTITION t CONCURRENTLY",
    "VACUUM t",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
]
OTHERS = {
    "snapshot": "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM public.elsewhere",
    "reads": "LOCK TABLE public.t IN ACCESS SHARE MODE",
    "writes": "LOCK TABLE public.t IN ROW EXCLUSIVE MODE",
    "elsewhere": "SELECT FROM public.elsewhere",
}


def in_the_way(plan: dict[str, Any]) -> set[int]:
    return {holder["pid"] for table in plan["tables"] for holder in table["holders"] if holder["in_the_way"]}


def pid_of(connection: Connection) -> int:
    pid: int = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    return pid


@pytest.mark.slow
@pytest.mark.parametrize("sql", ALONE)
def test_whoever_would_be_waited_for_is_in_the_way_and_nobody_else(
    database: Database, empty: Project, sql: str
) -> None:
    empty.add("001", MADE, after="")
    empty.add("002", sql, after="001", extra="transactional = False")
    assert database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    assert database.neuraknot_db("upgrade", "001", cwd=empty.root).code == 0
    said, waited = {}, {}
    for what, other in OTHERS.items():
        with database.engine().connect() as session, database.connect() as one:
            session.exec_driver_sql(other)
            said[what] = in_the_way(planned(database, cwd=empty.root)) == {pid_of(session)}
            one.exec_driver_sql("SET statement_timeout = '300ms'")
            waited[what] = not succeeds(one, sql)
        with database.connect() as one:  # as it was
            succeeds(one, "ALTER TABLE parts DETACH PARTITION t FINALIZE")
            succeeds(one, "ALTER TABLE parts ATTACH PARTITION t FOR VALUES IN (1)")
            succeeds(one, "DROP INDEX IF EXISTS i2, i; CREATE INDEX i ON t (a)")
    assert said == waited


def succeeds(connection: Connection, sql: str) -> bool:
    try:
        connection.exec_driver_sql(sql)
    except DBAPIError:
        return False
    return True


BUILD = "CREATE INDEX CONCURRENTLY i ON messages (content)"


@pytest.mark.slow
def test_an_older_snapshot_is_in_the_way_of_an_index_on_a_table_that_is_not_yet_there(
    database_at_head: Database, project: Project
) -> None:
    project.add("005", "CREATE TABLE new (a int)", after="004")
    project.add("006", "CREATE INDEX CONCURRENTLY i ON new (a)", after="005", extra="transactional = False")
    assert database_at_head.neuraknot_db("snapshot", cwd=project.root).code == 0
    with database_at_head.engine().connect() as session:
        session.exec_driver_sql(OTHERS["snapshot"].replace("public.elsewhere", "public.users"))
        text = database_at_head.neuraknot_db("plan", cwd=project.root, COLUMNS="120").out
        assert in_the_way(planned(database_at_head, cwd=project.root)) == {pid_of(session)}
    assert "  new  made by 005\n    in the way: " in text
    assert "holds a snapshot, which CONCURRENTLY waits for" in " ".join(text.split())


@pytest.mark.slow
def test_what_a_role_may_not_see_may_be_a_snapshot(database_at_head: Database, project: Project) -> None:
    project.add("005", BUILD, after="004", extra="transactional = False")
    assert database_at_head.neuraknot_db("snapshot", cwd=project.root).code == 0
    role = f"planner_{database_at_head.name}"
    database_at_head.run(f"CREATE ROLE {role} LOGIN; GRANT pg_read_all_data TO {role}")
    try:
        with database_at_head.engine().connect() as session:
            session.exec_driver_sql("SELECT FROM public.users")
            assert in_the_way(planned(database_at_head, cwd=project.root)) == set()
            plan = database_at_head.as_user(role).neuraknot_db("plan", cwd=project.root, COLUMNS="120")
    finally:
        database_at_head.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert "may hold a snapshot, which CONCURRENTLY waits for" in " ".join(plan.out.split()), plan.err
    assert f'what it does is shown after GRANT pg_read_all_stats TO "{role}"' in plan.out


@pytest.mark.parametrize("server", ["15"], indirect=True)  # the embedded 18 prepares none
def test_a_prepared_transaction_is_in_the_way(at: Callable[[str], Database]) -> None:
    database = at("002")
    database.run("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION 'forgotten'")
    try:
        assert in_the_way(planned(database)) == {0}
        text = database.neuraknot_db("plan", COLUMNS="120").out
        assert "in the way: a prepared transaction: SELECT * FROM pg_prepared_xacts, holds ROW EXCLUSIVE" in text
    finally:
        database.run("ROLLBACK PREPARED 'forgotten'")
