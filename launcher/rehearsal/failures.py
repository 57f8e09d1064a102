"""The ways in which one-off ECS tasks fail; each can be played on the local AWS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.rehearsal import plays
from launcher.rehearsal.network import ENDPOINTS
from launcher.rehearsal.obstacles import pull_failure, start_failure
from launcher.rehearsal.plays import Play
from launcher.rehearsal.program import Script
from launcher.rehearsal.stack import StackOptions
from launcher.rehearsal.task import Obstacle


@dataclass(frozen=True)
class Failure:
    """One kind of failure, and the launcher's expected reaction.

    Attributes:
        name: for `rehearse --fail NAME`.
        about: what happens, in one sentence.
        exit_code: the launcher's expected exit code.
        says: a pattern that the launcher's output must match, so that users know what to do.
        play: breaks a working scene.
        number: its number in the design's list of twenty.
        stack: the stack that it needs.
        timeout: the task's time limit in seconds; None for the launcher's default.
        image_known: whether the registry already has the image.
    """

    name: str
    number: int
    about: str
    exit_code: int
    says: str
    play: Play
    stack: StackOptions = field(default_factory=StackOptions)
    timeout: float | None = None
    image_known: bool = True

    @property
    def starts_a_task(self) -> bool:
        """Whether RunTask starts a task before the failure."""
        return self.exit_code not in (4, 20, 21, 22) and self.name != "no-capacity"

    @property
    def log_is_whole(self) -> bool:
        """Whether every line of a successful container must be shown, once and in order."""
        return self.exit_code == 0 and self.name != "fast-task"


_WRONG_PLATFORM = "image Manifest does not contain descriptor matching platform 'linux/amd64'"
_FORBIDDEN = "failed to copy: httpReadSeeker: failed open: unexpected status code: 403 Forbidden"

_ERROR = 'column "id" of relation "users" already exists'
_FAILING = plays.revision(
    'op.execute("ALTER TABLE public.users ADD COLUMN id uuid")',
    Script(lines=(*plays.BEGINNING, (0.5, f"Error: {_ERROR}")), seconds=1.0, exit_code=7, error=_ERROR),
)

FAILURES: Mapping[str, Failure] = {
    failure.name: failure
    for failure in (
        Failure(
            "cannot-pull",
            1,
            "the image can't be pulled",
            23,
            "CannotPullContainerError",
            plays.obstacle(pull_failure(_FORBIDDEN)),
        ),
        Failure(
            "resource-initialization",
            1,
            "what the container needs can't be prepared",
            23,
            "could not be prepared",
            plays.obstacle(
                Obstacle("ResourceInitializationError: unable to pull secrets or registry auth: signal: killed")
            ),
        ),
        Failure(
            "failed-to-start",
            1,
            "the image does not hold the program",
            23,
            "CannotStartContainerError",
            plays.obstacle(start_failure("alembic")),
        ),
        Failure(
            "host-lost",
            1,
            "the host is lost while the migration runs, and no exit code is ever known",
            25,
            "not known|unknown",
            plays.container(Script(lines=plays.BEGINNING, exit_code=None)),
        ),
        Failure("fast-task", 2, "the task is over before anybody looks", 0, "", plays.no_time),
        Failure(
            "slow-task",
            3,
            "the migration does not end in the time that it was given",
            24,
            "stopped",
            plays.endless,
            timeout=5.0,
        ),
        Failure(
            "late-lines", 4, "the last lines arrive when the task is over already", 0, "", plays.logging(delay=0.8)
        ),
        Failure("late-stream", 5, "the log stream appears after the container", 0, "", plays.logging(stream_delay=2.0)),
        Failure(
            "no-stream",
            5,
            "the log stream never appears, and with it no report of what was done",
            25,
            r"log.*is not there[\s\S]*not known what became of the upgrade",
            plays.logging(lost=True),
        ),
        Failure("equal-timestamps", 6, "all lines have the same timestamp", 0, "", plays.logging(same_time=True)),
        Failure("throttling", 7, "every other look at the task and its log is throttled", 0, "", plays.throttled),
        Failure("start-throttled", 7, "RunTask is throttled twice", 0, "", plays.start_throttled),
        Failure("missing", 8, "ECS does not know the task for some time after starting it", 0, "", plays.unseen),
        Failure("no-route", 9, "the private subnets have no way out", 23, r"ecr\.dkr", plays.no_route),
        *(
            Failure(
                f"no-{service.replace('.', '-')}-endpoint",
                9,
                f"the private subnets lack the VPC endpoint of {service}",
                23,
                re.escape(f"ap-northeast-1.{service}"),
                plays.no_endpoint(service),
                stack=StackOptions(way_out="endpoints", login="output"),
            )
            for service in ENDPOINTS
        ),
        Failure(
            "secret-denied",
            10,
            "the execution role may not read the database's secret",
            23,
            "secretsmanager:GetSecretValue",
            plays.secret_denied,
            stack=StackOptions(login="output"),
        ),
        Failure("access-denied", 10, "the caller is today's CI role", 21, "iam-policy", plays.todays_ci_role),
        Failure(
            "log-denied",
            10,
            "the caller may not read the log, and so no report of what was done",
            25,
            r"may not be read.*logs:GetLogEvents[\s\S]*not known what became of the upgrade",
            plays.log_denied,
        ),
        Failure(
            "pass-role-denied",
            10,
            "the caller may not pass the task's roles",
            21,
            "iam:PassRole",
            plays.pass_role_denied,
        ),
        Failure(
            "wrong-architecture",
            11,
            "the image is for another processor",
            23,
            "platform",
            plays.obstacle(pull_failure(_WRONG_PLATFORM)),
        ),
        Failure(
            "no-report",
            1,
            "a revision ends the process with 0, as if all had been done",
            25,
            "ended with 0, but its log ends without its report",
            plays.revision("os._exit(0)", Script(lines=plays.BEGINNING, report=None)),
        ),
        Failure(
            "half-way",
            1,
            "the container ends with 0, but half-way",
            25,
            "is at 002, and the upgrade was to take it to 004",
            plays.container(Script(lines=plays.BEGINNING, report={"after": "002"})),
        ),
        Failure(
            "sidecar",
            12,
            "GuardDuty's container ends with 137 beside a migration that went well",
            0,
            "",
            plays.sidecar(137),
        ),
        Failure(
            "sidecar-hides-failure",
            12,
            "the migration fails beside a container that ends with 0",
            7,
            "7",
            plays.both(plays.sidecar(0), _FAILING),
        ),
        Failure("no-capacity", 13, "Fargate has no capacity", 23, "[Cc]apacity", plays.capacity(None)),
        Failure("capacity-returns", 13, "Fargate has capacity again at the third try", 0, "", plays.capacity(2)),
        Failure("two-launchers", 14, "another launcher's task is alive", 4, "somebody else", plays.another_launcher),
        Failure("lost-answer", 15, "RunTask starts the task, and its answer is lost", 0, "", plays.lost_answers(1)),
        Failure(
            "lost-answers",
            15,
            "RunTask starts the task, and its answer is lost until the task is over",
            0,
            "",
            plays.lost_answers(4),
        ),
        Failure("interrupted", 16, "Ctrl-C while the migration runs", 130, "", plays.interrupted),
        Failure("no-terraform", 17, "terraform is not installed", 0, "", plays.no_terraform),
        Failure(
            "polluted-terraform", 17, "a wrapper prints around Terraform's output", 0, "", plays.polluted_terraform
        ),
        Failure(
            "empty-output",
            17,
            "a Terraform output is empty",
            20,
            "private_subnet_ids",
            plays.outputs(lambda _: {"private_subnet_ids": []}),
        ),
        Failure(
            "null-output", 17, "a Terraform output is null", 20, "rds_host", plays.outputs(lambda _: {"rds_host": None})
        ),
        Failure("state-locked", 17, "another terraform holds the state", 20, "somebody@else", plays.locked_state),
        Failure("empty-state", 17, "Terraform was never applied", 20, "terraform", plays.empty_state),
        Failure(
            "other-environment",
            17,
            "the Terraform state is of another environment",
            20,
            "staging",
            plays.outputs(lambda _: {"environment": "staging"}),
        ),
        Failure("no-password", 17, "secrets.tfvars lacks the password", 20, "db_password", plays.no_password),
        Failure("no-service", 17, "the service is not there", 20, "backend-go", plays.no_service),
        Failure("inactive-service", 17, "the service was deleted", 20, "INACTIVE|backend-go", plays.inactive_service),
        Failure("inactive-cluster", 17, "the cluster was deleted", 20, "INACTIVE|cluster", plays.inactive_cluster),
        Failure(
            "docker-down",
            19,
            "the image has to be built, and Docker is not running",
            22,
            "Docker",
            plays.no_engine,
            image_known=False,
        ),
        Failure(
            "push-refused", 19, "the registry refuses the image", 22, "refused", plays.push_refused, image_known=False
        ),
        Failure("expired-credentials", 20, "the caller's session has expired", 21, "expired", plays.expired),
        Failure(
            "credentials-expire",
            20,
            "the caller's session expires while the task runs",
            25,
            "expired",
            plays.expires_midway,
        ),
        Failure(
            "wrong-account", 20, "the credentials are of another account", 21, "999999999999", plays.another_account
        ),
        Failure("stopped-by-somebody", 16, "somebody else stops the task", 143, "on-call", plays.stopped_by_somebody),
        Failure(
            "migration-fails",
            1,
            "a revision fails, and the container says so",
            7,
            "7",
            _FAILING,
        ),
        Failure(
            "out-of-memory",
            1,
            "the container is killed, since it needs more memory",
            137,
            "more memory than the task has",
            plays.revision("os.kill(os.getpid(), 9)", Script(lines=plays.BEGINNING, exit_code=137)),
        ),
    )
}
