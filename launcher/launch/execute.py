"""The only sequence of a run that changes anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.environment.names import log_stream
from launcher.image.build import Builder
from launcher.image.tag import Image
from launcher.launch.guards import ran_already, task_instead
from launcher.launch.lint import Lint
from launcher.launch.plan import Plan, is_own, run_request, with_image
from launcher.launch.progress import Done, Progress, Steps
from launcher.launch.rds_snapshot import take_rds_snapshot
from launcher.machine.process import Runner
from launcher.machine.signals import Interrupts
from launcher.models import CLOCKS_DIFFER, Clock, Place, RdsSnapshot, Task, TaskResult, TaskRun, Verdict
from launcher.task.command_line import is_plain_upgrade
from launcher.task.find import attach_hint, find_tasks
from launcher.task.log_group import make_log_group
from launcher.task.logs import Interruptible, LogFollower, LogLine
from launcher.task.start import start_task
from launcher.task.verdict import judge, lacks_report
from launcher.task.watch import Watcher, WatchResult

if TYPE_CHECKING:
    from launcher.aws.client import Aws


@dataclass
class Launch:
    """What is known about one run so far; still valid if the run ends with an error.

    Attributes:
        plan: the plan.
        run: the task, once there is one.
        rds_snapshot: the RDS snapshot made first.
        result: how it went.
        timings: seconds by step.
        lint: the lint of the pending revisions, if requested.
        rollback: the run to take back, as the container's report has it.
    """

    plan: Plan | None = None
    run: TaskRun | None = None
    rds_snapshot: RdsSnapshot | None = None
    result: TaskResult | None = None
    timings: dict[str, float] = field(default_factory=dict)
    lint: Lint | None = None
    rollback: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Executor:
    """Executes a plan.

    Attributes:
        aws: for the stack's region.
        runner: starts `docker`.
        clock: the time.
        interrupts: the signals received.
        progress: shows everything.
        launch: filled in as facts become known.
        root: the image's build context.
        docker_config: the folder with the user's Docker logins.
        numbered: whether these are the steps of the run itself, and not of a look before it.
    """

    aws: Aws
    runner: Runner
    clock: Clock
    interrupts: Interrupts
    progress: Progress
    launch: Launch
    root: Path
    docker_config: Path
    numbered: bool = True

    def step(self, key: str, title: str | None = None) -> AbstractContextManager[Done]:
        """Time and show a step, with its number if this is a full run of eight."""
        whole_run = self.numbered and self.launch.plan is not None
        return Steps(self.clock, self.progress, self.launch.timings, numbered=whole_run).step(key, title)

    def execute(self, plan: Plan) -> TaskResult:
        """Execute the plan, or follow the task that is already doing it.

        Raises:
            AlreadyRunningError: another launcher's task is alive or was started meanwhile.
            LauncherError: something failed before there was a task, or nothing more can be learned about the task.
        """
        self.launch.plan = plan
        other = task_instead(plan)
        if other is not None:
            return self._instead(plan, other)
        if plan.request.rds_snapshot:
            self._snapshot(plan)
        waited = plan.request.reset or plan.request.rds_snapshot or plan.builds
        with self.step("image") as done:
            plan = self._with_image(plan, done)
        with self.step("log_group") as done:
            self._log_group(plan, done)
        with self.step("task_definition") as done:
            definition = self._definition(plan, done)
        if waited:  # for the user, RDS or Docker: another task may have been started meanwhile
            plan = self._looked_again(plan)
            with Steps(self.clock, self.progress, self.launch.timings).refusing("task"):
                other = task_instead(plan)
            if other is not None:
                return self._instead(plan, other)
        # From here on a signal must not come between the start of the task and the receipt of its ARN.
        with self.interrupts.held():
            begun = self.clock.now()
            with self.step("task") as done:
                run, lost = self._start(plan, definition)
                done(f"{run.task.id} started")
            result = self._own(plan, run)
        task = result.task or run.task
        # If a response was lost, the task's age tells whose it is: this launcher's own may also be over by now.
        if _was_over(run.task) and (not lost or (task.created or begun) < begun - CLOCKS_DIFFER):
            return self._inherited(plan, result, task, last=False)
        return result

    def follow(self, place: Place, run: TaskRun, timeout: float | None = None) -> TaskResult:
        """Follow another run's task to its verdict; neither a signal nor the time limit stops the task.

        Raises:
            OutcomeUnknownError: nothing more can be learned about the task, or it runs longer than `timeout` seconds.
            InterruptedLaunchError: a signal came.
        """
        self.launch.run = run
        return self._follow(place, run, math.inf if timeout is None else timeout, stops=False)

    def _looked_again(self, plan: Plan) -> Plan:
        stack = plan.stack
        tasks = find_tasks(self.aws, stack.cluster.value, stack.family, stack.container)
        return replace(plan, survey=replace(plan.survey, tasks=tasks))

    def _snapshot(self, plan: Plan) -> None:
        def seen(snapshot: RdsSnapshot) -> None:
            if self.launch.rds_snapshot is None:
                self.progress.notice(f"RDS makes {snapshot.name}, whatever happens here.")
            self.launch.rds_snapshot = snapshot

        with self.step("snapshot", "Snapshot") as done:
            taken = take_rds_snapshot(plan.stack, self.aws, self.clock, self.interrupts, seen, self.progress.status)
            done(f"{taken.name} is available")
        # Now, because a launcher that is killed later can't print it any more.
        self.progress.notice(f"To restore {taken.name}:")
        self.progress.notice(taken.restore)

    def _with_image(self, plan: Plan, done: Done) -> Plan:
        image = plan.survey.image
        if not plan.builds:
            done(f"{image.tag or image.digest} is there")
            return plan
        if not plan.survey.repository_exists:
            made = self.aws.create_repository(plan.stack.repository)
            if made is not None:
                self.progress.notice(f"Made the repository {plan.stack.repository}.")
            found = made or self.aws.repository(plan.stack.repository)  # `made` is None if it was created meanwhile
            if found is not None:
                image = replace(image, repository=found["repositoryUri"])
        request = plan.request
        builder = Builder(
            self.runner, self.aws, self.root, self.docker_config, self.progress.detail, request.git_commit, request.base
        )
        digest = builder.build_and_push(image.repository, str(image.tag), plan.stack.platform.value)
        done(f"{image.tag} is pushed")
        return with_image(plan, Image(image.repository, image.tag, digest))

    def _log_group(self, plan: Plan, done: Done) -> None:
        if plan.survey.log_group_exists:
            done(f"{plan.stack.log_group} is there")
        else:
            done(make_log_group(plan.stack, self.aws, self.clock, self.progress.notice))

    def _definition(self, plan: Plan, done: Done) -> str:
        if plan.registers:
            arn = self.aws.register_task_definition(plan.definition)["taskDefinitionArn"]
            done(f"{arn.rsplit('/', 1)[-1]} registered")
            return arn
        arn = str(plan.registered)
        done(f"{arn.rsplit('/', 1)[-1]} is the same")
        return arn

    def _start(self, plan: Plan, definition: str) -> tuple[TaskRun, bool]:
        """Start the task; return it and whether a response was lost before: see `start_task`."""
        deadline = plan.request.deadline(self.clock.now())
        request, container = run_request(plan, definition, deadline), plan.stack.container
        task, lost = start_task(self.aws, request, container, self.clock, self.interrupts, self.progress.notice)
        run = TaskRun(
            task,
            definition,
            plan.survey.image.reference,
            plan.stack.log_group,
            log_stream(plan.stack.place, task.id),
        )
        self.launch.run = run
        return run, lost

    def _instead(self, plan: Plan, task: Task) -> TaskResult:
        """Follow an existing task: as its own if this run started it, otherwise without ever stopping it."""
        own = is_own(plan.request, task)
        if plan.request.rds_snapshot:
            self.progress.notice("No snapshot is made: the task has been started already.")
        stream = log_stream(plan.stack.place, task.id)
        run = TaskRun(task, task.definition, None, plan.stack.log_group, stream)
        if not own:
            self.progress.notice(f"Attached to {task.id}, started by {task.started_by or 'somebody'}.")
            return self.follow(plan.stack.place, run, plan.request.timeout)
        over = task.container_ended
        is_over = "went well, and was the last one" if over else f"is {task.status}"
        self.progress.notice(f"An earlier try of this run has started {task.id}, which {is_over}: no other is started.")
        with self.interrupts.held():
            self.launch.run, self.interrupts.hint = run, attach_hint(task)
            result = self._own(plan, run)
        return self._inherited(plan, result, task, last=True) if over else result

    def _inherited(self, plan: Plan, result: TaskResult, task: Task, *, last: bool) -> TaskResult:
        """Return the result of an earlier try of this run, for a plain upgrade only; the message says so.

        Unless it is known to be the `last` task, its result says nothing about the database's present state.

        Raises:
            RefusedError: the command is not a plain upgrade.
        """
        if not is_plain_upgrade(plan.request.command) and result.verdict is not Verdict.NOT_STARTED:
            self.launch.result = None
            raise ran_already(task)
        if result.exit_code == 0:
            said = f"{result.message} That was an earlier try of this run, {task.id}: nothing was run now."
            if not last:
                so = f"An earlier try of this run, {task.id}, ended so: {result.message}"
                said = f"{so} Nothing was run now, and whether others came after it is not known."
            result = self.launch.result = replace(result, message=said)
        return result

    def _own(self, plan: Plan, run: TaskRun) -> TaskResult:
        if plan.request.detach and not _was_over(run.task) and not run.task.container_ended:
            return self._detached(run)
        return self._follow(plan.stack.place, run, plan.request.time_limit)

    def _follow(self, place: Place, run: TaskRun, timeout: float, *, stops: bool = True) -> TaskResult:
        self.interrupts.hint = attach_hint(run.task)
        log = LogFollower(Interruptible(self.aws, self.interrupts), run.log_group, run.log_stream)
        lines = 0

        def on_line(line: LogLine) -> None:
            nonlocal lines
            lines += 1
            self.progress.log_line(line)

        def on_task(task: Task) -> None:
            self.progress.status(f"the task is {task.status}")

        watcher = Watcher(
            self.aws,
            place.cluster,
            place.container,
            self.clock,
            self.interrupts,
            on_line,
            on_task,
            self.progress.notice,
        )
        with self.step("log") as done:
            watched = watcher.watch(run.task, log, timeout=timeout, stops=stops)
            done(_read(watched, log, lines))
        result = judge(watched, log, place, timeout)
        self.launch.result = result
        self.interrupts.hint, self.interrupts.fate = None, "the task is over"
        if self.launch.plan is not None:  # else the final message says it, and a stopped task is expected to fail
            with self.step("verdict") as done:
                done(result.verdict.replace("_", " "), good=result.exit_code == 0)
        return result

    def _detached(self, run: TaskRun) -> TaskResult:
        result = TaskResult(
            Verdict.DETACHED,
            0,
            f"The task {run.task.id} goes on by itself; how it ends is not known yet.",
            hint=self.interrupts.hint,
            task=run.task,
        )
        self.launch.result = result
        return result


def _was_over(task: Task) -> bool:
    """Whether a task returned by RunTask is an earlier one: a new one can't be at its end yet."""
    return task.status in ("DEPROVISIONING", "STOPPED")


def _read(watched: WatchResult, log: LogFollower, lines: int) -> str:
    if log.refused is not None:
        return "may not be read"
    words = f"{lines or 'no'} line{'' if lines == 1 else 's'}"
    if log.missing is not None:
        return f"{words}; the rest could not be read"
    return f"{words} so far" if lacks_report(watched, log) else words
