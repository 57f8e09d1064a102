"""What the server would refuse for want of a right is refused beforehand, and the plan says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database.session import open_session
from neuraknot_db.dev.measure import one_way
from neuraknot_db.errors import RefusedError
from neuraknot_db.migrate.ownership import lacking, needs
from neuraknot_db.schema import effects
from neuraknot_db.schema.effects import Effects
from tests.db.conftest import Database, Finished, Project
from tests.db.measuring import settings_of

MADE = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE t (id int PRIMARY KEY, a int, parent_id int REFERENCES parent);
CREATE INDEX t_a ON t (a);
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE VIEW v AS SELECT id FROM t;
CREATE SEQUENCE s;
CREATE TABLE "a ""b" (id int);
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER t_trigger AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop();
CREATE SCHEMA far;
CREATE TABLE far.t (id int);
CREATE MATERIALIZED VIEW m AS SELECT 1 AS id;
"""
FORMS = [
    "ALTER TABLE t ADD b int",
    "ALTER TABLE IF EXISTS ONLY public.t ADD b int",
    'ALTER TABLE "a ""b" ADD b int',
    "ALTER TABLE far.t ADD b int",
    "ALTER INDEX t_a RENAME TO x",
    "ALTER SEQUENCE s RESTART",
    "ALTER VIEW v RENAME TO x",
    "CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE id > 0",
    "CREATE INDEX i ON t (a)",
    "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop()",
    "CREATE POLICY x ON t",
    "CREATE TABLE x PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE x (id int REFERENCES parent)",
    "CREATE TABLE x (id int)",
    "COMMENT ON TABLE t IS 'x'",
    "COMMENT ON COLUMN t.a IS 'x'",
    "DROP INDEX t_a",
    "DROP TABLE t CASCADE",
    "DROP TABLE far.t",
    "DROP VIEW v",
    "DROP TRIGGER t_trigger ON t",
    "REINDEX TABLE t",
    "REINDEX INDEX t_a",
    "REFRESH MATERIALIZED VIEW m",
    "TRUNCATE t",
    "INSERT INTO parent VALUES (2)",
    "UPDATE t SET a = 1",
    "DELETE FROM t",
    "SELECT 1",
]
FIRST = "CREATE TABLE here (a int)"


@dataclass(frozen=True)
class Roles:
    """A database, its tables' owner, and a role that may record migrations, but owns nothing."""

    database: Database
    owner: str
    other: str

    def granted(self, what: str) -> None:
        self.database.run(f"GRANT {what} TO {self.other}")

    def refuses(self, sql: str) -> bool:
        """Whether the server refuses a statement to the other role, in a transaction that is taken back."""
        with self.database.as_user(self.other).engine().connect() as connection:
            connection.exec_driver_sql("SET search_path = public")
            try:
                connection.exec_driver_sql(sql)
            except DBAPIError as error:
                return getattr(error.orig, "pgcode", "") == "42501"
        return False

    def neuraknot_db(self, project: Project, *arguments: str) -> Finished:
        return self.database.as_user(self.other).neuraknot_db(*arguments, cwd=project.root)


@pytest.fixture
def roles(database: Database, empty: Project) -> Iterator[Roles]:
    empty.add("001", MADE, after="")
    assert database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    assert database.neuraknot_db("upgrade", "head", cwd=empty.root).code == 0
    made = Roles(database, f"owner_{database.name}", f"other_{database.name}")
    database.run(
        f"CREATE ROLE {made.owner} LOGIN; CREATE ROLE {made.other} LOGIN; ALTER SCHEMA far OWNER TO {made.owner}"
    )
    for name in ("parent", "t", "parts", "v", "s", 'public."a ""b"', "m", "far.t"):
        database.run(f"ALTER TABLE {name} OWNER TO {made.owner}")
    made.granted("CREATE ON SCHEMA public")
    made.granted("ALL ON SCHEMA neuraknot_db")
    made.granted("ALL ON ALL TABLES IN SCHEMA neuraknot_db")
    made.granted("ALL ON alembic_version")
    made.granted("USAGE ON SCHEMA far")
    yield made
    database.run(f"DROP OWNED BY {made.other}, {made.owner} CASCADE; DROP ROLE {made.other}, {made.owner}")


def refusals(roles: Roles, project: Project, *target: str) -> str:
    done = roles.neuraknot_db(project, "plan", "--json", *target)
    assert done.code == 0, done.err
    refused = json.loads(done.out)["refused"]
    assert refused is None or refused["code"] == RefusedError.exit_code
    return refused["message"] if refused else ""


@pytest.mark.parametrize("granted", ["", "ALL ON t, parent, parts, m"])
def test_what_the_server_would_refuse_is_refused_beforehand(roles: Roles, empty: Project, granted: str) -> None:
    if granted:
        roles.granted(granted)
    names = [f"{number:03d}" for number in range(2, len(FORMS) + 2)]
    for before, name, sql in zip(["001", *names], names, FORMS, strict=False):
        empty.add(name, sql, after=before)
    script = ScriptDirectory(str(empty.root / "alembic"))
    for name in names:
        revision = script.get_revision(name)
        with open_session(settings_of(roles.database)) as connection:
            connection.begin()  # each is measured from the same state
            way = one_way(connection, settings_of(roles.database), revision, "upgrade")
            connection.rollback()
        assert not way.failure
        source = effects.checksum(Path(revision.path).read_bytes())
        effects.path_of(script, name).write_text(effects.render(name, Effects(source, 15, upgrade=way)))
    steps = {name: MigrationStep.upgrade_from_script(script.revision_map, script.get_revision(name)) for name in names}
    with roles.database.as_user(roles.other).connect() as connection:
        connection.exec_driver_sql("SET search_path = public")
        said = {
            sql: bool(lacking(connection, needs(script, [steps[name]]))) for name, sql in zip(names, FORMS, strict=True)
        }
    assert said == {sql: roles.refuses(sql) for sql in FORMS}


@pytest.mark.slow
def test_a_run_is_refused_as_a_whole_and_the_hint_helps(roles: Roles, empty: Project) -> None:
    empty.add("002", FIRST, "DROP TABLE here", after="001")
    empty.add("003", "ALTER TABLE t ADD b int", "ALTER TABLE t DROP b", after="002")
    empty.add("004", "CREATE INDEX i ON parent (id)", "DROP INDEX i", after="003")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    words = f"User {roles.other} may not change t, parent, as revisions 003, 004 would."
    hint = f'GRANT "{roles.owner}" TO "{roles.other}"'
    assert (
        refusals(roles, empty)
        == f"{words} Connect as {roles.owner}, which owns t, parent, or as an administrator: {hint}"
    )
    assert refusals(roles, empty, "002") == ""
    done = roles.neuraknot_db(empty, "upgrade", "head")
    assert (done.code, words in done.err, hint in done.err) == (5, True, True), done.err
    assert roles.database.value("SELECT version_num FROM alembic_version") == "001"
    roles.database.run(hint)
    assert refusals(roles, empty) == ""
    done = roles.neuraknot_db(empty, "upgrade", "head")
    assert done.code == 0, done.err
    roles.database.run(f"REVOKE {roles.owner} FROM {roles.other}")
    assert "may not change" in refusals(roles, empty, "001")
    assert roles.neuraknot_db(empty, "downgrade", "001").code == 5
    assert roles.database.value("SELECT version_num FROM alembic_version") == "004"


@pytest.mark.slow
def test_a_right_that_can_be_granted_is_named(roles: Roles, empty: Project) -> None:
    empty.add("002", "UPDATE t SET a = 1 WHERE true", after="001")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    hint = f'GRANT UPDATE ON TABLE t TO "{roles.other}"'
    assert refusals(roles, empty) == (
        f"Revision 002 would be refused by the server: user {roles.other} lacks UPDATE on t."
        f" As {roles.owner}, or an administrator: {hint}"
    )
    roles.database.run(hint)
    assert refusals(roles, empty) == ""


@pytest.mark.slow
def test_what_code_may_do_is_noted_and_not_refused(roles: Roles, empty: Project) -> None:
    empty.add("002", "DO $$BEGIN ALTER TABLE t ADD b int; END$$", after="001")
    empty.add("003", "SET LOCAL ROLE postgres; ALTER TABLE parent ADD b int", after="002")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    done = roles.neuraknot_db(empty, "plan", "--json")
    plan = json.loads(done.out)
    assert plan["refused"] is None
    assert plan["revisions"][0]["statements"][0]["note"].endswith(
        f"; t belongs to {roles.owner}: the server may refuse it"
    )
    assert "may refuse" not in json.dumps(plan["revisions"][1])


@pytest.mark.slow
def test_what_is_not_certain_any_more_is_not_refused(roles: Roles, empty: Project) -> None:
    roles.database.run(
        f"CREATE FUNCTION let() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
        f" $$BEGIN EXECUTE 'ALTER TABLE t OWNER TO {roles.other}'; END$$"
    )
    made = "CREATE FUNCTION let() RETURNS void LANGUAGE sql AS 'SELECT'"
    empty.add("001", f"{MADE}; {made}", after="")
    empty.add("002", "SELECT let()", after="001")
    empty.add("003", "ALTER TABLE t ADD b int", after="002")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    roles.database.run("TRUNCATE neuraknot_db.migration_log")  # 001 was edited
    done = roles.neuraknot_db(empty, "upgrade", "head")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_a_table_of_ones_own_in_the_place_of_anothers_is_not_refused(roles: Roles, empty: Project) -> None:
    roles.database.run(f"ALTER SCHEMA public OWNER TO {roles.other}")
    empty.add("002", "DROP TABLE parts; CREATE TABLE parts (a int)", after="001")
    empty.add("003", "ALTER TABLE parts ADD b int", after="002")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    done = roles.neuraknot_db(empty, "upgrade", "head")
    assert done.code == 0, done.err
