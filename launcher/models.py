"""The values that flow: options and outputs -> `Stack` -> `Plan` -> `TaskRun` -> `TaskResult`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from launcher.machine.untrusted_text import UnreadableError, parse_json

T_co = TypeVar("T_co", covariant=True)

RESULT_KEY = "neuraknot_result"
_STARTED_BY = 128
"""Characters that ECS takes at most."""


class Clock(Protocol):
    """Time, so that tests can play an hour in no time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return when so many seconds are over."""
        ...


class Secret:
    """A string that never shows itself; `reveal` hands it to the one call that must carry it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
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
        source: for people: `--cluster`, `NEURAKNOT_CLUSTER`, `terraform output ecs_cluster_name`.
    """

    value: T_co
    source: str


@dataclass(frozen=True)
class Identity:
    """Who the launcher is for AWS.

    Attributes:
        account: twelve digits.
        arn: the user, or the role's session.
    """

    account: str
    arn: str

    @property
    def role(self) -> str:
        """The role's or user's name: `neuraKnot-prod-github-actions-role`."""
        resource = self.arn.rsplit(":", 1)[-1]
        parts = resource.split("/")
        return parts[1] if parts[0] == "assumed-role" and len(parts) > 1 else parts[-1]


@dataclass(frozen=True)
class Place:
    """Where an environment's migration tasks run, and under which names.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        region: such as `ap-northeast-1`.
        cluster: the ECS cluster's name.
        family, container: the task definition's name, and the container's in it.
        repository: ECR's repository.
        log_group: CloudWatch's log group.
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
    """How the database's password reaches the container: by reference, or as an override of one run.

    Attributes:
        reference: a Secrets Manager or SSM ARN as `valueFrom` takes it; None where there is none.
        value: the password itself, where there is no reference.
    """

    reference: str | None = None
    value: Secret | None = None


@dataclass(frozen=True)
class Stack:
    """One environment's part of AWS that a migration meets; each value knows where it came from.

    Attributes:
        environment: `dev`, `prod`, or any other name.
        production: whether production's guards apply, be it since nobody knows whose database it is.
        identity: the account and role that everything is done with.
        region: such as `ap-northeast-1`.
        cluster: the ECS cluster's name.
        service: the service whose network and roles are used; None for a stack that gives them itself.
        subnets, security_groups, assign_public_ip: the task's network.
        execution_role, task_role: ARNs; the task role may be absent.
        platform: as Docker has it: `linux/amd64`.
        db_instance: the RDS identifier; None where the host is not RDS's, and nobody names an instance.
        db_host, db_port, db_name, db_user, db_sslmode: the database.
        db_sslrootcert: the certificates that its own is held against: a path in the image; None where it is not.
        password: how the container gets the password.
        family: of the task definition.
        container: the container's name in it.
        repository: ECR's repository.
        log_group: CloudWatch's log group.
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
        """Where its tasks run."""
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
    """What the caller wants done.

    Attributes:
        command: what the container runs.
        reset: whether that destroys the data.
        timeout: seconds that the task may take, from its start.
        image: a reference given outright, in place of the content-addressed one.
        snapshot: whether an RDS snapshot is made first.
        detach: return once the task was started.
        attach: follow a task that is already alive instead of refusing.
        client_token: names this run, so that a second try of it starts no second task.
        repeatable: whether a second try would have the same name, as in CI.
        git_commit, started_by: for the database's own log.
    """

    command: tuple[str, ...]
    reset: bool = False
    timeout: float = 1800.0
    image: str | None = None
    snapshot: bool = False
    detach: bool = False
    attach: bool = False
    client_token: str = ""
    repeatable: bool = False
    git_commit: str | None = None
    started_by: str = ""

    @property
    def started_by_tag(self) -> str:
        """`started_by` in the characters that ECS allows, with a mark of run and command where it is repeatable."""
        words = "\0".join((self.client_token, *self.command))
        mark = f"/{hashlib.sha256(words.encode()).hexdigest()[:16]}" if self.repeatable else ""
        allowed = (c if c.isascii() and (c.isalnum() or c in "-_/") else "-" for c in self.started_by)
        return "".join(allowed)[: _STARTED_BY - len(mark)] + mark


@dataclass(frozen=True)
class Task:
    """An ECS task as it was seen last.

    Attributes:
        arn: its ARN.
        status: ECS's `lastStatus`.
        exit_code: the migration container's; None while it runs, and for good if it never ran.
        container_reason: what ECS says about the migration container.
        other_reasons: what ECS says about other containers, by name.
        stop_code: such as `EssentialContainerExited`, `TaskFailedToStart`, `UserInitiated`.
        stopped_reason: ECS's sentence.
        container_ended: whether the migration container is over, even if its network is still being taken down.
        created, started, stopped: seconds since the epoch; None where ECS does not say.
        started_by: who started it, as RunTask was told.
        definition: the task definition's ARN.
        command: what the container runs, where an override says so.
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

    @property
    def alive(self) -> bool:
        """Whether it is not STOPPED: what it is to become (`desiredStatus`) is a wish."""
        return self.status != "STOPPED"

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def family(self) -> str | None:
        """The task definition's family, where ECS says."""
        return self.definition.rsplit("/", 1)[-1].partition(":")[0] if self.definition else None


@dataclass(frozen=True)
class FamilyTasks:
    """A family's tasks, the newest first.

    Attributes:
        alive: those that are not STOPPED.
        over: those that stopped in the last hour or so.
    """

    alive: tuple[Task, ...]
    over: tuple[Task, ...]


class Verdict(StrEnum):
    """How it went, for programs."""

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
class Snapshot:
    """An RDS snapshot that is made first.

    Attributes:
        name: its identifier.
        restore: the command that makes a new instance of it, like the one that it is of.
        status: as RDS has it: `creating`, `available` or `failed`.
    """

    name: str
    restore: str
    status: str = "creating"


@dataclass(frozen=True)
class TaskRun:
    """A task that was started, or that the launcher attached itself to.

    Attributes:
        task: as it was first seen.
        definition: the ARN of its definition.
        image: the reference of its image, by digest; None for a task that somebody else started.
        log_group, log_stream: where its lines go.
        attached: whether somebody else started it.
    """

    task: Task
    definition: str | None
    image: str | None
    log_group: str
    log_stream: str
    attached: bool = False


@dataclass(frozen=True)
class ContainerReport:
    """What the container said about itself in its last line.

    Attributes:
        command: what it ran.
        before, after: the revision; None for a database without one.
        ran: the revisions that were run.
        exit_code: as the container meant it; ECS's own word decides.
        error: the sentence that it ended with, if it failed.
        outcome: `succeeded`, `failed`, `interrupted` or `unknown`; None from an image that does not say.
        target: what `after` was to be; None for a database without a revision.
        has_target: whether it says so: other commands than those that move do not, nor do older images.
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

    @classmethod
    def parse(cls, line: str) -> ContainerReport | None:
        """The report in a line of the log; None where it is any other line, one with a field of another type too."""
        if not line.startswith("{") or RESULT_KEY not in line:
            return None
        try:
            fields = parse_json(line)
        except UnreadableError:
            return None
        if not isinstance(fields, dict) or type(fields.get(RESULT_KEY)) is not int or fields[RESULT_KEY] != 1:
            return None
        texts = {name: fields.get(name) for name in ("command", "before", "after", "error", "outcome", "target")}
        ran, code = fields.get("ran", []), fields.get("exit_code")
        if not (
            all(text is None or isinstance(text, str) for text in texts.values())
            and isinstance(ran, list)
            and all(isinstance(revision, str) for revision in ran)
            and (code is None or type(code) is int)
        ):
            return None
        return cls(**texts, ran=tuple(ran), exit_code=code, has_target="target" in fields)


@dataclass(frozen=True)
class TaskResult:
    """The truth about how it went.

    Attributes:
        verdict: how it went.
        exit_code: the launcher's, which is the container's where there is one.
        message: the same in a sentence.
        hint: what to do next.
        details: further lines.
        task: the task as it was seen last.
        report: what the container said about itself.
    """

    verdict: Verdict
    exit_code: int
    message: str
    hint: str | None = None
    details: tuple[str, ...] = ()
    task: Task | None = None
    report: ContainerReport | None = None
