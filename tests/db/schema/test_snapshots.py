"""The snapshots in alembic/snapshots: equal to the contract, never stale, readable in a diff."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from neuraknot_db.database.create import scratch_database
from neuraknot_db.errors import RefusedError
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.catalog import Column, Constraint, Function, Index, Object, Schema, Table, Trigger
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Project
from tests.db.schemas import REVISIONS, SCRIPT, TABLES, contract, without_texts
from tests.projects import PROJECT


@pytest.fixture
def copied(tmp_path: Path) -> ScriptDirectory:
    """A copy of alembic/ that a test may change."""
    shutil.copytree(PROJECT / "alembic", tmp_path / "alembic")
    return ScriptDirectory(str(tmp_path / "alembic"))


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_snapshot_equals_the_contract(revision: str) -> None:
    assert without_texts(snapshots.load(SCRIPT, revision)) == contract(revision)


@pytest.mark.slow
def test_every_server_makes_the_same_snapshots(database: Database) -> None:
    done = database.neuraknot_db("snapshot", "--check")
    assert done.code == 0, done.err
    # What runs on scratch databases would read as if this one were migrated.
    assert len(done.err.splitlines()) == 1


def test_production_gets_no_scratch_database(database: Database) -> None:
    done = database.neuraknot_db("snapshot", "--check", NEURAKNOT_ENV="")  # as in a shell that names a database only
    assert (done.code, "counts as production" in done.err) == (5, True), done.err
    assert "NEURAKNOT_ENV=dev neuraknot-db snapshot" in done.err


@pytest.mark.slow
def test_stale_snapshots_are_named_and_written_anew(database: Database, project: Project) -> None:
    folder = project.root / "alembic" / "snapshots"
    plain = folder.parent / "schema.sql"
    should = {path.name: path.read_text(encoding="utf-8") for path in (plain, *folder.iterdir())}
    plain.write_bytes("-- Größe".encode("latin-1"))
    (folder / "002.json").write_text("{}", encoding="utf-8")
    (folder / "003.json").unlink()
    (folder / "999.json").write_text("{}", encoding="utf-8")
    left = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    done = database.neuraknot_db("snapshot", "--check", cwd=project.root)
    assert done.code == 3
    assert "out of date: 002.json, 003.json, schema.sql, 999.json." in done.err
    assert "neuraknot-db snapshot" in done.err
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == left
    assert database.neuraknot_db("snapshot", cwd=project.root).code == 0
    assert {path.name: path.read_text(encoding="utf-8") for path in (plain, *folder.iterdir())} == should
    assert database.neuraknot_db("snapshot", "--check", cwd=project.root).code == 0


@pytest.mark.slow
def test_a_project_without_snapshots_gets_them(database: Database, project: Project) -> None:
    folder = project.root / "alembic" / "snapshots"
    shutil.rmtree(folder)
    assert database.neuraknot_db("snapshot", "--check", cwd=project.root).code == 3
    assert not folder.exists()
    assert database.neuraknot_db("snapshot", cwd=project.root).code == 0
    assert sorted(path.stem for path in folder.glob("00?.json")) == list(REVISIONS)
    assert sorted(path.stem for path in folder.glob("*.effects.json")) == [f"{each}.effects" for each in REVISIONS]


def test_a_scratch_database_is_one_that_nobody_has(
    new_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, free = os.urandom(4), os.urandom(4)
    somebodys = new_database(name=f"neuraknot_scratch_{taken.hex()}")
    somebodys.run("CREATE TABLE kept ()")
    drawn = iter([taken, free])
    monkeypatch.setattr("neuraknot_db.database.create.os.urandom", lambda _: next(drawn))
    where = Settings(somebodys.host, somebodys.port, somebodys.user, None, "postgres")
    with scratch_database(where) as temporary:
        assert temporary.database == f"neuraknot_scratch_{free.hex()}"
    assert somebodys.run("SELECT FROM kept") == []
    exists = f"SELECT count(*) FROM pg_database WHERE datname = '{temporary.database}'"
    assert somebodys.value(exists) == 0


def test_a_schema_survives_being_written_and_read() -> None:
    table = Table(
        "odd",
        {"a\n": Column("a\n", 'text COLLATE "C"', nullable=True, default="'ü\\'::text", commented=True, options="x")},
        {"c": Constraint("c", "check", "CHECK (true)", validated=False, enforced=False, commented=True)},
        {"i": Index("i", "CREATE INDEX i ON odd USING btree (a)", valid=False)},
        {"t": Trigger("t", "CREATE TRIGGER t", "disabled")},
        traits=("unlogged",),
        commented=True,
    )
    text = "CREATE OR REPLACE FUNCTION public.f()\nAS $$\n\x0b\u2028\r\n\n$$\n"
    schema = Schema(
        {"odd": table, "empty": Table("empty")},
        {"f()": Function("f()", None, "sql", text)},
        ("citext",),
        {"v": Table("v", kind="view", definition="SELECT 1\n\n AS a")},
        {"enum mood": Object("enum", "mood", "('a\n', 'ü')")},
    )
    assert snapshots.parse(snapshots.render("001", schema)) == schema


def test_a_snapshot_without_views_and_other_objects_says_nothing_of_them() -> None:
    text = snapshots.path_of(SCRIPT, "004").read_text(encoding="utf-8")
    schema = snapshots.parse(text)
    assert (schema.views, schema.others) == ({}, {})
    assert snapshots.render("004", schema) == text


def test_a_changed_column_is_one_changed_line() -> None:
    before = snapshots.load(SCRIPT, "004")
    users = before.tables["users"]
    changed = dataclasses.replace(users.columns["email"], type="text")
    users = dataclasses.replace(users, columns={**users.columns, "email": changed})
    after = dataclasses.replace(before, tables={**before.tables, "users": users})
    lines = [snapshots.render("004", schema).splitlines() for schema in (before, after)]
    assert [one.strip() for one, other in zip(*lines, strict=True) if one != other] == [
        '{"name": "email", "type": "character varying(255)", "nullable": false, "default": null, "commented": true},'
    ]


def test_our_tables_are_those_of_any_revision() -> None:
    assert snapshots.table_names(SCRIPT) == frozenset(TABLES)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no snapshot of revision 003"), ("{", "can't be read"), ('{"tables": []}', "can't be read")],
)
def test_a_snapshot_that_is_not_there_or_broken_is_named(
    copied: ScriptDirectory, content: str | None, words: str
) -> None:
    path = snapshots.path_of(copied, "003")
    path.unlink()
    if content:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(RefusedError, match=words) as refused:
        snapshots.load(copied, "003")
    assert "neuraknot-db snapshot" in str(refused.value.hint)


def test_the_summary_counts_one_in_the_singular() -> None:
    lines = snapshots.summary(snapshots.load(SCRIPT, "004"))
    assert lines[-1] == "users                   8 columns    4 constraints    4 indexes    1 trigger"
    assert lines[0].endswith("0 triggers")
