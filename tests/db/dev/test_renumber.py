"""Two branches have made a revision after the same one: one of them moves behind the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.dev import generate, lint, renumber
from neuraknot_db.errors import NeuraknotError
from neuraknot_db.settings import Settings
from tests.db.conftest import Database, Project, Server
from tests.pipelines.github import git

MINE = "neuraknot-db renumber alembic/versions/005_mine.py"
NOWHERE = Settings("nowhere", 1, "nobody", None, "none")
COMMENT = "COMMENT ON COLUMN public.users.email IS '{}'"


def made(project: Project, name: str, after: str | None, text: str = "") -> Path:
    """Write a revision's file, named after its id, as Alembic's template has it."""
    revision = name.partition("_")[0]
    path = project.versions / f"{name}.py"
    path.write_text(
        f'"""{name}.\r\n\r\nRevision ID: {revision}\r\nRevises: {after or ""}\n005 and 004 stay here.\n"""\n\n'
        f"from alembic import op\n\nrevision: str = '{revision}'  # é 005\ndown_revision = {after!r};x = '004'\n"
        f'{text}\n\ndef upgrade() -> None:\n    op.execute("{COMMENT.format(name)}")\n\n\n'
        f'def downgrade() -> None:\n    op.execute("{COMMENT.format("004")}")\n',
        encoding="utf-8",
        newline="",
    )
    return path


def commit(project: Project) -> None:
    git(project.root, "add", "--all")
    git(project.root, "commit", "--quiet", "--message", "More")


def put_on_main(project: Project) -> None:
    """Have the main branch end in what is staged."""
    git(project.root, "commit", "--quiet", "--message", "More")
    git(project.root, "branch", "--quiet", "--force", "main", "HEAD")


@pytest.fixture
def server(server_18: Server) -> Server:
    """The embedded one alone: what it says decides nothing here."""
    return server_18


@pytest.fixture
def begun(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose four revisions are on the main branch."""
    git(project.root, "init", "--quiet", "--initial-branch", "main")
    commit(project)
    monkeypatch.chdir(project.root)
    return project


@pytest.fixture
def twins(begun: Project) -> Project:
    """One whose branch has 005_mine and 006_more, and 005_theirs from the main branch."""
    made(begun, "005_theirs", "004")
    commit(begun)
    git(begun.root, "switch", "--quiet", "-c", "mine")
    made(begun, "005_mine", "004")
    made(begun, "006_more", "005")
    return begun


def contents(project: Project) -> dict[Path, bytes]:
    folder = project.root / "alembic"
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def script(project: Project) -> ScriptDirectory:
    return ScriptDirectory(str(project.root / "alembic"))


def said(database: Database, code: int, *arguments: str) -> str:
    done = database.neuraknot_db("renumber", *arguments, cwd=Path.cwd())
    assert done.code == code, done.err
    return done.out + done.err


@pytest.mark.slow
def test_the_whole_day(twins: Project, database: Database) -> None:
    old, exceptions = (twins.versions / "005_mine.py").read_bytes(), twins.root / "alembic/lint.toml"
    sections = f'{exceptions.read_text()}\n[revisions.005]\n\n[revisions."006"]\n'
    exceptions.write_text(sections)
    (twins.root / "alembic/snapshots/005.json").write_text("<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> main\n")
    (twins.root / "alembic/snapshots/005.effects.json").write_text("<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> main\n")
    for program, *words in (("alembic", "upgrade", "head"), ("neuraknot-db", "heads"), ("neuraknot-db", "lint")):
        done = database.program(program, *words, cwd=twins.root)
        assert (done.code, "neuraknot-db renumber --check" in done.err) == (2, True)
    assert MINE in said(database, 3, "--check")
    out = said(database, 0, "005_mine.py")
    assert "moved alembic/versions/005_mine.py to alembic/versions/006_mine.py\n" in out
    assert "moved alembic/versions/006_more.py to alembic/versions/007_more.py\n" in out
    assert "see to lint.toml: what it says of the one that moves" in out
    assert exceptions.read_text() == sections.replace('"006"', '"007"')
    new = (twins.versions / "006_mine.py").read_bytes()
    pairs = ((b"ID: 005", b"ID: 006"), (b"s: 004", b"s: 005"), (b"'005'  #", b'"006"  #'), (b"'004';x", b'"005";x'))
    for was, now in pairs:
        assert old.count(was) == 1
        old = old.replace(was, now)
    assert new == old
    assert sorted(path.name[:3] for path in twins.versions.glob("*.py")) == [f"{each:03d}" for each in range(1, 8)]
    said(database, 0, "--check")
    for words in (["snapshot", "--check"], ["lint", "004:head"], ["upgrade", "head"]):
        done = database.neuraknot_db(*words, cwd=twins.root)
        assert done.code == 0, done.out + done.err
    assert database.value("SELECT version_num FROM alembic_version") == "007"


CASES = {  # the files on the main branch, those on mine, each with its predecessor; what is named; what comes of it
    "one number": ("005_theirs<004", "005_mine<004", "005_mine.py", "005_mine=006 after 005"),
    "two numbers": ("005_theirs<004 006_t<005", "007_mine<004", "007", "007_mine=007 after 006"),
    "mine is lower": ("006_theirs<004", "005_a<004", "alembic/versions/005_a.py", "005_a=007 after 006"),
    "the head is lower": ("006_t<004 005_head<006", "007_mine<004", "007", "007_mine=007 after 005"),
    "each goes on": (
        "005_t<004 006_t<005",
        "005_a<004 006_b<005",
        "005_a.py",
        "005_a=007 after 006, 006_b=008 after 007",
    ),
    "a circle": ("005_t<004", "006_a<007 007_b<006", "006", "006_a=006 after 005, 007_b=007 after 006"),
    "no number": ("005_theirs<004", "mine_x<004", "mine", "5: {}mine_x.py can't be moved: the others do not"),
    "the second": ("005_theirs<004", "005_a<004 006_b<005", "006", "5: {}006_b.py can't be moved: the others do not"),
    "theirs": (
        "005_theirs<004",
        "005_mine<004",
        "005_theirs.py",
        "5: {}005_theirs.py can't be moved: it is on the main",
    ),
    "an id of two": ("005_theirs<004", "005_mine<004", "005", "2: 2 files hold revision 005"),
    "none": ("005_theirs<004", "", "009", "2: There is no revision 009"),
    "one line": ("005_theirs<004", "006_mine<005", "006_mine.py", "5: {}006_mine.py can't be moved: it stands"),
    "a fork": ("005_t<004", "006_a<004 007_b<006 008_c<006", "006", "5: {}006_a.py can't be moved: {}007_b.py names"),
}


def make_all(project: Project, words: str) -> None:
    for word in words.split():
        name, _, after = word.partition("<")
        made(project, name, after)


@pytest.mark.parametrize("case", CASES)
def test_what_moves_behind_what(case: str, begun: Project) -> None:
    theirs, mine, named, expected = CASES[case]
    make_all(begun, theirs)
    commit(begun)
    git(begun.root, "switch", "--quiet", "-c", "mine")
    make_all(begun, mine)
    before = contents(begun)
    try:
        found = ", ".join(
            f"{Path(each.script.path).stem}={each.new} after {each.behind}"
            for each in renumber.plan(script(begun), named)
        )
    except NeuraknotError as error:
        found = f"{error.exit_code}: {error.message}"[: len(expected.replace("{}", "alembic/versions/"))]
    assert found == expected.replace("{}", "alembic/versions/")
    assert contents(begun) == before


@pytest.mark.parametrize("text", ["", "depends_on = '005'", "down_revision = ('005', '004')"])
def test_what_names_the_old_id_in_another_way_is_refused(text: str, twins: Project) -> None:
    made(twins, "007_last", "006" if text else "005", text)
    with pytest.raises(NeuraknotError, match=r"00[67]_\w+.py names one that moves") as raised:
        renumber.plan(script(twins), "005_mine.py")
    assert raised.value.exit_code == 5


def test_without_a_main_branch_no_guess_is_made(twins: Project) -> None:
    git(twins.root, "branch", "--quiet", "-m", "main", "trunk")
    with pytest.raises(NeuraknotError, match=r"006_more.py names one that moves") as raised:
        renumber.plan(script(twins), "005_mine.py")
    assert raised.value.exit_code == 5
    (twins.versions / "006_more.py").unlink()
    [finding] = lint.same_place(script(twins))
    assert finding.help == "If this one came later, which git does not tell, move it behind: " + MINE.replace(
        "mine", "theirs"
    )
    assert renumber.plan(script(twins), "005_mine.py")


def test_what_follows_the_one_to_move_is_no_finding_of_its_own(twins: Project) -> None:
    made(twins, "006_theirs", "005")
    git(twins.versions, "add", "006_theirs.py")
    put_on_main(twins)
    assert [finding.path.name for finding in lint.same_place(script(twins))] == ["005_mine.py"]


@pytest.mark.slow
def test_lint_finds_two_after_one(begun: Project, database: Database) -> None:
    made(begun, "006_theirs", "004")
    commit(begun)
    git(begun.root, "switch", "--quiet", "-c", "mine")
    path = made(begun, "005_mine", "004")
    done = database.neuraknot_db("lint", cwd=begun.root)
    told = "alembic/versions/005_mine.py:11: same-predecessor: alembic/versions/006_theirs.py follows 004 as well.\n"
    told += f"    Move it behind: {MINE}\n"
    assert (done.code, done.out.count(told), done.out.count("same-predecessor")) == (3, 1, 1)
    path.unlink()
    assert list(lint.same_place(script(begun))) == []


def test_lines_that_join_again_are_no_finding(begun: Project) -> None:
    made(begun, "005_a", "004")
    made(begun, "006_b", "004")
    made(begun, "007_both", "005", "down_revision = ('005', '006')")
    assert list(lint.same_place(script(begun))) == []


@pytest.mark.slow
@pytest.mark.parametrize("applied", ["mine", "theirs", "another", "stamped", "alone"])
def test_what_the_database_at_hand_may_have_is_not_moved(
    applied: str, begun: Project, at: Callable[[str], Database]
) -> None:
    database = at("004")
    theirs = made(begun, "006_theirs" if applied == "alone" else "005_theirs", "004")
    commit(begun)
    if applied != "theirs":
        theirs.unlink()
        made(begun, "005_another" if applied == "another" else "005_mine", "004")
    done = database.neuraknot_db("stamp" if applied == "stamped" else "upgrade", "head", cwd=begun.root)
    assert done.code == 0, done.err
    for path in begun.versions.glob("005_*.py"):
        path.unlink()
    git(begun.root, "restore", ".")
    made(begun, "005_mine", "004")
    before = contents(begun)
    told = said(database, 0 if applied == "theirs" else 5, "005_mine.py")
    if applied != "theirs":
        assert "005_mine.py can't be moved: it may be the 005 that was applied on " in told
        assert told.endswith("alembic downgrade 004\n")
        assert contents(begun) == before


@pytest.mark.parametrize(
    "told", ["it does not give its down_revision as a plain string", "alembic/versions/006_mine.py already", "nowhere"]
)
def test_a_failure_at_any_point_leaves_all_files_as_they_were(
    told: str, twins: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "plain" in told:
        path = twins.versions / "006_more.py"
        path.write_text(path.read_text().replace("'005';", "'00' \\\n'5';"))
    if "already" in told:
        git(twins.versions, "mv", "005_theirs.py", "006_mine.py")
        put_on_main(twins)
    before = contents(twins)
    wanted = {twins.root / "alembic/snapshots/004.json": "{}", twins.root / "alembic/nowhere/at/all": ""}
    monkeypatch.setattr(renumber, "_demand_unapplied", lambda *_: None)
    monkeypatch.setattr(generate, "generate", lambda *_: wanted)
    with pytest.raises((NeuraknotError, OSError), match=told):
        renumber.apply(Config(), script(twins), renumber.plan(script(twins), "005_mine.py"), NOWHERE)
    assert contents(twins) == before


@pytest.mark.slow
def test_a_failure_half_way_leaves_the_files_as_they_were(twins: Project, database: Database) -> None:
    path = twins.versions / "006_more.py"
    path.write_text(path.read_text().replace("COMMENT ON", "COMMENT UPON"))
    before = contents(twins)
    assert "every file is as it was" in said(database, 7, "005_mine.py")
    assert contents(twins) == before


@pytest.mark.slow
def test_a_database_that_is_not_there(twins: Project, database: Database) -> None:
    before = contents(twins)
    gone = Database("/nowhere", 5432, "gone", database.server)
    said(gone, 6, "005_mine.py")
    assert contents(twins) == before
    done = database.neuraknot_db("renumber", "005_mine.py", cwd=twins.root, NEURAKNOT_ENV="prod")
    assert (done.code, "counts as production" in done.err) == (5, True)
    assert contents(twins) == before
    said(database, 2)
    said(database, 2, "--check", "005_mine.py")
