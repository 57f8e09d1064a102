"""Databases from the time before Alembic, taken over as they are."""

from __future__ import annotations

import pytest

from neuraknot_db.errors import RefusedError, SchemaDiffersError
from neuraknot_db.migrate.adopt import Adoption, Recognition, adopt, recognise
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.verify import verify
from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import held
from tests.db.schema.test_catalog import EVERYTHING, respell
from tests.db.schemas import (
    REVISIONS,
    SCRIPT,
    SOME_ROWS,
    contract,
    live,
    old_functions,
    old_schema,
    rows,
    rows_for,
    without_texts,
)


def take_over(database: Database, *, replace_functions: bool = False, dry_run: bool = False) -> Adoption:
    with database.engine().connect() as connection:
        return adopt(connection, SCRIPT, replace_functions=replace_functions, dry_run=dry_run)


def recognised(database: Database) -> Recognition:
    with database.engine().connect() as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        return recognise(connection, SCRIPT)


def stamped(database: Database) -> object:
    if database.value("SELECT to_regclass('public.alembic_version')") is None:
        return None
    return database.run("SELECT version_num FROM public.alembic_version")


@pytest.mark.slow
@pytest.mark.parametrize("state", REVISIONS)
def test_each_old_state_is_adopted_and_upgraded_with_every_row(database: Database, state: str) -> None:
    database.run(old_functions(state))
    database.run(rows_for(state))
    before = rows(database)

    with pytest.raises(RefusedError, match=rf"that of revision {state}, but for the text of") as refused:
        take_over(database)
    assert "--replace-functions" in str(refused.value.hint)
    assert "-    new.updated_at = now();  -- 更新日時" in refused.value.details
    assert "+    NEW.updated_at := CURRENT_TIMESTAMP;" in refused.value.details
    assert stamped(database) is None

    assert take_over(database, replace_functions=True) == Adoption(
        state, ("update_conversation_on_message()", "update_updated_at_column()"), notes=(), dry_run=False
    )
    assert stamped(database) == [(state,)]
    assert rows(database) == before

    done = database.alembic("upgrade", "head")
    assert done.code == 0, done.err
    for user in before["users"]:
        user.setdefault("avatar_url", None)
    assert rows(database) == before
    with database.engine().connect() as connection:
        assert verify(connection, SCRIPT).matches


def test_a_dry_run_needs_no_right_to_write(database: Database) -> None:
    database.run(old_schema("002"))
    database.run(f'ALTER DATABASE "{database.name}" SET default_transaction_read_only = on')
    done = database.neuraknot_db("adopt", "--dry-run")
    assert done.code == 0, done.err
    assert "would be at revision 002" in done.out
    assert database.neuraknot_db("adopt").code == 5
    assert stamped(database) is None


def test_where_the_functions_are_ours_nothing_need_be_said(database: Database) -> None:
    database.run(old_schema("002"))
    assert take_over(database) == Adoption("002", (), notes=(), dry_run=False)


def test_a_restored_dump_is_recognised(database: Database) -> None:
    database.run(old_schema("001"))
    assert respell(database) > 0
    assert take_over(database).revision == "001"


def test_only_the_version_table_is_new_and_it_is_alembics_own(database: Database) -> None:
    database.run(old_schema("004"))
    database.run(f'CREATE SCHEMA elsewhere; ALTER DATABASE "{database.name}" SET search_path = elsewhere')
    before = live(database)
    take_over(database)
    assert live(database) == before
    columns = (
        "SELECT format_type(atttypid, atttypmod), attnotnull, (SELECT string_agg(conname, ' ') FROM pg_constraint"
        " WHERE conrelid = attrelid AND contype = 'p') FROM pg_attribute"
        " WHERE attrelid = 'public.alembic_version'::regclass AND attnum > 0"
    )
    assert database.run(columns) == [("character varying(32)", True, "alembic_version_pkc")]
    assert database.alembic("upgrade", "head").code == 0


def test_a_dry_run_says_the_same_and_does_nothing(database: Database) -> None:
    database.run(old_functions("003"))
    before = live(database)
    adoption = take_over(database, replace_functions=True, dry_run=True)
    assert adoption.to_json() == {
        "revision": "003",
        "replaced_functions": ["update_conversation_on_message()", "update_updated_at_column()"],
        "notes": [],
        "dry_run": True,
    }
    assert stamped(database) is None
    assert live(database) == before


def test_what_is_not_ours_is_noted_and_stays(database: Database) -> None:
    database.run(old_schema("001") + "CREATE TABLE invoices (id int); INSERT INTO invoices VALUES (1)")
    assert take_over(database).notes == ("other table: invoices",)
    assert database.value("SELECT count(*) FROM invoices") == 1


@pytest.mark.parametrize(
    ("state", "drift", "nearest", "lines"),
    [
        (
            "002",
            "ALTER TABLE users ALTER email TYPE text",
            "002",
            ["users.email: type text, expected character varying(255)"],
        ),
        (
            "003",
            "DROP INDEX idx_users_status; ALTER TABLE ai_agents DROP CONSTRAINT chk_model",
            "004",  # of two that are equally near the newer one
            [
                "ai_agents.model: default 'gpt-4o'::character varying, expected 'gpt-4.1'::character varying",
                "users.idx_users_status: index missing, expected CREATE INDEX",
            ],
        ),
        (
            "001",
            "DROP TABLE ai_tool_usage, ai_chat_sessions, messages, conversations",
            "001",
            [
                "ai_chat_sessions: table missing",
                "ai_tool_usage: table missing",
                "conversations: table missing",
                "messages: table missing",
            ],
        ),
    ],
    ids=["changed by hand", "between two revisions", "half of the tables"],
)
def test_where_no_revision_fits_the_nearest_is_named_and_nothing_stamped(
    database: Database, state: str, drift: str, nearest: str, lines: list[str]
) -> None:
    database.run(old_schema(state))
    database.run(SOME_ROWS)
    database.run(drift)
    for replace_functions in (False, True):
        with pytest.raises(SchemaDiffersError, match=f"nearest is {nearest}, with {len(lines)} difference") as differs:
            take_over(database, replace_functions=replace_functions)
        found = differs.value.details
        assert [line.startswith(start) for line, start in zip(found, lines, strict=True)] == [True] * len(lines)
        assert stamped(database) is None


def test_a_database_whose_enum_view_or_sequence_differs_is_not_adopted(database: Database, project: Project) -> None:
    database.run(old_schema("004"))
    database.run(EVERYTHING)
    project.add("005", EVERYTHING, after="004")
    folder, schema = project.root / "alembic" / "snapshots", live(database)
    (folder / "005.json").write_text(snapshots.render("005", schema), encoding="utf-8")
    database.run(
        "ALTER TYPE mood RENAME VALUE 'a' TO 'z'; CREATE OR REPLACE VIEW w AS SELECT 1 AS id, 'z'::mood AS m,"
        " 1::bigint AS n; ALTER SEQUENCE down CACHE 2"
    )
    done = database.neuraknot_db("adopt", "--replace-functions", cwd=project.root)
    assert done.code == 3
    assert "the nearest is 005, with 4 differences." in done.err
    for line in (
        "mood: enum ('z', 'it''s'), expected ('a', 'it''s')",
        "w: view text differs",
        "down: sequence AS bigint",
    ):
        assert line in done.err
    assert stamped(database) is None

    database.run(
        "ALTER TYPE mood RENAME VALUE 'z' TO 'a'; ALTER SEQUENCE down CACHE 1;"
        f" CREATE OR REPLACE VIEW w AS {schema.views['w'].definition}"
    )
    done = database.neuraknot_db("adopt", cwd=project.root)
    assert done.code == 0, done.err
    assert stamped(database) == [("005",)]


@pytest.mark.parametrize(
    ("sql", "words", "hint"),
    [
        ("CREATE TABLE invoices (id int)", "none of our tables", "alembic upgrade head"),
        (
            old_schema("001") + "CREATE TABLE alembic_version (version_num varchar(32));"
            " INSERT INTO alembic_version VALUES ('002')",
            "at revision 002 already",
            "neuraknot-db verify",
        ),
    ],
    ids=["nothing of ours", "versioned"],
)
def test_what_cannot_be_adopted_is_refused(database: Database, sql: str, words: str, hint: str) -> None:
    database.run(sql)
    before = stamped(database)
    with pytest.raises(RefusedError, match=words) as refused:
        take_over(database)
    assert hint in str(refused.value.hint)
    assert stamped(database) == before


def test_a_failure_leaves_neither_functions_nor_stamp(database: Database) -> None:
    database.run(old_functions("001"))
    before = live(database)
    # The stamp is the last thing that is written: let it fail.
    database.run("CREATE TABLE alembic_version (version_num varchar(32) CHECK (version_num = 'none'))")
    with pytest.raises(Exception, match="alembic_version_version_num_check"):
        take_over(database, replace_functions=True)
    assert live(database) == before
    assert stamped(database) == []


def test_recognising_needs_no_right_to_write(database: Database) -> None:
    database.run(old_functions("004"))
    found = recognised(database)
    assert (found.revision, found.fits, found.tables) == ("004", True, 8)
    assert [function.object for function in found.functions] == [
        "update_conversation_on_message()",
        "update_updated_at_column()",
    ]


@pytest.mark.slow
def test_every_state_is_recognised_as_no_other(database: Database) -> None:
    for state in REVISIONS:
        database.run('DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP EXTENSION IF EXISTS "uuid-ossp"')
        database.run(old_schema(state))
        assert without_texts(live(database)) == contract(state)
        assert recognised(database).revision == state


@pytest.mark.slow
def test_who_keeps_it_from_reading_the_schema_is_named(database: Database) -> None:
    database.run(old_schema("004"))
    with held(database, "LOCK TABLE public.users") as other:
        pid = other.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        for command in (["adopt"], ["adopt", "--dry-run"]):
            done = database.neuraknot_db(*command, NEURAKNOT_LOCK_TIMEOUT="300ms")
            said(done, 4, f"held by pid {pid}, reports (postgres)", f"or end it: SELECT pg_terminate_backend({pid})\n")
            assert "pg_class" not in done.err
    assert stamped(database) is None
