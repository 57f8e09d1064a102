"""Both packages break their sentences alike on a terminal: between words, and never within a command."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.machine import wrapping
from neuraknot_db.cli import wrapping as the_databases
from tests.ecs.launching import in_terminal

ARN = "arn:aws:ecs:ap-northeast-1:123456789012:task-definition/neuraKnot-prod-migrate:1"


def test_the_other_package_has_the_same() -> None:
    assert inspect.getsource(wrapping) == inspect.getsource(the_databases)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Error: short", ["Error: short"]),
        ("", [""]),
        ("the caller's role may not do --region", ["the caller's role may", "  not do --region"]),
        (f"It may not do {ARN}.", ["It may not do", f"  {ARN}."]),
        (
            "Look with `launcher logs --follow abc`, or wait.",
            ["Look with", "  `launcher logs --follow abc`,", "  or wait."],
        ),
        (
            "End it: launcher stop --environment dev, or wait: launcher status",
            ["End it:", "    launcher stop --environment dev", "  or wait:", "    launcher status"],
        ),
        ("See: git log. Or not.", ["See:", "    git log", "  Or not."]),
        ("Hint: git add .", ["Hint:", "    git add ."]),
        ("See: docker system df; docker system prune", ["See:", "    docker system df", "    docker system prune"]),
        (
            'Hand it over: eval "$(aws configure export-credentials)"',
            ["Hand it over:", '    eval "$(aws configure export-credentials)"'],
        ),
        ("Set it: DB_NAME=x alembic current --verbose", ["Set it:", "    DB_NAME=x alembic current --verbose"]),
        ("Type: .venv/bin/launcher doctor -e prod", ["Type:", "    .venv/bin/launcher doctor -e prod"]),
        ("See: neuraknot-db mark 'a b, c' --confirm x", ["See:", "    neuraknot-db mark 'a b, c' --confirm x"]),
        ("aws rds delete-db-snapshot --region x", ["aws rds delete-db-snapshot --region x"]),
        ("   aws rds delete-db-snapshot --region x", ["   aws rds delete-db-snapshot --region x"]),
        ("launcher, aws and git are programs.", ["launcher, aws and git", "  are programs."]),
        ("移行に失敗しました。ログを確認してください。", ["移行に失敗しました。", "  ログを確認してくだ", "  さい。"]),
        ("列「a」を消す: alembic upgrade head", ["列「a」を消す:", "    alembic upgrade head"]),
    ],
)
def test_lines_end_between_words(text: str, lines: list[str]) -> None:
    assert wrapping.wrapped(text, 21, "  ") == lines


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("移行", 4), ("e\u0301", 1), ("\x1b[1;31mError:\x1b[0m", 6)])
def test_the_width_is_that_of_a_terminal(text: str, cells: int) -> None:
    assert wrapping.width(text) == cells


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize(
    ("command", "message", "whole"),
    [
        (
            ["launcher", "status", "-e", "nowhere", "--root", "/none"],
            "Error: There is no Terraform root /none/terraform/environments/nowhere for the environment nowhere.",
            "--terraform-dir",
        ),
        (
            ["neuraknot-db", "show", "there-is-no-such-revision-in-this-checkout"],
            "Error: There is no revision there-is-no-such-revision-in-this-checkout.",
            "`alembic history`",
        ),
    ],
)
def test_both_programs_do_so(columns: int, command: list[str], message: str, whole: str) -> None:
    program = str(Path(sys.executable).with_name(command[0]))
    shown = in_terminal([program, *command[1:]], columns)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "").split("\n")
    assert message in " ".join(" ".join(lines).split())
    assert all(len(line) <= columns or " " not in line.strip() for line in lines), lines
    assert any(whole in line for line in lines)


@pytest.mark.parametrize("wrap", [wrapping.wrapped, the_databases.wrapped])
def test_nothing_is_lost(wrap: Callable[[str, int], list[str]]) -> None:
    text = f"The role may not do {ARN}: launcher iam-policy -e prod. " * 3
    for columns in (1, 20, 80, 200, 1000):
        assert " ".join(wrap(text, columns)).split() == text.replace("prod.", "prod").split()
