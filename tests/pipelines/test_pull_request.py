"""plan.yml: one comment on a pull request, whatever is pushed to it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pipelines.conftest import REVIEWED, Origin, Production
from tests.pipelines.github import GitHub, Job, Runner, made

BEGIN = "<!-- neuraknot: review -->\n"


def pushed(runner: Runner, origin: Origin, branch: str) -> dict[str, Job]:
    runner.ref = origin.merged(branch)
    return runner.run("plan")


@pytest.mark.slow
def test_three_pushes_are_one_comment_that_is_updated_twice(runner: Runner, origin: Origin, github: GitHub) -> None:
    github.comments += [made(number, by="somebody", body=BEGIN) for number in range(120)]  # more than a page of them
    origin.branch("nickname")
    origin.add("005", "nickname")
    first = pushed(runner, origin, "nickname")
    assert (first["review"].conclusion, first["plan"].conclusion) == ("failure", "skipped")
    assert "❌ 1 finding" in github.comments[120]["body"]
    assert "<code>not-measured</code>" in github.comments[120]["body"]
    assert "not made, as the above failed" in github.comments[120]["body"]
    with (origin.path / "alembic" / "lint.toml").open("a") as file:
        file.write('\n[revisions.005]\nnot-measured = "In a test."\n')
    for message in ("Say why", "Go on"):
        origin.commit(message)
        assert pushed(runner, origin, "nickname")["review"].conclusion == "success"
    assert github.writes == ["POST /issues/7/comments", *["PATCH /issues/comments/120"] * 2]
    body = github.comments[120]["body"]
    assert body.startswith(f"{BEGIN}### Lint of 1 revision: ✅ nothing found")
    assert "no environment `prod-plan` that asks for a review" in body
    assert "https://github.example/tokyo/neuraknot/actions/runs/3)" in body
    assert {each["body"] for each in github.comments[:120]} == {BEGIN}


@pytest.mark.slow
def test_a_change_of_an_old_revision_is_told(runner: Runner, origin: Origin, github: GitHub) -> None:
    origin.branch("edit")
    (old,) = origin.path.glob("alembic/versions/003_*.py")
    old.write_text(old.read_text().replace("avatar_url text", "avatar_url varchar"))
    origin.commit("Edit 003")
    assert pushed(runner, origin, "edit")["review"].conclusion == "success"  # it may be a comment
    assert f"\n- ❗ `alembic/versions/{old.name}` is not new, and changed here. " in github.comments[0]["body"]


@pytest.mark.slow
@pytest.mark.parametrize("second", ["005", "006"])
def test_the_second_of_two_branches_from_004_ends_red_with_the_way_out(
    second: str, runner: Runner, origin: Origin, github: GitHub
) -> None:
    for number, name in (("005", "birthday"), (second, "nickname")):
        origin.branch(name)
        origin.add(number, name)
    origin.merge("birthday")
    review = pushed(runner, origin, "nickname")["review"]
    assert review.conclusion == "failure"
    (comment,) = github.comments
    for text in (review.said, review.summary, comment["body"]):
        assert "alembic/versions/005_birthday.py" in text
        assert f"alembic/versions/{second}_nickname.py" in text
        assert f"neuraknot-db renumber alembic/versions/{second}_nickname.py" in text
    assert "<pre>" in review.summary  # what a branch says is no markup there either


@pytest.mark.slow
def test_a_fork_gets_no_comment_and_no_plan(runner: Runner, origin: Origin, github: GitHub) -> None:
    github.environments["prod-plan"] = REVIEWED
    fork = "github.event.pull_request.head.repo.full_name"
    runner.values |= {fork: "somebody/neuraknot", f"{fork} != github.repository": "true"}
    origin.branch("nothing")
    origin.commit("Change nothing")
    jobs = pushed(runner, origin, "nothing")
    assert (jobs["review"].conclusion, jobs["plan"].conclusion, github.writes) == ("success", "skipped", [])
    assert "not made for forks" in jobs["review"].summary


@pytest.mark.slow
def test_productions_plan_follows_in_the_same_comment_once_it_was_approved(
    production: Production, runner: Runner, origin: Origin, github: GitHub
) -> None:
    github.environments["prod-plan"] = REVIEWED
    production.at("002")
    origin.branch("nothing")
    origin.commit("Change nothing")
    jobs = pushed(runner, origin, "nothing")
    assert [each.conclusion for each in jobs.values()] == ["success", "success"], jobs["plan"].said
    assert github.writes == ["POST /issues/7/comments", "PATCH /issues/comments/0"]
    body = github.comments[0]["body"]
    assert "waits for a reviewer" not in body
    plan = body.partition("<!-- neuraknot: plan -->\n")[2]
    assert plan.startswith("### Plan: 2 revisions from 002 to 004\n")
    assert "| <code>users</code> | ACCESS EXCLUSIVE, blocks reads and writes | catalogs only |" in plan
    assert "refused" not in plan
    assert plan.partition("[The run]")[0].strip() in jobs["plan"].summary
    (run,) = [call.parameters for call in production.stage.cloud.server.calls if call.operation == "RunTask"]
    definition: Any = production.stage.cloud.stack.ecs.describe_task_definition(run["taskDefinition"])
    assert "/neuraknot-prod-plan@sha256:" in definition.container_definitions[0]["image"]


@pytest.mark.slow
def test_a_plan_that_fails_is_told_in_the_comment(
    production: Production, runner: Runner, origin: Origin, github: GitHub
) -> None:
    github.environments["prod-plan"] = REVIEWED
    production.at("002")
    production.run("REVOKE SELECT ON public.alembic_version FROM neuraknot_plan")
    origin.branch("nothing")
    origin.commit("Change nothing")
    plan = pushed(runner, origin, "nothing")["plan"]
    assert plan.conclusion == "failure"
    told = github.comments[0]["body"].partition("<!-- neuraknot: plan -->\n")[2]
    assert told.startswith("<pre>Error: User neuraknot_plan may not read the table public.alembic_version.\n"), (
        plan.said
    )
    assert "Production could not be planned" in told
