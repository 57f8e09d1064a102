"""An applied revision that was edited afterwards: its words may change, its SQL may not."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuraknot_db.revisions import checksum
from neuraknot_db.revisions.syntax import Source
from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.running import log_of
from tests.db.schemas import old_schema
from tests.projects import PROJECT, ROOT

SQL = """CREATE TABLE public.five (
    note text DEFAULT 'a  b -- c', "Odd  Name" int  -- a comment
);
CREATE FUNCTION public.f5() RETURNS int LANGUAGE sql AS $$ SELECT  1 /* kept */ $$;
/* outer /* inner */ still a comment */ SELECT 1"""

SAME = {
    "another comment": ("-- a comment", "-- another"),
    "no comment": ("-- a comment", ""),
    "a nested comment more": ("SELECT 1", "/* /* 'x' */ */ SELECT 1"),
    "white space": ("public.five (\n    note", "public . five(note"),
}
EDITED = {
    "a literal's white space": ("'a  b -- c'", "'a b -- c'"),
    "what looks like a comment in a literal": ("'a  b -- c'", "'a  b -- d'"),
    "a quoted name's white space": ('"Odd  Name"', '"Odd Name"'),
    "a dollar-quoted body's white space": ("SELECT  1 /*", "SELECT 1 /*"),
    "a dollar-quoted body's comment": ("/* kept */", "/* not */"),
    "a statement": ("SELECT 1", "SELECT 2"),
}


def with_005(database: Database, project: Project, sql: str = SQL) -> None:
    project.add("005", sql, "DROP TABLE public.five; DROP FUNCTION public.f5()", after="004")
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


def edited(project: Project, edit: tuple[str, str]) -> None:
    assert edit[0] in SQL
    before, _, after = SQL.rpartition(edit[0])
    project.add("005", before + edit[1] + after, "DROP TABLE public.five; DROP FUNCTION public.f5()", after="004")


def test_comments_and_white_space_may_change(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    for name, edit in SAME.items():
        edited(project, edit)
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
        assert (done.code, done.err.splitlines()[-1]) == (0, "at 005: nothing to do"), name


@pytest.mark.slow
def test_anything_else_is_refused_by_name(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    before = database_at_head.value(SCHEMA)
    for edit in EDITED.values():
        edited(project, edit)
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
        said(done, 5, "Revision 005 was edited after it had been applied", "005_added.py", "-x accept_edit=005")
    assert "Hint: The database is at 005. See what was edited: git log -p -- " in done.err
    said(database_at_head.neuraknot_db("downgrade", "-1", cwd=project.root), 5, "-x accept_edit=005 downgrade -1\n")
    assert database_at_head.value(SCHEMA) == before


def test_an_edit_is_seen_behind_byte_code_that_looks_current(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    path = next(project.versions.glob("005_*.py"))
    before = path.stat()
    path.write_text(path.read_text().replace("SELECT 1", "SELECT 2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "Revision 005 was edited")


@pytest.mark.slow
def test_the_edit_is_taken_and_recorded_where_that_is_asked_for(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    edited(project, EDITED["a statement"])
    said(database_at_head.alembic("-x", "accept_edit=003", "upgrade", "head", cwd=project.root), 5, "Revision 005")
    said(database_at_head.alembic("-x", "accept_edit=999", "upgrade", "head", cwd=project.root), 2, "accept_edit=999")
    done = database_at_head.alembic("-x", "accept_edit=005", "upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert "the edit of revision 005 is taken" in done.err
    assert log_of(database_at_head)[-1] == ("005", "accept", "succeeded")
    # What was executed is as good as what was taken for it.
    with_005(database_at_head, project)
    edited(project, EDITED["a statement"])
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert database_at_head.alembic("downgrade", "-1", cwd=project.root).code == 0


def edit_002_and_003(project: Project) -> None:
    for revision in ("002", "003"):
        path = next(project.versions.glob(f"{revision}_*.py"))
        path.write_text(path.read_text().replace("op.execute(", "op.execute('SELECT 1'); op.execute(", 1))


def test_every_edit_is_named_at_once_and_taken_at_once(database_at_head: Database, project: Project) -> None:
    edit_002_and_003(project)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(
        done,
        5,
        "Revisions 002, 003 were edited",
        "002_allow_concise_and_no_persona.py alembic/versions/003_",
        "alembic -x accept_edit=002,003 upgrade head\n",
    )
    done = database_at_head.alembic("-x", "accept_edit=002", "upgrade", "head", cwd=project.root)
    said(done, 5, "Revision 003 was edited", "-x accept_edit=002,003 ")
    done = database_at_head.alembic("-x", "accept_edit=002,003", "upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert log_of(database_at_head)[-2:] == [("002", "accept", "succeeded"), ("003", "accept", "succeeded")]


def test_accept_edit_may_be_given_again_and_no_other_option(database_at_head: Database, project: Project) -> None:
    edit_002_and_003(project)
    upgrade = ("upgrade", "head")
    done = database_at_head.alembic("-x", "confirm=a", "-x", "confirm=b", *upgrade, cwd=project.root)
    said(done, 2, "-x confirm is given 2 times")
    both = ("-x", "accept_edit=002", "-x", "accept_edit=003")
    assert database_at_head.alembic(*both, *upgrade, cwd=project.root).code == 0


def test_a_downgraded_revision_may_be_edited(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    assert database_at_head.alembic("downgrade", "-1", cwd=project.root).code == 0
    edited(project, EDITED["a statement"])
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0


@pytest.mark.slow
def test_after_a_reset_only_what_was_run_since_counts(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    edited(project, EDITED["a statement"])
    reset = ("reset", "--confirm", database_at_head.name)
    done = database_at_head.neuraknot_db(*reset, cwd=project.root)
    assert done.code == 0, done.err
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert database_at_head.neuraknot_db(*reset, "--no-upgrade", cwd=project.root).code == 0
    edited(project, EDITED["a literal's white space"])
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


def test_a_revision_that_a_stamp_took_back_may_be_edited(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    assert database_at_head.alembic("stamp", "004", cwd=project.root).code == 0
    edited(project, EDITED["a statement"])
    done = database_at_head.alembic("upgrade", "004", cwd=project.root)
    assert done.code == 0, done.err


def test_what_was_run_before_a_reset_is_not_compared_with_what_a_stamp_claims_after_it(
    database_at_head: Database, project: Project
) -> None:
    with_005(database_at_head, project)
    reset = ("reset", "--confirm", database_at_head.name, "--no-upgrade")
    assert database_at_head.neuraknot_db(*reset, cwd=project.root).code == 0
    edited(project, EDITED["a statement"])
    project.add("006", "SELECT 1", after="005")
    assert database_at_head.alembic("stamp", "006", cwd=project.root).code == 0
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


REVISION = """\
\'\'\'Says why.\'\'\'
import os
from alembic import op
from textwrap import dedent

revision = "005"
down_revision = "004"
lock_timeout = "5s"
transactional = True

TABLES = ("users", "messages")
SQL = "CREATE TABLE public.five (note text DEFAULT 'a  b')"
NAMED = "a  b"
losses = {f"rows of {table}": f"SELECT count(*) FROM {table}" for table in TABLES}
expects = {"x": "SELECT 1"}


def _comment(table, words: str = NAMED):
    "Its words."
    op.execute(f"COMMENT ON TABLE {table} IS '{words}'")


def _unused():
    return 1


def upgrade() -> None:
    # nothing
    op.execute("SELECT  1 -- one")
    op.execute(SQL)
    sql = "SELECT 2"
    op.execute(sql)
    op.execute(dedent("\""SELECT  3"\""))
    rows: int = 5
    for table in TABLES:
        _comment(table)
    op.get_bind().exec_driver_sql("SELECT  4 -- four")
    op.create_table_comment("users", f"a  b {rows:>5}")


def downgrade() -> None:
    op.execute("SELECT 6")
"""

NO_EDITS = {
    "a comment": ("# nothing", "# something"),
    "the file's docstring": ("Says why.", "Says otherwise."),
    "a helper's docstring": ('"Its words."', '"Other words."'),
    "an annotation": ("words: str", "words: object"),
    "an annotation that goes": ("rows: int = 5", "rows = 5"),
    "the way back": ("SELECT 6", "SELECT 7"),
    "what the way back loses": ("rows of", "all rows of"),
    "what it expects": ('{"x": "SELECT 1"}', '{"y": "SELECT 2"}'),
    "a timeout": ('"5s"', '"9s"'),
    "how it is run": ("transactional = True", "transactional = False"),
    "the id": ('revision = "005"', 'revision = "006"'),
    "an import": ("import os", "import sys"),
    "another function": ("return 1", "return 2"),
    "SQL's comment": ("-- one", "-- other"),
    "SQL's white space": ("SELECT  1", "SELECT\\n 1"),
    "the white space of a constant that is SQL": ("public.five (note", "public . five( note"),
    "the white space of a function's own constant": ('sql = "SELECT 2"', 'sql = " SELECT  2"'),
    "dedented SQL's white space": ("SELECT  3", "SELECT 3"),
    "the quotes of Python": ('"users", "messages"', "'users', 'messages'"),
    "Python's white space": ('("users", "messages")', '(\n    "users",\n    "messages",\n)'),
    "a constant put in place of its name": (
        "op.execute(SQL)",
        "op.execute(\"CREATE TABLE public.five (note text DEFAULT 'a  b')\")",
    ),
    "where a function stands": ("def _unused", "OTHER = 1\n\n\ndef _unused"),
    "a line that does nothing": ("    rows: int", "    pass\n    rows: int"),
}
EDITS = {
    "SQL": ("SELECT  1", "SELECT  9"),
    "a literal in SQL": ("'a  b')", "'a b')"),
    "an order": (
        'op.execute(sql)\n    op.execute(dedent("""SELECT  3"""))',
        'op.execute(dedent("""SELECT  3"""))\n    op.execute(sql)',
    ),
    "a list that it goes through": ('"users", "messages"', '"users"'),
    "a helper": ("COMMENT ON TABLE", "COMMENT ON VIEW"),
    "a helper's default, of no SQL, by its white space": ('NAMED = "a  b"', 'NAMED = "a b"'),
    "a text for no op.execute, by its white space": ("SELECT  4", "SELECT 4"),
    "a text for no op.execute, by its comment": ("-- four", "-- 4"),
    "an f-string's constant part, by its white space": ('"a  b {', '"a b {'),
    "an f-string's format": (":>5", ":<5"),
    "a number": ("= 5", "= 6"),
    "a statement more": ("    rows: int", "    op.execute(SQL)\n    rows: int"),
    "a constant that is changed afterwards": ("losses =", "TABLES += ('more',)\nlosses ="),
    "a constant that a function changes": ("return 1", "global TABLES; TABLES = ()"),
    "a constant of a function that is no SQL alone": ("op.execute(sql)", "op.execute(sql)\n    print(sql)"),
    "a backfill": ("losses =", "backfill = ('x',)\nlosses ="),
}


def canonical(source: str) -> bytes:
    return Source(source.encode()).canonical("upgrade", "backfill")


@pytest.mark.parametrize("edit", NO_EDITS)
def test_what_does_not_change_what_upgrade_does_is_no_edit(edit: str) -> None:
    before, after = NO_EDITS[edit]
    assert REVISION.count(before) == 1
    assert canonical(REVISION.replace(before, after)) == canonical(REVISION)


@pytest.mark.parametrize("edit", EDITS)
def test_what_may_change_what_upgrade_does_is_an_edit(edit: str) -> None:
    before, after = EDITS[edit]
    assert REVISION.count(before) == 1
    assert canonical(REVISION.replace(before, after)) != canonical(REVISION)


HEAD = "from alembic import op\n"
DIFFERENT = {
    "tokens that run into each other": ("op.execute('a bc')", "op.execute('ab c')"),
    "two arguments and one": ("f('a', 'b')", "f('ab')"),
    "a text and bytes": ("f('1')", "f(b'1')"),
    "a number and its text": ("f(1)", "f('1')"),
    "a number and a truth": ("f(1)", "f(True)"),
    "a whole number and a fraction": ("f(1)", "f(1.0)"),
    "a string in two parts and two strings": (
        'op.execute("""SELECT \'a\'\n\'b\'""")',
        "op.execute(\"SELECT 'a' 'b'\")",
    ),
    "an f-string's field and its name": ("f(f'{a}')", "f('{a}')"),
    "where a block ends": ("if a:\n        b()\n    c()", "if a:\n        b()\n        c()"),
    "two branches": ("if a:\n        b()", "if a:\n        pass\n    else:\n        b()"),
}


@pytest.mark.parametrize("pair", DIFFERENT)
def test_two_trees_never_come_to_the_same(pair: str) -> None:
    one, other = (canonical(f"{HEAD}def upgrade():\n    {body}\n") for body in DIFFERENT[pair])
    assert one != other


def test_only_what_alembics_op_gets_is_folded_as_sql() -> None:
    for imports, folded in {
        "from alembic import op": True,
        "import alembic.op as op": True,
        "import op": False,
    }.items():
        one, other = (canonical(f"{imports}\ndef upgrade():\n    op.execute('a{space}b')\n") for space in (" ", "  "))
        assert (one == other) is folded, imports
    uses = HEAD + "def upgrade():\n    sql = 'a{}b'\n    op.execute(sql)\n    print(sql)\n"
    assert canonical(uses.format(" ")) != canonical(uses.format("  ")), "the constant is more than SQL"
    local = "from alembic import op\nSQL = 'a{}b'\ndef upgrade(SQL=other):\n    op.execute(SQL)\n"
    assert canonical(local.format(" ")) == canonical(local.format("  ")), "the constant is another one"
    for change in ("SQL += 'c'", "def f():\n    global SQL\n    SQL = 'c'", "if a:\n    SQL = 'c'"):
        one, other = (
            canonical(f"{HEAD}SQL = 'a{space}b'\n{change}\ndef upgrade():\n    op.execute(SQL)\n")
            for space in (" ", "  ")
        )
        assert one != other, change


def test_docstrings_and_names_count_where_the_code_asks_for_them() -> None:
    for body in ("op.execute(__doc__)", "op.execute(f.__doc__)"):
        one, other = (
            canonical(f"'{words}'\n{HEAD}def f():\n    '{words}'\ndef upgrade():\n    {body}\n") for words in "ab"
        )
        assert one != other, body
    for body in ("op.execute(globals()['SQL'])", "op.execute(sys.modules[__name__].SQL)", "exec('op.execute(SQL)')"):
        one, other = (canonical(f"{HEAD}SQL = '{sql}'\ndef upgrade():\n    {body}\n") for sql in "ab")
        assert one != other, body
    for line in ("globals()['SQL'] = '{}'", "globals().update(SQL='{}')", "exec('SQL = \"{}\"')"):
        one, other = (canonical(f"{HEAD}{line.format(sql)}\ndef upgrade():\n    op.execute(SQL)\n") for sql in "ab")
        assert one != other, line


ALL_OF = "def upgrade():\n    [op.execute(each) for each in ALL]\n"


@pytest.mark.parametrize(
    "text",
    [
        "ALL = []\ndef one(f):\n    ALL.append(f())\n@one\ndef first():\n    return '{}'\n" + ALL_OF,
        "ALL = []\n@ALL.append\ndef first():\n    return '{}'\n" + ALL_OF,
        "ALL = []\n_ = ALL.append('{}')\n" + ALL_OF,
        "ALL = []\ndef add(it):\n    ALL.append(it)\nadd('{}')\n" + ALL_OF,
        "ALL = []\nSOME = ALL\nSOME += ['{}']\n" + ALL_OF,
        "ALL = []\nSOME = ALL\nSOME.append('{}')\n" + ALL_OF,
        "class All: pass\nclass One(All):\n    sql = '{}'\n"
        "def upgrade():\n    op.execute(All.__subclasses__()[0].sql)\n",
        "def g(a=(SQL := '{}')): pass\ndef upgrade():\n    op.execute(SQL)\n",
        "each = ['{}']\ndef upgrade():\n    [op.execute(each) for each in each]\n",
        "import sys\nSQL = '{}'\ndef upgrade():\n    op.execute(sys._getframe().f_globals['SQL'])\n",
        "import inspect\ndef f():\n    '{}'\ndef upgrade():\n    op.execute(inspect.getdoc(f))\n",
    ],
)
def test_what_the_files_own_level_does_counts_where_it_reaches_what_is_used(text: str) -> None:
    one, other = (canonical(HEAD + text.format(sql)) for sql in "ab")
    assert one != other


@pytest.mark.parametrize(
    "text",
    [
        "from textwrap import dedent\nA = dedent('a')\nB = dedent('{}')\ndef upgrade():\n    op.execute(A)\n",
        "ALL = ['a']\nB = [*ALL, '{}']\n" + ALL_OF,
    ],
)
def test_what_is_made_of_the_same_and_used_elsewhere_does_not_count(text: str) -> None:
    one, other = (canonical(HEAD + text.format(sql)) for sql in "ab")
    assert one == other


def test_nothing_is_not_none() -> None:
    for one, other in (("f(**a)", "f(a)"), ("f({**a})", "f({None: a})"), ("lambda *, a: a", "lambda *, a=None: a")):
        assert canonical(f"def upgrade():\n    {one}\n") != canonical(f"def upgrade():\n    {other}\n")


@given(st.lists(st.one_of(st.text(), st.binary(), st.integers(), st.floats(allow_nan=False), st.none()), max_size=4))
def test_other_literals_are_never_folded(values: list[object]) -> None:
    calls = "".join(f"    f({value!r})\n" for value in values)
    assert canonical(f"def upgrade():\n    pass\n{calls}").count(b"('Call', ") == len(values)
    for index, value in enumerate(values):
        changed = [*values[:index], (value, value), *values[index + 1 :]]
        others = "".join(f"    f({each!r})\n" for each in changed)
        assert canonical(f"def upgrade():\n    pass\n{others}") != canonical(f"def upgrade():\n    pass\n{calls}")


STRINGS = """
from alembic import op
a, b = 1, 2
def upgrade():
    op.execute(f"x{a}{{y}}" "z" f"{b!r:>{a}}")
    op.execute(f"a" "b" f"c")
    f(f"{{", f"}}{a}{{", f"{a}" f"{b}", f"", u"u", rf"\\d{a}\\n", f"{a=}", f"\'\'\'q{a:%Y-%m}\'\'\'")
    lambda *x, y=1, **z: (yield)
    [c for c in (a, b) if c]
    match a:
        case {"k": 1, **rest} | [1, *rest] if rest: pass
        case None | True | str(b): pass
    try:
        1_000 + 0x1F + 1e400 + 2j
    except* ValueError as error:
        del error
    with (open("x") as x, open("y") as y): pass
    (a := 1); not a < b <= 3; b"\\x00"; "\\ud800"; ...
    async def g():
        async for i in x: await i
    return {**a, 1: 2}
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_each_python_finds_the_same_canonical_form(version: str, tmp_path: Path) -> None:
    """By itself, without a package installed: only the module and the tokenizer."""
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv"), "versions").expanduser()
    pythons = sorted(versions.glob(f"{version}.*/bin/python"))
    if not pythons:
        pytest.skip(f"Python {version} is not installed in {versions}")
    (tmp_path / "strings.py").write_text(STRINGS, encoding="utf-8")
    files = [tmp_path / "strings.py", *sorted((PROJECT / "alembic" / "versions").glob("*.py"))]
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from neuraknot_db.revisions.syntax import Source\n"
        "for path in sys.argv[1:]: print(Source(open(path, 'rb').read()).canonical('upgrade', 'backfill').hex())"
    )
    command = [str(pythons[-1]), "-I", "-c", script, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours = [Source(path.read_bytes()).canonical("upgrade", "backfill").hex() for path in files]
    assert done.stdout.split() == ours


OLD = {"tokens": "repeat('0', 64)", "a tree": "'ast:' || repeat('0', 64)"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OLD)
def test_a_checksum_of_an_older_version_is_taken_over_where_the_file_is_the_same(
    database_at_head: Database, project: Project, kind: str
) -> None:
    with_005(database_at_head, project)
    database_at_head.run(f"UPDATE neuraknot_db.migration_log SET checksum = {OLD[kind]} WHERE checksum IS NOT NULL")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert (done.code, done.err.splitlines()[1:]) == (0, ["at 005: nothing to do"])
    edited(project, SAME["another comment"])
    old = "applied, so nothing was changed now. An older version took the checksum"
    for command in (("upgrade", "head"), ("downgrade", "-1")):
        said(
            database_at_head.alembic(*command, cwd=project.root), 5, old, f"-x accept_edit=005 {shlex.join(command)}\n"
        )
    done = database_at_head.alembic("-x", "accept_edit=005", "upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
    assert str(log_of(database_at_head, "checksum")[-1][0]).startswith(checksum.KIND)
    edited(project, SAME["white space"])
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    edited(project, EDITED["a statement"])
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "is not what ran on this database")


def test_a_stamp_does_not_make_the_log_forget_what_was_run(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    for revision in ("004", "005"):
        assert database_at_head.alembic("stamp", revision, cwd=project.root).code == 0
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    edited(project, EDITED["a statement"])
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "Revision 005 was edited")


def test_an_adopted_database_has_nothing_to_compare_with(database: Database, project: Project) -> None:
    database.run(old_schema("003"))
    assert database.neuraknot_db("adopt").code == 0
    path = next(project.versions.glob("002_*.py"))
    path.write_text(path.read_text().replace("'concise'", "'concise', 'another'"))
    done = database.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err
