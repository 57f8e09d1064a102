"""One Fargate task in the local ECS: its lifecycle from RunTask to STOPPED, and how DescribeTasks shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from launcher.rehearsal.program import Lines, Program


@dataclass(frozen=True)
class Pace:
    """How long each phase of a task takes, in seconds.

    Attributes:
        provisioning: until the network interface exists.
        pulling: from then until the image is pulled and the container starts.
        deprovisioning: from the container's end until STOPPED.
        grace: between SIGTERM and SIGKILL, ECS's `stopTimeout`.
    """

    provisioning: float = 8.0
    pulling: float = 12.0
    deprovisioning: float = 3.0
    grace: float = 30.0


@dataclass(frozen=True)
class Obstacle:
    """Why a container never starts.

    Attributes:
        stopped_reason: the task's `stoppedReason`.
        container_reason: the container's `reason`; None for failures of resource initialization.
        stop_code: usually `TaskFailedToStart`.
    """

    stopped_reason: str
    container_reason: str | None = None
    stop_code: str = "TaskFailedToStart"


@dataclass(frozen=True)
class Injected:
    """A container that is not in the definition, such as GuardDuty's agent.

    Attributes:
        name: its name.
        exit_code: its exit code when the task stops.
    """

    name: str
    exit_code: int | None


@dataclass
class LocalTask:
    """A task's state. Times are seconds since the epoch; None means that it has not happened.

    The state progresses only in `advance`, up to the given time.

    Attributes:
        arn: its ARN.
        cluster: the cluster's ARN.
        definition: the task definition, as returned by DescribeTaskDefinition.
        main: the name of the essential container that runs.
        request: RunTask's parameters.
        created: the time of RunTask's response.
        printed: how many lines its container has printed.
    """

    arn: str
    cluster: str
    definition: Mapping[str, Any]
    main: str
    request: Mapping[str, Any]
    created: float
    pace: Pace
    begin: Callable[[LocalTask, float], Program | Obstacle]
    print_lines: Callable[[LocalTask, Lines], None]
    injected: tuple[Injected, ...] = ()
    status: str = "PROVISIONING"
    desired: str = "RUNNING"
    stop_code: str | None = None
    stopped_reason: str | None = None
    exit_code: int | None = None
    container_reason: str | None = None
    image_digest: str | None = None
    pull_started: float | None = None
    pull_stopped: float | None = None
    started: float | None = None
    stopping: float | None = None
    container_ended: float | None = None
    stopped: float | None = None
    version: int = 1
    printed: int = 0
    _program: Program | None = field(default=None, repr=False)
    _killed: bool = False

    @property
    def id(self) -> str:
        """The last part of the ARN."""
        return self.arn.rsplit("/", 1)[-1]

    @property
    def family(self) -> str:
        """The family of its task definition."""
        return str(self.definition["family"])

    def advance(self, now: float) -> None:
        """Process everything that is due by `now`."""
        while self._step(now):
            self.version += 1

    def stop(self, reason: str, now: float) -> None:
        """Stop the task as StopTask does: SIGTERM now, SIGKILL after the grace period."""
        if self.desired == "STOPPED":
            return
        self.desired, self.stopping = "STOPPED", now
        self.stop_code, self.stopped_reason = "UserInitiated", reason
        self.version += 1
        if self._program is None:
            self._close(now)
        else:
            self.status = "STOPPING"
            self._program.terminate(now)

    def end_program(self, now: float) -> None:
        """Kill the program if it still runs: the local AWS is closing."""
        if self._program is not None:
            self._program.kill(now)

    def _step(self, now: float) -> bool:
        if self.status == "PROVISIONING" and now >= (due := self.created + self.pace.provisioning):
            self.status, self.pull_started = "PENDING", due
            return True
        if self.status == "PENDING" and self.pull_started is not None:
            due = self.pull_started + self.pace.pulling
            if now >= due:
                self._start(due)
                return True
        if self.status in ("RUNNING", "STOPPING") and self._program is not None:
            return self._run(self._program, now)
        if self.status == "DEPROVISIONING" and self.container_ended is not None:
            due = self.container_ended + self.pace.deprovisioning
            if now >= due:
                self.status, self.stopped = "STOPPED", due
                return True
        return False

    def _start(self, at: float) -> None:
        outcome = self.begin(self, at)
        if isinstance(outcome, Obstacle):
            self.stop_code, self.stopped_reason = outcome.stop_code, outcome.stopped_reason
            self.container_reason = outcome.container_reason
            self.desired, self.stopping = "STOPPED", at
            self._close(at)
            return
        self._program = outcome
        self.pull_stopped, self.started, self.status = at, at, "RUNNING"

    def _run(self, program: Program, now: float) -> bool:
        stopping = self.status == "STOPPING" and self.stopping is not None
        if stopping and not self._killed and now >= (due := (self.stopping or 0) + self.pace.grace):
            self._killed = True
            program.kill(due)
        lines = program.lines(now)
        if lines:
            self.printed += len(lines)
            self.print_lines(self, lines)
        ended = program.ended(now)
        if ended is None:
            return False
        at, self.exit_code = ended
        if self.exit_code == 137 and self.container_reason is None and not stopping:
            self.container_reason = "OutOfMemoryError: Container killed due to memory usage"
        if self.exit_code is None:
            self.stop_code, self.stopped_reason = "TerminationNotice", "Host is no longer reachable"
        if self.stop_code is None:
            self.stop_code, self.stopped_reason = "EssentialContainerExited", "Essential container in task exited"
        self.desired, self.stopping = "STOPPED", self.stopping or at
        self._close(at)
        return True

    def _close(self, at: float) -> None:
        self.status, self.container_ended = "DEPROVISIONING", at

    def replay(self) -> dict[str, Any]:
        """Return the task as RunTask does on a retry with the same token: with few fields if it is STOPPED."""
        thin = {"taskArn": self.arn, "lastStatus": self.status, "desiredStatus": self.desired}
        return thin if self.status == "STOPPED" else self.describe(tags=True)

    def describe(self, *, tags: bool) -> dict[str, Any]:
        """Return the task as DescribeTasks does, without fields for what has not happened."""
        request = self.request
        task: dict[str, Any] = {
            "attachments": [self._interface(request)],
            "availabilityZone": "local",
            "clusterArn": self.cluster,
            "connectivity": "CONNECTED" if self.started is not None else None,
            "containers": self._containers(),
            "cpu": self.definition.get("cpu"),
            "createdAt": self.created,
            "desiredStatus": self.desired,
            "enableExecuteCommand": False,
            "executionStoppedAt": self.container_ended,
            "group": request.get("group", f"family:{self.family}"),
            "healthStatus": "UNKNOWN",
            "lastStatus": self.status,
            "launchType": "FARGATE",
            "memory": self.definition.get("memory"),
            "overrides": {
                "containerOverrides": [],
                "inferenceAcceleratorOverrides": [],
                **request.get("overrides", {}),
            },
            "platformFamily": "Linux",
            "platformVersion": "1.4.0",
            "pullStartedAt": self.pull_started,
            "pullStoppedAt": self.pull_stopped,
            "startedAt": self.started,
            "startedBy": request.get("startedBy"),
            "stopCode": self.stop_code,
            "stoppedAt": self.stopped,
            "stoppedReason": self.stopped_reason,
            "stoppingAt": self.stopping,
            "tags": request.get("tags", []) if tags else [],
            "taskArn": self.arn,
            "taskDefinitionArn": self.definition["taskDefinitionArn"],
            "version": self.version,
        }
        return {name: value for name, value in task.items() if value is not None}

    def _interface(self, request: Mapping[str, Any]) -> dict[str, Any]:
        subnet = request["networkConfiguration"]["awsvpcConfiguration"]["subnets"][0]
        return {
            "id": self.id,
            "type": "ElasticNetworkInterface",
            "status": {"PROVISIONING": "ATTACHING", "STOPPED": "DELETED"}.get(self.status, "ATTACHED"),
            "details": [{"name": "subnetId", "value": subnet}],
        }

    def _containers(self) -> list[dict[str, Any]]:
        # Injected containers come first, so the order says nothing about which is the main one.
        containers = [self._container(extra.name, exit_code=extra.exit_code) for extra in self.injected]
        for definition in self.definition["containerDefinitions"]:
            name = definition["name"]
            if name == self.main:
                container = self._container(name, exit_code=self.exit_code)
                container["reason"] = self.container_reason
                container["imageDigest"] = self.image_digest
            else:
                container = self._container(name, exit_code=143)
            container["image"] = definition["image"]
            containers.append({key: value for key, value in container.items() if value is not None})
        return containers

    def _container(self, name: str, *, exit_code: int | None) -> dict[str, Any]:
        ended = self.container_ended is not None
        container: dict[str, Any] = {
            "containerArn": self.arn.replace(":task/", ":container/") + f"/{name}",
            "cpu": "0",
            "healthStatus": "UNKNOWN",
            "lastStatus": "STOPPED" if ended else ("RUNNING" if self.started is not None else "PENDING"),
            "name": name,
            "networkInterfaces": [],
            "taskArn": self.arn,
        }
        if ended and self.started is not None and exit_code is not None:
            container["exitCode"] = exit_code
        if self.started is not None:
            container["runtimeId"] = f"{self.id}-{name}"
        return container


def new_task_id() -> str:
    """Return a task ID like ECS's: 32 hexadecimal digits."""
    return uuid4().hex
