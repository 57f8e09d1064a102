"""An applied revision that was edited afterwards: its words may change, its SQL may not."""

from __future__ import annotations

import os

import pytest

from neuraknot_db import checksums
from tests.db.conftest import Database, Project
from tests.db.running import log_of
from tests.db.schemas import old_schema
from tests.db.test_bad_input import SCHEMA, said

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


def test_anything_else_is_refused_by_name(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    before = database_at_head.value(SCHEMA)
    for edit in EDITED.values():
        edited(project, edit)
        done = database_at_head.alembic("upgrade", "head", cwd=project.root)
        said(done, 5, "Revision 005 was edited after it had been applied", "005_added.py", "-x accept_edit=005")
    said(database_at_head.neuraknot_db("downgrade", "-1", cwd=project.root), 5, "-x accept_edit=005 ...\n")
    assert database_at_head.value(SCHEMA) == before


def test_an_edit_is_seen_behind_byte_code_that_looks_current(database_at_head: Database, project: Project) -> None:
    with_005(database_at_head, project)
    path = next(project.versions.glob("005_*.py"))
    before = path.stat()
    path.write_text(path.read_text().replace("SELECT 1", "SELECT 2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "Revision 005 was edited")


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
        "002_allow_concise_and_no_persona.py and 003_",
        "alembic -x accept_edit=002,003 ...\n",
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


@pytest.mark.parametrize(
    ("edit", "code"), [(("    # nothing", "    # something"), 0), (("'SELECT 1'", "'SELECT 2'"), 5)]
)
def test_a_revision_that_needs_a_connection_is_known_by_its_syntax_tree(
    database_at_head: Database, project: Project, edit: tuple[str, str], code: int
) -> None:
    path = project.add("005", "SELECT 1", after="004")
    looks = "op.get_bind().exec_driver_sql('SELECT count(*) FROM public.users').scalar_one()  # nothing"
    path.write_text(path.read_text().replace("def upgrade() -> None:\n", f"def upgrade() -> None:\n    {looks}\n"))
    path.write_text(path.read_text().replace("  # nothing", "\n    # nothing"))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert str(log_of(database_at_head, "checksum")[-1][0]).startswith("ast:")
    assert edit[0] in path.read_text()
    path.write_text(path.read_text().replace(edit[0], edit[1], 1))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == code


LIVE = "op.get_bind().exec_driver_sql('SELECT count(*) FROM public.users').scalar_one()"


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (('"""Added 005."""', '"""Other words."""'), 0),
        (("'DROP 5'", "'DROP 6'"), 0),
        (("'500ms'", "'3s'"), 0),
        (("'its words'", "'other words'"), 0),
        (("TABLE = 'users'", "TABLE = 'messages'"), 5),
        (("    op.execute('SELECT 1')\n", ""), 5),
    ],
)
def test_of_a_revision_that_needs_a_connection_only_what_upgrades_counts(
    database_at_head: Database, project: Project, edit: tuple[str, str], code: int
) -> None:
    path = project.add(
        "005", "SELECT 1", "DROP 5", after="004", extra="TABLE = 'users'\nlock_timeout = '500ms'\nlosses = {'a': 'b'}"
    )
    with_words = f"def upgrade() -> None:\n    'its words'\n    {LIVE}\n"
    path.write_text(path.read_text().replace("def upgrade() -> None:\n", with_words))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    assert str(log_of(database_at_head, "checksum")[-1][0]).startswith("ast:")
    assert edit[0] in path.read_text()
    path.write_text(path.read_text().replace(edit[0], edit[1]))
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == code


@pytest.mark.parametrize(
    ("imports", "reads"),
    [
        ("from pathlib import Path", "Path(__file__).with_name('five.sql').read_text()"),
        ("", "open(__file__.replace('005_added.py', 'five.sql')).read()"),
        ("import alembic, linecache", "linecache.getline(__file__.replace('005_added.py', 'five.sql'), 1)"),
    ],
)
def test_an_edit_of_a_file_that_a_revision_reads_is_seen(
    database_at_head: Database, project: Project, imports: str, reads: str
) -> None:
    path = project.add("005", "READ", after="004")
    path.write_text(path.read_text().replace("'READ'", reads).replace("from alembic", f"{imports}\nfrom alembic"))
    sql = project.versions / "five.sql"
    sql.write_text("SELECT 1\n")
    for code in (0, 0):
        assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == code
    sql.write_text("SELECT 2\n")
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 5, "Revision 005 was edited")


def test_none_of_our_own_revisions_reads_more(project: Project) -> None:
    """Or each run would have to emit its SQL."""
    assert not [path.name for path in project.versions.glob("*.py") if checksums._READS_MORE.search(path.read_bytes())]


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
