"""The values that several rooms pass on: `Stack`, `Request`, `Task`, `TaskRun`, `TaskResult`, and their parts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from launcher.machine.untrusted_text import UnreadableError, parse_json

T_co = TypeVar("T_co", covariant=True)

RESULT_KEY = "neuraknot_result"
TIMEOUT = 1800.0
"""Seconds that a task may take unless the caller says otherwise."""

STARTING = 120.0
"""Seconds until a container starts that are added to its deadline; so a launcher that lives stops the task first."""

DEADLINE = "NEURAKNOT_DEADLINE"
"""The container's variable for the time when it ends by itself."""

_STARTED_BY = 128
"""ECS's limit for `startedBy`, in characters."""


CLOCKS_DIFFER = 300.0
"""Seconds: AWS refuses requests signed by a clock that is further off."""


class Clock(Protocol):
    """Time as a dependency, so that tests need not wait."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Sleep for this many seconds."""
        ...


class Secret:
    """A string that is never printed; `reveal` returns it for the one call that needs it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret in plain text."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class Sourced(Generic[T_co]):
    """A value and where it came from.

    Attributes:
        value: the value.
        source: for display: `--cluster`, `NEURAKNOT_CLUSTER`, `terraform output ecs_cluster_name`.
    """

    value: T_co
    source: str


@dataclass(frozen=True)
class Identity:
    """The caller's identity in AWS.

    Attributes:
        account: the account ID, twelve digits.
        arn: the ARN of the user or of the role's session.
    """

    account: str
    arn: str

    @property
    def role(self) -> str:
        """The name of the role or user: `neuraKnot-prod-github-actions-role`."""
        resource = self.arn.rsplit(":", 1)[-1]
        parts = resource.split("/")
        return parts[1] if parts[0] == "assumed-role" and len(parts) > 1 else parts[-1]


@dataclass(frozen=True)
class Place:
    """Where an environment's migration tasks run, and the names they use.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        region: such as `ap-northeast-1`.
        cluster: the ECS cluster's name.
        family, container: the name of the task definition and of its container.
        repository: the ECR repository.
        log_group: the CloudWatch log group.
    """

    environment: str
    region: str
    cluster: str
    family: str
    container: str
    repository: str
    log_group: str


@dataclass(frozen=True)
class Password:
    """How the container gets the database password: by reference, or as an override for one run.

    Attributes:
        reference: a Secrets Manager or SSM ARN in the form of `valueFrom`; None if there is none.
        value: the password itself, if there is no reference.
    """

    reference: str | None = None
    value: Secret | None = None


@dataclass(frozen=True)
class Stack:
    """The part of AWS that one environment's migration uses; each value records its source.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        production: whether the production guards apply; also true if the database's environment is unknown.
        identity: the account and role used for all calls.
        region: such as `ap-northeast-1`.
        cluster: the ECS cluster's name.
        service: the service whose network and roles are used; None if the stack gives them itself.
        subnets, security_groups, assign_public_ip: the task's network.
        execution_role, task_role: ARNs; the task role may be absent.
        platform: in Docker's notation: `linux/amd64`.
        db_instance: the identifier of the RDS instance or cluster; None if the host names none, nor does the caller.
        db_host, db_port, db_name, db_user, db_sslmode: the database.
        db_sslrootcert: path in the image of the CA certificates for the server's own; None if it is not verified.
        password: how the container gets the password.
        family: the task definition's family.
        container: the container's name in the task definition.
        repository: the ECR repository.
        log_group: the CloudWatch log group.
        cpu, memory: CPU units and MiB.
    """

    environment: str
    production: bool
    identity: Identity
    region: Sourced[str]
    cluster: Sourced[str]
    service: Sourced[str] | None
    subnets: Sourced[tuple[str, ...]]
    security_groups: Sourced[tuple[str, ...]]
    assign_public_ip: Sourced[bool]
    execution_role: Sourced[str]
    task_role: Sourced[str] | None
    platform: Sourced[str]
    db_instance: Sourced[str] | None
    db_host: Sourced[str]
    db_port: Sourced[int]
    db_name: Sourced[str]
    db_user: Sourced[str]
    db_sslmode: Sourced[str]
    db_sslrootcert: Sourced[str] | None
    password: Sourced[Password]
    family: str
    container: str
    repository: str
    log_group: str
    cpu: int = 256
    memory: int = 512

    @property
    def place(self) -> Place:
        """Where the stack's tasks run."""
        return Place(
            self.environment,
            self.region.value,
            self.cluster.value,
            self.family,
            self.container,
            self.repository,
            self.log_group,
        )


@dataclass(frozen=True)
class Request:
    """What the caller asks for.

    Attributes:
        command: what the container runs.
        reset: whether the command destroys the data.
        rollback: whether it takes the last run back, which a retry must not do once more, with whatever command.
        timeout: seconds that the task may take, from its start; None if the caller sets no limit.
        image: an explicit image reference, instead of the content-addressed one.
        base: the base image to build on, instead of the Dockerfile's.
        rds_snapshot: whether to make an RDS snapshot first.
        detach: return once the task is started.
        attach: follow a task that is already alive instead of refusing.
        client_token: names this run, so that a retry does not start a second task.
        repeatable: whether a retry would have the same token, as in CI.
        git_commit, started_by: for the database's own log.
    """

    command: tuple[str, ...]
    reset: bool = False
    rollback: bool = False
    timeout: float | None = None
    image: str | None = None
    base: str | None = None
    rds_snapshot: bool = False
    detach: bool = False
    attach: bool = False
    client_token: str = ""
    repeatable: bool = False
    git_commit: str | None = None
    started_by: str = ""

    @property
    def time_limit(self) -> float:
        """Seconds after which the run's own task is stopped."""
        return TIMEOUT if self.timeout is None else self.timeout

    def deadline(self, now: float) -> int | None:
        """Return when a container started now ends by itself, in seconds since the epoch; None if no limit is set."""
        return None if self.detach else math.ceil(now + self.time_limit + STARTING)

    @property
    def started_by_tag(self) -> str:
        """`started_by` in characters that ECS allows, plus a hash of run and command if the run is repeatable."""
        words = "\0".join((self.client_token, *(["--rollback"] if self.rollback else self.command)))
        mark = f"/{hashlib.sha256(words.encode()).hexdigest()[:16]}" if self.repeatable else ""
        allowed = (c if c.isascii() and (c.isalnum() or c in "-_/") else "-" for c in self.started_by)
        return "".join(allowed)[: _STARTED_BY - len(mark)] + mark


@dataclass(frozen=True)
class Task:
    """An ECS task as last seen.

    Attributes:
        arn: its ARN.
        status: ECS's `lastStatus`.
        exit_code: the migration container's; None while it runs, and if it never ran.
        container_reason: ECS's reason for the migration container.
        other_reasons: ECS's reasons for the other containers, by name.
        stop_code: such as `EssentialContainerExited`, `TaskFailedToStart`, `UserInitiated`.
        stopped_reason: ECS's `stoppedReason`.
        container_ended: whether the migration container has ended, even if its network is still being removed.
        created, started, stopped: seconds since the epoch; None if ECS does not say.
        started_by: the `startedBy` given to RunTask.
        definition: the task definition's ARN.
        command: what the container runs, if an override sets it.
        deadline: when the container ends by itself, in seconds since the epoch; None if no override says so.
    """

    arn: str
    status: str
    exit_code: int | None = None
    container_reason: str | None = None
    other_reasons: Mapping[str, str] = field(default_factory=dict)
    stop_code: str | None = None
    stopped_reason: str | None = None
    container_ended: bool = False
    created: float | None = None
    started: float | None = None
    stopped: float | None = None
    started_by: str | None = None
    definition: str | None = None
    command: tuple[str, ...] = ()
    deadline: int | None = None

    @property
    def alive(self) -> bool:
        """Whether it is not STOPPED; `desiredStatus` is only an intention and is ignored."""
        return self.status != "STOPPED"

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def family(self) -> str | None:
        """The task definition's family; None if ECS does not say."""
        return self.definition.rsplit("/", 1)[-1].partition(":")[0] if self.definition else None


@dataclass(frozen=True)
class FamilyTasks:
    """A family's tasks, newest first.

    Attributes:
        alive: tasks that are not STOPPED.
        over: tasks that stopped in about the last hour.
    """

    alive: tuple[Task, ...]
    over: tuple[Task, ...]


class Verdict(StrEnum):
    """How the task went, as a machine-readable word."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    NOT_STARTED = "not_started"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"
    DETACHED = "detached"
    REFUSED = "refused"
    DRY_RUN = "dry_run"


@dataclass(frozen=True)
class RdsSnapshot:
    """An RDS snapshot made before the run.

    Attributes:
        name: its identifier.
        restore: the command that restores it to a new instance configured like the original.
        status: RDS's status: `creating`, `available` or `failed`.
    """

    name: str
    restore: str
    status: str = "creating"


@dataclass(frozen=True)
class TaskRun:
    """A task that the launcher started or attached to.

    Attributes:
        task: as first seen.
        definition: its task definition's ARN.
        image: its image reference, by digest; None for a task that another run started.
        log_group, log_stream: where its output goes.
    """

    task: Task
    definition: str | None
    image: str | None
    log_group: str
    log_stream: str


_ROLLBACK = {
    "from": str,
    "to": str | None,
    "revisions": [str],
    "told": str,
    "losses": [{"revision": str, "phrase": str, "rows": int | None}],
}
"""What is read of a report's `rollback`: the type of each value, of a list that of each item."""


def _fits(value: Any, types: Any) -> bool:
    if isinstance(types, dict):
        return isinstance(value, dict) and all(_fits(value.get(name), each) for name, each in types.items())
    if isinstance(types, list):
        return isinstance(value, list) and all(_fits(each, types[0]) for each in value)
    return isinstance(value, types)


@dataclass(frozen=True)
class ContainerReport:
    """The report in the container's last line.

    Attributes:
        command: what it ran.
        before, after: the database's revision; None if it has none.
        ran: the revisions that were run.
        exit_code: the exit code that the container reports; ECS's exit code decides.
        error: the final error message, if it failed.
        outcome: `succeeded`, `failed`, `interrupted` or `unknown`; None if the image does not report it.
        target: the expected `after`; None for a database without a revision.
        has_target: whether `target` was reported: only commands that move report it, and older images do not.
        rollback: which run `plan --rollback` found, and what taking it back loses; None for another command.
    """

    command: str | None = None
    before: str | None = None
    after: str | None = None
    ran: tuple[str, ...] = ()
    exit_code: int | None = None
    error: str | None = None
    outcome: str | None = None
    target: str | None = None
    has_target: bool = False
    rollback: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, line: str) -> ContainerReport | None:
        """Parse a log line as a report; None for any other line, including one with a field of the wrong type."""
        if not line.startswith("{") or RESULT_KEY not in line:
            return None
        try:
            fields = parse_json(line)
        except UnreadableError:
            return None
        if not isinstance(fields, dict) or type(fields.get(RESULT_KEY)) is not int or fields[RESULT_KEY] != 1:
            return None
        texts = {name: fields.get(name) for name in ("command", "before", "after", "error", "outcome", "target")}
        ran, code, rollback = fields.get("ran", []), fields.get("exit_code"), fields.get("rollback")
        if not (
            all(_fits(text, str | None) for text in texts.values())
            and _fits(ran, [str])
            and (code is None or type(code) is int)
            and (rollback is None or _fits(rollback, _ROLLBACK))
        ):
            return None
        return cls(**texts, ran=tuple(ran), exit_code=code, has_target="target" in fields, rollback=rollback)


@dataclass(frozen=True)
class TaskResult:
    """The outcome of a task.

    Attributes:
        verdict: how it went.
        exit_code: the launcher's exit code: the container's, if there is one.
        message: the outcome in one sentence.
        hint: what to do next.
        details: further lines.
        task: the task as last seen.
        report: the container's report.
        unread: what may be missing of its log, as a part of the hint.
    """

    verdict: Verdict
    exit_code: int
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    task: Task | None = None
    report: ContainerReport | None = None
    unread: str | None = None
