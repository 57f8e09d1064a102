"""A rehearsal: the real command line, a local AWS, real processes and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import psutil  # type: ignore[import-untyped]
import pytest

from launcher.__main__ import main as program
from launcher.cli.console import Console
from launcher.cli.dependencies import Dependencies, called_as
from launcher.cli.main import main
from launcher.machine.wrapping import wrapped
from launcher.rehearsal.failures import FAILURES
from launcher.rehearsal.stack import DATABASE_PASSWORD
from tests.projects import REVISIONS, ROOT

HEAD = json.loads((ROOT / "alembic" / "snapshots" / f"{REVISIONS[-1]}.json").read_text(encoding="utf-8"))
TABLES = sorted(HEAD["tables"])


def rehearse(*arguments: str, root: Path = ROOT) -> tuple[int, str, str]:
    """`launcher rehearse`: the exit code, standard output and standard error."""
    out, err = StringIO(), StringIO()
    dependencies = Dependencies(console=lambda as_json: Console(json=as_json, stdout=out, stderr=err))
    with pytest.raises(SystemExit) as ended:
        main(["rehearse", "--root", str(root), *arguments], dependencies)
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out.getvalue(), err.getvalue()


def variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scratch folders go where the test can see them."""
    short = Path(tempfile.mkdtemp(prefix="r"))  # a socket's path has 107 characters
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    before = variables()
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert list(short.iterdir()) == []
    short.rmdir()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= children
    assert variables() == before


def pictured() -> Iterator[str]:
    """The lines of the README's picture."""
    lines: dict[str, list[str]] = {}
    for text in ElementTree.parse(ROOT / "docs" / "rehearse.svg").iter("{http://www.w3.org/2000/svg}text"):
        lines.setdefault(text.get("clip-path", "the title"), []).append(text.text or "")
    return (" ".join(parts) for parts in lines.values())


def in_any_run(lines: Iterable[str]) -> set[str]:
    """Lines without what differs from run to run, and with another revision: numbers, ids, places, plurals."""
    varying = re.compile(r"/\S+/data\b|\b(?:[0-9a-f]{24,}|\d[\d.]*(?: (?:m?s|min)\b)?)(?:, \d+)*|(?<=\w)s\b")
    return {varying.sub("", " ".join(line.strip(" │\xa0").split())) for line in lines}


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_the_pipeline_ends_with_the_eight_tables_and_leaves_nothing_behind() -> None:
    code, printed, said = rehearse()
    assert code == 0, said
    steps = [line.split()[1] for line in said.splitlines() if line.startswith(" ✓")]
    assert steps == ["+", *(f"{number}/8" for number in range(1, 9))]
    assert [line.split()[0] for line in printed.splitlines()[-len(TABLES) :]] == TABLES
    assert f"none -> {REVISIONS[-1]}" in said
    assert DATABASE_PASSWORD not in printed + said
    shown = in_any_run(pictured())
    assert len(shown) > 25
    lines = (printed + said).splitlines()
    lines += [part for line in lines for part in wrapped(line, 120)]  # as a terminal has them
    assert shown - in_any_run(lines) == {"launcher rehearse"}, "make picture draws it anew"


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_reset_of_production_is_rehearsed_with_its_snapshot() -> None:
    code, printed, said = rehearse("--environment", "prod", "--reset")
    assert code == 0, said
    assert "neuraknot-prod-db" in said, "no snapshot was made"
    assert said.count("8/8") == 2
    assert [line.split()[0] for line in printed.splitlines()[-len(TABLES) :]] == TABLES


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_rollback_of_production_is_rehearsed_with_its_snapshot() -> None:
    code, _, said = rehearse("--environment", "prod", "--rollback")
    assert code == 0, said
    assert "neuraknot-prod-db" in said, "no snapshot was made"
    assert f"prod is at no revision; {', '.join(reversed(REVISIONS))} taken back." in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--reset --json", "--reset and --json exclude each other here"),
        ("--reset --rollback", "--rollback and --reset exclude each other"),
        ("--rollback -- status", "--rollback is the command's own here."),
    ],
)
def test_more_than_one_further_run_is_refused_before_the_stage_is_set(line: str, words: str) -> None:
    code, _, said = rehearse(*line.split())
    assert (code, words in said, "Stage" in said) == (2, True, False), said


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_failure_is_told_as_it_would_be_and_shows_no_tables() -> None:
    code, printed, said = rehearse("--fail", "no-route")
    assert code == 23
    assert FAILURES["no-route"].about in said
    assert "com.amazonaws.ap-northeast-1.ecr.dkr" in said
    assert printed == ""


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", ["migration-fails", "stopped-by-somebody", "out-of-memory"])
def test_the_real_program_fails_for_real(name: str) -> None:
    code, printed, said = rehearse("--fail", name)
    assert code == FAILURES[name].exit_code
    assert f"at revision {REVISIONS[-1]}" not in said
    after = f"{int(REVISIONS[-1]) + 1:03d}"
    killed = name == "out-of-memory"
    assert killed or re.search(rf"^Error: .*evision {after} .*rolled back", printed, re.MULTILINE), printed
    assert re.search(r"^ ✗ 8/8", said, re.MULTILINE)
    assert not [path for path in (ROOT / "alembic" / "versions").iterdir() if path.name.startswith(after)]


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--", "ecs-migrate", "--dry-run"], 0, "command          alembic upgrade head"),
        (["--", "status", "--json"], 0, '"alive": []'),
        (["--", "iam-policy"], 0, '"ecs:RunTask"'),
        (["--environment", "prod", "--", "ecs-migrate", "--dry-run"], 0, "prod (guarded as production)"),
        (["--", "ecs-migrate", "-e", "prod", "--dry-run"], 0, "prod (guarded as production)"),
        (["--fail", "slow-task", "--", "ecs-migrate"], 24, "after 5 s"),
        (["--fail", "no-route", "--", "doctor"], 21, "has no way out"),
        (["--", "ecs-migrate", "--bogus"], 2, "No such option"),
    ],
)
def test_any_command_can_be_tried_on_the_stage(arguments: list[str], code: int, words: str) -> None:
    ended, printed, said = rehearse(*arguments)
    assert ended == code, said
    assert words in printed + said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "nonsense"],
        ["--", "rehearse"],
        ["--json", "--", "status"],
        ["--reset", "--", "ecs-migrate"],
        ["--fail", "nonsense", "--", "status"],
    ],
)
def test_what_can_not_be_rehearsed_is_refused_before_anything_starts(arguments: list[str]) -> None:
    code, printed, said = rehearse(*arguments)
    assert code == 2
    assert "A rehearsal of" not in printed + said


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C", "POSIX", "ja_JP.EUC-JP", "xx_YY.UTF-8"])
def test_in_any_locale(locale: str) -> None:
    """Those that are not installed too; in one of few characters the signs are others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    ended = subprocess.run(
        [sys.executable, "-m", "launcher", "rehearse", "--", "ecs-migrate"],
        cwd=ROOT,
        env={**environment, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"8/8 Verdict" in ended.stderr
    assert b"\\u2713" not in ended.stderr


def test_where_a_signal_is_missing_the_launcher_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 20
    assert "runs on Linux and macOS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "path", "name"),
    [
        ("{bin}/launcher", "{bin}", "launcher"),
        ("{bin}/launcher", "/usr/bin", "{bin}/launcher"),
        ("{bin}/launcher", "{other}", "{bin}/launcher"),
        ("{package}/__main__.py", "/usr/bin", "{python} -m launcher"),
        ("{package}/__main__.py", "{bin}", "launcher"),
        ("/usr/bin/pytest", "{bin}", "launcher"),
        ("", "/usr/bin", "launcher"),
    ],
)
def test_a_command_that_is_printed_works_as_it_stands(
    called: str, path: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(shutil.which("true") or "/bin/true", tmp_path / "launcher")  # another program of that name
    folder = Path(sys.executable).parent
    words = {"bin": folder, "other": tmp_path, "python": sys.executable, "package": ROOT / "launcher"}
    monkeypatch.setenv("PATH", path.format(**words))
    assert called_as(called.format(**words)) == name.format(**words)
    err = StringIO()
    Console(stderr=err, program="bin/launcher").verdict("No.", "See: launcher status, or `launcher logs`.", good=False)
    assert "See: bin/launcher status, or `bin/launcher logs`." in err.getvalue()


def test_an_unknown_failure_is_wrong_usage_and_the_nearest_is_named() -> None:
    code, _, said = rehearse("--fail", "no-rout")
    assert code == 2
    assert "Did you mean 'no-route'" in said
    assert rehearse("--fail", "xyz")[0] == 2


def test_two_runs_are_not_told_as_one_result() -> None:
    code, printed, said = rehearse("--reset", "--json")
    assert code == 2
    assert json.loads(printed)["exit_code"] == 2
    assert "--reset and --json" in said


def test_all_failures_can_be_listed() -> None:
    code, printed, _ = rehearse("--fail", "list")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == list(FAILURES)


def test_it_needs_a_checkout(tmp_path: Path) -> None:
    code, _, said = rehearse(root=tmp_path)
    assert code == 20
    assert "Dockerfile.migrate" in said


def test_without_its_extra_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.cli.rehearse.find_spec", lambda name: None if name == "moto" else True)
    code, _, said = rehearse()
    assert code == 20
    assert "pip install '.[local]'" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_ended_by_a_signal_it_leaves_nothing_behind(number: int) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="r"))
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "rehearse"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "1/8" in line:
                break
        process.send_signal(number)
        process.stderr.read()
    left = list(scratch.glob("nk-*"))  # the embedded server's own lock file stays
    shutil.rmtree(scratch)
    assert (process.returncode, left) == (128 + number, [])
    running = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert not [command for command in running if str(scratch) in command]


@pytest.mark.slow
def test_as_a_program_it_prints_one_json_object() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ended = subprocess.run(
        [sys.executable, "-m", "launcher", "rehearse", "--json"],
        cwd=ROOT,
        env={**environment, "AWS_ACCESS_KEY_ID": "of another account", "HTTP_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert (result["verdict"], result["before"], result["after"]) == ("succeeded", None, REVISIONS[-1])
    assert result["ran"] == list(REVISIONS)
