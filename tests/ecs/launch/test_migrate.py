"""`ecs-migrate` and `ecs-run`, from the command line to the database's side of the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from launcher.image.tag import content_tag
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.program import Script, scripted
from launcher.rehearsal.stand_in_docker import StandInDocker, digest_of
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import GOOD, SHOWN, Stage, make_stage


@pytest.fixture
def stage(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD), clock, tmp_path)


@pytest.fixture
def production(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> Stage:
    return make_stage(make_cloud(script=GOOD, environment="prod"), clock, tmp_path)


def pushed_image(stage: Stage) -> str:
    """The reference of the image that the registry holds."""
    stack, tag = stage.cloud.stack, content_tag(stage.root, "linux/amd64")
    return f"{stack.account}.dkr.ecr.{stack.region}.amazonaws.com/{stack.repository}:{tag}"


def add_revisions(stage: Stage, before: Mapping[str, str | None], labels: Mapping[str, str] | None = None) -> None:
    """Write revisions into the checkout, by what goes before each."""
    versions = stage.root / "alembic" / "versions"
    versions.mkdir(parents=True)
    for revision, down in before.items():
        label = (labels or {}).get(revision)
        (versions / f"{revision}_made.py").write_text(
            f"revision: str = {revision!r}\ndown_revision = {down!r}\nbranch_labels = {label!r}\nprint('never run')\n"
        )


def test_eight_steps_and_the_containers_lines(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == SHOWN
    assert [line[3:6] for line in outcome.err.splitlines() if line.startswith(" ✓")] == [f"{n}/8" for n in range(1, 9)]
    assert "Done. dev is at revision 004" in outcome.err


@pytest.mark.slow
def test_the_second_run_builds_pushes_and_registers_nothing(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path, pushed=False)
    assert stage.launch("ecs-migrate").code == 0
    first = list(stage.writes)
    assert {"RegisterTaskDefinition", "CreateLogGroup", "RunTask"} <= set(first)
    assert stage.launch("ecs-migrate").code == 0
    assert stage.writes[len(first) :] == ["RunTask"]


@pytest.mark.slow
def test_a_changed_checkout_is_built_anew_and_its_digest_pinned(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    (stage.root / "new_revision.py").write_text("x = 1\n")
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 0, outcome.err
    definition = stage.cloud.stack.ecs.task_definitions[stage.cloud.stack.family][2]
    assert "@sha256:" in str(definition.container_definitions[0]["image"])


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["ecs-migrate"], "alembic upgrade head"),
        (["ecs-migrate", "--create-db"], "alembic -x create_db=true upgrade head"),
        (["ecs-migrate", "--force"], "alembic -x force=true upgrade head"),
        (["ecs-migrate", "--create-db", "--force"], "alembic -x create_db=true -x force=true upgrade head"),
        (["ecs-migrate", "--revision", "003"], "alembic upgrade 003"),
        (["ecs-migrate", "--reset"], "neuraknot-db reset --confirm neuraKnot"),
        (["ecs-run", "--", "downgrade", "-1"], "neuraknot-db downgrade -1"),
        (
            ["ecs-run", "--", "-x", "confirm=neuraKnot", "downgrade", "-1"],
            "neuraknot-db -x confirm=neuraKnot downgrade -1",
        ),
        (["ecs-run", "verify"], "neuraknot-db verify"),
    ],
)
def test_options_become_the_containers_command(stage: Stage, arguments: list[str], command: str) -> None:
    outcome = stage.launch(*arguments)
    assert outcome.code == 0, outcome.err
    assert " ".join(stage.command) == command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ecs-run", "--snapshot", "--", "nonsense"], "no such command 'nonsense'"),
        (["ecs-run", "--snapshot", "--", "upgrade"], "required: revision"),
        (
            ["ecs-run", "--snapshot", "--", "downgrade", "-1", "-x", "confirm=neuraKnot"],
            "option '-x' stands before the command",
        ),
        (["ecs-run", "--snapshot", "--", "-x", "confirm=" + "a" * 8192, "downgrade", "-1"], "ECS takes 8,192"),
        (["ecs-migrate", "--snapshot", "--revision", "r" * 8192], "ECS takes 8,192"),
    ],
)
def test_a_command_line_that_can_only_fail_is_refused_before_anything_is_made(
    stage: Stage, arguments: list[str], words: str
) -> None:
    outcome = stage.launch(*arguments)
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
    assert stage.writes == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("ecs-run", "--snapshot", "--", "upgrade", "nosuch"), "There is no revision nosuch in alembic/versions"),
        (("ecs-run", "--snapshot", "--", "downgrade", "001x"), "There is no revision 001x"),
        (("ecs-run", "--snapshot", "--", "upgrade", "--sql", "001:999"), "There is no revision 999"),
        (("ecs-migrate", "--snapshot", "--revision", "nosuch"), "There is no revision nosuch"),
        (("ecs-migrate", "--snapshot", "--revision", "00"), "There is no revision 00"),
        (("ecs-migrate", "--snapshot", "--revision", "+9"), "There is no revision +9"),
        (("ecs-migrate", "--snapshot", "--revision", "003 "), "not a valid revision name"),
        (("ecs-migrate", "--snapshot", "--revision", "999:head"), "not a valid revision name"),
        (("ecs-migrate", "--snapshot", "--revision", "-1"), "not a valid revision name"),
        (("ecs-migrate", "--plan", "--revision", "nosuch"), "There is no revision nosuch"),
    ],
)
def test_a_revision_that_the_checkout_lacks_is_refused_before_anything_is_made(
    stage: Stage, arguments: tuple[str, ...], words: str
) -> None:
    add_revisions(stage, {"001": None, "002": "001"})
    outcome = stage.launch(*arguments)
    assert (outcome.code, stage.writes) == (2, []), outcome.err
    assert words in outcome.err


@pytest.mark.parametrize("name", ["002", "head", "heads", "base", "+1", "001+1", "main@head", "main"])
def test_a_revision_that_the_checkout_has_is_migrated_to(stage: Stage, name: str) -> None:
    add_revisions(stage, {"001": None, "002": "001"}, labels={"001": "main"})
    outcome = stage.launch("ecs-migrate", "--dry-run", "--revision", name)
    assert outcome.code == 0, outcome.err


def test_several_heads_are_found_before_anything_is_made(stage: Stage) -> None:
    add_revisions(stage, {"001": None, "002": "001", "003": "001"})
    outcome = stage.launch("ecs-migrate", "--snapshot")
    assert (outcome.code, stage.writes) == (2, []), outcome.err
    assert "alembic/versions holds several heads, and head needs one: 002, 003." in outcome.err
    assert stage.launch("ecs-migrate", "--dry-run", "--revision", "heads").code == 0


@pytest.mark.parametrize(
    "arguments", [("ecs-migrate", "--reset"), ("ecs-migrate", "--plan"), ("ecs-run", "--", "plan"), ("ecs-migrate",)]
)
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("003", 'revision = "003"\ndown_revision = "001"\n', "several heads, and head needs one: 002, 003"),
        ("002_again", 'revision = "002"\ndown_revision = "001"\n', "holds two files of revision 002"),
        ("003", 'revision = "003"\ndown_revision = "009"\n', "Revision 003 in alembic/versions names 009"),
        (
            "003",
            'revision = "003"\ndown_revision = "002"\ndepends_on = "004"\n',
            "Revision 003 in alembic/versions names 004",
        ),
        ("001", 'revision = "001"\ndown_revision = "002"\n', "make no line: Cycle is detected in revisions (001, 002)"),
    ],
)
def test_what_no_container_could_read_as_a_line_is_found_before_anything_is_made(
    stage: Stage, arguments: tuple[str, ...], name: str, content: str, words: str
) -> None:
    add_revisions(stage, {"001": None, "002": "001"})
    (stage.root / f"alembic/versions/{name}_made.py").write_text(content)
    outcome = stage.launch(*arguments)
    assert (outcome.code, stage.writes) == (2, []), outcome.err
    assert words in outcome.err


@pytest.mark.parametrize(
    ("name", "code"), [("001+1", 0), ("base+2", 0), ("002-1", 0), ("001+2", 2), ("001-2", 2), ("head-3", 2)]
)
def test_a_distance_from_a_revision_is_measured_here(stage: Stage, name: str, code: int) -> None:
    add_revisions(stage, {"001": None, "002": "001"})
    outcome = stage.launch("ecs-migrate", "--dry-run", "--revision", name)
    assert outcome.code == code, outcome.err
    assert code == 0 or f"There is no revision {name}" in outcome.err


@pytest.mark.parametrize(
    "content",
    ['revision = "00" + str(2)', "revision = ['005']", "revision = None", "x = 1", f"x = {'-' * 20_000}1", "def"],
)
def test_what_only_a_run_can_read_is_left_to_the_container(stage: Stage, content: str) -> None:
    add_revisions(stage, {"001": None})
    (stage.root / "alembic/versions/002.py").write_text(content)
    assert stage.launch("ecs-migrate", "--dry-run", "--revision", "nosuch").code == 0


@pytest.mark.filterwarnings("error")
def test_what_python_warns_of_in_a_revision_is_not_ours_to_say(stage: Stage) -> None:
    add_revisions(stage, {"001": None})
    (stage.root / "alembic/versions/002.py").write_text('revision = "002"\ndown_revision = "001"\nX = "\\d"\n')
    outcome = stage.launch("ecs-migrate", "--dry-run", "--revision", "nosuch")
    assert outcome.code == 2, outcome.err
    assert "Warning" not in outcome.err


def test_files_that_alembic_passes_over_are_passed_over(stage: Stage) -> None:
    add_revisions(stage, {"001": None})
    (stage.root / "alembic/versions/.#001.py").symlink_to("somebody@there")
    (stage.root / "alembic/versions/__init__.py").touch()
    assert stage.launch("ecs-migrate", "--dry-run", "--revision", "nosuch").code == 2
    (stage.root / "alembic.ini").write_text("[alembic]\nversion_locations = elsewhere\n")
    assert stage.launch("ecs-migrate", "--dry-run", "--revision", "nosuch").code == 0


def test_another_image_s_revisions_are_its_own_affair(stage: Stage) -> None:
    image = pushed_image(stage)
    add_revisions(stage, {"001": None})
    assert stage.launch("ecs-migrate", "--dry-run", "--image", image, "--revision", "nosuch").code == 0


def test_a_password_that_does_not_fit_is_refused_before_anything_is_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "x" * 8000)
    outcome = stage.launch("ecs-migrate", "--snapshot")
    assert outcome.code == 2
    assert "--db-password-secret" in outcome.err
    assert stage.writes == []


@pytest.mark.slow
def test_a_reset_of_production_repeats_the_environments_name(production: Stage) -> None:
    outcome = production.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert outcome.code == 0, outcome.err
    assert production.command == ["neuraknot-db", "reset", "--confirm", "neuraKnot", "--environment", "prod"]


def test_a_confirmed_reset_tells_a_terminal_too_what_goes(production: Stage) -> None:
    outcome = production.launch("ecs-migrate", "--reset", "--confirm-reset", "prod", ask=lambda question: "")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0].strip() == "This is a reset: all rows of prod go."


def test_a_snapshot_comes_before_the_reset_and_its_restoring_is_told(production: Stage) -> None:
    outcome = production.launch("ecs-migrate", "--reset", "--confirm-reset", "prod")
    assert production.writes.index("CreateDBSnapshot") < production.writes.index("RunTask")
    [snapshot] = [name for name in production.cloud.stack.rds.database_snapshots if "-before-" in name]
    assert f"aws rds restore-db-instance-from-db-snapshot --db-instance-identifier {snapshot.split('-before')[0]}" in (
        outcome.err
    )
    assert f"--db-snapshot-identifier {snapshot}" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["ecs-migrate", "--reset", "--confirm-reset", "prod", "--no-snapshot"], False),
        (["ecs-migrate", "--snapshot"], True),
        (["ecs-migrate"], False),
        (["ecs-run", "--snapshot", "--", "-x", "confirm=neuraKnot", "downgrade", "base"], True),
        (["ecs-run", "--", "-x", "confirm=neuraKnot", "downgrade", "base"], False),
    ],
)
def test_who_asks_for_a_snapshot_gets_one(production: Stage, arguments: list[str], made: bool) -> None:
    assert production.launch(*arguments).code == 0
    assert ("CreateDBSnapshot" in production.writes) == made


def test_a_variable_asks_for_a_snapshot_too(production: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURAKNOT_SNAPSHOT", "1")
    assert production.launch("ecs-run", "--", "-x", "confirm=neuraKnot", "downgrade", "-1").code == 0
    assert "CreateDBSnapshot" in production.writes


def typing(*answers: str) -> Callable[[str], str]:
    pending: Iterator[str] = iter(answers)
    return lambda _: next(pending)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("downgrade -1", "To confirm it: launcher ecs-run --environment prod -- -x confirm=neuraKnot downgrade -1"),
        ("-x confirm=other downgrade -1", "is 'other', and the database is 'neuraKnot'"),
        ("-xconfirm downgrade base", "is '', and the database is"),
        ("-q mark dev", "To confirm it: launcher ecs-run --environment prod -- -q mark dev --confirm neuraKnot"),
        ("mark test --confirm prod", "is 'prod', and the database is 'neuraKnot'"),
    ],
)
def test_a_way_back_in_production_is_confirmed_before_anything_is_made(
    production: Stage, command: str, words: str
) -> None:
    outcome = production.launch("ecs-run", "--snapshot", "--", *command.split())
    assert (outcome.code, production.writes) == (5, []), outcome.err
    assert words in outcome.err


def test_in_dev_a_way_back_needs_no_confirmation_wherever_the_database_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "x")
    outcome = stage.launch("ecs-run", "--db-host", "elsewhere.example", "--", "downgrade", "-1")
    assert "RunTask" in stage.writes, outcome.err


@pytest.mark.parametrize(
    "command",
    ["-x confirm=neuraKnot downgrade -1", "mark dev --confirm neuraKnot", "mark staging", "stamp head", "plan -1"],
)
def test_what_is_confirmed_or_needs_it_not_goes_on(production: Stage, command: str) -> None:
    outcome = production.launch("ecs-run", "--", *command.split())
    assert "RunTask" in production.writes, outcome.err


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (("YES", "prod", "DELETE ALL DATA"), 0),
        (("yes",), 5),
        (("YES", "production"), 5),
        (("YES", "prod", "delete all data"), 5),
        (("",), 5),
    ],
)
def test_production_is_reset_after_three_typed_confirmations_only(
    production: Stage, answers: tuple[str, ...], code: int
) -> None:
    outcome = production.launch("ecs-migrate", "--reset", ask=typing(*answers))
    assert outcome.code == code, outcome.err
    assert bool(production.writes) == (code == 0)


@pytest.mark.parametrize(
    ("options", "answers", "code"),
    [
        ([], ("y",), 0),
        ([], (" YES ",), 0),
        ([], ("",), 5),
        ([], ("n",), 5),
        ([], ("dev",), 5),
        (["--yes"], (), 0),
        (["-y"], (), 0),
        (["--confirm-reset", "dev"], (), 0),
        (["--confirm-reset", "prod"], (), 5),
    ],
)
def test_a_reset_of_dev_asks_once_at_a_terminal(
    stage: Stage, options: list[str], answers: tuple[str, ...], code: int
) -> None:
    outcome = stage.launch("ecs-migrate", "--reset", *options, ask=typing(*answers))
    assert outcome.code == code, outcome.err
    assert bool(stage.writes) == (code == 0)


def test_with_nobody_to_ask_a_reset_of_dev_goes_on_and_says_first_what_it_does(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--reset")
    assert outcome.code == 0, outcome.err
    assert outcome.err.splitlines()[0].strip() == "This is a reset: all rows of dev go."


def test_yes_is_not_enough_for_production(production: Stage) -> None:
    outcome = production.launch("ecs-migrate", "--reset", "--yes", ask=typing("YES", "prod", "DELETE ALL DATA"))
    assert outcome.code == 2
    assert "--confirm-reset prod" in outcome.err
    assert not production.writes


@pytest.mark.parametrize(
    "options",
    [
        ("--detach", "--timeout", "5s"),
        ("--detach", "--attach"),
        ("--attach", "--timeout", "5s", "--detach"),
        ("--yes",),
        ("--plan", "--reset", "--yes"),
        ("--confirm-reset", "dev"),
    ],
)
def test_options_that_contradict_each_other_are_refused(stage: Stage, options: tuple[str, ...]) -> None:
    outcome = stage.launch("ecs-migrate", *options)
    assert outcome.code == 2, outcome.err
    assert stage.actions == []


@pytest.mark.parametrize(
    ("variables", "options", "code"),
    [
        ({"NEURAKNOT_TIMEOUT": "5s"}, ["--detach"], 0),
        ({"NEURAKNOT_DETACH": "1"}, ["--timeout", "60s"], 0),
        ({"NEURAKNOT_ATTACH": "1"}, ["--detach"], 0),
        ({"NEURAKNOT_TIMEOUT": "5s", "NEURAKNOT_DETACH": "1"}, [], 2),
        ({"NEURAKNOT_REVISION": "003"}, ["--reset"], 0),
        ({"NEURAKNOT_CREATE_DB": "1"}, ["--reset"], 0),
        ({"NEURAKNOT_DETACH": "1"}, ["--plan", "--dry-run"], 0),
        ({"NEURAKNOT_SNAPSHOT": "1"}, ["--plan", "--dry-run"], 0),
        ({"NEURAKNOT_CREATE_DB": "1"}, ["--plan", "--dry-run"], 0),
        ({"NEURAKNOT_SNAPSHOT": "0"}, ["--plan", "--dry-run", "--snapshot"], 2),
        ({"NEURAKNOT_DETACH": "1", "NEURAKNOT_ATTACH": "1"}, ["--plan", "--dry-run"], 0),
        ({"NEURAKNOT_BASE": "mirror/python:3.13"}, ["--image", "{image}"], 0),
        ({"NEURAKNOT_BASE": "mirror/python:3.13", "NEURAKNOT_IMAGE": "x/y:z"}, [], 2),
        ({}, ["--base", "mirror/python:3.13", "--image", "{image}"], 2),
    ],
)
def test_what_is_typed_comes_before_a_variable_that_contradicts(
    stage: Stage, variables: dict[str, str], options: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pushed_image(stage)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    outcome = stage.launch("ecs-migrate", *(option.format(image=image) for option in options))
    assert outcome.code == code, outcome.err
    if code == 0:
        assert ("goes on by itself" in outcome.err) == ("--detach" in options)
        variable = next(iter(variables))
        assert f"{variable} is left aside, since {options[0]} is given." in outcome.err
    elif len(variables) > 1:
        assert all(variable in outcome.err for variable in variables)
    if "--reset" in options:
        assert stage.command == ["neuraknot-db", "reset", "--confirm", "neuraKnot"]


@pytest.mark.parametrize("given", [None, "dev", "PROD"])
def test_without_a_terminal_the_environment_must_be_confirmed_outright(production: Stage, given: str | None) -> None:
    confirmed = ["--confirm-reset", given] if given else []
    outcome = production.launch("ecs-migrate", "--reset", *confirmed)
    assert outcome.code == 5
    assert "--confirm-reset prod" in outcome.err
    assert not production.writes


def test_an_environment_that_nobody_knows_is_production(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = make_stage(make_cloud(script=GOOD, environment="staging"), clock, tmp_path)
    assert stage.launch("ecs-migrate", "--reset").code == 5


@pytest.mark.slow
def test_a_database_that_is_not_the_environment_s_own_is_reset_like_production_s(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "another database's")
    stage = make_stage(make_cloud(script=GOOD), clock, tmp_path)
    instance = stage.cloud.stack.database_instance
    elsewhere = ["--db-host", "neuraknot-prod-db.internal.example", "--db-instance", instance]
    refused = stage.launch("ecs-migrate", "--reset", *elsewhere)
    assert refused.code == 5
    assert "has to be confirmed" in refused.err
    assert not stage.writes
    assert stage.launch("ecs-migrate", "--reset", "--confirm-reset", "dev", "--no-snapshot", *elsewhere).code == 0
    own = ["--db-host", stage.cloud.stack.database_host.upper()]
    assert not stage.launch("ecs-migrate", "--reset", "--dry-run", "--json", *own).json["production"]


def test_ecs_run_is_no_way_around_the_confirmations(production: Stage) -> None:
    outcome = production.launch("ecs-run", "--", "reset", "--confirm", "neuraKnot")
    assert outcome.code == 2
    assert "ecs-migrate --environment prod --reset" in outcome.err
    assert not production.actions


@pytest.mark.slow
def test_dry_run_changes_nothing_and_fits_a_screen(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--dry-run")
    assert outcome.code == 0
    assert not stage.writes
    lines = outcome.out.splitlines()
    assert len(lines) <= 24
    for words in (
        stage.cloud.server.account,
        stage.cloud.stack.cluster,
        "[terraform output rds_host]",
        "alembic upgrade",
    ):
        assert words in outcome.out


@pytest.mark.slow
def test_dry_run_tells_what_would_differ_in_the_task_definition(stage: Stage) -> None:
    assert stage.launch("ecs-migrate").code == 0
    outcome = stage.launch("ecs-migrate", "--dry-run", "--json", "--db-name", "other")
    assert outcome.json["task_definition"]["differences"] == [
        {"path": "container.migrate.environment.DB_NAME", "before": "neuraKnot", "after": "other"}
    ]
    assert outcome.json["values"]["db_name"] == {"value": "other", "source": "--db-name"}
    assert outcome.json["values"]["subnets"]["value"] == list(stage.cloud.stack.subnets)
    assert outcome.json["values"]["db_port"]["value"] == 5432
    assert "image tag        content-" in stage.launch("ecs-migrate", "--dry-run").out


def test_json_is_one_object_with_what_the_container_reported(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--json")
    told = outcome.json
    assert (told["verdict"], told["exit_code"], told["before"], told["after"]) == ("succeeded", 0, None, "004")
    assert told["image_digest"].startswith("sha256:")
    assert told["task"]["arn"] in stage.cloud.ecs.tasks
    assert set(told["seconds"]) == {
        "terraform", "service", "image", "log_group", "task_definition", "task", "log", "verdict",
    }  # fmt: skip
    assert SHOWN[0] in outcome.err


def test_json_is_one_object_for_a_failure_before_there_is_a_task(stage: Stage) -> None:
    stage.outputs({"rds_host": None})
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == outcome.json["exit_code"] == 20
    assert outcome.json["task"] is None


@pytest.mark.slow
def test_the_containers_exit_code_goes_through(stage: Stage) -> None:
    for code in (1, 3, 5, 7, 42):
        stage.cloud.ecs.start = scripted(Script(seconds=1.0, exit_code=code))
        assert stage.launch("ecs-migrate").code == code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "ran", "words"),
    [
        (["ecs-migrate"], ["003", "004"], "Done. dev is at revision 004; 003, 004 ran."),
        (["ecs-migrate"], [], "Done. dev is at revision 004; nothing had to be done."),
        (["ecs-run", "plan"], [], "Done. dev is at revision 004.\n"),
    ],
)
def test_the_last_words_say_what_the_database_is_at_now(
    stage: Stage, arguments: list[str], ran: list[str], words: str
) -> None:
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, report={"before": "004", "after": "004", "ran": ran}))
    assert words in stage.launch(*arguments).err


def test_detached_it_returns_at_once_and_logs_attaches_again(stage: Stage) -> None:
    outcome = stage.launch("ecs-migrate", "--detach", "--json")
    assert (outcome.code, outcome.json["verdict"]) == (0, "detached")
    task = outcome.json["task"]["arn"].rsplit("/", 1)[-1]
    assert f"launcher logs --environment dev --follow {task}" in outcome.json["hint"]
    again = stage.launch("logs", "--follow", task)
    assert again.code == 0
    assert again.out.splitlines() == SHOWN


@pytest.mark.slow
def test_attach_follows_the_task_that_is_alive(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--detach").code == 0
    outcome = stage.launch("ecs-migrate", "--attach")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == SHOWN
    assert len(stage.cloud.ecs.tasks) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("ecs-migrate", "--attach"), ("ecs-migrate", "--attach", "--reset")])
def test_attach_takes_nothing_else_for_what_was_asked(stage: Stage, arguments: tuple[str, ...]) -> None:
    assert stage.launch("ecs-run", "--detach", "--", "plan").code == 0
    outcome = stage.launch(*arguments)
    assert outcome.code == 4
    assert "with `neuraknot-db plan`" in outcome.err
    assert "--attach" not in outcome.err


@pytest.mark.parametrize("own", [False, True])
def test_at_its_deadline_attach_lets_another_runs_task_go(stage: Stage, own: bool) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=GOOD.lines, seconds=60.0))
    token = ["--client-token", "one"] if own else []
    assert stage.launch("ecs-migrate", "--detach", *token).code == 0
    outcome = stage.launch("ecs-migrate", "--attach", "--timeout", "5s", "--json", *token)
    [task] = stage.cloud.ecs.tasks.values()
    if own:  # the earlier try's task is this run's own to stop
        assert (outcome.code, task.stop_code) == (24, "UserInitiated")
        return
    assert outcome.code == outcome.json["exit_code"] == 25
    assert f"launcher logs --environment dev --follow {task.id}" in outcome.json["hint"]
    assert "goes on by itself" in outcome.err
    assert "StopTask" not in stage.actions


@pytest.mark.parametrize("other", [["--db-name", "other"], ["--db-port", "5433"], ["--base", "mirror/python:3"]])
def test_attach_takes_no_task_on_another_database_or_image(stage: Stage, other: list[str]) -> None:
    stage.cloud.ecs.start = scripted(Script(lines=GOOD.lines, seconds=60.0))
    assert stage.launch("ecs-migrate", "--detach").code == 0
    outcome = stage.launch("ecs-migrate", "--attach", *other)
    assert outcome.code == 4, outcome.err
    assert "on another database or from another image" in outcome.err
    assert len(stage.cloud.ecs.tasks) == 1


def test_attach_says_that_no_snapshot_was_made(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--detach").code == 0
    outcome = stage.launch("ecs-migrate", "--attach", "--snapshot")
    assert outcome.code == 0, outcome.err
    assert "No snapshot is made" in outcome.err


def in_github(monkeypatch: pytest.MonkeyPatch, attempt: str = "1") -> None:
    values = {"ACTIONS": "true", "ACTOR": "alice", "REPOSITORY": "o/r", "RUN_ID": "7", "RUN_ATTEMPT": attempt}
    for name, value in {**values, "JOB": "migrate", "ACTION": "__run_2"}.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)


@pytest.mark.slow
def test_a_second_try_of_the_same_ci_step_follows_the_first_ones_task(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    assert stage.launch("ecs-migrate", "--detach").code == 0
    assert stage.launch("ecs-migrate").code == 0  # while the first is alive
    again = stage.launch("ecs-migrate", "--detach")  # and when it is over
    assert again.code == 0
    assert "which went well, and was the last one: no other is started" in again.err
    assert len(stage.cloud.ecs.tasks) == 1
    in_github(monkeypatch, attempt="2")
    assert stage.launch("ecs-migrate").code == 0
    assert len(stage.cloud.ecs.tasks) == 2


@pytest.mark.slow
def test_a_second_try_is_another_run_once_the_first_failed_or_others_came_after(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, exit_code=4))
    assert [stage.launch("ecs-migrate").code for _ in range(2)] == [4, 4]
    assert len(stage.cloud.ecs.tasks) == 2
    stage.cloud.ecs.start = scripted(GOOD)
    for command in ("ecs-migrate", "ecs-run -- downgrade -1", "ecs-migrate"):
        assert stage.launch(*command.split()).code == 0
    assert len(stage.cloud.ecs.tasks) == 5


@pytest.mark.slow
def test_a_name_that_is_given_again_for_another_image_is_another_run(stage: Stage) -> None:
    assert stage.launch("ecs-migrate", "--client-token", "deploy").code == 0
    (stage.root / "Dockerfile.migrate").write_text("FROM scratch\nLABEL changed=yes\n")
    assert stage.launch("ecs-migrate", "--client-token", "deploy").code == 0
    assert len(stage.cloud.ecs.tasks) == 2
    assert stage.launch("ecs-migrate", "--client-token", "deploy").code == 0
    assert len(stage.cloud.ecs.tasks) == 2


@pytest.mark.slow
@pytest.mark.parametrize("names", [("a", "b"), ("a", None), (None, "b")])
def test_a_task_of_another_name_or_for_another_command_is_not_ones_own(
    stage: Stage, names: tuple[str | None, str | None]
) -> None:
    first, second = (["--client-token", name] if name else [] for name in names)
    assert stage.launch("ecs-migrate", "--detach", *first).code == 0
    assert stage.launch("ecs-migrate", *second).code == 4
    assert stage.launch("ecs-run", *first, "--", "verify").code == 4
    assert len(stage.cloud.ecs.tasks) == 1


def test_github_gets_groups_errors_and_a_summary(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_github(monkeypatch)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, "begun"),), seconds=1.0, exit_code=7))
    outcome = stage.launch("ecs-migrate")
    lines = outcome.err.splitlines()
    assert lines.count("::endgroup::") == sum(line.startswith("::group::") for line in lines) == 8
    assert any(line.startswith("::error title=launcher::The container ended with 7") for line in lines)
    assert "| Log |" in summary.read_text()
    assert "launcher ecs-run --environment dev -- log" in summary.read_text()


@pytest.mark.slow
def test_the_containers_lines_are_data_in_github_too_and_no_commands(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_github(monkeypatch)
    evil = "\t\x1b[31m::set-env name=PATH::/evil"
    stage.cloud.ecs.start = scripted(Script(lines=((0.1, "004 (head)"), (0.2, evil)), seconds=1.0))
    shown = ["004 (head)", "\t\x1b[31m: :set-env name=PATH::/evil"]
    assert stage.launch("ecs-run", "--", "current").out.splitlines() == shown
    logs = stage.launch("logs")
    assert (logs.out.splitlines(), logs.err) == (shown, "")
    assert stage.launch("logs", "--follow").out.splitlines() == shown
    told = stage.launch("ecs-run", "--json", "--client-token", "again", "--", "current")
    assert told.json["exit_code"] == 0
    assert [line.removeprefix("   │ ") for line in told.err.splitlines() if "│" in line] == [
        "004 (head)",
        f"{evil}\x1b[0m",
    ]


def test_nor_does_what_a_container_says_of_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    in_github(monkeypatch)
    said = "\n::add-mask::a ##[add-mask]b"
    stage.cloud.ecs.start = scripted(Script(seconds=1.0, exit_code=7, error=said))
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.json["message"].endswith("\n::add-mask::a ##[add-mask]b")
    assert "##[" not in outcome.out
    lines = [line for line in outcome.err.splitlines() if not line.startswith("::error title=launcher::")]
    assert not [line for line in lines if line.startswith("::add-mask") or "##[" in line]
    assert ": :add-mask::a ## [add-mask]b" in [line.strip() for line in lines]


def test_a_summary_that_cannot_be_written_spoils_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_github(monkeypatch)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "none" / "summary.md"))
    outcome = stage.launch("ecs-migrate", "--json")
    assert outcome.code == outcome.json["exit_code"] == 0
    assert "The summary of this job can't be written: [Errno 2] No such file" in outcome.err
    refused = stage.launch("ecs-migrate", "--json", "--cluster", "none")
    assert refused.code == refused.json["exit_code"] == 20


@pytest.mark.slow
def test_a_user_without_a_name_is_told_by_number(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert stage.launch("ecs-migrate").code == 0
    assert stage.run_task()["startedBy"].startswith("uid-12345")


def test_the_platform_is_the_services(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = make_stage(make_cloud(script=GOOD, architecture="ARM64"), clock, tmp_path, pushed=False)
    assert stage.launch("ecs-migrate").code == 0
    definition = stage.cloud.stack.ecs.task_definitions[stage.cloud.stack.family][1]
    assert definition.runtime_platform == {"cpuArchitecture": "ARM64", "operatingSystemFamily": "LINUX"}


@pytest.mark.slow
def test_without_docker_an_image_that_is_there_is_enough(stage: Stage) -> None:
    assert isinstance(stage.runner, StandInDocker)
    stage.runner.engine = False
    assert stage.launch("ecs-migrate").code == 0
    (stage.root / "new").write_text("")
    outcome = stage.launch("ecs-migrate")
    assert outcome.code == 22
    assert "Docker is not running" in outcome.err


def test_a_stack_without_terraform_is_served(stage: Stage) -> None:
    stack = stage.cloud.stack
    (stage.terraform / "secrets.tfvars").unlink()
    outcome = stage.launch(
        "ecs-migrate",
        *("--cluster", stack.cluster, "--db-host", "db.example", "--subnets", ",".join(stack.subnets)),
        *("--security-groups", stack.service_group, "--execution-role", stack.execution_role_arn),
        *("--db-password-secret", "arn:aws:ssm:ap-northeast-1:123456789012:parameter/db"),
        *("--dry-run", "--json"),
        terraform=False,
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["values"]["cluster"]["source"] == "--cluster"
    assert "DescribeServices" not in stage.actions


def test_an_archived_image_which_nobody_could_pull_is_pushed_again(stage: Stage) -> None:
    tag = content_tag(stage.root, "linux/amd64")
    stage.cloud.ecr.archived.add(digest_of(tag))
    host = f"{stage.cloud.stack.account}.dkr.ecr.ap-northeast-1.amazonaws.com/{stage.cloud.stack.repository}"
    refused = stage.launch("ecs-migrate", "--image", f"{host}:{tag}")
    assert refused.code == 22
    assert "--filter imageStatus=ANY" in refused.err
    assert stage.launch("ecs-migrate").code == 0
    assert not stage.cloud.ecr.archived


@pytest.mark.parametrize(
    ("repository", "why", "hint"),
    [
        ("other/repo", "because no identity-based policy allows it", "ecr:DescribeImages on the repository other/repo"),
        ("other/repo", "because no permissions boundary allows it", "A permissions boundary denies it"),
        (None, "because no identity-based policy allows it", "`launcher iam-policy --environment dev`"),
    ],
)
def test_who_may_not_see_a_given_image_is_told_what_to_allow(
    stage: Stage, repository: str | None, why: str, hint: str
) -> None:
    stack = stage.cloud.stack
    name = repository or stack.repository

    def deny(call: Call) -> None:
        if call.action == "ecr:DescribeImages":
            arn = stack.arn("ecr", f"repository/{name}")
            raise Refusal(
                "AccessDeniedException",
                f"User: arn:x is not authorized to perform: {call.action} on resource: {arn} {why}",
            )

    stage.cloud.server.faults.append(deny)
    image = f"{stack.account}.dkr.ecr.{stack.region}.amazonaws.com/{name}:1"
    outcome = stage.launch("ecs-migrate", "--json", "--image", image)
    assert outcome.code == 21, outcome.err
    assert hint in outcome.json["hint"]
    assert ("launcher iam-policy" in outcome.json["hint"]) == (repository is None)
