"""Code that was not run when it was measured is told by its text, and the code itself runs as it would unmarked."""

from __future__ import annotations

import pytest

from neuraknot_db.dev import branches
from neuraknot_db.dev.branches import Branches
from tests.db.conftest import Database, Project
from tests.db.measuring import measured

MADE = "CREATE TABLE t (a int, b int); CREATE TABLE u (a int); CREATE TYPE mood AS ENUM ('good')"
BLOCKS: dict[str, tuple[str, list[str]]] = {
    "a branch": (
        "DO $$BEGIN IF (SELECT count(*) FROM t) > 99 THEN DROP TABLE u; ELSE ALTER TABLE t ADD c int; END IF; END$$",
        ["DROP TABLE u"],
    ),
    "every one is run": ("DO $$BEGIN IF true THEN ALTER TABLE t DROP b; END IF; TRUNCATE u; END$$", []),
    "many": (
        """DO LANGUAGE plpgsql $x$
        #variable_conflict use_column
        <<outermost>>
        DECLARE
            update int := 0; comment text := 'x'; r record;
        BEGIN
            update := CASE WHEN update = 0 THEN 1 ELSE 2 END;
            comment := 'y';
            -- DROP TABLE t;
            FOR r IN EXECUTE 'SELECT a FROM t WHERE false' LOOP
                EXECUTE format('DROP TABLE %I', 'u');
            END LOOP;
            <<inner>>
            WHILE update > 9 LOOP
                TRUNCATE t, u; UPDATE t /* all of them */ SET a = CASE WHEN a > 0 THEN 1 ELSE 2 END;
            END LOOP;
            CASE update WHEN 1 THEN INSERT INTO u VALUES (1); WHEN 2 THEN ALTER TABLE t DROP b; ELSE NULL; END CASE;
            IF NOT EXISTS (SELECT FROM t) THEN
                ALTER TYPE mood RENAME TO temper;
            ELSIF update = 7 THEN
                CALL p('a;b');
            END IF;
            MERGE INTO t USING u ON false WHEN MATCHED THEN UPDATE SET b = 1 WHEN NOT MATCHED THEN INSERT VALUES (1);
            BEGIN
                PERFORM 1 / 0;
                DELETE FROM t;
            EXCEPTION WHEN division_by_zero THEN ALTER TABLE t ADD seen int; WHEN others THEN ALTER TABLE t ADD x int;
            END;
        END$x$""",
        [
            "EXECUTE format('DROP TABLE %I', 'u')",
            "TRUNCATE t, u",
            "UPDATE t SET a = CASE WHEN a > 0 THEN 1 ELSE 2 END",
            "ALTER TABLE t DROP b",
            "ALTER TYPE mood RENAME TO temper",
            "CALL p('a;b')",
            "DELETE FROM t",
            "ALTER TABLE t ADD x int",
        ],
    ),
    "one within another": (
        "DO $$<<a>> DECLARE r record; BEGIN IF false THEN"
        " WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT a FROM x;"
        " FOR r IN UPDATE t SET a = 1 RETURNING a LOOP NULL; END LOOP;"
        " <<b>> FOR r IN EXECUTE 'x' LOOP NULL; END LOOP;"
        " PERFORM a FROM t; PERFORM a FROM t FOR UPDATE; END IF; FOR r IN SELECT 1 LOOP TRUNCATE u; END LOOP; END$$",
        [
            "WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT a FROM x",
            "FOR r IN UPDATE t SET a = 1 RETURNING a",
            "PERFORM a FROM t FOR UPDATE",
        ],
    ),
    "quoted": ("DO 'BEGIN IF false THEN EXECUTE ''DROP TABLE u''; END IF; END'", ["EXECUTE 'DROP TABLE u'"]),
    "found": (
        "DO $$BEGIN UPDATE t SET a = 1; DELETE FROM u WHERE false; IF NOT FOUND THEN ALTER TABLE t ADD c int; END IF;"
        " IF FOUND THEN RAISE 'not as written'; END IF; END$$",
        [],
    ),
    "a function": (
        "CREATE FUNCTION f(x int) RETURNS void LANGUAGE plpgsql AS $$BEGIN IF x > 0 THEN DROP TABLE u; ELSE"
        " UPDATE t SET a = 1; END IF; END$$; SELECT f(0)",
        ["DROP TABLE u"],
    ),
    "a function whose branches are all run": (
        "CREATE FUNCTION f(x int) RETURNS void LANGUAGE plpgsql AS $$BEGIN IF x > 0 THEN DROP TABLE u; ELSE"
        " UPDATE t SET a = 1; END IF; END$$; SELECT f(0); DO $$BEGIN PERFORM f(1); END$$",
        [],
    ),
    "a function that is only made": (
        "CREATE PROCEDURE f() LANGUAGE plpgsql AS $$BEGIN IF false THEN DROP TABLE u; END IF; END$$",
        [],
    ),
    "a trigger's": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF TG_OP = 'DELETE' THEN DELETE FROM u;"
        " END IF; RETURN NULL; END$$; CREATE TRIGGER x AFTER UPDATE ON t EXECUTE FUNCTION f(); UPDATE t SET a = 1",
        [],
    ),
    "semicolons within parentheses": (
        "CREATE VIEW v AS SELECT * FROM t; DO $$BEGIN IF false THEN TRUNCATE u; END IF; CREATE RULE r AS ON DELETE TO v"
        " DO INSTEAD (DELETE FROM t WHERE a = 1; UPDATE u SET a = CASE WHEN true THEN 2 END); END$$",
        ["TRUNCATE u"],
    ),
    "semicolons within BEGIN ATOMIC": (
        "DO $$DECLARE atomic int; BEGIN atomic := 1; IF false THEN"
        " CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC INSERT INTO u VALUES (1); DELETE FROM u;"
        " SELECT CASE WHEN true THEN (1) ELSE 2 END; END; TRUNCATE u; END IF;"
        " BEGIN atomic := 2; DELETE FROM t; END; END$$",
        [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC INSERT INTO u VALUES (1); DELETE FROM u;"
            " SELECT CASE WHEN true THEN (1) ELSE 2 END; END",
            "TRUNCATE u",
        ],
    ),
    "names that are keywords": (
        'CREATE TABLE w ("case" int, "end" int); DO $$DECLARE r record; BEGIN'
        " FOR r IN SELECT w.case FROM w LOOP DROP TABLE u; END LOOP;"
        " FOR r IN SELECT w.end, CASE WHEN true THEN 1 ELSE 2 END AS case FROM w LOOP TRUNCATE u; END LOOP; END$$",
        ["DROP TABLE u", "TRUNCATE u"],
    ),
    "a parameter that is called trigger": (
        "CREATE FUNCTION f(trigger int) RETURNS TABLE (x int) LANGUAGE plpgsql AS $$BEGIN IF trigger > 0 THEN"
        " DROP TABLE u; END IF; TRUNCATE t; END$$; SELECT f(0)",
        ["DROP TABLE u"],
    ),
    "a trigger's, in full": (
        "CREATE FUNCTION f() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS $$BEGIN IF TG_OP = 'DELETE' THEN"
        " DELETE FROM u; END IF; RETURN NULL; END$$; CREATE TRIGGER x AFTER UPDATE ON t EXECUTE FUNCTION f();"
        " UPDATE t SET a = 1",
        [],
    ),
    "another block": (
        "DO $$BEGIN IF false THEN DO 'BEGIN DROP TABLE u; END'; END IF; TRUNCATE t; END$$",
        ["DO 'BEGIN DROP TABLE u; END'"],
    ),
    "what concerns no table": (
        "DO $$BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nobody') THEN CREATE ROLE x; ALTER USER x LOGIN;"
        " DROP GROUP x; CREATE EXTENSION x; CREATE SCHEMA x; DROP SCHEMA x; END IF; TRUNCATE t; END$$",
        ["DROP SCHEMA x"],
    ),
    "SQL": ("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM u WHERE false'; SELECT f()", []),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_what_was_not_run_is_told(empty: Project, database: Database, block: str) -> None:
    sql, left_out = BLOCKS[block]
    empty.add("001", MADE, after="")
    empty.add("002", sql, after="001")
    way = measured(empty.root, database)["002"].upgrade
    assert not way.failure
    assert [text for statement in way.statements for text in statement.left_out] == left_out


def test_a_function_of_an_earlier_revision_too(empty: Project, database: Database) -> None:
    empty.add("001", f"{MADE}; {BLOCKS['a function'][0].partition('; SELECT')[0]}", after="")
    empty.add("002", "SELECT f(0)", "SELECT f(1)", after="001")
    found = measured(empty.root, database)["002"]
    assert [statement.left_out for statement in found.upgrade.statements] == [("DROP TABLE u",)]
    assert [statement.left_out for statement in found.downgrade.statements] == [("UPDATE t SET a = 1",)]


def test_lines_stay_where_they_are_and_other_sql_as_it_is() -> None:
    for sql, _ in BLOCKS.values():
        assert Branches().marked(sql).count("\n") == sql.count("\n")
    for sql in ("SELECT 'do $$BEGIN DROP TABLE t; END$$'", "DO E'BEGIN\\nDROP TABLE t; END'", "DROP TABLE plpgsql"):
        assert Branches().marked(sql) == sql


def test_marks_are_never_why_something_is_not_measured(
    empty: Project, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "_SAYING", " RAISE INFO %d; ")
    empty.add("001", MADE, after="")
    empty.add("002", f"{BLOCKS['a branch'][0]}; {BLOCKS['quoted'][0]}", after="001")
    way = measured(empty.root, database)["002"].upgrade
    assert not way.failure
    assert [effect.relation for statement in way.statements for effect in statement.effects] == ["t"]


def test_lint_and_plan_tell_it(empty: Project, database: Database) -> None:
    empty.add("001", MADE, "DROP TABLE t, u; DROP TYPE mood", after="")
    empty.add("002", BLOCKS["a branch"][0], "ALTER TABLE t DROP IF EXISTS c", after="001")
    assert database.neuraknot_db("snapshot", cwd=empty.root).code == 0
    told = "not-measured: upgrade() may run what was not measured: DROP TABLE u."
    assert told in database.neuraknot_db("lint", "002", cwd=empty.root).out
    assert database.neuraknot_db("upgrade", "001", cwd=empty.root).code == 0
    text = " ".join(database.neuraknot_db("plan", cwd=empty.root).out.split())
    assert "other rows may lead it to other tables; not measured: DROP TABLE u" in text
