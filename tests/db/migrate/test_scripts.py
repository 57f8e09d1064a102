"""`--sql`: the script leaves what the run does, and is as careful as the run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.db.cli.test_bad_input import said
from tests.db.conftest import Database, Project
from tests.db.running import held, log_of

KINDS = r"""
import datetime, decimal, uuid
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

def upgrade():
    kind = sa.Enum("a%b", "c\td", name="kind")
    op.create_table(
        "made",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, server_default="5%\t:x\\y", comment="100%\tsure"),
        sa.Column("json", pg.JSONB), sa.Column("array", pg.ARRAY(sa.Text)), sa.Column("bytes", sa.LargeBinary),
        sa.Column("at", sa.DateTime(timezone=True)), sa.Column("exact", sa.Numeric), sa.Column("float", sa.Float),
        sa.Column("uuid", pg.UUID(as_uuid=True)), sa.Column("kind", kind), sa.Column("span", sa.Interval),
        sa.Column("spans", pg.ARRAY(sa.Interval)), sa.Column("days", pg.ARRAY(sa.Date)),
        sa.Column("kinds", pg.ARRAY(kind)),
        sa.Column("grid", pg.ARRAY(sa.Integer, dimensions=2)), sa.Column("floats", pg.ARRAY(sa.Float)),
        sa.CheckConstraint("text NOT LIKE '%%z'", name="no%z"), comment="50%\there",
    )
    made = sa.table("made", sa.column("id", sa.Integer), sa.column("text", sa.Text), sa.column("json", pg.JSONB),
                    sa.column("array", pg.ARRAY(sa.Text)), sa.column("bytes", sa.LargeBinary),
                    sa.column("at", sa.DateTime(timezone=True)), sa.column("exact", sa.Numeric),
                    sa.column("float", sa.Float), sa.column("uuid", pg.UUID(as_uuid=True)), sa.column("kind", kind),
                    sa.column("span", sa.Interval), sa.column("spans", pg.ARRAY(sa.Interval)),
                    sa.column("days", pg.ARRAY(sa.Date)), sa.column("kinds", pg.ARRAY(kind)),
                    sa.column("grid", pg.ARRAY(sa.Integer, dimensions=2)), sa.column("floats", pg.ARRAY(sa.Float)))
    zone = datetime.timezone(datetime.timedelta(hours=9))
    op.bulk_insert(made, [
        {"id": 1, "text": "tab\there 100% \\n :x '", "json": {"k": "50%\t\n\\ :x"}, "array": ["a%", "b\tc", "'"],
         "bytes": b"\x00\xff'\\ %", "at": datetime.datetime(2026, 1, 2, tzinfo=zone), "exact": decimal.Decimal("1.50"),
         "float": 1e300, "uuid": uuid.UUID(int=5), "kind": "a%b", "span": datetime.timedelta(days=1, seconds=2),
         "spans": [datetime.timedelta(days=1), None], "days": [datetime.date(2026, 1, 2)], "kinds": ["a%b", "c\td"],
         "grid": [[1, 2], [3, 4]], "floats": [1.5, float("nan")]},
        {"id": 2, "text": None, "json": None, "array": None, "bytes": None, "at": None,
         "exact": decimal.Decimal("NaN"), "float": float("inf"), "uuid": None, "kind": "c\td", "span": None,
         "spans": [], "days": [], "kinds": None, "grid": None, "floats": []},
    ])
    op.bulk_insert(made, [{"id": 3, "text": "m%"}], multiinsert=False)
    op.execute(made.update().where(made.c.text.like("m%%")).values(text="a:b%c\\d"))
    op.execute(made.insert().values([{"id": 4, "text": "x\ty%"}, {"id": 5, "text": "%(text)s"}]))
    op.execute(made.delete().where(made.c.id % 7 == 5))
    op.execute(made.insert().values(id=6, json=sa.null()))
    op.execute(made.insert().from_select(["id", "text"], sa.select(sa.literal(7), sa.literal("z%\t"))))
    op.execute(sa.text("INSERT INTO made (id, text) VALUES (8, 'a\tb 5% \\:x') -- the end"))
    op.execute(sa.text("INSERT INTO made (id, text) VALUES (9, :it)").bindparams(it="p%\tq"))
    op.execute("INSERT INTO made (id, text) VALUES (10, 'raw\t% %% :x \\') -- the end")
    op.get_bind().execute(made.insert().values(id=11, text="bound %\t"))
    op.create_index("i%x", "made", [sa.text("(text || '5%\t')")])
    op.alter_column("made", "text", server_default="9%\t")
    op.create_table_comment("users", "users 5%\t")
    op.add_column("made", sa.Column("both", sa.Text, sa.Computed("text || '5%\t'", persisted=True)))
    op.create_check_constraint("ck%2", "made", sa.column("text") != sa.literal_column("'7%\t'"))
"""
SHAPE = """
SELECT obj_description('made'::regclass), col_description('made'::regclass, 2), obj_description('users'::regclass),
       pg_get_indexdef('"i%x"'::regclass),
       (SELECT array_agg(pg_get_expr(adbin, adrelid) ORDER BY adnum) FROM pg_attrdef WHERE adrelid = 'made'::regclass),
       (SELECT array_agg(pg_get_constraintdef(oid) ORDER BY conname)
          FROM pg_constraint WHERE conrelid = 'made'::regclass AND contype <> 'n')
"""


def with_python(project: Project, text: str) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.write_text(path.read_text().replace("def upgrade() -> None:\n    op.execute('SELECT 1')\n", text))


def psql(database: Database, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["psql", "-X", "-q", database.url], input=script, text=True, capture_output=True, check=False)


def test_a_script_leaves_the_same_rows_for_every_kind_of_operation(
    new_database: Callable[..., Database], project: Project
) -> None:
    live, scripted = new_database(), new_database()
    with_python(project, KINDS)
    done = live.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    printed = live.alembic("upgrade", "head", "--sql", cwd=project.root)
    assert printed.code == 0, printed.err
    ran = psql(scripted, printed.out)
    assert ran.returncode == 0, ran.stderr
    rows = "SELECT to_json(made)::text FROM made ORDER BY id"
    assert len(live.run(rows)) == 10
    assert scripted.run(rows) == live.run(rows)
    assert scripted.run(SHAPE) == live.run(SHAPE)


def test_values_that_are_not_in_the_statement_are_not_left_out_in_silence(database: Database, project: Project) -> None:
    body = "    op.get_bind().execute(sa.text('INSERT INTO t VALUES (1)'), {'other': 2})\n"
    with_python(project, f"import sqlalchemy as sa\ndef upgrade():\n{body}")
    done = database.alembic("upgrade", "004:005", "--sql", cwd=project.root)
    said(done, 7, "can't be printed", "op.execute(table.insert().values(...))", "the script is not whole", "line 11")


VARIABLES = r"""
CREATE TABLE made AS SELECT ARRAY[10, 20, 30] AS a, 2 AS "PORT", 2 AS "port", 3 AS neuraknot_db_session;
UPDATE made SET a = a[1:"PORT"] || a[:PORT] || a[1:neuraknot_db_session] || a['1':'2'] || a[1:2] || a[2 :é]
  FROM (SELECT 3 AS é) s /* :PORT */ WHERE ':PORT :''PORT'' :{?PORT}' = $$:PORT :'PORT' :{?PORT}$$::text -- :PORT
"""


def test_psqls_variables_are_not_put_into_a_script(new_database: Callable[..., Database], project: Project) -> None:
    live, scripted = new_database(), new_database()
    project.add("005", VARIABLES, after="004")
    assert live.alembic("upgrade", "head", cwd=project.root).code == 0
    printed = live.alembic("upgrade", "head", "--sql", cwd=project.root).out
    assert "':PORT :''PORT'' :{?PORT}' = $$:PORT :'PORT' :{?PORT}$$::text -- :PORT\n" in printed
    ran = psql(scripted, "\\set 2 1\n\\set é 1\n" + printed)
    assert ran.returncode == 0, ran.stderr
    assert live.value("SELECT a FROM made") == [10, 20, 10, 20, 10, 20, 30, 10, 20, 10, 20, 20, 30]
    assert scripted.run("TABLE made") == live.run("TABLE made")


REFUSED = {
    "-- nothing yet\n": "can't execute an empty query",
    "": "can't execute an empty query",
    " ; /* x */ ;": "can't execute an empty query",
    "COPY users TO STDOUT": "a run can't send COPY ... TO STDOUT",
    "COPY users FROM stdin;\n\\.": "a run can't send COPY ... FROM STDIN",
    "SELECT 1 \\gexec": "a run can't send \\gexec",
    "SELECT 'it": "a run can't send 'it, which has no end",
}


def test_what_fails_in_a_run_is_not_printed_for_psql(database_at_head: Database, project: Project) -> None:
    for sql, clause in REFUSED.items():
        for extra in ("", *["transactional = False"] * sql.endswith("STDOUT")):
            project.add("005", sql, after="004", extra=extra)
            done = database_at_head.alembic("upgrade", "004:005", "--sql", cwd=project.root)
            said(done, 7, f"Revision 005 failed, and the script is not whole: {clause}", "005_added.py")
            assert database_at_head.alembic("upgrade", "005", cwd=project.root).code == 7


def test_a_truth_value_in_a_column_of_numbers_fails_as_in_a_run(database_at_head: Database, project: Project) -> None:
    table = "sa.table('t', sa.column('n', sa.Integer), sa.column('b', sa.Boolean), sa.column('j', sa.JSON))"
    values = "n=1, b=1, j=1.5", "n=True, b=True, j=True"
    for number, each in enumerate(values, start=5):
        text = f"import sqlalchemy as sa\ndef upgrade():\n    op.execute({table}.insert().values({each}))\n"
        path = project.add(f"{number:03d}", "SELECT 1", after=f"{number - 1:03d}")
        path.write_text(path.read_text().replace("def upgrade() -> None:\n    op.execute('SELECT 1')\n", text))
    database_at_head.run("CREATE TABLE t (n int, b bool, j jsonb)")
    ran = psql(database_at_head, database_at_head.alembic("upgrade", "004:006", "--sql", cwd=project.root).out)
    told = 'column "n" is of type integer but expression is of type boolean'
    assert (ran.returncode, told in ran.stderr) == (3, True)
    assert database_at_head.run("TABLE t") == [(1, True, 1.5)]
    said(database_at_head.alembic("upgrade", "006", cwd=project.root), 7, told)


@pytest.mark.parametrize(
    "asked",
    [
        "op.get_bind().execute(sa.text('SELECT 1')).scalar()",
        "op.get_bind().scalar(sa.text('SELECT 1'))",
        "list(op.get_bind().execute(sa.text('SELECT 1')))",
        "op.get_bind().exec_driver_sql('SELECT 1')",
        "sa.inspect(op.get_bind()).get_table_names()",
        "sa.Table('users', sa.MetaData(), autoload_with=op.get_bind())",
    ],
)
def test_a_revision_that_asks_the_database_is_told_apart(database: Database, project: Project, asked: str) -> None:
    with_python(project, f"import sqlalchemy as sa\ndef upgrade():\n    {asked}\n")
    done = database.alembic("upgrade", "004:005", "--sql", cwd=project.root)
    said(done, 7, "it asks the database", "run it instead: alembic upgrade", "005_added.py, line 11")


SEEN = "CREATE TABLE {} AS SELECT name, setting FROM pg_settings WHERE name ~ '_timeout$' OR name = 'search_path'"


@pytest.mark.slow
def test_a_script_is_as_careful_as_a_run(database: Database, project: Project) -> None:
    project.add("005", SEEN.format("five"), "DROP TABLE five", after="004", extra='lock_timeout = "700ms"')
    project.add("006", SEEN.format("six") + "; SET search_path = pg_catalog", "DROP TABLE six", after="005")
    project.add("007", SEEN.format("seven"), "DROP TABLE seven", after="006", extra='statement_timeout = "2h"')
    printed = database.alembic("upgrade", "head", "--sql", cwd=project.root).out
    for line in ("-- Upgrade from no revision to 007.", "-- Running upgrade 004 -> 005"):
        assert line in printed
    database.run(
        f'ALTER DATABASE "{database.name}" SET search_path = pg_catalog; CREATE TABLE public.alembic_version ()'
    )
    # The table is not Alembic's: it fails there, and goes no further.
    assert psql(database, printed).returncode == 3
    assert database.run("SELECT to_regclass('public.users')") == [(None,)]
    database.run("DROP TABLE public.alembic_version")
    ran = psql(database, printed)
    assert ran.returncode == 0, ran.stderr

    def seen(table: str) -> dict[object, object]:
        return {row[0]: row[1] for row in database.run(f"SELECT * FROM public.{table}")}

    assert (seen("five")["lock_timeout"], seen("five")["statement_timeout"]) == ("700", "900000")
    assert (seen("six")["lock_timeout"], seen("six")["idle_in_transaction_session_timeout"]) == ("2000", "300000")
    assert (seen("seven")["statement_timeout"], seen("seven")["search_path"]) == ("7200000", "public")

    # The log has learned of it: the run that follows finds nothing to do, and nothing edited.
    assert log_of(database)[-1] == ("007", "upgrade", "succeeded")
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert (done.code, done.err.splitlines()[-1]) == (0, "at 007: nothing to do")
    again = psql(database, printed)
    assert again.returncode == 3
    assert "the database is at 007, and this script begins at no revision" in again.stderr
    back = database.alembic("downgrade", "007:005", "--sql", cwd=project.root).out
    with held(database, "SELECT pg_advisory_lock(3836317756945875015)"):
        busy = psql(database, back)
        assert (busy.returncode, "another migration runs on this database" in busy.stderr) == (3, True)
    assert psql(database, back).returncode == 0
    assert log_of(database)[-1] == ("006", "downgrade", "succeeded")
    assert database.value("SELECT version_num FROM public.alembic_version") == "005"


def test_a_script_stops_at_the_first_error(database_at_head: Database, project: Project) -> None:
    project.add("005", "CREATE TABLE five (); SELECT 1/0", after="004")
    project.add("006", "CREATE TABLE six ()", after="005")
    printed = database_at_head.alembic("upgrade", "004:head", "--sql", cwd=project.root).out
    assert psql(database_at_head, printed).returncode == 3
    assert database_at_head.run("SELECT to_regclass('five'), to_regclass('six')") == [(None, None)]
    assert database_at_head.value("SELECT version_num FROM alembic_version") == "004"


def test_a_script_begins_over_where_a_downgrade_has_ended(database: Database) -> None:
    assert database.alembic("upgrade", "001").code == 0
    assert database.alembic("downgrade", "base").code == 0
    ran = psql(database, database.alembic("upgrade", "001", "--sql").out)
    assert ran.returncode == 0, ran.stderr
