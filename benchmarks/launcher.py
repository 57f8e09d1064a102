"""The launcher on the local AWS: what it costs besides the task's own running time, against peers in the same run."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from launcher.image.context import files
from launcher.image.tag import DOCKERFILE, content_tag
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.program import Container, Program, Script, ScriptedProgram
from launcher.rehearsal.stack import DATABASE_PASSWORD
from launcher.rehearsal.stand_in_docker import digest_of
from launcher.rehearsal.task import Pace
from launcher.rehearsal.terraform import write_root

ROOT = Path(__file__).parent.parent
RUNS = 7
TASK_SECONDS = 3.0
RESULT = (
    '{"neuraknot_result": 1, "command": "upgrade", "before": "004", "after": "004", "ran": [], "exit_code": 0,'
    ' "error": null}'
)
BARE = """
import typer
app = typer.Typer(add_completion=False)
@app.command()
def one(name: str = "x") -> None: "One."
@app.command()
def two(name: str = "x") -> None: "Two."
app()
"""


@dataclass(frozen=True)
class Timed:
    """One `ecs-migrate`, from start to exit.

    Attributes:
        overhead: seconds besides the task's own.
        verdict: seconds from the container's end to the launcher's exit.
        line: the longest time from a line's arrival in CloudWatch Logs to the screen, in seconds.
        calls: how many AWS calls it made.
        busiest: how many looks at tasks it made in the busiest second.
    """

    overhead: float
    verdict: float
    line: float
    calls: int
    busiest: int


def run() -> list[str]:
    """Measure, and give the figures line by line."""
    with tempfile.TemporaryDirectory() as folder:
        checkout, terraform = Path(folder) / "checkout", Path(folder) / "terraform"
        for name in (*files(ROOT, DOCKERFILE), DOCKERFILE):  # as it is now, whoever works on the project meanwhile
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
        with _cloud(checkout, terraform) as (pipe, environment):
            command = [sys.executable, "-m", "launcher", "ecs-migrate", "--root", str(checkout)]
            command += ["--environment", "dev", "--terraform-dir", str(terraform)]
            _migrate(pipe, environment, command)  # the first run registers; only unchanged ones are measured
            timed = [_migrate(pipe, environment, command) for _ in range(RUNS)]
    help_times, bare_times = _help(RUNS)
    boto = statistics.median(_seconds([sys.executable, "-c", _CLIENTS], os.environ) for _ in range(3))
    return [
        f"ecs-migrate, unchanged, besides the task: median {_median(timed, 'overhead'):.2f} s"
        f" (at most 2.0; boto3 and its clients alone {boto:.2f})",
        f"from the task's end to the launcher's exit: median {_median(timed, 'verdict'):.2f} s (at most 1.5)",
        f"from a line's arrival to the screen: worst {max(each.line for each in timed):.2f} s (at most 2)",
        f"AWS calls for a {TASK_SECONDS:.0f} s task: at most {max(each.calls for each in timed)} (at most 20)",
        f"looks at tasks in one second: at most {max(each.busiest for each in timed)} (at most 1)",
        f"launcher --help against a bare typer application's: {_ratio(help_times, bare_times):.2f} (at most 1.5)",
    ]


_CLIENTS = """
import boto3
session = boto3.Session(region_name="ap-northeast-1")
for name in ("sts", "ecs", "ecr", "logs", "rds"):
    session.client(name, aws_access_key_id="x", aws_secret_access_key="x")
"""


def _median(timed: list[Timed], name: str) -> float:
    return float(statistics.median(getattr(each, name) for each in timed))


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(ours) / statistics.median(theirs)


def _help(runs: int) -> tuple[list[float], list[float]]:
    """Both in turn, so that a busy machine is busy for both."""
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(_seconds([sys.executable, "-m", "launcher", "--help"], os.environ))
        theirs.append(_seconds([sys.executable, "-c", BARE, "--help"], os.environ))
    return ours, theirs


def _seconds(command: list[str], environment: Mapping[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=dict(environment), check=True, capture_output=True)
    return time.perf_counter() - begun


def _migrate(pipe: Connection, environment: Mapping[str, str], command: list[str]) -> Timed:
    """One run; its lines are read as they come, to know when each was on the screen."""
    begun = time.time()
    process = subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    shown = {line.rstrip("\n"): time.time() for line in process.stdout}
    _, errors = process.communicate()
    over = time.time()
    if process.returncode != 0:
        raise RuntimeError(errors)
    pipe.send("report")
    ended, printed, calls = pipe.recv()
    begun_at = next(at for operation, at in calls if operation == "RunTask")
    looks = sorted(at for operation, at in calls if operation == "DescribeTasks" and at >= begun_at)
    return Timed(
        overhead=over - begun - TASK_SECONDS,
        verdict=over - ended,
        line=max(shown[text] - at for text, at in printed.items()),
        calls=len(calls),
        busiest=max(sum(at <= other < at + 1.0 for other in looks) for at in looks),
    )


@contextmanager
def _cloud(checkout: Path, terraform: Path) -> Iterator[tuple[Connection, Mapping[str, str]]]:
    """A local AWS in a process of its own, as the real one is on other machines."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, checkout, terraform), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process ends the wait for its words
    try:
        yield ours, {**os.environ, **ours.recv(), "TF_CLI_CONFIG_FILE": "/dev/null"}
        ours.send("stop")
        process.join(10)
    finally:
        process.terminate()


def _serve(pipe: Connection, checkout: Path, terraform: Path) -> None:
    programs: list[tuple[float, ScriptedProgram]] = []
    script = Script(lines=((0.3, "one"), (1.4, "two"), (2.5, "three"), (2.9, RESULT)), seconds=TASK_SECONDS)

    def start(container: Container) -> Program:
        program = ScriptedProgram(script, container.started)
        programs.append((container.started, program))
        return program

    with LocalAws(start=start, pace=Pace(0.0, 0.0, 0.0, 5.0)) as cloud:
        write_root(terraform, cloud.stack.outputs, DATABASE_PASSWORD)
        tag = content_tag(checkout, "linux/amd64")
        cloud.stack.put_image(tag, digest_of(tag))
        pipe.send(cloud.environment)
        seen = 0
        while pipe.recv() == "report":
            started = programs[-1][0]
            printed = {text: started + after for after, text in script.lines if text != RESULT}
            calls = [(call.operation, call.at) for call in cloud.server.calls[seen:]]
            seen += len(calls)
            pipe.send((started + TASK_SECONDS, printed, calls))


def main() -> None:
    """Print the figures."""
    print(*run(), sep="\n")


if __name__ == "__main__":
    main()
