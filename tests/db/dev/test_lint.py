"""The linter: each rule finds what it is for and nothing else, and each exception has its reason."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.dev.lint import lint, rendered
from neuraknot_db.dev.lint.finding import Finding
from neuraknot_db.errors import UsageError
from neuraknot_db.revisions.targets import select
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.catalog import Function, Schema, Table
from tests.db.conftest import Server
from tests.db.forking import BIN
from tests.db.measuring import loaded, measured
from tests.projects import PROJECT, ROOT

HEADER = '''"""{id}."""
from alembic import op

revision = "{id}"
down_revision = {down!r}
{variables}
'''
BASE = """
def upgrade() -> None:
    op.execute("CREATE TABLE one (id bigint UNIQUE, a text); CREATE TABLE two (id bigint)")
    op.execute("CREATE INDEX i ON one (a)")
    op.execute("CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY)")
    op.execute("CREATE PROCEDURE fill_b() LANGUAGE sql AS 'SELECT 1'")
    op.execute("CREATE MATERIALIZED VIEW v AS SELECT id FROM two; CREATE UNIQUE INDEX v_id ON v (id)")


def downgrade() -> None:
    op.execute("DROP TABLE one, two, numbered CASCADE")
"""
QUIET = """
[always]
require-lock-timeout = "the session has one"
require-statement-timeout = "the session has one"
[downgrade]
ban-drop-table = "it undoes"
ban-drop-column = "it undoes"
[revisions.001]
several-tables = "one statement"
require-concurrent-index-creation = "of its own view"
"""


class Project:
    """A folder of revisions of our own."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root = root
        self._server = server
        (root / "alembic" / "versions").mkdir(parents=True)
        (root / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/alembic\npath_separator = os\n")
        (root / "alembic" / "env.py").write_text("")
        self.exceptions(QUIET)
        self.revision(
            "001", None, BASE, losses={"rows": "SELECT count(*) FROM one, two", "more": "SELECT 1 FROM two, numbered"}
        )

    def exceptions(self, text: str) -> None:
        (self.root / "alembic" / "lint.toml").write_text(text)

    def revision(self, id_: str, down: str | None, body: str, name: str = "", **variables: Any) -> Path:
        path = self.root / "alembic" / "versions" / (name or f"{id_}_test.py")
        lines = "\n".join(f"{key} = {value!r}" for key, value in variables.items())
        path.write_text(HEADER.format(id=id_, down=down, variables=lines) + body)
        return path

    def script(self) -> ScriptDirectory:
        return loaded(ScriptDirectory.from_config(Config(str(self.root / "alembic.ini"))))

    def measured(self) -> ScriptDirectory:
        """The revisions, with what they do."""
        measured(self.root, self._server)
        return self.script()

    def findings(self, revisions: str | None = None) -> list[tuple[str, str]]:
        """Each finding's code, and the line of the file that it points to; what fails on rows has its own test."""
        script = self.measured()
        found = [each for each in lint(script, select(script, revisions, "lint")) if each.code != "unasked-assumption"]
        return [(each.code, each.path.read_text().splitlines()[each.line - 1].strip()) for each in found]


@pytest.fixture
def project(tmp_path: Path, server_18: Server) -> Project:
    return Project(tmp_path, server_18)


def ways(up: str, down: str) -> str:
    return f'\ndef upgrade() -> None:\n    op.execute("""\n{up}\n""")\n\n\ndef downgrade() -> None:\n    {down}\n'


ADD = "ALTER TABLE one ADD COLUMN b text"
NEVER = "op.execute('SELECT 1')"
UNDO = 'op.execute("ALTER TABLE one DROP COLUMN b")'
FILL = """
from neuraknot_db.revisions.backfill import Backfill

backfill = Backfill(table="one", set="a = 'filled'", where="a IS DISTINCT FROM 'filled'")


def downgrade() -> None:
    pass
"""
CHECK = "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0)"
COUNT = {"values of b": "SELECT count(*) FROM one WHERE b IS NOT NULL"}

CASES: dict[str, tuple[str, dict[str, Any], list[tuple[str, str]]]] = {
    "nothing wrong": (ways(ADD, UNDO), {"losses": COUNT}, []),
    "downgrade passes": (ways(ADD, "pass"), {}, [("missing-downgrade", "def downgrade() -> None:")]),
    "downgrade is a comment": (
        ways(ADD, 'op.execute("-- nothing")'),
        {},
        [("missing-downgrade", "def downgrade() -> None:")],
    ),
    "no downgrade": (
        f'\ndef upgrade() -> None:\n    op.execute("{ADD}")\n',
        {},
        [("missing-downgrade", '"""002."""')],
    ),
    "loss without a count": (ways(ADD, UNDO), {}, [("uncounted-loss", UNDO)]),
    "another table is counted": (
        ways(ADD, UNDO),
        {"losses": {"x": "SELECT count(*) FROM two"}},
        [("uncounted-loss", UNDO)],
    ),
    "update in a DO block without a count": (
        ways(ADD, 'op.execute("""DO $$\nBEGIN\n    UPDATE one SET a = 1;\nEND $$""")'),
        {},
        [("uncounted-loss", 'op.execute("""DO $$')],
    ),
    "delete without a count": (
        ways(ADD, 'op.execute("DELETE FROM public.one")'),
        {},
        [("uncounted-loss", 'op.execute("DELETE FROM public.one")')],
    ),
    "dropping a constraint loses nothing": (
        ways(
            "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
            'op.execute("ALTER TABLE one DROP CONSTRAINT c")',
        ),
        {},
        [("ban-drop-constraint", 'op.execute("ALTER TABLE one DROP CONSTRAINT c")')],
    ),
    "two statements outside of a transaction": (
        ways(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a);\n\n"
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS j ON one (id);",
            'op.execute("DROP INDEX CONCURRENTLY IF EXISTS i")',
        ),
        {"transactional": False},
        [
            (
                "several-statements-without-transaction",
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS j ON one (id);",
            )
        ],
    ),
    "one statement outside of a transaction": (
        ways(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a)",
            'op.execute("DROP INDEX CONCURRENTLY IF EXISTS i")',
        ),
        {"transactional": False},
        [],
    ),
    "concurrently in a transaction": (
        ways("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a)", 'op.execute("DROP INDEX CONCURRENTLY i")'),
        {},
        [
            ("outside-transaction-only", "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a)"),
            ("outside-transaction-only", 'op.execute("DROP INDEX CONCURRENTLY i")'),
        ],
    ),
    "two tables": (
        ways(f"{ADD};\n-- and\nALTER TABLE two ADD COLUMN b text;", UNDO),
        {"losses": COUNT},
        [("several-tables", "ALTER TABLE two ADD COLUMN b text;")],
    ),
    "a table of its own does not count": (
        ways(f"CREATE TABLE three (id bigint);\nALTER TABLE three ADD c text;\n{ADD}", UNDO),
        {"losses": COUNT},
        [],
    ),
    "a table's own sequence does not count": (
        ways("SELECT 1", 'op.execute("DROP TABLE numbered")'),
        {"losses": {"rows": "SELECT count(*) FROM numbered"}},
        [],
    ),
    "a comment locks too little to count": (
        ways(f"{ADD};\nCOMMENT ON TABLE two IS 'x'", UNDO),
        {"losses": COUNT},
        [],
    ),
    "a table is read while an earlier statement keeps its writers out": (
        ways("SELECT count(id) FROM two;\nLOCK TABLE two IN SHARE MODE;\nSELECT count(id) FROM two", NEVER),
        {},
        [("long-lock", "SELECT count(id) FROM two")],
    ),
    "a column of its own is dropped": (
        ways("ALTER TABLE one ADD c text; DO $$BEGIN ALTER TABLE one DROP c; END$$", NEVER),
        {},
        [],
    ),
    "squawk's own": (
        ways("ALTER TABLE one\n    ADD COLUMN b text,\n    ADD COLUMN c text NOT NULL", UNDO),
        {"losses": COUNT},
        [("adding-required-field", "ADD COLUMN c text NOT NULL")],
    ),
    "rows are deleted": (
        ways(f"{ADD};\nDELETE FROM one WHERE id < 9;\nDELETE FROM ONLY public.two", UNDO),
        {"losses": COUNT},
        [
            ("whole-table-change", "DELETE FROM one WHERE id < 9;"),
            ("whole-table-change", "DELETE FROM ONLY public.two"),
        ],
    ),
    "every row is changed": (
        ways(f"{ADD};\nUPDATE one SET b = 'x'", UNDO),
        {"losses": COUNT},
        [("whole-table-change", "UPDATE one SET b = 'x'")],
    ),
    "a backfill beside an upgrade": (
        FILL + "\n\ndef upgrade() -> None:\n    op.execute(\"UPDATE one SET a = 'x'\")\n",
        {},
        [
            ("refused-backfill", FILL.splitlines()[3]),
            ("missing-downgrade", "def downgrade() -> None:"),
            ("whole-table-change", "op.execute(\"UPDATE one SET a = 'x'\")"),
        ],
    ),
    "a table is emptied in a DO block": (
        ways(f"{ADD};\nDO $$BEGIN TRUNCATE one; END$$", UNDO),
        {"losses": COUNT},
        [("whole-table-change", "DO $$BEGIN TRUNCATE one; END$$")],
    ),
    "rows are moved": (
        ways(f"{ADD};\nWITH gone AS (DELETE FROM two RETURNING id) INSERT INTO one (id) SELECT id + 9 FROM gone", UNDO),
        {"losses": COUNT},
        [
            (
                "whole-table-change",
                "WITH gone AS (DELETE FROM two RETURNING id) INSERT INTO one (id) SELECT id + 9 FROM gone",
            )
        ],
    ),
    "some rows are changed, others locked, and its own table emptied": (
        ways(
            f"{ADD};\nUPDATE one SET b = 'x' WHERE id = 1;\nSELECT id FROM two FOR UPDATE;\n"
            "CREATE TABLE three (id bigint); DELETE FROM three; TRUNCATE three;"
            "\nINSERT INTO one (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 'y'",
            UNDO,
        ),
        {"losses": COUNT},
        [],
    ),
    "a table is dropped by EXECUTE": (
        ways(ADD, "op.execute(\"DO $$BEGIN IF true THEN EXECUTE 'DROP TABLE one'; END IF; END$$\")"),
        {},
        [
            (
                "uncounted-loss",
                "op.execute(\"DO $$BEGIN IF true THEN EXECUTE 'DROP TABLE one'; END IF; END$$\")",
            )
        ],
    ),
    "a column is dropped in a DO block": (
        ways(ADD, 'op.execute("DO $$BEGIN ALTER TABLE one DROP COLUMN b; END$$")'),
        {},
        [("uncounted-loss", 'op.execute("DO $$BEGIN ALTER TABLE one DROP COLUMN b; END$$")')],
    ),
    "a type takes columns along": (
        ways("CREATE TYPE mood AS ENUM ('a'); ALTER TABLE one ADD m mood", 'op.execute("DROP TYPE mood CASCADE")'),
        {},
        [
            ("ban-drop-type", 'op.execute("DROP TYPE mood CASCADE")'),
            ("uncounted-loss", 'op.execute("DROP TYPE mood CASCADE")'),
        ],
    ),
    "a schema takes tables along": (
        ways("CREATE SCHEMA other; CREATE TABLE other.three (id bigint)", 'op.execute("DROP SCHEMA other CASCADE")'),
        {},
        [
            ("ban-drop-schema", 'op.execute("DROP SCHEMA other CASCADE")'),
            ("uncounted-loss", 'op.execute("DROP SCHEMA other CASCADE")'),
        ],
    ),
    "an extension takes columns along": (
        ways("CREATE EXTENSION citext; ALTER TABLE one ADD b citext", 'op.execute("DROP EXTENSION citext CASCADE")'),
        {},
        [
            ("ban-drop-extension", 'op.execute("DROP EXTENSION citext CASCADE")'),
            ("uncounted-loss", 'op.execute("DROP EXTENSION citext CASCADE")'),
        ],
    ),
    "a type goes alone": (
        ways("CREATE TYPE mood AS ENUM ('a')", 'op.execute("DROP TYPE mood")'),
        {},
        [("ban-drop-type", 'op.execute("DROP TYPE mood")')],
    ),
    "what CASCADE takes is counted": (
        ways("CREATE EXTENSION citext; ALTER TABLE one ADD b citext", 'op.execute("DROP EXTENSION citext CASCADE")'),
        {"losses": COUNT},
        [("ban-drop-extension", 'op.execute("DROP EXTENSION citext CASCADE")')],
    ),
    "vacuum full": (
        ways("VACUUM (FULL, ANALYZE) one", 'op.execute("VACUUM one")'),
        {"transactional": False},
        [("table-rewrite", "VACUUM (FULL, ANALYZE) one")],
    ),
    "vacuum full of all": (
        ways("VACUUM FULL", 'op.execute("VACUUM")'),
        {"transactional": False},
        [("table-rewrite", "VACUUM FULL")],
    ),
    "cluster": (
        ways(
            f"{ADD};\nCLUSTER one USING i;\nCREATE TABLE three (id bigint PRIMARY KEY); CLUSTER three USING three_pkey",
            UNDO,
        ),
        {"losses": COUNT},
        [("table-rewrite", "CLUSTER one USING i;")],
    ),
    "a view's rows are made anew": (
        ways("REFRESH MATERIALIZED VIEW CONCURRENTLY v;\nREFRESH MATERIALIZED VIEW v", 'op.execute("SELECT 1")'),
        {},
        [("table-rewrite", "REFRESH MATERIALIZED VIEW v")],
    ),
    "a setting for later revisions": (
        ways(f"SET work_mem = '9MB';\n{ADD};\nRESET work_mem", UNDO),
        {"losses": COUNT},
        [("session-setting", "SET work_mem = '9MB';"), ("session-setting", "RESET work_mem")],
    ),
    "a setting by a function": (
        ways(
            f"{ADD};\nSELECT pg_catalog.set_config('search_path', 'x', false);\nSELECT set_config('a.b', 'x', 'off')",
            UNDO,
        ),
        {"losses": COUNT},
        [
            ("session-setting", "SELECT pg_catalog.set_config('search_path', 'x', false);"),
            ("session-setting", "SELECT set_config('a.b', 'x', 'off')"),
        ],
    ),
    "settings of the transaction": (
        ways(
            f"SET LOCAL work_mem = '1GB';\nSET CONSTRAINTS ALL DEFERRED;\n{ADD};\n"
            "SELECT set_config('search_path', coalesce('x', false::text), true);\n"
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = x AS 'SELECT 1'",
            UNDO,
        ),
        {"losses": COUNT},
        [],
    ),
    "it ends its transaction": (
        ways(f"{ADD};\nCOMMIT;\nBEGIN", UNDO),
        {"losses": COUNT},
        [
            ("transaction-nesting", "COMMIT;"),
            ("ban-uncommitted-transaction", "BEGIN"),
            ("transaction-nesting", "BEGIN"),
        ],
    ),
    "it takes itself back": (
        ways(f"{ADD};\nROLLBACK", UNDO),
        {"losses": COUNT},
        [("transaction-nesting", "ROLLBACK")],
    ),
    "outside of a transaction for nothing": (
        ways(
            "ALTER TABLE one ADD COLUMN IF NOT EXISTS b text",
            'op.execute("ALTER TABLE one DROP COLUMN IF EXISTS b")',
        ),
        {"losses": COUNT, "transactional": False},
        [("needless-autocommit", "transactional = False")],
    ),
    "outside of a transaction for one way": (
        ways("CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON one (a)", 'op.execute("DROP INDEX IF EXISTS i")'),
        {"transactional": False},
        [("require-concurrent-index-deletion", 'op.execute("DROP INDEX IF EXISTS i")')],
    ),
    "a procedure may end transactions": (
        ways("CALL fill_b()", 'op.execute("CALL fill_b()")'),
        {"transactional": False},
        [],
    ),
    "reindex concurrently in a transaction": (
        ways(f"{ADD};\nREINDEX TABLE CONCURRENTLY one;\nREINDEX (CONCURRENTLY, VERBOSE) TABLE one", UNDO),
        {"losses": COUNT},
        [
            ("outside-transaction-only", "REINDEX TABLE CONCURRENTLY one;"),
            ("outside-transaction-only", "REINDEX (CONCURRENTLY, VERBOSE) TABLE one"),
        ],
    ),
    "reindex": (
        ways("REINDEX TABLE one", 'op.execute("SELECT 1")'),
        {},
        [("require-concurrent-reindex", "REINDEX TABLE one")],
    ),
    "not written yet": (
        ways("-- Write the SQL here: left like this, the revision fails.", UNDO),
        {"losses": COUNT},
        [("missing-upgrade", "def upgrade() -> None:")],
    ),
    "no SQL": (
        ways("ALTER TABEL one", UNDO),
        {"losses": COUNT},
        [("syntax-error", "ALTER TABEL one")],
    ),
    "a connection is needed": (
        ways(ADD, UNDO).replace("op.execute", "op.get_bind().exec_driver_sql", 1),
        {"losses": COUNT},
        [("needs-database", "def upgrade() -> None:")],
    ),
    "calls when it is loaded": (
        "\nfrom neuraknot_db.revisions.backfill import Backfill as Fill\n"
        "\nclass Backfill(dict): ...\nLATER = sorted('ba')\nlater = lambda: sorted('')\n"
        "here = Fill(table='one', set='a = 1', where=str('true'))\nthere = Backfill(sql='')\n"
        + "\n\nclass Held:\n    kept = dict()\n\n\ndef helper(words=list('')):\n    print(words)\n"
        + ways(ADD, UNDO),
        {"losses": COUNT},
        [
            ("module-level-call", "LATER = sorted('ba')"),
            ("module-level-call", "here = Fill(table='one', set='a = 1', where=str('true'))"),
            ("module-level-call", "there = Backfill(sql='')"),
            ("module-level-call", "kept = dict()"),
            ("module-level-call", "def helper(words=list('')):"),
        ],
    ),
    "what the checksum does not count": (
        "\nimport os.path, re\nfrom pathlib import Path\nfrom sqlalchemy.dialects import postgresql\n"
        + ways(ADD, UNDO).replace('op.execute("""', 'open(__file__).close(); op.execute("""', 1),
        {"losses": COUNT},
        [
            ("uncounted-source", "import os.path, re"),
            ("uncounted-source", "from pathlib import Path"),
            ("uncounted-source", 'open(__file__).close(); op.execute("""'),
            ("uncounted-source", 'open(__file__).close(); op.execute("""'),
        ],
    ),
}


def test_a_backfill_may_change_every_row_but_what_it_sets_off_is_found(project: Project) -> None:
    trigger = (
        "INSERT INTO one (id) VALUES (7), (8);\n"
        "CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM two; RETURN NEW; END';\n"
        "CREATE TRIGGER gone BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION gone()"
    )
    project.revision("002", "001", ways(trigger, NEVER))
    project.revision("003", "002", FILL)
    assert project.findings("003") == [("whole-table-change", FILL.splitlines()[3])]


@pytest.mark.parametrize(("body", "variables", "expected"), CASES.values(), ids=CASES.keys())
def test_each_rule_finds_what_it_is_for_and_nothing_else(
    project: Project, body: str, variables: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    project.revision("002", "001", body, **variables)
    found = project.findings("002")
    # Some can't be run at all.
    assert [each for each in found if each[0] != "not-measured"] == expected


SLOW = {
    "CREATE INDEX j ON one (id)": "long-lock",
    "CREATE UNIQUE INDEX j ON one (id, a)": "long-lock",
    "REINDEX TABLE one": "long-lock",
    "ALTER TABLE one ADD UNIQUE (id, a)": "long-lock",
    "ALTER TABLE one ADD CHECK (id > 0)": "long-lock",
    "ALTER TABLE one ALTER id SET NOT NULL": "long-lock",
    "ALTER TABLE two ADD FOREIGN KEY (id) REFERENCES one (id)": "long-lock",
    "ALTER TABLE one ADD c int CHECK (c > 0)": "long-lock",
    "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID; ALTER TABLE one VALIDATE CONSTRAINT c": "long-lock",
    "ALTER TABLE one ADD r float DEFAULT random()": "table-rewrite",
    "ALTER TABLE one ALTER id TYPE text": "table-rewrite",
    "ALTER TABLE one SET UNLOGGED": "table-rewrite",
    "ALTER TABLE one DROP COLUMN a": "drop-in-use",
    "DROP TABLE one": "drop-in-use",
    "DROP EXTENSION citext CASCADE": "drop-in-use",
    # Quick, or of its own.
    "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID": "",
    "ALTER TABLE one ADD c varchar(9) DEFAULT 'x'": "",
    "CREATE TABLE mine (id bigint); INSERT INTO mine VALUES (1); CREATE INDEX ON mine (id)": "",
    "PERFORM count(*) FROM one WHERE id = 1": "",
    "ALTER TABLE one ADD c int; ALTER TABLE one DROP c": "",
}
FORMS = {
    "DO": "DO $do$BEGIN {0}; END$do$",
    "EXECUTE": "DO $do$BEGIN EXECUTE $x${0}$x$; END$do$",
    "SELECT": "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $do$BEGIN {0}; END$do$;\nSELECT f()",
    "CALL": "CREATE PROCEDURE f() LANGUAGE plpgsql AS $do$BEGIN {0}; END$do$;\nCALL f()",
}


ONE_OF_EACH = ("CREATE INDEX j ON one (id)", "ALTER TABLE one ALTER id TYPE text", "DROP TABLE one")


@pytest.mark.parametrize(
    ("sql", "form"),
    [
        *(pytest.param(sql, FORMS["DO"], id=f"DO {sql}") for sql in SLOW),
        *(
            pytest.param(sql, FORMS[form], id=f"{form} {sql}", marks=pytest.mark.slow)
            for sql in ONE_OF_EACH
            for form in ("EXECUTE", "SELECT", "CALL")
        ),
    ],
)
def test_what_squawk_can_not_look_into_is_judged_by_what_it_did(project: Project, sql: str, form: str) -> None:
    code = SLOW[sql]
    project.revision("002", "001", ways("CREATE EXTENSION citext; ALTER TABLE two ADD b citext", NEVER))
    project.revision("003", "002", ways(form.format(sql), NEVER))
    sent = form.format(sql).splitlines()[-1]
    found = project.findings("003")
    if "REFERENCES" in sql:  # one lock for each table
        assert ("several-tables", sent) == found.pop()
    assert found == ([(code, sent)] if code else [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "sql"),
    [
        *(("", sql) for sql, code in SLOW.items() if code),
        # Where in its text it stands is of one rule for all.
        *(
            (before, sql)
            for before in ("SELECT 1;\n", 'SELECT 1""")\n    op.execute(f"""{"SELECT 2"};\n')
            for sql in ONE_OF_EACH
        ),
    ],
)
def test_what_squawk_finds_is_told_once(project: Project, before: str, sql: str) -> None:
    project.revision("002", "001", ways("CREATE EXTENSION citext; ALTER TABLE two ADD b citext", NEVER))
    project.revision("003", "002", ways(before + sql.replace(" ADD", "\n    ADD"), NEVER))
    found = [code for code, _ in project.findings("003") if not code.startswith("prefer")]
    assert found
    ours = {"long-lock", "table-rewrite", "drop-in-use"}.intersection(found)
    assert not ours or found == [*ours]


NOTES = """CREATE TABLE notes (
    id UUID PRIMARY KEY DEFAULT uuid_generate_v4(), user_id UUID NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    {more}title VARCHAR(255) NOT NULL, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX idx_notes_user_id ON notes(user_id);"""
AGENT = "agent_id UUID REFERENCES ai_agents(id), "
ROWS = {"rows of notes": "SELECT count(*) FROM notes"}
ADVICE: dict[str, list[tuple[str, str, dict[str, Any]]]] = {
    "a new table": [(NOTES.format(more=""), "DROP TABLE notes", {"losses": ROWS})],
    "a new table with two references": [
        (NOTES.format(more=AGENT), "DROP INDEX idx_notes_user_id; DROP TABLE IF EXISTS notes", {"losses": ROWS})
    ],
    "a new column": [
        (
            "ALTER TABLE users ADD COLUMN nickname VARCHAR(20)",
            "ALTER TABLE users DROP COLUMN nickname",
            {"losses": {"nicknames": "SELECT count(*) FROM users WHERE nickname IS NOT NULL"}},
        )
    ],
    "a new column with a constant default": [
        (
            "ALTER TABLE users ADD COLUMN level INTEGER NOT NULL DEFAULT 1, ADD COLUMN seen_at TIMESTAMP",
            "ALTER TABLE users DROP COLUMN level, DROP COLUMN seen_at",
            {"losses": {"levels": "SELECT count(*) FROM users WHERE level <> 1"}},
        )
    ],
    "what undoing drops": [
        (
            "CREATE TYPE mood AS ENUM ('a'); CREATE DOMAIN d AS text; CREATE SEQUENCE s;\n"
            "CREATE VIEW v AS SELECT 1 AS x; ALTER TABLE users ALTER avatar_url SET DEFAULT ''",
            "ALTER TABLE users ALTER avatar_url DROP DEFAULT; DROP VIEW v; DROP SEQUENCE s; DROP DOMAIN d;"
            " DROP TYPE mood",
            {},
        )
    ],
    "a check": [
        (
            "ALTER TABLE users ADD CONSTRAINT c CHECK (length(email) > 0) NOT VALID",
            "ALTER TABLE users DROP CONSTRAINT c",
            {},
        ),
        ("ALTER TABLE users VALIDATE CONSTRAINT c", "", {}),
    ],
    "a foreign key": [
        (
            'ALTER TABLE "ai_agents" ADD CONSTRAINT k FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID',
            "ALTER TABLE public.ai_agents DROP CONSTRAINT k",
            {},
        ),
        ("ALTER TABLE ai_agents VALIDATE CONSTRAINT k, VALIDATE CONSTRAINT chk_provider", "", {}),
    ],
    "an index": [
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON users (display_name)",
            "DROP INDEX CONCURRENTLY IF EXISTS i",
            {"transactional": False},
        )
    ],
}


# What a revision makes and drops itself, with what is found all the same.
HELPER = "CREATE FUNCTION help(a int, b text DEFAULT 'x,y') RETURNS int LANGUAGE sql AS 'SELECT 1'"
OWN: dict[str, list[str]] = {
    f"{HELPER};\nSELECT help(1);\nDROP FUNCTION help": [],
    f"{HELPER};\nDROP FUNCTION IF EXISTS public.help(int, text) CASCADE": [],
    f"{HELPER}; /* ü */ DROP ROUTINE help(int, text); DROP FUNCTION fill_a()": ["ban-drop-function"],
    'CREATE PROCEDURE "Help"() LANGUAGE sql AS \'SELECT 1\';\nDROP PROCEDURE "Help"()': [],
    "CREATE OR REPLACE FUNCTION fill_a() RETURNS int LANGUAGE sql AS 'SELECT 2';\nDROP FUNCTION fill_a()": [
        "ban-drop-function"
    ],
    "CREATE FUNCTION fill_a(a int) RETURNS int LANGUAGE sql AS 'SELECT 1';\nDROP FUNCTION fill_a()": [
        "ban-drop-function"
    ],
    "DROP FUNCTION fill_a();\nCREATE FUNCTION fill_a() RETURNS int LANGUAGE sql AS 'SELECT 2'": ["ban-drop-function"],
    "CREATE TABLE x (a bigint);\nALTER TABLE public.x ADD b bigint NOT NULL, DROP a;\nDROP TABLE x": [],
    "CREATE TEMP TABLE x (a bigint);\nALTER TABLE x RENAME a TO b;\nTRUNCATE x CASCADE;\nDROP TABLE x": [],
    "CREATE TABLE x (a bigint);\nDROP TABLE x, two": ["ban-drop-table"],
    "CREATE TABLE IF NOT EXISTS two (id bigint);\nDROP TABLE two": ["ban-drop-table"],
    "ALTER TABLE one ADD c text, ADD d text;\nALTER TABLE one DROP COLUMN c, DROP d": [],
    "ALTER TABLE one ADD c text;\nALTER TABLE one DROP COLUMN c, DROP a": ["ban-drop-column"],
    "ALTER TABLE one ADD c text;\nALTER TABLE two DROP COLUMN id, ADD c text": ["ban-drop-column"],
    "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID;\nALTER TABLE one DROP CONSTRAINT c": [],
    "CREATE TYPE mood AS ENUM ('good');\nDROP TYPE mood;\nCREATE SEQUENCE s;\nDROP SEQUENCE s": [],
    "CREATE VIEW w AS SELECT 1 AS a;\nDROP VIEW w;\nDROP MATERIALIZED VIEW v": ["ban-drop-view"],
    "CREATE SCHEMA far;\nCREATE TABLE far.one (a bigint);\nDROP TABLE far.one;\nDROP SCHEMA far": [],
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("sql", OWN)
def test_what_a_revision_has_made_it_may_drop(project: Project, sql: str, known: bool) -> None:
    more = " op.execute(\"CREATE FUNCTION fill_a() RETURNS int LANGUAGE sql AS 'SELECT 1'\")\n\n\ndef downgrade"
    project.revision("001", None, BASE.replace("\n\ndef downgrade", f"   {more}"))
    project.revision("002", "001", ways(sql, NEVER))
    if known:
        schema = Schema(
            {"one": Table("one"), "two": Table("two")}, {"fill_a()": Function("fill_a()", "integer", "sql", "")}
        )
        (project.root / "alembic" / "snapshots").mkdir(exist_ok=True)
        path = snapshots.path_of(project.script(), "001")
        path.write_text(snapshots.render("001", schema))
    found = [code for code, _ in project.findings("002") if code.startswith(("ban-", "renaming-", "adding-"))]
    assert found == OWN[sql]


def test_a_replaced_function_is_its_own_if_the_snapshot_knows_none(project: Project) -> None:
    project.revision("002", "001", ways(f"{HELPER.replace('CREATE', 'CREATE OR REPLACE')};\nDROP FUNCTION help", NEVER))
    assert [code for code, _ in project.findings("002")] == ["ban-drop-function"]
    snapshots.path_of(project.script(), "001").write_text(snapshots.render("001", Schema()))
    assert project.findings("002") == []


@pytest.mark.parametrize("advice", ADVICE.values(), ids=ADVICE.keys())
def test_who_follows_the_template_and_the_schemas_style_has_no_finding(
    project: Project, advice: list[tuple[str, str, dict[str, Any]]]
) -> None:
    shutil.rmtree(project.root / "alembic")
    shutil.copytree(PROJECT / "alembic", project.root / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
    project.exceptions((ROOT / "alembic" / "lint.toml").read_text())
    for number, (up, down, variables) in enumerate(advice, start=5):
        undo = f'op.execute("{down}")' if down else "pass"
        project.revision(f"{number:03d}", f"{number - 1:03d}", ways(up, undo), **variables)
    assert project.findings("004:") == []


@pytest.mark.parametrize("undo", ["pass", 'op.execute("-- nothing")'])
@pytest.mark.parametrize(
    ("upgrade", "nothing_to_undo"),
    [
        ("ALTER TABLE one VALIDATE CONSTRAINT c", True),
        ("ALTER TABLE one VALIDATE CONSTRAINT c, ADD b text", False),
        ("ALTER TABLE one VALIDATE CONSTRAINT c; ALTER TABLE one ADD b text", False),
    ],
)
def test_only_a_validated_constraint_leaves_nothing_to_undo(
    project: Project, upgrade: str, nothing_to_undo: bool, undo: str
) -> None:
    add = "ALTER TABLE one ADD CONSTRAINT c CHECK (id > 0) NOT VALID"
    project.revision("002", "001", ways(add, NEVER))
    project.revision("003", "002", ways(upgrade, undo))
    found = [code for code, _ in project.findings("003")]
    assert ("missing-downgrade" not in found) is (nothing_to_undo and undo == "pass")


REFER = "ALTER TABLE two ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES one (id) NOT VALID"


@pytest.mark.parametrize(
    ("up", "tables"),
    [
        (
            f"{REFER}; ALTER TABLE two ADD c int",
            1,
        ),
        ("ALTER TABLE two ADD c int; ALTER TABLE one ADD c int", 2),
        (
            f"{REFER}; ALTER TABLE one ADD c int",
            2,
        ),
        ("CREATE TABLE x (id bigint REFERENCES one (id), w bigint REFERENCES other (id))", 1),
        ("CREATE TABLE x (id bigint REFERENCES one (id)); ALTER TABLE other ADD c int", 2),
        ("DROP TABLE IF EXISTS one, other", 2),
        ("DROP TABLE one CASCADE", 1),
        ("DO $$BEGIN ALTER TABLE one ADD c int; ALTER TABLE two ADD c int; END$$", 2),
    ],
)
def test_what_one_statement_locks_with_its_table_is_no_second_table(project: Project, up: str, tables: int) -> None:
    project.revision("002", "001", ways("CREATE TABLE other (id bigint PRIMARY KEY REFERENCES one (id))", NEVER))
    project.revision("003", "002", ways(up, NEVER))
    script = project.measured()
    found = [each.message for each in lint(script, select(script, "003", "lint")) if each.code == "several-tables"]
    assert [message.split()[2] for message in found] == (["2"] if tables > 1 else [])


@pytest.mark.parametrize(
    ("sql", "what", "line"),
    [
        ("SELECT 1;\nCOPY public.one (id, a) FROM stdin;\n1\tx\n\\.\n", "COPY ... FROM STDIN", "COPY"),
        ("COPY one FROM STDIN WITH (FORMAT csv)", "COPY ... FROM STDIN", "COPY"),
        ("copy (SELECT 1) TO stdout", "COPY ... TO STDOUT", "copy"),
        ("\\connect other\nSELECT 1;", "\\connect", "\\connect"),
        ("\\restrict x\n\nSET LOCAL work_mem = '9MB';", "\\restrict", "\\restrict"),
        ("SELECT 1;\n\\i other.sql", "\\i", "\\i"),
        ("SELECT 1 \\gexec", "\\gexec", "SELECT"),
        ("\restrict x\nSELECT 1", "\\restrict", "estrict"),
        ("INSERT INTO one VALUES (1, '\\.'), (2, E'\\n') -- \\connect", "", ""),
        ("COPY one TO '/dev/null'", "", ""),
        ("INSERT INTO one VALUES (1, $$from stdin$$)", "", ""),
    ],
)
def test_what_only_psql_understands_is_named_as_such(project: Project, sql: str, what: str, line: str) -> None:
    project.revision("002", "001", ways(sql, NEVER).replace('"""', 'r"""', 1))
    script = project.script()
    found = [each for each in lint(script, select(script, "002", "lint")) if each.code != "not-measured"]
    assert [(each.code, each.message) for each in found] == (
        [("psql-only", f"upgrade() says {what}, which is psql's.")] if what else []
    )
    for each in found:
        assert each.path.read_text().splitlines()[each.line - 1].startswith(line)
        assert "pg_dump --inserts" in each.help


def reset_findings(project: Project) -> list[tuple[str, str]]:
    """For the revisions up to the newest: the message of fails-in-reset, and the line that it points to."""
    script = project.measured()
    found = [each for each in lint(script, select(script, None, "lint")) if each.code == "fails-in-reset"]
    return [(each.message, each.path.read_text().splitlines()[each.line - 1].strip()) for each in found]


MOOD = "CREATE TYPE mood AS ENUM ('a')"
ADDED = "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'b' AFTER 'a'"


@pytest.mark.parametrize(
    ("use", "value"),
    [
        ("CREATE TABLE m (x mood DEFAULT 'b')", "b"),
        ("CREATE TABLE m (x mood); INSERT INTO m VALUES ('a'), ('b')", "b"),
        ("CREATE TABLE m (x mood CHECK (x <> 'b'))", "b"),
        ("CREATE TABLE m (x mood); CREATE INDEX ON m (x) WHERE x = 'b'", "b"),
        ("CREATE FUNCTION f() RETURNS mood LANGUAGE sql AS $$SELECT 'b'::mood$$", "b"),
        ("DO $$BEGIN EXECUTE 'CREATE TABLE m (x mood DEFAULT ''b'')'; END$$", "b"),
        ("CREATE TABLE m (x mood[] DEFAULT '{a, b}')", "b"),
        ("ALTER TYPE mood RENAME VALUE 'b' TO 'two words'; CREATE TABLE m (x mood DEFAULT 'two words')", "two words"),
        # None of these is a use.
        ("CREATE TABLE m (x mood DEFAULT 'a')", ""),
        ("ALTER TYPE mood ADD VALUE 'c' BEFORE 'b'", ""),
        ("COMMENT ON TYPE mood IS 'b'", ""),
        ("CREATE TABLE m (b int); SELECT b, 'ab' FROM m", ""),
        ("ALTER TABLE one ADD value text DEFAULT 'x'; SELECT 'x'; ALTER TABLE one RENAME value TO v", ""),
    ],
)
@pytest.mark.parametrize("add", [ADDED, f"DO $$BEGIN EXECUTE '{ADDED.replace(chr(39), chr(39) * 2)}'; END$$"])
def test_a_use_of_a_value_that_an_earlier_revision_adds_is_found(
    project: Project, add: str, use: str, value: str
) -> None:
    project.revision("002", "001", ways(MOOD, NEVER))
    project.revision("003", "002", ways(add, NEVER))
    path = project.revision("004", "003", ways(use, NEVER))
    lint_ = lint(script := project.script(), select(script, "004", "lint"))  # without a server
    told = [each.message for each in lint_ if each.code == "fails-in-reset"]
    message = f"upgrade() mentions '{value}', which revision 003 adds to an enum: a reset can't use it yet."
    if value == "two words":
        message = message.replace("003", "004").replace("revision 004", "it").replace("a reset", "its transaction")
    assert told == ([message] if value else []), path.read_text()


@pytest.mark.parametrize("before", ["003", "004"])
def test_what_a_reset_runs_in_transactions_of_their_own_may_use_a_new_value(project: Project, before: str) -> None:
    project.revision("002", "001", ways(MOOD, NEVER))
    concurrently = ways("CREATE INDEX CONCURRENTLY IF NOT EXISTS j ON one (id)", NEVER)
    other = {"003": "004", "004": "003"}[before]
    project.revision(before, f"{int(before) - 1:03d}", concurrently, transactional=False)
    project.revision(other, f"{int(other) - 1:03d}", ways(ADDED, NEVER))
    project.revision("005", "004", ways("CREATE TABLE m (x mood DEFAULT 'b')", NEVER))
    assert reset_findings(project) == []


def test_a_value_that_is_added_and_used_in_one_revision_is_found(project: Project) -> None:
    use = "CREATE TABLE m (x mood DEFAULT 'b')"
    project.revision("002", "001", ways(f"{MOOD};\n{ADDED};\n{use};", NEVER))
    message = "upgrade() mentions 'b', which it adds to an enum: its transaction can't use it yet."
    assert reset_findings(project) == [(message, f"{use};")]


DEFERRED = (
    "CREATE TABLE parent (id int PRIMARY KEY);"
    "CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
    "INSERT INTO child VALUES (1); INSERT INTO parent VALUES (1)"
)


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        (ways(DEFERRED, NEVER), ways("ALTER TABLE child ADD x int", NEVER), "it has pending trigger events."),
        (ways(DEFERRED, NEVER), ways("CREATE INDEX ON child (id)", NEVER), "it has pending trigger events."),
        (
            ways("CREATE TABLE made (at timestamp UNIQUE); INSERT INTO made VALUES (now())", NEVER),
            ways("INSERT INTO made VALUES (now())", NEVER),
            "violates unique constraint",
        ),
        (
            ways("SELECT 1", NEVER),
            "\ndef upgrade() -> None:\n    with op.get_context().autocommit_block():\n        op.execute('SELECT 2')\n"
            f"\n\ndef downgrade() -> None:\n    {NEVER}\n",
            "it leaves its transaction (autocommit_block).",
        ),
    ],
)
def test_what_needs_the_commit_of_an_earlier_revision_is_found(
    project: Project, first: str, then: str, words: str
) -> None:
    project.revision("002", "001", first)
    project.revision("003", "002", then)
    ((message, line),) = reset_findings(project)
    assert line == "def upgrade() -> None:"
    assert message.startswith("A reset fails here: PostgreSQL 18: ")
    assert words in message


def test_what_fails_alone_is_not_said_to_fail_in_a_reset(project: Project) -> None:
    project.revision("002", "001", ways("SELECT 1/0", NEVER))
    assert reset_findings(project) == []


def test_a_revision_that_was_not_measured_is_found(project: Project) -> None:
    project.measured()
    path = project.revision("002", "001", ways(ADD, UNDO), losses=COUNT)

    def told() -> str:
        script = project.script()
        (finding,) = lint(script, select(script, "002", "lint"))
        assert (finding.code, "neuraknot-db snapshot" in finding.help) == ("not-measured", True)
        return finding.message

    assert told() == "What this revision locks is not known: it was not measured."
    project.measured()
    assert lint(project.script(), select(project.script(), "002", "lint")) == []
    path.write_text(path.read_text().replace("ADD COLUMN b text", "ADD COLUMN b varchar"))
    assert told() == "What this revision locks is not known: it was edited after it was measured."


@pytest.mark.slow
def test_a_revision_that_fails_on_the_sample_rows_is_found(project: Project) -> None:
    project.revision("002", "001", ways(CHECK.replace("> 0", "> 5"), 'op.execute("ALTER TABLE one DROP CONSTRAINT c")'))
    script = project.measured()
    found = {each.code: each.message for each in lint(script, select(script, "002", "lint"))}
    assert found["not-measured"].startswith("upgrade() fails on the sample rows: CheckViolation: check constraint")


@pytest.mark.parametrize(
    ("before", "late"),
    [
        ("pass", False),
        ("bind = op.get_bind()", False),
        ("op.execute('SELECT 1')", True),
        ("op.add_column('one', None)", True),
        ("op.get_bind().exec_driver_sql('SELECT 1')", True),
    ],
)
def test_an_autocommit_block_behind_a_statement_is_found(project: Project, before: str, late: bool) -> None:
    body = f"    {before}\n    with op.get_context().autocommit_block():\n        op.execute('SELECT 2')\n"
    project.revision("002", "001", f"\ndef upgrade() -> None:\n{body}\n\ndef downgrade() -> None:\n    {UNDO}\n")
    found = ("late-autocommit-block", "with op.get_context().autocommit_block():")
    assert (found in project.findings("002")) is late


@pytest.mark.parametrize(
    ("id_", "name", "message"),
    [
        ("003", "", "Revision 003 follows 001: its id should be 002."),
        ("2", "", "Revision 2 follows 001: its id should be 002."),
        ("a1b2", "", "Revision a1b2 follows 001: its id should be 002."),
        ("002", "add_b.py", "The file of revision 002 is not named 002_...: files would not stand in their order."),
    ],
)
def test_ids_follow_each_other(project: Project, id_: str, name: str, message: str) -> None:
    project.revision(id_, "001", ways(ADD, UNDO), name=name, losses=COUNT)
    script = project.measured()
    (finding,) = lint(script, select(script, None, "lint"))
    assert (finding.code, finding.message) == ("id-out-of-sequence", message)


def test_computed_sql_is_found_at_its_call(project: Project) -> None:
    call = 'op.execute(f"ALTER TABLE {name} ADD b text")'
    upgrade = f'\ndef upgrade() -> None:\n    for name in ("one", "two"):\n        {call}\n'
    project.revision("002", "001", upgrade + f"\ndef downgrade() -> None:\n    {UNDO}\n", losses=COUNT)
    assert project.findings("002") == [("several-tables", call)]


def test_an_exception_holds_for_its_revision_and_an_idle_one_is_a_finding(project: Project) -> None:
    project.revision("002", "001", ways(ADD, "pass"))
    project.exceptions(QUIET + '[revisions.002]\nmissing-downgrade = "by design"\nban-drop-table = "no cause"\n')
    assert project.findings() == [("unused-exception", 'ban-drop-table = "no cause"')]


def test_a_rule_of_ours_can_be_excepted_everywhere(project: Project) -> None:
    project.revision("002", "001", ways(ADD, "pass"))
    project.exceptions(QUIET.replace("[always]", "[always]\nmissing-downgrade = 'none here'"))
    assert project.findings() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[always]\nx = ''", "gives no reason for x"),
        ("[always]\nx = 1", "gives no reason for x"),
        ("[sometimes]\nx = 'y'", "has a table sometimes"),
        ("[revisions]\n001 = 'y'", "is not a table of rules"),
        ("[always", "can't be read"),
        ("[downgrade]\nuncounted-loss = 'y'", r"has uncounted-loss under \[downgrade\]"),
    ],
)
def test_exceptions_without_a_reason_are_wrong_usage(project: Project, text: str, words: str) -> None:
    project.exceptions(text)
    with pytest.raises(UsageError, match=words):
        project.findings()


def test_ranges_are_alembics(project: Project) -> None:
    for number in range(2, 5):
        project.revision(f"{number:03d}", f"{number - 1:03d}", ways(ADD, UNDO), losses=COUNT)
    script = project.script()
    picked = {
        text: [each.revision for each in select(script, text, "lint")]
        for text in (None, "002:004", "002:", ":002", "003")
    }
    assert picked == {
        None: ["001", "002", "003", "004"],
        "002:004": ["003", "004"],
        "002:": ["003", "004"],
        ":002": ["001", "002"],
        "003": ["003"],
    }


def test_a_finding_is_a_place_for_editors_and_its_help_fits_the_width(project: Project) -> None:
    path = project.revision("002", "001", ways(ADD, UNDO))
    script = project.measured()
    (finding,) = lint(script, select(script, "002", "lint"))
    first, *below = rendered(finding, 60).splitlines()
    assert re.match(rf"\S*{path.name}:{finding.line}: uncounted-loss: \w", first)
    assert all(line.startswith("    ") and len(line) <= 60 for line in below)


@pytest.mark.parametrize("width", range(24, 60, 5))
def test_what_can_be_pasted_is_not_broken_at_hyphens(tmp_path: Path, width: int) -> None:
    help_ = "As a whole: neuraknot-db reset --no-upgrade && alembic upgrade head"
    _, *below = rendered(Finding(tmp_path, 1, "code", "message", help_), width).splitlines()
    assert " ".join(below).split() == help_.split()


def test_without_squawk_it_says_what_is_missing(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="squawk is not installed"):
        project.findings()


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
        # Without any database in the environment: none is needed.
        return subprocess.run(
            [BIN / "neuraknot-db", *arguments], cwd=cwd, env={}, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.mark.slow
def test_findings_end_with_exit_code_3_and_an_unknown_revision_with_2(
    project: Project, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    project.revision("002", "001", ways(ADD, UNDO))
    project.measured()
    done = command("lint", cwd=project.root)
    assert (done.returncode, done.stderr) == (3, "Error: 1 finding in 2 revisions.\n")
    assert done.stdout.startswith("alembic/versions/002_test.py:")
    done = command("lint", "009", cwd=project.root)
    assert done.returncode == 2
    assert "There is no revision 009." in done.stderr


ASSUMPTIONS = (
    # What is sent to a table of its own, what is asked for, and whether the rule finds it.
    ("ALTER TABLE {} ALTER a SET NOT NULL", "", True),
    ("ALTER TABLE {} ALTER COLUMN a SET NOT NULL", "SELECT id FROM public.{} WHERE a IS NULL", False),
    ("ALTER TABLE {} ALTER COLUMN a SET NOT NULL", "SELECT id FROM other", True),
    ("UPDATE {0} SET a = '' WHERE a IS NULL; ALTER TABLE {0} ALTER COLUMN a SET NOT NULL", "", False),
    ("ALTER TABLE {0} ADD CONSTRAINT c_{0} CHECK (a <> '') NOT VALID", "", False),
    ("ALTER TABLE {0} ADD CONSTRAINT c_{0} CHECK (a <> '')", "", True),
    ("DO $$BEGIN ALTER TABLE {} ADD CHECK (a IS NOT NULL); END$$", "", True),
    ("ALTER TABLE {} ADD UNIQUE (id, a)", "", True),
    ("ALTER TABLE {} ADD PRIMARY KEY (id)", "", True),
    ("CREATE UNIQUE INDEX ON {} (lower(a)) WHERE a <> ''", "", True),
    ("CREATE INDEX ON {} (id) WHERE a IS NOT NULL", "", False),
    ("ALTER TABLE {} ADD EXCLUDE (id WITH =)", "", True),
    ("ALTER TABLE {} ADD FOREIGN KEY (id) REFERENCES other (id)", "", True),
    ("ALTER TABLE {} ADD FOREIGN KEY (id) REFERENCES other (id) NOT VALID", "", False),
    ("ALTER TABLE {} ADD COLUMN c text NOT NULL", "", True),
    ("ALTER TABLE {} ADD COLUMN c text NOT NULL DEFAULT random()::text", "", False),
    ("ALTER TABLE {} ADD c numeric(9, 2) DEFAULT 0 CHECK (c IN (0, 1)), ADD d bigserial NOT NULL UNIQUE", "", False),
    ("ALTER TABLE {0} ADD COLUMN c bigint; ALTER TABLE {0} ADD FOREIGN KEY (c) REFERENCES other (id)", "", False),
    ("ALTER TABLE {0} ADD COLUMN c bigint; ALTER TABLE {0} ADD UNIQUE (a)", "", True),
    ("ALTER TABLE {} ALTER id TYPE integer", "", True),
    ("ALTER TABLE {} ALTER id TYPE numeric", "", False),
    ("ALTER TABLE {} ALTER id TYPE text USING id::text", "", False),
    ("ALTER TABLE {} ALTER a TYPE varchar(3)", "", True),
    ("ALTER TABLE {} ALTER a TYPE varchar(3) USING left(a, 3)", "", False),
    ("ALTER TABLE {} ALTER a TYPE bigint USING length(a), ALTER id TYPE varchar", "", False),
    ("ALTER TABLE {} ALTER a TYPE bigint USING a::bigint", "", True),
    ("CREATE TABLE new_{0} (id bigint); ALTER TABLE new_{0} ALTER id SET NOT NULL", "", False),
    ("UPDATE {} SET a = 'unique, not null' WHERE id > 1", "", False),
    ('CREATE TABLE "顧客{0}" ("番号" bigint)', "", False),
    ('ALTER TABLE "顧客t28" ADD PRIMARY KEY ("番号")', "", True),
    ('ALTER TABLE "顧客t28" ADD UNIQUE ("番号")', 'SELECT FROM "顧客t28"', False),
    ("CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)", "", False),
    ("ALTER TABLE p ADD CHECK (id > 0)", "", True),
    ("ALTER TABLE p ADD CHECK (id > -1)", "SELECT id FROM P WHERE id < 0", False),
)


@pytest.mark.slow
def test_what_fails_on_rows_is_asked_beforehand(project: Project) -> None:
    project.exceptions("")
    tables = [f"t{number}" for number in range(len(ASSUMPTIONS))]
    base = "".join(f"CREATE TABLE {table} (id bigint, a text);" for table in tables)
    project.revision("002", "001", ways(f"{base} CREATE TABLE other (id bigint PRIMARY KEY)", NEVER))
    for number, (table, (sql, asked, _)) in enumerate(zip(tables, ASSUMPTIONS, strict=True), start=3):
        expects = {"it fits": asked.format(table)} if asked else {}
        project.revision(f"{number:03d}", f"{number - 1:03d}", ways(sql.format(table), NEVER), expects=expects)
    script = project.measured()
    found = {
        each.path.name[:3]: each
        for each in lint(script, select(script, None, "lint"))
        if each.code == "unasked-assumption"
    }
    wanted = {f"{number:03d}" for number, (*_, wrong) in enumerate(ASSUMPTIONS, start=3) if wrong}
    assert {number: ASSUMPTIONS[int(number) - 3] for number in wanted.symmetric_difference(found)} == {}
    assert found["003"].message == "upgrade() fails where a row of t0 does not fit, and nothing asks beforehand."
