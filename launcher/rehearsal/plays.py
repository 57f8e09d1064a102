"""How each failure is played: what is broken in a working stack."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.errors import ProgramNotFoundError
from launcher.machine.process import Completed, Runner
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.delivery import Travel
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.stack import LocalStack
from launcher.rehearsal.stand_in_docker import StandInDocker
from launcher.rehearsal.task import Injected, LocalTask, Obstacle
from launcher.rehearsal.terraform import write_root


@dataclass
class Scene:
    """Where a failure is played.

    Attributes:
        cloud: the local AWS, still working.
        directory: the Terraform root, with a state and `secrets.tfvars`.
        docker: the replacement for `docker`.
        run: starts every program, `docker` among them.
        project: a copy of the checkout's revisions, which real containers run; None if containers are simulated.
    """

    cloud: LocalAws
    directory: Path
    docker: StandInDocker
    run: Runner
    project: Path | None = None


BEGINNING = (
    (0.1, "neuraKnot as postgres, PostgreSQL 15.8"),
    (0.2, "  001      28 ms  The initial schema."),
    (0.3, "  002       3 ms  Agents without a persona, and concise ones."),
)
"""What a simulated container prints before anything fails in it."""


Play = Callable[[Scene], None]
"""Breaks a working scene."""


def obstacle(obstacle: Obstacle) -> Play:
    """Keep every container from starting."""

    def play(scene: Scene) -> None:
        scene.cloud.ecs.obstacle = lambda _: obstacle

    return play


def container(script: Script) -> Play:
    """Simulate the container by this script."""

    def play(scene: Scene) -> None:
        scene.cloud.ecs.start = scripted(script)

    return play


def revision(body: str, simulated: Script) -> Play:
    """Have the container run one more revision, whose `upgrade()` is this line; or simulate what that does."""

    def play(scene: Scene) -> None:
        if scene.project is None:
            scene.cloud.ecs.start = scripted(simulated)
            return
        versions = scene.project / "alembic" / "versions"
        head = max(path.name.partition("_")[0] for path in versions.glob("[0-9]*.py"))
        new = f"{int(head) + 1:0{len(head)}d}"
        text = _REVISION.format(revision=new, down_revision=head, body=body)
        (versions / f"{new}_the_rehearsals_own.py").write_text(text, encoding="utf-8")

    return play


_REVISION = '''"""The rehearsal's own."""

import os

from alembic import op

revision = "{revision}"
down_revision = "{down_revision}"


def upgrade() -> None:
    {body}


def downgrade() -> None:
    pass
'''


def logging(**settings: Any) -> Play:
    """Change how lines are delivered: `settings` are those of `Travel`."""

    def play(scene: Scene) -> None:
        scene.cloud.ecs.logs.travel = Travel(**settings)

    return play


def no_route(scene: Scene) -> None:
    """Delete the private subnets' default route."""
    stack = scene.cloud.stack
    stack.ec2.delete_route(stack.route_table, "0.0.0.0/0")


def no_endpoint(service: str) -> Play:
    """Delete the VPC endpoint of a service."""

    def play(scene: Scene) -> None:
        ec2 = scene.cloud.stack.ec2
        name = f"com.amazonaws.{scene.cloud.stack.region}.{service}"
        ec2.delete_vpc_endpoints([key for key, each in ec2.vpc_end_points.items() if each.service_name == name])

    return play


def secret_denied(scene: Scene) -> None:
    """Remove the execution role's permission to read the secret."""
    stack = scene.cloud.stack
    stack.iam.delete_role_policy(stack.execution_role, "database-secret")


def no_time(scene: Scene) -> None:
    """Let the task end the moment it is started."""
    scene.cloud.ecs.pace = replace(scene.cloud.ecs.pace, provisioning=0, pulling=0, deprovisioning=0)
    scene.cloud.ecs.start = scripted(Script(seconds=0.0))


def throttled(scene: Scene) -> None:
    """Refuse every other call that looks at the task or at its log."""
    counts = dict.fromkeys(("ecs:DescribeTasks", "logs:GetLogEvents"), 0)

    def every_other(call: Call) -> None:
        if call.action in counts:
            counts[call.action] += 1
            if counts[call.action] % 2 == 0:
                raise Refusal("ThrottlingException", "Rate exceeded")

    scene.cloud.server.faults.append(every_other)


def unseen(scene: Scene) -> None:
    """Hide a new task from DescribeTasks for some time."""
    pace = scene.cloud.ecs.pace
    scene.cloud.ecs.unseen = min(5.0, pace.provisioning + pace.pulling)


def todays_ci_role(scene: Scene) -> None:
    """Allow the caller only what the CI role may do today."""
    scene.cloud.iam.caller = scene.cloud.stack.ci_role


def pass_role_denied(scene: Scene) -> None:
    """Allow the caller everything except passing roles."""
    stack = scene.cloud.stack
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    stack.allow(stack.ci_role, "deploy", everything, {"Effect": "Deny", "Action": "iam:PassRole", "Resource": "*"})
    scene.cloud.iam.caller = stack.ci_role


def sidecar(exit_code: int) -> Play:
    """Inject GuardDuty's container, which ends with this exit code."""

    def play(scene: Scene) -> None:
        scene.cloud.ecs.injected = (Injected("aws-guardduty-agent-7Kq2", exit_code),)

    return play


def both(*plays: Play) -> Play:
    """Play several failures, one after the other."""

    def play(scene: Scene) -> None:
        for each in plays:
            each(scene)

    return play


def capacity(times: int | None) -> Play:
    """Let Fargate have no capacity for this many tries; None for always."""
    reason = "Capacity is unavailable at this time. Please try again later or in a different availability zone"

    def play(scene: Scene) -> None:
        scene.cloud.ecs.failures = itertools.repeat(reason) if times is None else itertools.repeat(reason, times)

    return play


def another_launcher(scene: Scene) -> None:
    """Start another task of the same family first."""
    start_task(scene.cloud, started_by="somebody else")


def start_task(cloud: LocalAws, *, started_by: str, family: str | None = None) -> LocalTask:
    """Start a task of the migration's family, or of another, for another caller; it runs until it is stopped."""
    stack = cloud.stack
    definition = stack.ecs.register_task_definition(
        family or stack.family,
        [{"name": "migrate", "image": "public.ecr.aws/somebody/else:1", "essential": True}],
        network_mode="awsvpc",
        requires_compatibilities=["FARGATE"],
        cpu="256",
        memory="512",
        execution_role_arn=stack.execution_role_arn,
    )
    network = {"subnets": list(stack.subnets), "securityGroups": [stack.service_group]}
    request = {
        "cluster": stack.cluster,
        "taskDefinition": definition.arn,
        "networkConfiguration": {"awsvpcConfiguration": network},
        "startedBy": started_by,
    }
    before = cloud.ecs.start
    cloud.ecs.start = scripted(Script(seconds=86_400))
    call = Call("ecs", "RunTask", request, stack.region, cloud.credentials.access_key, cloud.server.now())
    arn = cloud.ecs.run_task(call)["tasks"][0]["taskArn"]
    task = cloud.ecs.tasks[arn]
    task.advance(call.at + cloud.ecs.pace.provisioning + cloud.ecs.pace.pulling)
    cloud.ecs.start = before
    return task


def lost_answers(times: int, action: str = "ecs:RunTask") -> Play:
    """Execute the call but return an error, this many times."""

    def play(scene: Scene) -> None:
        handlers = scene.cloud.server.handlers
        carry_out, lost = handlers[action], iter(range(times))

        def answer(call: Call) -> dict[str, Any] | None:
            result = carry_out(call)
            if next(lost, None) is not None:
                raise Refusal("ServerException", "Service Unavailable. Please try again later.", status=500)
            return result

        handlers[action] = answer

    return play


endless = revision('op.execute("SELECT pg_sleep(86400)")', Script(lines=BEGINNING, seconds=86_400))
"""Have the container not end by itself."""


def _in_the_last_revision(scene: Scene) -> list[LocalTask]:
    """Return the tasks that run and have told of all revisions but the last."""
    # The line of the start stands for the revision that has none yet.
    least = len(list((scene.project / "alembic/versions").glob("[0-9]*.py"))) if scene.project else 1
    return [task for task in scene.cloud.ecs.tasks.values() if task.status == "RUNNING" and task.printed >= least]


def interrupted(scene: Scene) -> None:
    """Send SIGINT, as Ctrl-C does, while the container runs."""
    endless(scene)
    sent = iter([True])

    def look(call: Call) -> None:
        if call.action == "logs:GetLogEvents" and _in_the_last_revision(scene) and next(sent, False):
            os.kill(os.getpid(), signal.SIGINT)

    scene.cloud.server.faults.append(look)


def outputs(change: Callable[[LocalStack], Mapping[str, Any]]) -> Play:
    """Change outputs in the Terraform state."""

    def play(scene: Scene) -> None:
        stack = scene.cloud.stack
        write_root(scene.directory, {**stack.outputs, **change(stack)})

    return play


def empty_state(scene: Scene) -> None:
    """Remove all outputs from the Terraform state."""
    write_root(scene.directory, {})


def no_password(scene: Scene) -> None:
    """Leave only another key in `secrets.tfvars`."""
    (scene.directory / "secrets.tfvars").write_text('another_key = "x"\n', encoding="utf-8")


def expires_midway(scene: Scene) -> None:
    """Let the caller's session expire once the task has started."""

    def look(call: Call) -> None:
        if call.action == "ecs:DescribeTasks":
            scene.cloud.server.know(call.access_key, expired=True)

    scene.cloud.server.faults.append(look)


def start_throttled(scene: Scene) -> None:
    """Throttle the first two RunTask calls."""
    refusals = iter([Refusal("ThrottlingException", "Rate exceeded")] * 2)

    def look(call: Call) -> None:
        refusal = next(refusals, None) if call.action == "ecs:RunTask" else None
        if refusal is not None:
            raise refusal

    scene.cloud.server.faults.append(look)


def log_denied(scene: Scene) -> None:
    """Allow the caller everything except reading the log."""
    stack = scene.cloud.stack
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    stack.allow(stack.ci_role, "deploy", everything, {"Effect": "Deny", "Action": "logs:GetLogEvents", "Resource": "*"})
    scene.cloud.iam.caller = stack.ci_role


def stopped_by_somebody(scene: Scene) -> None:
    """Let another user stop the task while it runs."""
    endless(scene)

    def look(call: Call) -> None:
        for task in _in_the_last_revision(scene):
            task.stop("Stopped by the on-call engineer", call.at)

    scene.cloud.server.faults.append(look)


def locked_state(scene: Scene) -> None:
    """Let another `terraform` hold the state's lock."""
    info = {"ID": "8c1f0b1e-0000-4000-8000-000000000000", "Who": "somebody@else", "Created": "2026-01-01T00:00:00Z"}
    (scene.directory / ".terraform.tfstate.lock.info").write_text(json.dumps(info), encoding="utf-8")


def expired(scene: Scene) -> None:
    """Let the caller's session be expired."""
    scene.cloud.server.know(scene.cloud.credentials.access_key, expired=True)


def another_account(scene: Scene) -> None:
    """Let the credentials be for an empty account."""
    scene.cloud.server.account = "999999999999"


def inactive_cluster(scene: Scene) -> None:
    """Delete the cluster: it is still described, as INACTIVE."""
    scene.cloud.stack.ecs.clusters[scene.cloud.stack.cluster].status = "INACTIVE"


def no_service(scene: Scene) -> None:
    """Remove the service, as if it had never existed."""
    stack = scene.cloud.stack
    del stack.ecs.services[f"{stack.cluster}:{stack.service}"]


def inactive_service(scene: Scene) -> None:
    """Delete the service: it is still described, as INACTIVE."""
    stack = scene.cloud.stack
    stack.ecs.services[f"{stack.cluster}:{stack.service}"].status = "INACTIVE"


def no_engine(scene: Scene) -> None:
    """Stop the Docker engine."""
    scene.docker.engine = False


def push_refused(scene: Scene) -> None:
    """Let the registry refuse pushes."""
    scene.docker.push_refused = True


def polluted_terraform(scene: Scene) -> None:
    """Let a wrapper print its own lines around the output of `terraform`."""
    run = scene.run

    def wrapped(arguments: Sequence[str], **options: Any) -> Completed:
        completed = run(arguments, **options)
        if arguments[0] != "terraform":
            return completed
        noise = "[command]/usr/bin/terraform-bin output -json\n{not JSON}\n"
        return replace(completed, stdout=f"{noise}{completed.stdout}\n::debug::exitcode: 0\n")

    scene.run = wrapped


def no_terraform(scene: Scene) -> None:
    """Make `terraform` unavailable, as if not installed."""
    run = scene.run

    def without(arguments: Sequence[str], **options: Any) -> Completed:
        if arguments[0] == "terraform":
            raise ProgramNotFoundError("terraform")
        return run(arguments, **options)

    scene.run = without
