"""A revision's Python: it runs once for each time it is applied, and whatever it raises has failed it, and no more."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Project
from tests.db.running import held, log_of, running

NOTES = """
def note(word):
    with open({path!r}, "a") as notes:
        notes.write(word + "\\n")
"""
ALONE = "transactional = False"


class Noting:
    """A chain of revisions whose functions note that they have run."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._path = project.root / "notes"

    def add(self, revision: str, sql: str = "SELECT 1", *, after: str, extra: str = "") -> None:
        path = self.project.add(revision, sql, after=after, extra=extra + NOTES.format(path=str(self._path)))
        text = path.read_text()
        for way in ("upgrade", "downgrade"):
            text = text.replace(f"def {way}() -> None:\n", f"def {way}() -> None:\n    note('{way} {revision}')\n")
        path.write_text(text)

    def taken(self) -> list[str]:
        """What was noted since the last time."""
        found = self._path.read_text().split("\n")[:-1] if self._path.exists() else []
        self._path.unlink(missing_ok=True)
        return found


@pytest.fixture
def noting(project: Project) -> Noting:
    found = Noting(project)
    found.add("005", "CREATE TABLE public.five (id bigint)", after="004")
    found.add("006", "ANALYZE public.users", after="005", extra=ALONE)
    found.add("007", after="006")
    return found


UP = ["upgrade 005", "upgrade 006", "upgrade 007"]


@pytest.mark.slow
def test_a_function_runs_once_for_each_time_it_is_applied(database_at_head: Database, noting: Noting) -> None:
    database, root = database_at_head, noting.project.root

    def runs(*arguments: str, code: int = 0, program: str = "neuraknot-db") -> list[str]:
        done = database.program(program, *arguments, cwd=root)
        assert done.code == code, done.err
        return noting.taken()

    reset = ("reset", "--confirm", database.name)
    assert runs("upgrade", "004:head", "--sql", program="alembic") == UP
    assert runs("upgrade", "head", program="alembic") == UP
    for command in ("upgrade head", "stamp head", "verify", "current", "log", "history", "heads", "downgrade 007"):
        # There is no snapshot to verify with.
        assert runs(*command.split(), code=5 if command == "verify" else 0) == [], command
    assert runs("stamp", "004") == []
    assert runs("stamp", "head") == []
    assert runs("downgrade", "head:004", "--sql", program="alembic") == [
        "downgrade 007",
        "downgrade 006",
        "downgrade 005",
    ]
    assert runs("downgrade", "-1", program="alembic") == ["downgrade 007"]
    assert runs("upgrade", "+1", program="alembic") == ["upgrade 007"]
    assert runs(*reset) == UP
    assert runs(*reset, "--no-upgrade") == []
    assert runs("adopt", code=5) == []


def test_a_function_before_which_another_fails_has_not_run(database_at_head: Database, noting: Noting) -> None:
    noting.add("005", "SELECT 1/0", after="004")
    assert database_at_head.alembic("upgrade", "head", cwd=noting.project.root).code == 7
    assert noting.taken() == ["upgrade 005"]
    noting.project.add("008", "COMMIT", after="007")
    assert database_at_head.alembic("upgrade", "head", cwd=noting.project.root).code == 5
    assert noting.taken() == []


@pytest.mark.slow
def test_a_developers_looks_run_each_way_once_on_each_database(database_at_head: Database, noting: Noting) -> None:
    root = noting.project.root
    assert database_at_head.neuraknot_db("plan", cwd=root).code == 0
    assert noting.taken() == []
    database_at_head.neuraknot_db("lint", "004:006", cwd=root)
    assert sorted(noting.taken()) == ["downgrade 005", "downgrade 006", *UP[:2]]
    done = database_at_head.neuraknot_db("snapshot", cwd=root)
    assert done.code == 0, done.err
    # The second one is a reset's: up to the first that can't share its transaction; on 18 also as strict as 16.
    together = UP[:1] * (2 if database_at_head.server == "18" else 1)
    assert noting.taken() == [*UP, *together, *UP, "downgrade 007", "downgrade 006", "downgrade 005"]


@pytest.mark.slow
def test_it_runs_again_after_a_lock_timeouts_rollback(
    database_at_head: Database, noting: Noting, tmp_path: Path
) -> None:
    noting.add("005", "ALTER TABLE public.users ADD COLUMN note text", after="004")
    limits = {"NEURAKNOT_LOCK_TIMEOUT": "200ms", "NEURAKNOT_LOCK_PAUSE": "100ms"}
    with (
        held(database_at_head, "SELECT FROM public.users") as reader,
        running(
            database_at_head, "upgrade", "005", said=tmp_path / "said", cwd=noting.project.root, **limits
        ) as migration,
    ):
        migration.says("no lock in time, try 1 of 10")
        reader.rollback()
        assert migration.ended().code == 0, migration.so_far
    tries = len([row for row in log_of(database_at_head) if row[0] == "005"])
    assert tries > 1
    assert noting.taken() == ["upgrade 005"] * tries


RAISED = {
    "raise SystemExit": "it called sys.exit()",
    "__import__('sys').exit(0)": "it called sys.exit(0)",
    "raise SystemExit(3)": "it called sys.exit(3)",
    "exit('a text')": "it called sys.exit('a text')",
    "raise KeyboardInterrupt": "it raised KeyboardInterrupt",
    "raise GeneratorExit": "it raised GeneratorExit",
    "raise type('Other', (BaseException,), {})('why')": "it raised Other: why",
    "raise BrokenPipeError": "BrokenPipeError",
    "raise StopIteration": "StopIteration",
    "raise type('Odd', (Exception,), {'__str__': lambda _: exit(0)})": "it raised Odd",
    "raise SystemExit(type('Odd', (), {'__repr__': lambda _: exit(0)})())": "it called sys.exit(...)",
    r"raise ValueError('a\0b\udc80')": r"ValueError: a\0b\udc80",
}


def raising(project: Project, revision: str, raises: str, *, after: str, way: str = "upgrade", extra: str = "") -> None:
    path = project.add(revision, f"SELECT '{revision}'", f"SELECT '-{revision}'", after=after, extra=extra)
    start = f"def {way}() -> None:\n"
    path.write_text(
        path.read_text().replace(start, f"{start}    op.execute('CREATE TABLE public.x ()')\n    {raises}\n")
    )


@pytest.mark.parametrize("raises", RAISED)
@pytest.mark.parametrize("extra", ["", ALONE])
def test_whatever_comes_out_of_a_revision_has_failed_it(
    database: Database, project: Project, raises: str, extra: str
) -> None:
    for path in project.versions.glob("*.py"):
        path.unlink()
    project.add("001", "SELECT 1", after="")
    path = project.versions / "001_added.py"
    path.write_text(path.read_text().replace("down_revision = ''", "down_revision = None"))
    raising(project, "002", raises, after="001", extra=extra)
    project.add("003", "SELECT 1", after="002")
    done = database.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_RESULT="json")
    said(done, 7, f"Revision 002 failed and was rolled back: {RAISED[raises]}.", "The database is at 001.")
    result = json.loads(done.out)
    assert (result["exit_code"], result["after"], result["ran"]) == (7, "001", ["001"])
    assert RAISED[raises] in result["error"]
    assert database.value("SELECT version_num FROM alembic_version") == "001"
    assert database.value("SELECT to_regclass('public.x')") is None
    assert log_of(database) == [("001", "upgrade", "succeeded"), ("002", "upgrade", "failed")]
    assert RAISED[raises] in str(log_of(database, "error")[-1][0])


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            "def upgrade():\n    op.execute('SELECT 1')\n    yield",
            "a call of it makes a generator or a coroutine, and runs nothing",
        ),
        (
            "async def upgrade():\n    op.execute('SELECT 1')",
            "a call of it makes a generator or a coroutine, and runs nothing",
        ),
        ("def upgrade(engine):\n    op.execute('SELECT 1')", "it wants an argument"),
        ("def upgrade(*, engine):\n    op.execute('SELECT 1')", "it wants an argument"),
        ("upgrade = None", "there is none"),
        ("upgrade = 'SELECT 1'", "it is not a function"),
    ],
)
def test_what_a_call_would_not_run_is_no_revision(
    database_at_head: Database, project: Project, function: str, words: str
) -> None:
    path = project.add("005", "SELECT 1", after="004")
    path.write_text(path.read_text().replace("def upgrade() -> None:\n    op.execute('SELECT 1')", function))
    before = database_at_head.value(SCHEMA)
    reset = ("reset", "--confirm", database_at_head.name)
    for program, line in (("alembic", ("upgrade", "head")), ("neuraknot-db", reset)):
        done = database_at_head.program(program, *line, cwd=project.root)
        said(done, 7, f"The upgrade() of revision 005 can't be run: {words}.")
    assert database_at_head.value(SCHEMA) == before
    assert log_of(database_at_head)[-1] == ("004", "upgrade", "succeeded")


def test_what_a_statement_gave_may_be_returned(database_at_head: Database, project: Project) -> None:
    raising(project, "005", "return op.get_bind().exec_driver_sql('SELECT 1')", after="004")
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    assert done.code == 0, done.err


@pytest.mark.parametrize("extra", ["", ALONE])
def test_a_generator_that_a_function_returns_has_not_run(
    database_at_head: Database, project: Project, extra: str
) -> None:
    raising(project, "005", "return (op.execute(each) for each in ['SELECT 1'])", after="004", extra=extra)
    done = database_at_head.alembic("upgrade", "head", cwd=project.root)
    said(done, 7, "it returned a generator or a coroutine, of which nothing was run")


def test_a_refusal_after_something_landed_does_not_say_that_nothing_was_changed(
    database_at_head: Database, project: Project
) -> None:
    project.add("005", "SELECT 1", after="004")
    project.add("006", "SET TRANSACTION READ ONLY; CREATE TABLE public.six ()", after="005")
    said(database_at_head.alembic("upgrade", "head", cwd=project.root), 7, "read-only", "The database is at 005.")


def test_an_env_py_that_exits_is_no_success(database_at_head: Database, project: Project) -> None:
    env = project.root / "alembic" / "env.py"
    env.write_text("import sys\nsys.exit(0)\n" + env.read_text())
    for line in (("upgrade", "head"), ("reset", "--confirm", database_at_head.name)):
        done = database_at_head.neuraknot_db(*line, cwd=project.root)
        said(done, 1, "alembic/env.py, or what it runs, ended this process", "alembic current")


def test_an_empty_database_whose_first_revision_exits_is_not_said_to_be_migrated(
    database: Database, project: Project
) -> None:
    raising(project, "000", "raise SystemExit(0)", after="none")
    first, path = next(project.versions.glob("001_*.py")), project.versions / "000_added.py"
    first.write_text(first.read_text().replace("down_revision = None", 'down_revision = "000"'))
    path.write_text(path.read_text().replace("down_revision = 'none'", "down_revision = None"))
    said(database.alembic("upgrade", "head", cwd=project.root), 7, "Revision 000 failed", "is at no revision.")
    assert log_of(database) == [("000", "upgrade", "failed")]
    done = database.neuraknot_db("reset", "--confirm", database.name, cwd=project.root)
    said(done, 7, "Revision 000 failed and was rolled back: it called sys.exit(0).", "every row are still there")


def test_a_way_back_that_exits_has_failed(database_at_head: Database, project: Project) -> None:
    raising(project, "005", "raise SystemExit(0)", after="004", way="downgrade")
    assert database_at_head.alembic("upgrade", "head", cwd=project.root).code == 0
    done = database_at_head.alembic("downgrade", "-1", cwd=project.root)
    said(done, 7, "Going back from revision 005 failed and was rolled back: it called sys.exit(0).", "is at 005.")
    assert log_of(database_at_head)[-1] == ("005", "downgrade", "failed")


@pytest.mark.parametrize("raises", [raises for raises in RAISED if "pipe" not in raises.lower()])
def test_a_script_of_a_revision_that_exits_is_said_not_to_be_whole(
    database: Database, project: Project, raises: str
) -> None:
    for extra in ("", ALONE):
        raising(project, "005", raises, after="004", extra=extra)
        done = database.alembic("upgrade", "head", "--sql", cwd=project.root)
        said(done, 7, "Revision 005 failed, and the script is not whole", RAISED[raises], "Don't run it.")


@pytest.mark.parametrize("raises", RAISED)
def test_a_look_at_a_revision_that_exits_tells_of_it(database_at_head: Database, project: Project, raises: str) -> None:
    raising(project, "005", raises, after="004")
    done = database_at_head.neuraknot_db("lint", "005", cwd=project.root)
    assert (done.code, RAISED[raises] in done.out) == (3, True), done.err
    said(database_at_head.neuraknot_db("snapshot", cwd=project.root), 7, "Revision 005 failed", RAISED[raises])


@pytest.mark.slow
@pytest.mark.parametrize("raises", [raises for raises in RAISED if "StopIteration" not in raises])
def test_a_file_that_exits_when_it_is_loaded_can_not_be_read(
    database_at_head: Database, project: Project, raises: str
) -> None:
    path = project.add("005", "SELECT 1", after="004", extra=raises)
    line = path.read_text().splitlines().index(raises) + 1
    words = f"A revision file can't be read: {RAISED[raises]}."
    for command in ("upgrade head", "downgrade -1", "stamp head", "current", "upgrade head --sql"):
        done = database_at_head.alembic(*command.split(), cwd=project.root)
        said(done, 7, words, f"alembic/versions/005_added.py, line {line}")
    for command in (
        "history",
        "heads",
        "verify",
        "adopt",
        "plan",
        "lint",
        "snapshot",
        "diagram",
        "reset",
        "revision -m x",
    ):
        said(database_at_head.neuraknot_db(*command.split(), cwd=project.root), 7, words)


WAITING = "print('waits', file=__import__('sys').stderr, flush=True); __import__('time').sleep(60)"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("caught", [False, True])
def test_a_signal_stays_what_it_is(
    database_at_head: Database, project: Project, tmp_path: Path, number: signal.Signals, code: int, caught: bool
) -> None:
    body = f"try: {WAITING}\n    except BaseException: raise SystemExit(0)" if caught else WAITING
    raising(project, "005", body, after="004")
    commands = {"alembic": ["upgrade head"], "neuraknot-db": []}
    if number == signal.SIGINT:
        commands = {"alembic": ["upgrade head", "upgrade 004:head --sql"], "neuraknot-db": ["lint 005", "snapshot"]}
    for program, lines in commands.items():
        for line in lines:
            said_to, words = tmp_path / "said", line.split()
            with running(database_at_head, *words, program=program, said=said_to, cwd=project.root) as migration:
                migration.says("waits")
                migration.process.send_signal(number)
                done = migration.ended()
                assert done.code == code, (line, done.err)
                assert "Traceback" not in done.err
    assert log_of(database_at_head)[-1] == ("005", "upgrade", "interrupted")
    path = project.add("005", "SELECT 1", after="004", extra=WAITING)
    with running(database_at_head, "upgrade", "head", said=tmp_path / "said", cwd=project.root) as migration:
        migration.says("waits")
        migration.process.send_signal(signal.SIGINT)
        assert migration.ended().code == 130, path
