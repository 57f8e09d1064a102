"""What holds for each workflow: it is sound, its actions are pinned, and its jobs may do no more than they need."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.github import WORKFLOWS, read
from tests.projects import ROOT

PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
SETUP = ROOT / ".github" / "actions" / "setup" / "action.yml"

workflows = pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


def test_actionlint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("actionlint")
    alone = ["-shellcheck=", "-pyflakes="]  # it would run them where they happen to be installed
    done = subprocess.run([str(program), *alone], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("path", [*sorted(WORKFLOWS.glob("*.yml")), SETUP], ids=lambda path: path.stem)
def test_an_action_of_others_is_pinned_by_its_commit(path: Path) -> None:
    used = [line.partition("uses: ")[2] for line in path.read_text().splitlines() if "uses: " in line]
    assert used
    assert [each for each in used if not (each == "./.github/actions/setup" or PINNED.fullmatch(each))] == []


@workflows
def test_a_job_has_only_the_rights_that_it_names_and_ends_in_time(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert workflow["defaults"] == {"run": {"shell": "bash"}}  # which the tests' runner takes for granted
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60, name
        writes = {what for what, right in job["permissions"].items() if right == "write"}
        assert writes <= {"id-token", "pull-requests", "issues"}
        assert "id-token" not in writes or "environment" in job, f"{name}: its role could not tell who asks"


@workflows
def test_two_runs_do_not_meet_and_no_migration_is_cut_short(path: Path) -> None:
    workflow = read(path)
    cancels = workflow["concurrency"]["cancel-in-progress"]
    assert (cancels is False) == (path.stem in ("migrate", "drift"))


@workflows
def test_no_expression_is_pasted_into_a_script_and_no_checkout_keeps_the_token(path: Path) -> None:
    for step in steps(path):
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_nothing_runs_with_secrets_for_a_fork() -> None:
    for path in WORKFLOWS.glob("*.yml"):
        assert "pull_request_target" not in path.read_text()
        assert "secrets." not in path.read_text()
    plan = read(WORKFLOWS / "plan.yml")["jobs"]["plan"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in plan["if"]
    assert plan["environment"] == "prod-plan"


def test_what_is_checked_and_tested_stands_in_one_place() -> None:
    jobs = read(WORKFLOWS / "ci.yml")["jobs"]
    assert [step["run"] for step in jobs["tests"]["steps"] if "run" in step] == [".ci/run"]
    matrix = jobs["tests"]["strategy"]["matrix"]["include"]
    assert {each["python"] for each in matrix} == {"3.11", "3.12", "3.13", "3.14"}
    assert {each["postgres"] for each in matrix} == {"15", "16", "17"}  # and 18, which is in each
