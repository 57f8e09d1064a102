"""ECS's task calls as Fargate answers them: the same refusals, and started tasks run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from moto.ecs.exceptions import ClusterNotFoundException, EcsClientException, TaskDefinitionNotFoundException
from moto.ecs.models import Cluster, TaskDefinition

from launcher.errors import ProgramNotFoundError
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.awslogs import LogDriver, get_log_events
from launcher.rehearsal.delivery import LogDelivery, LogStream
from launcher.rehearsal.fargate import check_definition, check_network, check_overrides
from launcher.rehearsal.obstacles import find_obstacle, main_definition, pull_failure, resolve_secrets, start_failure
from launcher.rehearsal.program import Container, Lines, Program, PullError, Start
from launcher.rehearsal.server import Answer, LocalServer
from launcher.rehearsal.stack import LocalStack
from launcher.rehearsal.task import Injected, LocalTask, Obstacle, Pace, new_task_id

_REMEMBERED = 3600.0  # seconds that ECS still describes a stopped task and honors its token
_TOKENS_LIVE = 24 * 3600.0  # seconds after which every token expires
_LINGERS = 30.0  # seconds that ListTasks may still list a stopped task as RUNNING


class LocalEcs:
    """The part of ECS that moto leaves out, for one server and stack.

    Attributes:
        tasks: every task by ARN.
        pace: how fast tasks progress.
        start: starts containers.
        logs: delivers their lines to CloudWatch Logs.
        injected: containers that every task gets besides those in its definition.
        obstacle: called before a container starts, if the stack itself has no obstacle.
        failures: while there are any, RunTask takes one, returns it in `failures[]`, and starts nothing.
        unseen: seconds during which DescribeTasks does not know a new task.
    """

    def __init__(self, server: LocalServer, stack: LocalStack, start: Start, pace: Pace) -> None:
        self.server = server
        self.stack = stack
        self.start = start
        self.pace = pace
        self.injected: tuple[Injected, ...] = ()
        self.obstacle: Callable[[LocalTask], Obstacle | None] = lambda _: None
        self.failures: Iterator[str] = iter(())
        self.unseen = 0.0
        self.tasks: dict[str, LocalTask] = {}
        self._tokens: dict[str, tuple[str, list[str]]] = {}
        driver = LogDriver(server.url, server.region)
        self.logs = LogDelivery(driver)
        server.own_keys.add(driver.access_key)
        server.observers.append(self.advance)
        server.pages["/v4/"] = self._metadata
        stack.task_tags = self._tags
        server.handlers.update(
            {
                "ecs:RunTask": self.run_task,
                "ecs:DescribeTasks": self.describe_tasks,
                "ecs:ListTasks": self.list_tasks,
                "ecs:StopTask": self.stop_task,
                "ecs:RegisterTaskDefinition": self.check_registration,
                "ecs:DescribeServices": self.check_cluster,
                "logs:GetLogEvents": lambda call: get_log_events(call, stack.logs),
            }
        )

    def advance(self, now: float) -> None:
        """Process everything that is due by `now`: tasks progress, lines arrive."""
        for task in list(self.tasks.values()):
            task.advance(now)
        self.logs.deliver(now)

    def close(self) -> None:
        """Kill every program that still runs."""
        for task in self.tasks.values():
            task.end_program(self.server.now())

    # API calls

    def run_task(self, call: Call) -> Answer:
        """Answer RunTask."""
        parameters = call.parameters
        cluster = self._cluster(parameters)
        definition = self._definition(parameters["taskDefinition"])
        check_overrides(definition, parameters.get("overrides", {}))
        check_network(self.stack, parameters)
        count = int(parameters.get("count", 1))
        if not 1 <= count <= 10:
            raise Refusal("InvalidParameterException", "count must be between 1 and 10.")
        token = parameters.get("clientToken")
        asked = json.dumps({key: value for key, value in parameters.items() if key != "clientToken"}, sort_keys=True)
        before, arns = self._tokens.get(str(token), ("", []))
        if any(self._holds(self.tasks[arn], call.at) for arn in arns):
            if before != asked:
                raise Refusal(
                    "ConflictException",
                    "The RunTask request could not be processed due to conflicts. The provided clientToken is already "
                    "in use with a different RunTask request.",
                )
            return {"tasks": [self.tasks[arn].replay() for arn in arns], "failures": []}
        reason = next(self.failures, None)
        if reason is not None:
            return {"tasks": [], "failures": [{"arn": cluster.arn, "reason": reason}]}
        tasks = [self._new_task(cluster, definition, parameters, call.at) for _ in range(count)]
        if token is not None:
            self._tokens[token] = (asked, [task.arn for task in tasks])
        return {"tasks": [task.describe(tags=True) for task in tasks], "failures": []}

    def describe_tasks(self, call: Call) -> Answer:
        """Answer DescribeTasks; unknown tasks are returned as MISSING."""
        cluster = self._cluster(call.parameters)
        wanted: Sequence[str] = call.parameters.get("tasks", [])
        if not wanted:
            raise Refusal("InvalidParameterException", "Tasks cannot be empty.")
        if len(wanted) > 100:
            raise Refusal("InvalidParameterException", "Tasks cannot have more than 100 elements.")
        tags = "TAGS" in call.parameters.get("include", [])
        found, failures = [], []
        for name in wanted:
            task = self._find(cluster, name)
            if task is None or call.at < task.created + self.unseen or _forgotten(task, call.at):
                failures.append({"arn": self._task_arn(cluster, name), "reason": "MISSING"})
            else:
                found.append(task.describe(tags=tags))
        return {"tasks": found, "failures": failures}

    def list_tasks(self, call: Call) -> Answer:
        """Answer ListTasks."""
        parameters = call.parameters
        cluster = self._cluster(parameters)
        filters = [name for name in ("family", "startedBy", "serviceName", "containerInstance") if name in parameters]
        if "startedBy" in filters and len(filters) > 1:
            raise Refusal("InvalidParameterException", "The startedBy filter must be the only filter that you use.")
        status = parameters.get("desiredStatus", "RUNNING")
        if status not in ("RUNNING", "PENDING", "STOPPED"):
            raise Refusal("InvalidParameterException", "desiredStatus should be one of [RUNNING,PENDING,STOPPED]")
        if "serviceName" in filters and f"{cluster.name}:{parameters['serviceName'].split('/')[-1]}" not in (
            self.stack.ecs.services
        ):
            raise Refusal("ServiceNotFoundException", "Service not found.")
        arns = [
            task.arn
            for task in self.tasks.values()
            if task.cluster == cluster.arn
            and (task.desired == status or (status == "RUNNING" and _lingers(task, call.at)))
            and not _forgotten(task, call.at)
            and parameters.get("family", task.family) == task.family
            and parameters.get("startedBy", task.request.get("startedBy")) == task.request.get("startedBy")
            and "serviceName" not in filters
        ]
        first = int(parameters.get("nextToken", 0))
        last = first + int(parameters.get("maxResults", 100))
        answer: Answer = {"taskArns": arns[first:last]}
        if last < len(arns):
            answer["nextToken"] = str(last)
        return answer

    def stop_task(self, call: Call) -> Answer:
        """Answer StopTask: SIGTERM, and SIGKILL after the grace period."""
        task = self._find(self._cluster(call.parameters), call.parameters["task"])
        if task is None:
            raise Refusal("InvalidParameterException", "The referenced task was not found.")
        task.stop(call.parameters.get("reason", "Task stopped by user"), call.at)
        return {"task": task.describe(tags=True)}

    def check_registration(self, call: Call) -> None:
        """Refuse what Fargate refuses to register; moto registers the rest."""
        check_definition(call.parameters)

    def check_cluster(self, call: Call) -> None:
        """Refuse calls for a deleted cluster; moto answers for the others."""
        self._cluster(call.parameters)

    # Tasks

    def _new_task(
        self, cluster: Cluster, definition: Mapping[str, Any], parameters: Mapping[str, Any], now: float
    ) -> LocalTask:
        overridden = [entry["name"] for entry in parameters.get("overrides", {}).get("containerOverrides", [])]
        essential = [entry["name"] for entry in definition["containerDefinitions"] if entry.get("essential", True)]
        task = LocalTask(
            arn=self._task_arn(cluster, new_task_id()),
            cluster=cluster.arn,
            definition=definition,
            main=next((name for name in overridden if name in essential), essential[0]),
            request=parameters,
            created=now,
            pace=self.pace,
            begin=self._begin,
            print_lines=self._print,
            injected=self.injected,
        )
        self.tasks[task.arn] = task
        return task

    def _tags(self, arn: str, now: float) -> Mapping[str, str]:
        """Return a task's tags, by which IAM judges; none while DescribeTasks does not know the task."""
        task = self.tasks.get(arn)
        if task is None or now < task.created + self.unseen or _forgotten(task, now):
            return {}
        return {tag["key"]: tag["value"] for tag in task.request.get("tags", [])}

    def _begin(self, task: LocalTask, at: float) -> Program | Obstacle:
        obstacle = find_obstacle(self.stack, task) or self.obstacle(task)
        if obstacle is not None:
            return obstacle
        definition = main_definition(task)
        override = next(iter(self._overrides(task)), {})
        environment = {
            **{entry["name"]: entry["value"] for entry in definition.get("environment", [])},
            **resolve_secrets(self.stack, task),
            **{entry["name"]: entry["value"] for entry in override.get("environment", [])},
            "AWS_DEFAULT_REGION": self.server.region,
            "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
            "AWS_REGION": self.server.region,
            "ECS_CONTAINER_METADATA_URI_V4": f"{self.server.url}/v4/{task.id}",
        }
        command = [*definition.get("entryPoint", []), *override.get("command", definition.get("command", []))]
        task.image_digest = definition["image"].rpartition("@")[2] if "@" in definition["image"] else None
        stream = self._log_stream(task)
        if stream is not None:
            self.logs.begin(stream, at)
        size = {"cpu": task.definition["cpu"], "memory": task.definition["memory"]}
        try:
            return self.start(Container(task.arn, tuple(command), environment, at, {**definition, **size}))
        except PullError as error:
            return pull_failure(str(error))
        except ProgramNotFoundError as error:
            return start_failure(error.program)

    def _print(self, task: LocalTask, lines: Lines) -> None:
        stream = self._log_stream(task)
        if stream is not None and task.started is not None:
            self.logs.take(stream, task.started, lines)

    def _overrides(self, task: LocalTask) -> Iterator[Mapping[str, Any]]:
        for override in task.request.get("overrides", {}).get("containerOverrides", []):
            if override["name"] == task.main:
                yield override

    def _log_stream(self, task: LocalTask) -> LogStream | None:
        options = main_definition(task).get("logConfiguration", {}).get("options")
        if not options:
            return None
        return LogStream(options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{task.main}/{task.id}")

    def _metadata(self, path: str) -> Answer | None:
        task_id = path.split("/")[0]
        task = next((task for task in self.tasks.values() if task.id == task_id), None)
        if task is None:
            return None
        return {"Cluster": task.cluster, "TaskARN": task.arn, "Family": task.family, "LaunchType": "FARGATE"}

    # Lookups in moto

    def _cluster(self, parameters: Mapping[str, Any]) -> Cluster:
        try:
            cluster = self.stack.ecs._get_cluster(parameters.get("cluster", "default"))
        except ClusterNotFoundException as error:
            raise Refusal("ClusterNotFoundException", "Cluster not found.") from error
        if cluster.status != "ACTIVE":
            raise Refusal("ClusterNotFoundException", "The referenced cluster was inactive.")
        return cluster

    def _definition(self, name: str) -> Mapping[str, Any]:
        try:
            definition = self.stack.ecs.describe_task_definition(name)
        except (EcsClientException, TaskDefinitionNotFoundException) as error:
            raise Refusal("ClientException", "TaskDefinition not found.") from error
        if definition.status != "ACTIVE":
            raise Refusal("ClientException", "TaskDefinition is inactive")
        return _as_described(definition)

    def _holds(self, task: LocalTask, now: float) -> bool:
        """Whether the token that started the task is still valid for it."""
        return now < task.created + _TOKENS_LIVE and not _forgotten(task, now)

    def _find(self, cluster: Cluster, name: str) -> LocalTask | None:
        if len(name.rsplit("/", 1)[-1]) not in (32, 36):
            raise Refusal("InvalidParameterException", "taskId length should be one of [32,36]")
        task = self.tasks.get(self._task_arn(cluster, name))
        return task if task is not None and task.cluster == cluster.arn else None

    def _task_arn(self, cluster: Cluster, name: str) -> str:
        return name if name.startswith("arn:") else self.stack.arn("ecs", f"task/{cluster.name}/{name}")


def _lingers(task: LocalTask, now: float) -> bool:
    return task.stopped is not None and now < task.stopped + _LINGERS


def _forgotten(task: LocalTask, now: float) -> bool:
    return task.stopped is not None and now > task.stopped + _REMEMBERED


def _as_described(definition: TaskDefinition) -> Mapping[str, Any]:
    return {
        "containerDefinitions": definition.container_definitions,
        "cpu": definition.cpu,
        "executionRoleArn": getattr(definition, "execution_role_arn", None),
        "family": definition.family,
        "memory": definition.memory,
        "runtimePlatform": definition.runtime_platform,
        "taskDefinitionArn": definition.arn,
        "taskRoleArn": getattr(definition, "task_role_arn", None),
    }
