"""A COMMIT whose answer is lost, or that never arrives: whatever is said afterwards is what the database holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.db.conftest import Database, Finished, Project, Server
from tests.db.proxies import Nth, is_commit, proxied
from tests.db.running import log_of
from tests.db.schemas import old_schema

LOST = ["lose the answer", "lose the request"]


@dataclass(frozen=True)
class Run:
    """A kind of run.

    Attributes:
        command: its command line.
        start: the revision that the database is at before; empty for none.
        end: where it is afterwards.
        program: which program.
        old: whether the database is one of the old days.
    """

    command: tuple[str, ...]
    start: str
    end: str
    program: str = "alembic"
    old: bool = False


RUNS = {
    "upgrade": Run(("upgrade", "head"), "001", "004"),
    "first upgrade": Run(("upgrade", "002"), "", "002"),
    "downgrade": Run(("downgrade", "002"), "004", "002"),
    "stamp": Run(("stamp", "003"), "004", "003"),
    "purge": Run(("stamp", "--purge", "base"), "004", ""),
    "reset": Run(("reset", "--confirm", "NAME"), "003", "004", "neuraknot-db"),
    "empty reset": Run(("reset", "--confirm", "NAME", "--no-upgrade"), "004", "", "neuraknot-db"),
    "adopt": Run(("adopt", "--replace-functions"), "", "004", "neuraknot-db", old=True),
    "mark": Run(("mark", "dev"), "004", "004", "neuraknot-db"),
    "outside of a transaction": Run(("upgrade", "head"), "004", "006"),
    "reset in two parts": Run(("reset", "--confirm", "NAME"), "004", "006", "neuraknot-db"),
}
BESIDE = {"outside of a transaction", "reset in two parts"}
"""Those that need revisions of the test's own."""


@pytest.fixture(scope="module")
def templates(server_15: Server) -> Iterator[Callable[[Run], str]]:
    """The name of a database as a run finds it, to be copied."""
    maintenance = server_15.database("postgres")
    made: dict[tuple[str, bool], str] = {}

    def template(run: Run) -> str:
        known = run.end if run.old else run.start, run.old
        if known not in made:
            made[known] = f"lost_template_{len(made)}"
            maintenance.run(f'CREATE DATABASE "{made[known]}"')
            found = server_15.database(made[known])
            if run.old:
                found.run(old_schema(run.end))
            elif run.start:
                assert found.alembic("upgrade", run.start).code == 0
        return made[known]

    yield template
    for name in made.values():
        maintenance.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def make(server_15: Server, templates: Callable[[Run], str]) -> Iterator[Callable[[Run], Database]]:
    maintenance = server_15.database("postgres")
    made: list[str] = []

    def database(run: Run) -> Database:
        made.append(f"lost_{len(made)}")
        maintenance.run(f'CREATE DATABASE "{made[-1]}" TEMPLATE "{templates(run)}" STRATEGY file_copy')
        return server_15.database(made[-1])

    yield database
    for name in made:
        maintenance.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def beside(project: Project) -> Project:
    project.add(
        "005", "CREATE INDEX CONCURRENTLY IF NOT EXISTS five ON public.users (email)", "DROP INDEX five", after="004"
    )
    path = project.versions / "005_added.py"
    path.write_text(path.read_text().replace("\n\n\ndef upgrade", "\ntransactional = False\n\n\ndef upgrade", 1))
    project.add("006", "CREATE TABLE public.six ()", "DROP TABLE public.six", after="005")
    return project


def revision(database: Database) -> str:
    if database.value("SELECT to_regclass('public.alembic_version')") is None:
        return ""
    return str(database.value("SELECT coalesce(max(version_num), '') FROM public.alembic_version"))


def execute(run: Run, database: Database, project: Project | None) -> Finished:
    command = [database.name if word == "NAME" else word for word in run.command]
    cwd = {"cwd": project.root} if project else {}
    return database.program(run.program, *command, NEURAKNOT_RESULT="json", **cwd)  # type: ignore[arg-type]


def rows(database: Database) -> list[tuple[object, ...]]:
    if database.value("SELECT to_regclass('neuraknot_db.migration_log')") is None:
        return []
    return log_of(database, "run, direction, revision, outcome, after")


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_what_is_said_is_what_the_database_holds(
    kind: str, make: Callable[[Run], Database], request: pytest.FixtureRequest
) -> None:
    run = RUNS[kind]
    project = request.getfixturevalue("beside") if kind in BESIDE else None
    counted = Nth(0, "pass", meant=is_commit)
    with proxied(make(run), counted) as (_, through):
        assert execute(run, through, project).code == 0
    assert counted.count > 1, "the lock, and the change"
    codes = []
    for number in range(1, counted.count + 1):
        for fate in LOST:
            database = make(run)
            before = rows(database)
            with proxied(database, Nth(number, fate, meant=is_commit)) as (proxy, through):
                done = execute(run, through, project)
            where = f"{fate} {number} of {counted.count}: {proxy.seen[-3:]}\n{done.err}"
            truthful(run, database, done, rows(database)[len(before) :], where)
            codes.append(done.code)
            # Whoever comes next goes on.
            if revision(database) != run.end or done.code:
                again = execute(run, database, project)
                assert again.code == 0 or (kind == "adopt" and "is at revision 004 already" in again.err), again.err
                assert revision(database) == run.end, where
    assert codes.count(0) == 1, "the lost answer to the last one, where everything has landed"


def truthful(run: Run, database: Database, done: Finished, new: list[tuple[object, ...]], where: str) -> None:
    assert done.code in {0, 6}, where
    assert "Traceback" not in done.err, where
    result = json.loads(done.out.splitlines()[-1])
    assert (result["exit_code"], result["outcome"]) == (done.code, "failed" if done.code else "succeeded"), where
    at = revision(database)
    if result["before"] is not None or result["after"] is not None:
        assert (result["after"] or "") == at, where
    succeeded = [row for row in new if row[3] == "succeeded"]
    failed = [row for row in new if row[3] != "succeeded"]
    assert len({row[0] for row in new}) <= 1, "the rows of one run have its id"
    if done.code == 0:
        assert at == run.end, where
        assert not failed, where
    else:
        assert "Hint: " in done.err, where
        assert at == run.start or succeeded or run.old, where
        # A failure that is recorded was none that had landed.
        assert not {row[1:3] for row in failed} & {row[1:3] for row in succeeded}, where
    if "rolled back" in done.err:
        assert failed, where
    if "reset was rolled back" in done.err:
        assert at == run.start, where


IMPATIENT = (
    "from neuraknot_db.cli.main import main; from neuraknot_db.migrate import record; record._PAUSES = (0.0,); main()"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("upgrade", "head"), ("reset", "--confirm", "NAME"), ("adopt", "--replace-functions")]
)
def test_where_nobody_can_be_asked_nothing_is_promised(
    command: tuple[str, ...], make: Callable[[Run], Database]
) -> None:
    old = command[0] == "adopt"
    database = make(Run(command, "" if old else "003", "004", old=old))
    words = [database.name if word == "NAME" else word for word in command]
    # The lock's comes first, and the second says in the log that the run begins.
    change = Nth(2 if old else 3, "lose the answer", meant=is_commit)

    def meets(text: str) -> str:
        fate = change(text)
        if fate == "lose the answer":
            proxy.refusing = True
        return fate

    with proxied(database, meets) as (proxy, through):
        done = through.program("python", "-c", IMPATIENT, *words, NEURAKNOT_RESULT="json")
    assert done.code == 6, done.err
    result = json.loads(done.out.splitlines()[-1])
    assert (result["outcome"], result["after"]) == ("unknown", None)
    assert "whether it was committed is not known" in done.err
    assert "Hint: Ask the database once it answers: alembic current, and neuraknot-db log." in done.err
    assert "rolled back" not in done.err
    assert "still there" not in done.err


def test_an_empty_reset_whose_check_finds_no_connection_is_at_no_revision(make: Callable[[Run], Database]) -> None:
    run = RUNS["empty reset"]
    database = make(run)
    with proxied(database, Nth(2, "lose the request", meant=lambda text: "pg_backend_pid" in text)) as (_, through):
        done = execute(run, through, None)
    assert done.code == 0, done.err
    assert "and is at no revision" in done.err
    assert json.loads(done.out.splitlines()[-1])["after"] is None


def test_a_database_that_came_back_without_the_last_revision_is_told_as_it_is(
    database: Database, project: Project
) -> None:
    """As after a failover to a replica that had not heard of it."""
    project.add("005", "SELECT 1", after="004")
    assert database.alembic("upgrade", "004", cwd=project.root).code == 0
    lost = Nth(1, "pass", meant=lambda text: "information_schema" in text)
    commits = Nth(3, "pass", meant=is_commit)

    def meets(text: str) -> str:
        commits(text)
        if commits.count == 3 and "transaction_read_only" in text:
            database.run("UPDATE public.alembic_version SET version_num = '004'")
        return lost(text)

    with proxied(database, meets) as (_, through):
        done = through.alembic("upgrade", "head", cwd=project.root, NEURAKNOT_RESULT="json")
    assert done.code == 7, done.err
    assert "the database is at 004 and not at 005: something rolled it back" in done.err
    result = json.loads(done.out.splitlines()[-1])
    assert (result["after"], result["target"]) == ("004", "005")
