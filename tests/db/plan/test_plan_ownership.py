"""What the server would refuse for want of a right is noted in the plan, and no run is refused for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

from neuraknot_db.database.session import open_session
from neuraknot_db.dev.measure import one_way
from neuraknot_db.plan import ownership
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
CREATE SCHEMA hidden;
CREATE TABLE hidden.t (id int);
CREATE TABLE mine (id int PRIMARY KEY, a int, partition int);
CREATE RULE t_rule AS ON DELETE TO t DO ALSO NOTHING;
CREATE POLICY t_policy ON t;
CREATE MATERIALIZED VIEW m AS SELECT 1 AS id;
CREATE TABLE readable (id int);
INSERT INTO parent VALUES (1);
INSERT INTO t VALUES (1);
INSERT INTO mine VALUES (1);
"""
FORMS = [
    "ALTER TABLE t ADD b int",
    "ALTER TABLE IF EXISTS ONLY public.t ADD b int",
    'ALTER TABLE "a ""b" ADD b int',
    "ALTER TABLE far.t ADD b int",
    "ALTER TABLE hidden.t ADD b int",
    "ALTER TABLE mine ADD b int",
    "ALTER TABLE mine ADD b int REFERENCES parent",
    "ALTER TABLE mine ADD b int, ADD FOREIGN KEY (a) REFERENCES public.parent (id)",
    "ALTER TABLE mine RENAME partition TO b",
    "ALTER INDEX t_a RENAME TO x",
    "ALTER SEQUENCE s RESTART",
    "ALTER VIEW v RENAME TO x",
    "CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE id > 0",
    "CREATE INDEX i ON t (a)",
    "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop()",
    'CREATE TRIGGER "x on t" AFTER UPDATE OF a ON mine FOR EACH ROW EXECUTE FUNCTION noop()',
    "CREATE RULE x AS ON DELETE TO t DO ALSO NOTHING",
    "CREATE RULE x AS ON DELETE TO mine DO ALSO UPDATE t SET a = 1",
    "CREATE UNIQUE INDEX ON ONLY t (a)",
    "CREATE INDEX i ON mine (a)",
    "CREATE POLICY x ON t",
    "CREATE TABLE x PARTITION OF parts FOR VALUES IN (1)",
    "CREATE TABLE x (a int, partition int) PARTITION BY LIST (a)",
    "CREATE TABLE x (c int) INHERITS (mine, t)",
    "CREATE TABLE x (id int REFERENCES parent)",
    "CREATE TABLE x (id int)",
    "COMMENT ON TABLE t IS 'x'",
    "COMMENT ON COLUMN t.a IS 'x'",
    "COMMENT ON COLUMN mine.a IS 'COMMENT ON COLUMN t.a'",
    "COMMENT ON TRIGGER t_trigger ON t IS 'x'",
    "DROP INDEX t_a",
    "DROP TABLE t CASCADE",
    "DROP TABLE far.t",
    "DROP VIEW v",
    "DROP TABLE IF EXISTS mine, t CASCADE",
    "DROP TABLE IF EXISTS nowhere",
    "DROP TRIGGER t_trigger ON t",
    "DROP RULE t_rule ON t",
    "ALTER POLICY t_policy ON t RENAME TO x",
    "REINDEX TABLE t",
    "REINDEX INDEX t_a",
    "REFRESH MATERIALIZED VIEW m",
    "TRUNCATE t",
    "TRUNCATE TABLE ONLY mine, ONLY t",
    "INSERT INTO parent VALUES (2)",
    "INSERT INTO mine SELECT id FROM readable",
    "UPDATE t SET a = 1",
    "UPDATE ONLY mine SET a = r.id FROM readable r",
    "DELETE FROM t",
    "DELETE FROM mine USING readable",
    "WITH x AS (UPDATE mine SET a = 2 RETURNING a) INSERT INTO t SELECT a FROM x",
    "DO $$BEGIN UPDATE t SET a = 3; END$$",
    "DO $$BEGIN ALTER TABLE t ADD b int; END$$",
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
    for name in ("parent", "t", "parts", "v", "s", 'public."a ""b"', "m", "far.t", "hidden.t", "readable"):
        database.run(f"ALTER TABLE {name} OWNER TO {made.owner}")
    database.run(f"ALTER TABLE mine OWNER TO {made.other}; REVOKE ALL ON SCHEMA hidden FROM PUBLIC")
    made.granted("SELECT ON readable")
    made.granted("CREATE ON SCHEMA public")
    made.granted("ALL ON SCHEMA neuraknot_db")
    made.granted("ALL ON ALL TABLES IN SCHEMA neuraknot_db")
    made.granted("ALL ON alembic_version")
    made.granted("USAGE ON SCHEMA far")
    yield made
    database.run(f"DROP OWNED BY {made.other}, {made.owner} CASCADE; DROP ROLE {made.other}, {made.owner}")


def plan(roles: Roles, project: Project) -> dict[str, Any]:
    """Its notes by statement; nothing is refused."""
    done = roles.neuraknot_db(project, "plan", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["refused"] is None
    return {each["sql"]: each["note"] for revision in found["revisions"] for each in revision["statements"]}


@pytest.mark.parametrize("granted", ["", "ALL ON t, parent, parts, m"])
def test_what_the_server_would_refuse_is_noted(roles: Roles, empty: Project, granted: str) -> None:
    if granted:
        roles.granted(granted)
    names = [f"{number:03d}" for number in range(2, len(FORMS) + 2)]
    for before, name, sql in zip(["001", *names], names, FORMS, strict=False):
        empty.add(name, sql, after=before)
    script = ScriptDirectory(str(empty.root / "alembic"))
    statements = {}
    for name, sql in zip(names, FORMS, strict=True):
        with open_session(settings_of(roles.database)) as connection:
            connection.begin()  # each is measured from the same state
            way = one_way(connection, settings_of(roles.database), script.get_revision(name), "upgrade")
            connection.rollback()
        assert not way.failure
        statements[sql] = way.statements
    with roles.database.as_user(roles.other).connect() as connection:
        said = {sql: any(ownership.notes(connection, b"", found)) for sql, found in statements.items()}
    assert said == {sql: roles.refuses(sql) for sql in FORMS}


@pytest.mark.slow
def test_a_note_says_what_is_lacking_and_the_server_has_the_last_word(roles: Roles, empty: Project) -> None:
    role, owner = roles.other, roles.owner
    told = {
        "ALTER TABLE t ADD b int REFERENCES parent": f"t belongs to {owner}, {role} lacks REFERENCES on parent",
        "UPDATE t SET a = 1 WHERE true": f"{role} lacks UPDATE on t",
        "CREATE INDEX i ON parent (id)": f"parent belongs to {owner}",
        "DO $$BEGIN ALTER TABLE t ADD c int; END$$": f"t belongs to {owner}",
    }
    for number, sql in enumerate(told, 2):
        empty.add(f"{number:03d}", sql, after=f"{number - 1:03d}")
    empty.add("006", "SET LOCAL ROLE postgres; ALTER TABLE parent ADD b int", after="005")
    assert roles.database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    notes = plan(roles, empty)
    for sql, note in told.items():
        assert notes[sql].split("; ")[-1].endswith(f"{note}: the server may refuse it"), notes
    assert "measured with the sample rows" in notes["DO $$BEGIN ALTER TABLE t ADD c int; END$$"]
    assert "may refuse" not in str(notes["ALTER TABLE parent ADD b int"])
    assert "Revision 002 lacks a privilege and was rolled back" in roles.neuraknot_db(empty, "upgrade", "head").err
    roles.database.run(f"GRANT {owner} TO {role}; ALTER ROLE {role} SUPERUSER")
    assert "may refuse" not in str(plan(roles, empty))
    done = roles.neuraknot_db(empty, "upgrade", "head")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_what_a_revision_grants_is_not_refused(roles: Roles, empty: Project) -> None:
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
