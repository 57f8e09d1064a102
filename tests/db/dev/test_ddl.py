"""alembic/schema.sql: any PostgreSQL makes the same of it as the revisions do, and so does sqlc."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuraknot_db.dev import ddl, devserver, tables
from neuraknot_db.errors import UsageError
from neuraknot_db.schema import compare, equivalence
from neuraknot_db.schema.catalog import read_schema
from neuraknot_db.settings import Settings
from tests.db.conftest import POSTGRES_15, Database, Server
from tests.db.forking import BIN
from tests.db.schema.test_catalog import EVERYTHING
from tests.projects import PROJECT

SCHEMA = PROJECT / "alembic" / "schema.sql"
QUERIES = Path(__file__).parent / "queries.sql"
EMBEDDED = next(ddl.programs(tls=False))

ODD = """
CREATE TABLE "Odd, ""(name" (
    id bigint GENERATED ALWAYS AS IDENTITY,
    "select" varchar(9) DEFAULT 'CONSTRAINT x NOT NULL' NOT NULL,
    "a
b" int,
    CONSTRAINT "odd pkey" PRIMARY KEY (id),
    CONSTRAINT "odd; key" UNIQUE ("select") DEFERRABLE,
    EXCLUDE USING btree (id WITH =)
);
ALTER TABLE "Odd, ""(name" RENAME "select" TO renamed;  -- PostgreSQL 18 keeps the older name in its NOT NULL's
ALTER TABLE "Odd, ""(name" ADD CONSTRAINT checked CHECK (id > 0 AND renamed <> ' PRIMARY KEY ') NOT VALID;
CREATE TABLE empty ();
CREATE TABLE later (id int PRIMARY KEY);
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
CREATE TABLE days (at date NOT NULL, id int REFERENCES base, PRIMARY KEY (at, id)) PARTITION BY LIST (at);
CREATE TABLE a_day PARTITION OF days FOR VALUES IN ('2026-11-27');
CREATE VIEW grouped AS SELECT o.*, count(*) AS n FROM "Odd, ""(name" o JOIN base USING (id) GROUP BY o.id;
CREATE TABLE zebra (id int PRIMARY KEY, other int REFERENCES zebra);
ALTER TABLE "Odd, ""(name" ADD CONSTRAINT " UNIQUE " FOREIGN KEY (id) REFERENCES later;
CREATE FUNCTION rows() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM quick';  -- dumped before the table
CREATE FUNCTION atomic() RETURNS bigint BEGIN ATOMIC SELECT CASE count(*) WHEN 0 THEN 1 END FROM zebra; SELECT 2; END;
CREATE FUNCTION dumped() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
--
-- Name: dumped; Type: FUNCTION; Schema: public; Owner: -
--

    UPDATE zebra
SET other = 1;
    RETURN '
\\restrict x
SET row_security = off;';
END $$;
CREATE PROCEDURE done() LANGUAGE plpgsql AS 'BEGIN END';
CREATE POLICY own ON zebra USING (id > 0);
ALTER TABLE zebra ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA app;
CREATE TABLE app.other (id int PRIMARY KEY, mood public.mood);
COMMENT ON TABLE zebra IS 'it''s a \\ "zebra";
-- SET x = 1;

SET y = 2;';
COMMENT ON COLUMN zebra.id IS 'シマウマ';
COMMENT ON CONSTRAINT zebra_pkey ON zebra IS '縞';
COMMENT ON CONSTRAINT "odd; key" ON "Odd, ""(name" IS 'odd';
COMMENT ON TYPE mood IS 'of the type';
"""


@pytest.fixture(scope="module")
def odd(server: Server) -> Iterator[Database]:
    """A database with every kind of object, and the text of its schema.sql."""
    maintenance, made = server.database("postgres"), server.database("odd")
    maintenance.run("CREATE DATABASE odd")
    made.run(EVERYTHING + ODD)
    yield made
    maintenance.run("DROP DATABASE odd")


def where(database: Database, **options: str) -> Settings:
    return Settings(database.host, database.port, database.user, None, database.name, options)


def psql(database: Database, text: str, *options: str) -> None:
    """Give a file to psql as people do; its terminal is of another encoding."""
    address = ["-h", database.host, "-p", str(database.port), "-U", database.user, "-d", database.name]
    program = Path(EMBEDDED).with_name("psql")
    done = subprocess.run(
        [program, *address, "-qX", "-v", "ON_ERROR_STOP=1", *options],
        input=text, capture_output=True, text=True, env={"PGCLIENTENCODING": "EUC_JP"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def differences(one: Database, other: Database) -> list[str]:
    """What one holds and the other does not, and the other way round; with comments' texts and the columns' order."""
    read = []
    for database in (one, other):
        with database.engine().connect() as connection:
            schema = read_schema(connection)
            order = {name: tuple(table.columns) for name, table in schema.relations.items()}
            read.append((schema, tables.read_comments(connection), order))
    (first, *details), (second, *others) = read
    found = [] if details == others else ["comments or order"]
    for database, live, expected in ((one, first, second), (other, second, first)):
        with database.engine().connect() as connection:
            spelling = equivalence.settle(connection, live, [expected])
            found += map(str, compare.compare(live, expected, spelling))
            found += compare.notes(live, expected)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", ["15", "18"])
@pytest.mark.parametrize("options", [(), ("--single-transaction",)], ids=["statements", "transaction"])
def test_every_kind_of_object_is_made_anew(
    odd: Database, server_15: Server, server_18: Server, target: str, options: tuple[str, ...]
) -> None:
    server = {"15": server_15, "18": server_18}[target]
    server.database("postgres").run("DROP DATABASE IF EXISTS odd_anew")
    server.database("postgres").run("CREATE DATABASE odd_anew")
    anew = server.database("odd_anew")
    text = ddl.render("007", ddl.dump(where(odd), tls=False))
    assert "\n    renamed character varying(9) DEFAULT 'CONSTRAINT x NOT NULL'::character varying NOT NULL,\n" in text
    psql(anew, text, *options)
    assert differences(odd, anew) == []
    assert anew.value("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'app'") == 2
    server.database("postgres").run("DROP DATABASE odd_anew")


def test_every_pg_dump_gives_the_same_text(database_at_head: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the role, the database or the environment sets."""
    older = str(POSTGRES_15 / "pg_dump")
    database_at_head.run(f"ALTER DATABASE {database_at_head.name} SET quote_all_identifiers = on")
    texts = []
    for program in (EMBEDDED, older) if database_at_head.server == "15" else (EMBEDDED,):
        monkeypatch.setattr(ddl, "programs", lambda tls, each=program: ["false", each])  # the first one fails
        texts.append(ddl.render("004", ddl.dump(where(database_at_head), tls=False)))
    assert set(texts) == {SCHEMA.read_text(encoding="utf-8")}
    if database_at_head.server != "15":
        monkeypatch.setattr(ddl, "programs", lambda tls: [older])
        with pytest.raises(UsageError, match="no pg_dump could read") as raised:
            ddl.dump(where(database_at_head), tls=False)
        assert "server version mismatch" in raised.value.details[-2]


@pytest.mark.slow
def test_a_database_made_from_it_can_be_taken_over(database: Database) -> None:
    psql(database, SCHEMA.read_text(encoding="utf-8"))
    done = database.neuraknot_db("adopt")
    assert (done.code, "is now at revision 004" in done.out) == (0, True), done.err
    assert database.neuraknot_db("verify").code == 0


def test_without_a_pg_dump_a_sentence_says_what_to_do(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devserver, "PACKAGE", "not_installed")
    monkeypatch.setenv("PATH", "")
    assert list(ddl.programs(tls=False)) == []
    with pytest.raises(UsageError, match=r"no pg_dump could read") as raised:
        ddl.dump(where(database), tls=False)
    assert raised.value.details == (
        "none is on the PATH, and the embedded PostgreSQL's has no TLS, or is not installed",
    )
    monkeypatch.setattr(ddl, "programs", lambda tls: [EMBEDDED])
    with pytest.raises(UsageError) as raised:
        ddl.dump(where(database, sslmode="require"), tls=False)
    assert "SSL support is not compiled in" in raised.value.details[0]
    assert "Install PostgreSQL's client programs" in str(raised.value.hint)


def test_what_went_over_tls_is_not_asked_for_without_it() -> None:
    assert EMBEDDED in ddl.programs(tls=False)
    assert EMBEDDED not in ddl.programs(tls=True)


def test_no_password_is_on_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = tmp_path / "pg_dump"
    spy.write_text(
        '#!/bin/sh\necho "$@"; echo --; ls -l "$PGSERVICEFILE" | cut -c 1-10; cat "$PGSERVICEFILE"; echo "$PGPASSWORD"'
    )
    spy.chmod(0o755)
    monkeypatch.setattr(ddl, "programs", lambda tls: [str(spy)])
    options = {"sslmode": "verify-full", "sslpassword": "of the key"}
    said = ddl.dump(Settings("db.example.org", 5433, "me", " it's\nme\\ ", "scratch", options), tls=False)
    arguments, _, given = said.partition("\n--\n")
    assert not any(word in arguments for word in ("me", "scratch", "example", "key"))
    assert given == (
        "-rw-------\n[scratch]\nhost=db.example.org\nport=5433\nuser=me\ndbname=scratch\nsslmode=verify-full\n"
        "sslpassword=of the key\n it's\nme\\ \n"
    )


@pytest.mark.slow
def test_sqlc_generates_go_from_it(tmp_path: Path) -> None:
    shutil.copy(SCHEMA, tmp_path)
    shutil.copy(QUERIES, tmp_path)
    go = "gen: {go: {package: db, out: ., sql_package: pgx/v5}}"
    sql = f"{{engine: postgresql, schema: schema.sql, queries: queries.sql, {go}}}"
    (tmp_path / "sqlc.yaml").write_text(f"version: '2'\nsql: [{sql}]\n")
    run = functools.partial(subprocess.run, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    done = run([BIN / "sqlc", "generate"])
    assert (done.returncode, done.stderr) == (0, "")
    models = (tmp_path / "models.go").read_text(encoding="utf-8")
    assert re.search(r"\tEmail string\n.*\n\tDisplayName string\n", models)
    assert "// プロフィール画像の URL。NULL なら既定の画像を表示する\n\tAvatarUrl pgtype.Text\n" in models
    assert (tmp_path / "queries.sql.go").read_text(encoding="utf-8").count("\nfunc (q *Queries) ") == 22
    with (tmp_path / "queries.sql").open("a") as queries:
        queries.write("-- name: Lost :one\nSELECT nickname FROM users;\n")
    done = run([BIN / "sqlc", "compile"])
    assert (done.returncode, 'column "nickname" does not exist' in done.stderr) == (1, True)
