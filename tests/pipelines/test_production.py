"""migrate.yml and drift.yml, against production on the local AWS."""

from __future__ import annotations

import pytest

from tests.pipelines.conftest import REVIEWED, Production
from tests.pipelines.github import GitHub, Runner, made


def deployments(production: Production) -> list[object]:
    calls = production.stage.cloud.server.calls
    return [call.parameters["forceNewDeployment"] for call in calls if call.operation == "UpdateService"]


@pytest.mark.slow
def test_the_service_is_deployed_after_the_migration(production: Production, runner: Runner, github: GitHub) -> None:
    github.environments["prod"] = REVIEWED
    production.at("002")
    jobs = runner.run("migrate")
    assert [each.conclusion for each in jobs.values()] == ["success"] * 3, jobs
    assert "Revision 002 -&gt; 004" in jobs["migrate"].summary
    assert deployments(production) == [True]
    assert "runs on new tasks" in jobs["deploy"].summary


@pytest.mark.slow
def test_after_a_failed_migration_nothing_is_deployed(production: Production, runner: Runner) -> None:
    runner.values["github.event_name"] = "workflow_dispatch"
    production.at("002")
    production.run("CREATE VIEW of_names AS SELECT persona_type FROM ai_agents; ALTER TABLE users RENAME TO people")
    jobs = runner.run("migrate")
    assert [each.conclusion for each in jobs.values()] == ["success", "failure", "skipped"], jobs
    assert "<h3>❌ ecs-migrate prod</h3>" in jobs["migrate"].summary
    assert deployments(production) == []


def test_what_nobody_would_approve_is_not_migrated_by_a_merge(runner: Runner, github: GitHub) -> None:
    github.environments["prod"] = {"protection_rules": []}
    jobs = runner.run("migrate")
    assert [each.conclusion for each in jobs.values()] == ["success", "skipped", "skipped"]
    assert "Start it: Actions, migrate, Run workflow." in jobs["approval"].summary


@pytest.mark.slow
def test_drift_is_one_issue_for_as_long_as_it_lasts(production: Production, runner: Runner, github: GitHub) -> None:
    title = "Production's schema is not what its revision says"
    github.issues.append(made(0, by="somebody", title=title, body=f"<!-- neuraknot: {title} -->"))
    production.at("004")
    for sql in ("ALTER TABLE users ADD hotfix text", "ALTER TABLE users ADD another text"):
        production.run(sql)
        job = runner.run("drift")["verify"]
        assert job.conclusion == "success", job.said
    assert github.writes == ["POST /issues", "PATCH /issues/1"]
    assert github.issues[1]["title"] == title
    assert "hotfix" in github.issues[1]["body"]
    assert "another" in github.issues[1]["body"]
    production.run("ALTER TABLE users DROP hotfix, DROP another")
    assert runner.run("drift")["verify"].conclusion == "success"
    assert [each["state"] for each in github.issues] == ["open", "closed"]


@pytest.mark.slow
def test_a_database_that_can_not_be_asked_is_a_failed_job_and_no_drift(
    production: Production, runner: Runner, github: GitHub
) -> None:
    production.at("004")
    production.run("ALTER ROLE neuraknot_plan NOLOGIN")
    job = runner.run("drift")["verify"]
    assert job.conclusion == "failure"
    assert "neuraknot_plan" in job.said
    assert github.writes == []
