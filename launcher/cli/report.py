"""A plan and a run's outcome: as lines of text, as one JSON object, as a summary in Markdown."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from launcher.errors import ExitCode, LauncherError
from launcher.launch.execute import Launch
from launcher.launch.plan import Plan
from launcher.launch.progress import STEPS
from launcher.models import Sourced, Stack, Task, Verdict

_VERDICTS: Mapping[int, Verdict] = {
    ExitCode.REFUSED: Verdict.REFUSED,
    ExitCode.ALREADY_RUNNING: Verdict.REFUSED,
    ExitCode.NOT_STARTED: Verdict.NOT_STARTED,
    ExitCode.UNKNOWN: Verdict.UNKNOWN,
}
"""The verdict of a run that an error ended, by the error's exit code."""

_TITLES = {
    "region": "region",
    "cluster": "cluster",
    "service": "service",
    "subnets": "subnets",
    "security_groups": "security groups",
    "assign_public_ip": "public address",
    "execution_role": "execution role",
    "task_role": "task role",
    "platform": "platform",
    "db_host": "database host",
    "db_port": "database port",
    "db_name": "database",
    "db_user": "database user",
    "db_sslmode": "TLS",
    "db_sslrootcert": "TLS certificates",
}
"""Display names of the values of a `Stack` that have their own source."""


def _values(stack: Stack) -> Iterator[tuple[str, Sourced[Any]]]:
    """Yield the values that have their own source, by their names in `Stack`; the password only as a reference."""
    for name in _TITLES:
        if (sourced := getattr(stack, name)) is not None:
            yield name, sourced
    yield "password", Sourced(stack.password.value.reference, stack.password.source)


def _shown(name: str, value: Any) -> str:
    if name == "password" and value is None:
        return "*** (an override of this run)"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


PLAN_INDENT = 17
"""Where the second column of `plan_lines` begins."""


def plan_lines(plan: Plan, now: float) -> Iterator[str]:
    """Yield the plan as lines of text, for one screen, as if it were executed now."""
    stack, survey = plan.stack, plan.survey
    kind = "guarded as production" if stack.production else "not production"
    yield f"environment      {stack.environment} ({kind})"
    yield f"account          {stack.identity.account}, as {stack.identity.role}"
    for name, sourced in _values(stack):
        yield f"{_TITLES.get(name, name):<16} {_shown(name, sourced.value)}  [{sourced.source}]"
    image = survey.image
    yield f"image            {image.reference}  [{'to be built and pushed' if plan.builds else 'in the registry'}]"
    if image.tag and image.digest:
        yield f"image tag        {image.tag}"
    if not survey.repository_exists:
        yield f"repository       {stack.repository}  [to be made]"
    yield f"log group        {stack.log_group}  [{'there' if survey.log_group_exists else 'to be made'}]"
    yield f"task definition  {_definition_words(plan)}"
    for difference in plan.differences if survey.definition is not None else ():
        yield f"  {difference.path}: {_value(difference.before)} -> {_value(difference.after)}"
    if plan.request.rds_snapshot:
        yield f"snapshot         of {stack.db_instance.value if stack.db_instance else stack.db_host.value}, first"
    for task in survey.tasks.alive:
        yield f"alive already    {task.id} ({task.status}), started by {task.started_by or 'somebody'}"
    yield f"command          {shlex.join(plan.request.command)}"
    deadline = plan.request.deadline(now)
    yield f"deadline         {f'{clock_time(deadline)}  [if it starts now]' if deadline else 'none, with --detach'}"


def plan_object(plan: Plan, now: float) -> dict[str, Any]:
    """Return the plan for JSON, as if it were executed now."""
    stack, survey = plan.stack, plan.survey
    return {
        "environment": stack.environment,
        "production": stack.production,
        "account": stack.identity.account,
        "caller": stack.identity.arn,
        "values": {name: {"value": each.value, "source": each.source} for name, each in _values(stack)},
        "image": {"reference": survey.image.reference, "tag": survey.image.tag, "build": plan.builds},
        "repository": {"name": stack.repository, "create": not survey.repository_exists},
        "log_group": {"name": stack.log_group, "create": not survey.log_group_exists},
        "task_definition": {
            "family": stack.family,
            "register": plan.registers,
            "reuse": None if plan.registers else plan.registered,
            "differences": [
                {"path": item.path, "before": item.before, "after": item.after} for item in plan.differences
            ],
        },
        "snapshot": plan.request.rds_snapshot,
        "alive": [task_object(task) for task in survey.tasks.alive],
        "command": list(plan.request.command),
        "timeout_seconds": plan.request.time_limit,
        "deadline": plan.request.deadline(now),
    }


def result_object(launch: Launch, *, command: str, error: LauncherError | None = None) -> dict[str, Any]:
    """Return the JSON object about a run, whether it succeeded, failed, or never began.

    Args:
        launch: what is known about the run.
        command: the launcher's command: `ecs-migrate`.
        error: the error that ended the run; it takes precedence over a result.
    """
    result, run, report = launch.result, launch.run, launch.result.report if launch.result else None
    if error is not None:
        verdict = _VERDICTS.get(error.exit_code, Verdict.INTERRUPTED if error.exit_code >= 128 else Verdict.FAILED)
        code, message, hint, details = error.exit_code, error.message, error.hint, error.details
    elif result is not None:
        verdict, code, message, hint, details = (
            result.verdict,
            result.exit_code,
            result.message,
            result.hint,
            result.details,
        )
    else:
        verdict, code, message, hint, details = Verdict.DRY_RUN, 0, "Nothing was changed.", None, ()
    task = result.task if result and result.task else run.task if run else None
    return {
        "command": command,
        "verdict": verdict.value,
        "exit_code": code,
        "message": message,
        "hint": hint,
        "details": list(details),
        "environment": launch.plan.stack.environment if launch.plan else None,
        "task": task_object(task) if task else None,
        "task_definition": run.definition if run else None,
        "image": run.image if run else None,
        "image_digest": _digest(run.image) if run else None,
        "before": report.before if report else None,
        "after": report.after if report else None,
        "ran": list(report.ran) if report else None,
        "log": {"group": run.log_group, "stream": run.log_stream} if run else None,
        "snapshot": asdict(launch.rds_snapshot) if launch.rds_snapshot else None,
        "lint": asdict(launch.lint) if launch.lint else None,
        "rollback": launch.rollback,
        "seconds": launch.timings,
    }


def task_object(task: Task) -> dict[str, Any]:
    """Return a task for JSON."""
    return {
        "arn": task.arn,
        "status": task.status,
        "exit_code": task.exit_code,
        "stop_code": task.stop_code,
        "stopped_reason": task.stopped_reason,
        "container_reason": task.container_reason,
        "created": task.created,
        "started": task.started,
        "stopped": task.stopped,
        "started_by": task.started_by,
        "command": list(task.command),
        "deadline": task.deadline,
    }


def clock_time(moment: float) -> str:
    """Return a time in seconds since the epoch as the caller's clock shows it."""
    return f"{datetime.fromtimestamp(moment):%Y-%m-%d %H:%M:%S}"


def result_lines(launch: Launch) -> Iterator[str]:
    """Yield the run to take back, revision, snapshot and log, to be shown with the verdict or error."""
    yield from rollback_lines(launch.rollback)
    result = launch.result
    report = result.report if result else None
    if report is not None and (report.before is not None or report.after is not None):
        yield f"Revision  {report.before or 'none'} -> {report.after or 'none'}"
    if launch.rds_snapshot is not None and launch.rds_snapshot.status == "available":
        yield f"Snapshot  {launch.rds_snapshot.name}; to restore it:"
        yield f"          {launch.rds_snapshot.restore}"
    elif launch.rds_snapshot is not None:
        yield f"Snapshot  {launch.rds_snapshot.name} ({launch.rds_snapshot.status})"
    if launch.run is not None and (result is None or result.verdict is not Verdict.NOT_STARTED):
        yield f"Log       {launch.run.log_group}"
        yield f"          {launch.run.log_stream}"


def rollback_lines(found: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield which run is taken back, and what that loses."""
    if found is None:
        return
    yield f"Run       {found['told']}"
    yield f"Back      from {found['from']} to {found['to'] or 'no revision'}: {', '.join(found['revisions'])}"
    for each in found["losses"]:
        count = "an unknown number of" if each["rows"] is None else f"{each['rows']:,}"
        yield f"Loses     {count} {each['phrase']} ({each['revision']})"
    if not found["losses"]:
        yield "Loses     nothing that its revisions count"


def summary(launch: Launch, title: str, *, message: str, hint: str | None, good: bool) -> str:
    """Return a job summary in Markdown; untrusted text is in blocks of HTML, where Markdown has no effect."""
    lines = [f"<h3>{'✅' if good else '❌'} {_cell(title)}</h3>", "", f"<p>{_cell(message)}</p>", ""]
    if hint:
        lines += [f"<p><b>Next:</b> {_cell(hint)}</p>", ""]
    if launch.timings:
        lines += ["| step | seconds |", "| --- | ---: |"]
        lines += [f"| {STEPS.get(key, key)} | {seconds:.1f} |" for key, seconds in launch.timings.items()]
        lines.append("")
    lines += ["<p>", *(f"<code>{_cell(line)}</code><br>" for line in result_lines(launch)), "</p>"]
    return "\n".join(lines) + "\n\n"


def _cell(text: str) -> str:
    """Return the text as one line of HTML: an empty line would end the block."""
    return html.escape(" ".join(text.split()), quote=False)


def _definition_words(plan: Plan) -> str:
    if plan.registered is None:
        return f"{plan.stack.family}  [to be registered: the first]"
    name = plan.registered.rsplit("/", 1)[-1]
    return f"{name}  [{'to be registered anew' if plan.registers else 'the same; used as it is'}]"


def _value(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _digest(reference: str | None) -> str | None:
    return reference.partition("@")[2] or None if reference else None
