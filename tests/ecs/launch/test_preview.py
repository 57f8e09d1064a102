"""`ecs-migrate --plan`: the task tells what would run, this machine's linter adds what it thinks, and that is all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from launcher.rehearsal.program import Script
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import Stage, make_stage
from tests.projects import PROJECT

PLANNED = Script(
    lines=((0.5, "1 revision from 003 to 004"),), seconds=2.0, report={"before": "003", "after": "003", "ran": []}
)


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    made = make_stage(make_cloud(script=PLANNED), clock, tmp_path)
    shutil.copy(PROJECT / "alembic.ini", made.root)
    shutil.copytree(PROJECT / "alembic", made.root / "alembic", dirs_exist_ok=True)
    return made


@pytest.mark.slow
def test_the_plan_is_shown_the_linter_is_heard_and_nothing_more_is_done(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--plan")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == ["1 revision from 003 to 004"]
    assert "Lint of 003:head:\n   1 revision: nothing found" in outcome.err
    stage.clock.sleep(10)
    (task,) = json.loads(stage.launch("status", "--json").out)["over"]
    assert task["command"] == ["neuraknot-db", "plan"]


@pytest.mark.slow
def test_what_the_linter_finds_is_told_and_is_no_failure(stage: Stage) -> None:
    (stage.root / "alembic" / "versions" / "005_slow.py").write_text(
        '"""Slow."""\n\nfrom alembic import op\n\nrevision = "005"\ndown_revision = "004"\n\n\n'
        'def upgrade() -> None:\n    op.execute("CREATE INDEX slow ON public.users (display_name)")\n\n\n'
        'def downgrade() -> None:\n    op.execute("DROP INDEX public.slow")\n'
    )
    outcome = stage.launch("ecs-migrate", "--plan", "--revision", "005", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["lint"]["revisions"] == "003:005"
    assert outcome.json["lint"]["clean"] is False
    assert any("require-concurrent-index" in line for line in outcome.json["lint"]["lines"])


@pytest.mark.slow
def test_a_plan_that_fails_is_not_linted(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    failed = Script(lines=((0.5, "Error: refused"),), seconds=1.0, exit_code=5)
    outcome = make_stage(make_cloud(script=failed), clock, tmp_path).launch("ecs-migrate", "--plan", "--json")
    assert (outcome.code, outcome.json["lint"]) == (5, None)


@pytest.mark.parametrize(
    "option", ["--reset", "--create-db", "--force", "--detach", "--snapshot", "--confirm-reset=dev"]
)
def test_it_goes_with_nothing_that_changes_something(stage: Stage, option: str) -> None:
    outcome = stage.launch("ecs-migrate", "--plan", option)
    assert outcome.code == 2
    assert f"--plan and {option.partition('=')[0]} exclude each other" in outcome.err
    assert stage.writes == []


def test_without_a_checkout_a_plan_is_not_linted(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    outcome = make_stage(make_cloud(script=PLANNED), clock, tmp_path).launch("ecs-migrate", "--plan")
    assert outcome.code == 0, outcome.err
    assert "Not linted: that needs the revisions of a checkout. Name it with --root." in outcome.err
