"""What runs in a container of the local ECS: its environment, its lines, its signals."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.program import Container, ProcessProgram, Program, Script, ScriptedProgram
from launcher.rehearsal.stack import DATABASE_PASSWORD
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.rehearsal.test_double import look, register, run


def process(script: str, folder: Path, environment: Mapping[str, str] | None = None) -> ProcessProgram:
    command = (sys.executable, "-c", script)
    container = Container("arn:aws:ecs:::task/c/t", command, environment or {}, time.time())
    return ProcessProgram(container, folder, {"FROM_IMAGE": "yes"}, time.time)


def ended(program: ProcessProgram) -> tuple[list[str], int | None]:
    """All lines, and the exit code."""
    program._reader.join(20)
    lines = [text for _, text in program.lines(time.time())]
    end = program.ended(time.time())
    assert end is not None
    return lines, end[1]


def test_a_process_has_the_container_s_environment_and_no_more(tmp_path: Path) -> None:
    program = process("import json, os; print(json.dumps(dict(os.environ)))", tmp_path, {"DB_HOST": "db"})
    lines, code = ended(program)
    environment = json.loads(lines[0])
    environment.pop("LC_CTYPE", None)  # CPython sets it by itself, where the locale is C
    assert environment == {"DB_HOST": "db", "FROM_IMAGE": "yes"}
    assert code == 0


def test_both_streams_arrive_in_their_order_and_a_last_line_without_an_end_too(tmp_path: Path) -> None:
    script = (
        "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); sys.stdout.write('three')"
    )
    assert ended(process(script, tmp_path)) == (["one", "two", "three"], 0)


def test_the_code_is_not_told_before_the_last_line(tmp_path: Path) -> None:
    program = process("print('last'); raise SystemExit(7)", tmp_path)
    program._reader.join(20)
    assert program.ended(time.time()) is None
    assert [text for _, text in program.lines(time.time())] == ["last"]
    end = program.ended(time.time())
    assert end is not None
    assert end[1] == 7


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 137)])
def test_a_signal_s_code_is_the_shell_s(tmp_path: Path, number: signal.Signals, code: int) -> None:
    program = process("import signal; print('ready', flush=True); signal.pause()", tmp_path)
    program._queue.get(timeout=20)
    if number == signal.SIGTERM:
        program.terminate(time.time())
    else:
        program.kill(time.time())
    assert ended(program) == ([], code)


def test_a_container_gets_definition_secrets_overrides_and_what_ecs_adds(
    make_cloud: MakeCloud, clock: FakeClock
) -> None:
    seen: list[Container] = []

    def start(container: Container) -> Program:
        seen.append(container)
        return ScriptedProgram(Script(), container.started)

    cloud = make_cloud(start=start, login="output")
    definition = register(
        cloud,
        container={
            "entryPoint": ["/bin/tini", "--"],
            "environment": [{"name": "DB_HOST", "value": "db"}, {"name": "DB_USER", "value": "nobody"}],
            "secrets": [{"name": "DB_PASSWORD", "valueFrom": f"{cloud.stack.secret}:password::"}],
        },
    )
    override = {"name": "migrate", "command": ["plan"], "environment": [{"name": "DB_USER", "value": "postgres"}]}
    arn = run(cloud, definition, overrides={"containerOverrides": [override]})["tasks"][0]["taskArn"]
    clock.sleep(30)
    cloud.server.tick()
    (container,) = seen
    assert container.command == ("/bin/tini", "--", "plan")
    metadata = container.environment["ECS_CONTAINER_METADATA_URI_V4"]
    assert container.environment == {
        "AWS_DEFAULT_REGION": "ap-northeast-1",
        "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
        "AWS_REGION": "ap-northeast-1",
        "DB_HOST": "db",
        "DB_PASSWORD": DATABASE_PASSWORD,
        "DB_USER": "postgres",
        "ECS_CONTAINER_METADATA_URI_V4": metadata,
    }
    with urllib.request.urlopen(f"{metadata}/task") as answer:
        assert json.load(answer)["TaskARN"] == arn


def test_a_program_that_is_not_there_is_told_as_ecs_tells_it(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    empty = {"PATH": str(tmp_path)}
    cloud = make_cloud(start=lambda container: ProcessProgram(container, tmp_path, empty, clock.now))
    arn = run(cloud, register(cloud, container={"command": ["nothing-like-this"]}))["tasks"][0]["taskArn"]
    clock.sleep(60)
    task = look(cloud, arn)
    assert (task["lastStatus"], task["stopCode"]) == ("STOPPED", "TaskFailedToStart")
    assert 'exec: "nothing-like-this": executable file not found' in task["containers"][0]["reason"]


def test_nothing_of_a_cloud_s_programs_is_left_when_it_goes(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[ProcessProgram] = []

    def start(container: Container) -> Program:
        programs.append(process("import signal; signal.pause()", tmp_path))
        return programs[0]

    with LocalAws(start=start, now=clock.now) as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        run(cloud, register(cloud))
        clock.sleep(30)
        cloud.server.tick()
        assert len(programs) == 1
    assert ended(programs[0]) == ([], 137)
