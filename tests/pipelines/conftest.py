"""A repository with the tests' own revisions, its pull requests, and production on the local AWS."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest

from launcher.rehearsal.database import EmbeddedDatabase
from launcher.rehearsal.stage import Stage, staged
from tests.db.forking import run
from tests.pipelines.github import PULL_REQUEST, TOKEN, GitHub, Runner, git
from tests.projects import PROJECT, ROOT

REVIEWED = {"protection_rules": [{"type": "branch_policy"}, {"type": "required_reviewers"}]}
"""An environment whose jobs wait for a reviewer, as the API shows it."""

READER = "neuraknot_plan"
[MAKE_READER] = re.findall(r"```sql\n(CREATE ROLE .*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
"""The database user of plan.yml and drift.yml, as the guide has it."""


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as made:
        yield made


@dataclass(frozen=True)
class Origin:
    """The repository that the pipelines run for."""

    path: Path

    def branch(self, name: str, start: str = "main") -> None:
        git(self.path, "checkout", "--quiet", "-b", name, start)

    def add(self, revision: str, name: str, sql: str = "ALTER TABLE public.users ADD COLUMN {} text") -> None:
        """Commit a revision after 004."""
        path = self.path / "alembic" / "versions" / f"{revision}_{name}.py"
        path.write_text(
            f'"""Add {name}."""\n\nfrom alembic import op\n\nrevision = "{revision}"\ndown_revision = "004"\n\n\n'
            f'def upgrade() -> None:\n    op.execute("{sql.format(name)}")\n\n\n'
            f'def downgrade() -> None:\n    op.execute("ALTER TABLE public.users DROP COLUMN {name}")\n'
        )
        self.commit(f"Add {name}")

    def commit(self, message: str) -> None:
        git(self.path, "add", "-A")
        git(self.path, "commit", "--quiet", "--allow-empty", "-m", message)

    def merge(self, branch: str) -> None:
        """Merge a pull request."""
        git(self.path, "checkout", "--quiet", "main")
        git(self.path, "merge", "--quiet", "--no-ff", "--no-edit", branch)

    def merged(self, branch: str) -> str:
        """Make the commit that a pull request's workflows run on, and return its name."""
        git(self.path, "checkout", "--quiet", "-B", "merged", "main")
        git(self.path, "merge", "--quiet", "--no-ff", "--no-edit", branch)
        git(self.path, "checkout", "--quiet", branch)
        return "merged"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    path = tmp_path / "origin"
    shutil.copytree(PROJECT, path, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Dockerfile.migrate", ".dockerignore", "requirements.lock"):
        shutil.copy(ROOT / name, path)
    for name in (".github", "docker", "neuraknot_db"):
        shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(path, "init", "--quiet", "--initial-branch", "main")
    made = Origin(path)
    made.commit("Begin")
    return made


@pytest.fixture
def runner(github: GitHub, origin: Origin, tmp_path: Path) -> Runner:
    """Runs workflows for a pull request from the same repository; nothing of AWS is there."""
    (tmp_path / "run").mkdir()
    fork = "github.event.pull_request.head.repo.full_name"
    values = {
        "github.token": TOKEN,
        "github.sha": "abc123",
        "github.run_attempt": "1",
        "github.event_name": "push",
        "github.event.pull_request.number": str(PULL_REQUEST),
        f"{fork} != github.repository": "false",
        fork: "github.repository",
        "inputs.environment || 'prod'": "prod",
    }
    return Runner(github, origin.path, tmp_path / "run" / "work", values)


@dataclass(frozen=True)
class Production:
    """Production's AWS, and its database."""

    stage: Stage
    socket: str

    def at(self, revision: str) -> None:
        """Build the database anew at a revision, with the reader."""
        self.run(
            "CREATE SCHEMA IF NOT EXISTS neuraknot_db; DROP SCHEMA public, neuraknot_db CASCADE; CREATE SCHEMA public"
        )
        self.run(f"DO $$ BEGIN IF to_regrole('{READER}') IS NOT NULL THEN DROP OWNED BY {READER}; END IF; END $$")
        self.run(f"DROP ROLE IF EXISTS {READER}")
        url = f"postgresql://postgres@/neuraKnot?host={self.socket}"
        environ = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "NEURAKNOT_ENV": "prod"}
        code, _, said = run("alembic", ["upgrade", revision], cwd=PROJECT, env=environ)
        assert code == 0, said
        self.run(MAKE_READER)

    def run(self, sql: str) -> None:
        connection = psycopg2.connect(host=self.socket, user="postgres", dbname="neuraKnot")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
        connection.close()


STAND_IN = """#!{python}
import json, os, sys
program, words = os.path.basename(sys.argv[0]), sys.argv[1:]
options = dict(zip(words, words[1:]))
if words[:2] == ["ecr", "get-login-password"]:
    print("of the registry")
elif words[0] == "login":
    assert sys.stdin.read() == "of the registry\\n"
elif words[0] == "build":
    assert os.path.exists(options["--file"])
elif words[0] == "push":
    import boto3
    name, tag = words[-1].partition("/")[2].split(":")
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({{"schemaVersion": 2, "mediaType": kind, "config": {{"digest": "sha256:1", "size": 1}}}})
    boto3.client("ecr").put_image(repositoryName=name, imageTag=tag, imageManifest=manifest)
elif words[:2] == ["ecs", "update-service"]:
    import boto3
    forced = "--force-new-deployment" in words
    boto3.client("ecs").update_service(
        cluster=options["--cluster"], service=options["--service"], forceNewDeployment=forced
    )
elif words[:3] == ["ecs", "wait", "services-stable"]:
    import boto3
    boto3.client("ecs").get_waiter("services_stable").wait(
        cluster=options["--cluster"], services=[options["--services"]], WaiterConfig={{"Delay": 1, "MaxAttempts": 5}}
    )
else:
    sys.exit("no such command here: " + " ".join(sys.argv))
"""
"""`aws` and `docker`, as far as the workflows call them, on the local AWS."""


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedDatabase]:
    with (
        tempfile.TemporaryDirectory(prefix="nk-") as folder,
        EmbeddedDatabase(Path(sys.executable).parent, Path(folder) / "pg") as database,
    ):
        yield database


@pytest.fixture
def production(server: EmbeddedDatabase, runner: Runner, tmp_path: Path) -> Iterator[Production]:
    """Production's stack with its database, to which the runner's jobs have come in by OIDC."""
    runner.checkout()  # its image is in the registry; a task runs what the last checkout holds
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("aws", "docker"):
        (programs / name).write_text(STAND_IN.format(python=sys.executable))
        (programs / name).chmod(0o755)
    with staged(runner.work, "prod", tmp_path / "stage", server) as stage:
        stack = stage.cloud.stack
        secret = stack.secrets.create_secret("reader", "CHANGE ME", None, "", [], None, None, [], False)
        arn = stack.secrets.secrets["reader"].arn
        assert secret
        stack.allow(
            stack.execution_role,
            "reader",
            {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": arn},
        )
        stack._create_repository("neuraknot-prod-plan")
        runner.environ = {
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "TF_CLI_CONFIG_FILE": "/dev/null",
            "NEURAKNOT_TERRAFORM_DIR": str(stage.directory),
            **stage.cloud.environment,
        }
        registry = f"{stage.cloud.server.account}.dkr.ecr.{stage.cloud.server.region}.amazonaws.com"
        runner.values |= {
            "vars.DB_USER": "neuraknot_plan",
            "vars.DB_PASSWORD_SECRET": arn,
            "vars.PLAN_REPOSITORY": f"{registry}/neuraknot-prod-plan",
            "vars.ECS_CLUSTER": stack.cluster,
            "vars.ECS_SERVICE": stack.service,
        }
        yield Production(stage, server.socket)
