"""verify: does a database hold what its revision should?"""

from __future__ import annotations

import json

import pytest

from neuraknot_db.errors import RefusedError, SchemaDiffersError
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.verify import Report, verify
from tests.db.conftest import Database, Project
from tests.db.schema.test_catalog import EVERYTHING
from tests.db.schemas import REVISIONS, SCRIPT, TABLES, live, old_schema


def report(database: Database, *, before: str = "SET TRANSACTION READ ONLY") -> Report:
    with database.engine().connect() as connection:
        connection.exec_driver_sql(before)
        return verify(connection, SCRIPT)


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_revision_verifies_in_a_read_only_transaction(database: Database, revision: str) -> None:
    database.alembic("upgrade", revision)
    found = report(database)
    assert found == Report(revision, differences=(), notes=(), missing_tables=())
    found.demand()


def test_chk_model_not_valid_after_a_downgrade_is_noted_and_no_difference(database_at_head: Database) -> None:
    database_at_head.alembic("downgrade", "003")
    found = report(database_at_head)
    assert found.matches
    assert found.notes == (
        "ai_agents.chk_model is NOT VALID, as a downgrade leaves it: it binds new and changed rows only",
    )


def test_another_check_not_valid_is_a_difference(database_at_head: Database) -> None:
    database_at_head.run(
        "ALTER TABLE ai_agents DROP CONSTRAINT chk_provider, ADD CONSTRAINT chk_provider"
        " CHECK (provider IN ('openai', 'anthropic', 'google')) NOT VALID"
    )
    assert [difference.object for difference in report(database_at_head).differences] == ["ai_agents.chk_provider"]


def test_a_foreign_key_whose_triggers_fire_on_replicas_only_is_a_difference(database_at_head: Database) -> None:
    (trigger,) = database_at_head.run(
        "SELECT g.tgname FROM pg_trigger g JOIN pg_constraint c ON c.oid = g.tgconstraint"
        " WHERE c.conname = 'conversations_user_id_fkey' AND g.tgrelid = 'conversations'::regclass"
        " AND g.tgfoid = '\"RI_FKey_check_ins\"'::regproc"
    )
    database_at_head.run(f'ALTER TABLE conversations ENABLE REPLICA TRIGGER "{trigger[0]}"')
    (difference,) = report(database_at_head).differences
    assert difference.object == "conversations.conversations_user_id_fkey"
    assert "(its triggers are disabled)" in str(difference)
    database_at_head.run(f'ALTER TABLE conversations ENABLE ALWAYS TRIGGER "{trigger[0]}"')
    assert report(database_at_head).matches


@pytest.mark.slow
@pytest.mark.parametrize("server", ["18"], indirect=True)  # the first with such a thing
def test_not_null_that_is_not_valid_is_none(database_at_head: Database) -> None:
    database_at_head.run("ALTER TABLE users ALTER email DROP NOT NULL, ADD CONSTRAINT lax NOT NULL email NOT VALID")
    assert [str(each) for each in report(database_at_head).differences] == [
        "users.email: nullability NULL allowed, expected NOT NULL"
    ]
    database_at_head.run("ALTER TABLE users VALIDATE CONSTRAINT lax")
    assert report(database_at_head).matches


def test_missing_tables_and_changed_functions_are_told(database_at_head: Database) -> None:
    database_at_head.run(
        "DROP TABLE ai_tool_usage; CREATE OR REPLACE FUNCTION update_updated_at_column() RETURNS trigger"
        " LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
    )
    found = report(database_at_head)
    assert found.missing_tables == ("ai_tool_usage",)
    with pytest.raises(SchemaDiffersError, match="not what revision 004 should hold: 2 differences") as differs:
        found.demand()
    assert differs.value.details == (
        "ai_tool_usage: table missing",
        "update_updated_at_column(): function text differs (verify --json shows both)",
    )
    written = json.loads(json.dumps(found.to_json()))
    lines, functions = zip(*((one["line"], one["live"]) for one in written.pop("differences")), strict=True)
    assert lines == differs.value.details
    assert "BEGIN RETURN NEW; END" in functions[1]
    assert written == {"revision": "004", "matches": False, "missing_tables": ["ai_tool_usage"], "notes": []}


def test_the_differences_are_data_and_the_verdict_is_narration(database_at_head: Database) -> None:
    database_at_head.run("ALTER TABLE users ALTER email TYPE text; DROP TABLE ai_tool_usage")
    line = "users.email: type text, expected character varying(255)"
    done = database_at_head.neuraknot_db("verify")
    assert (done.code, done.out.splitlines()) == (3, ["ai_tool_usage: table missing", line])
    assert "Error: The schema is not what revision 004 should hold: 2 differences." in done.err
    assert "outside of the revisions, or revision 004 was edited (neuraknot-db plan tells)" in done.err
    assert line not in done.err
    done = database_at_head.neuraknot_db("verify", "--json")
    assert (done.code, json.loads(done.out)["differences"][1]["line"]) == (3, line)


def test_an_unversioned_database_is_told_from_an_empty_one(database: Database) -> None:
    empty = report(database)
    assert empty.revision is None
    assert set(empty.missing_tables) == set(TABLES)
    with pytest.raises(SchemaDiffersError, match="none of our tables") as differs:
        empty.demand()
    assert "alembic upgrade head" in str(differs.value.hint)

    database.run(old_schema("003"))
    database.run("DROP TABLE ai_tool_usage")
    unversioned = report(database)
    assert [str(difference) for difference in unversioned.differences] == [
        "alembic_version: revision missing (7 of 8 tables are there)",
        "ai_tool_usage: table missing",
    ]
    with pytest.raises(SchemaDiffersError, match="no record of a revision") as differs:
        unversioned.demand()
    assert "neuraknot-db adopt" in str(differs.value.hint)


def test_a_revision_without_a_snapshot_cannot_be_verified(database_at_head: Database) -> None:
    database_at_head.run("UPDATE alembic_version SET version_num = '777'")
    with pytest.raises(RefusedError, match="no snapshot of revision 777"):
        report(database_at_head)


def test_verifying_leaves_the_database_as_it_was(database_at_head: Database) -> None:
    everything = "SELECT count(*), max(oid::bigint), sum(hashtext(relname)::bigint)::bigint FROM pg_class"
    database_at_head.run("ALTER TABLE ai_agents DROP CONSTRAINT chk_provider, ADD CONSTRAINT chk_provider CHECK (true)")
    before = database_at_head.run(everything)
    with database_at_head.engine().begin() as connection:
        assert not verify(connection, SCRIPT).matches
    assert database_at_head.run(everything) == before


@pytest.mark.parametrize("command", ["verify", "adopt", "adopt --dry-run"])
def test_who_keeps_the_schema_from_being_read_is_named(database_at_head: Database, command: str) -> None:
    if command != "verify":
        database_at_head.run("DROP TABLE public.alembic_version")
    with database_at_head.engine().connect() as other:
        other.exec_driver_sql("SET application_name = 'report'; LOCK TABLE public.users")
        done = database_at_head.neuraknot_db(*command.split(), NEURAKNOT_LOCK_TIMEOUT="300ms")
    assert done.code == 4
    assert "another session locks a table" in done.err
    assert ", report (postgres), in a transaction for " in done.err
    assert "pg_catalog" not in done.err


def test_views_types_and_sequences_are_verified_too(database_at_head: Database, project: Project) -> None:
    project.add("005", EVERYTHING, after="004")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    snapshot = project.root / "alembic" / "snapshots" / "005.json"
    snapshot.write_text(snapshots.render("005", live(database_at_head)), encoding="utf-8")
    assert database_at_head.neuraknot_db("verify", cwd=project.root).code == 0

    database_at_head.run(
        "ALTER TYPE mood RENAME VALUE 'a' TO 'z'; CREATE OR REPLACE VIEW v AS SELECT id, m FROM base;"
        " ALTER SEQUENCE numbers NO CYCLE; ALTER TABLE child NO INHERIT base"
    )
    done = database_at_head.neuraknot_db("verify", cwd=project.root)
    assert (done.code, [line.split(",")[0] for line in done.out.splitlines()]) == (
        3,
        [
            "child: table ordinary",
            "v: view CREATE RULE gone AS ON DELETE TO public.v DO INSTEAD DELETE FROM base WHERE (base.id = old.id)",
            "v: view text differs (verify --json shows both)",
            "v.m: default 'z'::mood",
            "mood: enum ('z'",
            "numbers: sequence AS smallint INCREMENT BY 5 MAXVALUE 1000 START WITH 10 CACHE 7",
        ],
    )
    found = json.loads(database_at_head.neuraknot_db("verify", "--json", cwd=project.root).out)["differences"][2]
    assert "WHERE" in found["expected"]
    assert "WHERE" not in found["live"]
