"""Where each value of a stack comes from, and which source wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.doctor.least_policy import policy
from launcher.doctor.policy_resources import PolicyResources
from launcher.environment.options import NON_PRODUCTION, Options
from launcher.environment.stack import identify, instance_for, outputs_for, region_for, resolve, value_for
from launcher.errors import ConfigurationError, LauncherError
from launcher.models import Sourced, Stack
from launcher.rehearsal.api import Call, Refusal
from launcher.terraform.outputs import Outputs
from neuraknot_db.settings import NON_PRODUCTION as THE_DATABASES
from tests.ecs.conftest import FakeClock, MakeCloud
from tests.ecs.launching import PASSWORD, Stage, make_stage

ARN = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:mine:password::"


def stage_of(make_cloud: MakeCloud, clock: FakeClock, folder: Path, login: str) -> Stage:
    return make_stage(make_cloud(login=login), clock, folder)


def stack_of(stage: Stage, given: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> Stack:
    from launcher.aws.client import Aws

    options = Options(
        "dev",
        {name: Sourced(value, f"--{name}") for name, value in (given or {}).items()},
        terraform_dir=Sourced(stage.terraform, "--terraform-dir"),
    )
    outputs = outputs_for(options, stage.runner, lambda region: Aws(region=region, attempts=1))
    aws = Aws(region=region_for(options, outputs).value, attempts=1)
    return resolve(options, outputs, aws, identify(options, outputs, aws), environ or {})


MANAGED = "arn:aws:secretsmanager:ap-northeast-1:123456789012:secret:rds!db-0b1c-AbCdEf"


@pytest.mark.parametrize(
    ("login", "given", "environ", "source"),
    [
        ("managed", {"db_password_secret": ARN}, {"DB_PASSWORD": "x"}, "--db_password_secret"),
        ("managed", {"db_password_secret": MANAGED, "db_user": "migrator"}, {}, "--db_password_secret"),
        ("output", {}, {"DB_PASSWORD": "x"}, "DB_PASSWORD"),
        ("output", {}, {"DB_PASSWORD": ""}, "terraform output db_password_secret_arn"),
        ("output", {"db_user": "migrator"}, {}, "terraform output db_password_secret_arn"),
        ("managed", {}, {"DB_PASSWORD": "x"}, "DB_PASSWORD"),
        ("managed", {"db_user": "migrator"}, {"DB_PASSWORD": "x"}, "DB_PASSWORD"),
        ("managed", {"db_user": "migrator"}, {"TF_VAR_db_password": "x"}, "TF_VAR_db_password"),
        ("managed", {}, {}, "MasterUserSecret of neuraknot-dev-db"),
        ("managed", {"db_user": "postgres"}, {}, "MasterUserSecret of neuraknot-dev-db"),
        ("tfvars", {}, {"DB_PASSWORD": "x", "TF_VAR_db_password": "y"}, "DB_PASSWORD"),
        ("tfvars", {}, {"TF_VAR_db_password": "y"}, "TF_VAR_db_password"),
        ("tfvars", {}, {}, "db_password in {terraform}/secrets.tfvars"),
    ],
)
def test_the_password_is_the_callers_own_else_a_secret(
    make_cloud: MakeCloud,
    clock: FakeClock,
    tmp_path: Path,
    login: str,
    given: dict[str, str],
    environ: dict[str, str],
    source: str,
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, login)
    password = stack_of(stage, given, environ).password
    assert password.source == source.format(terraform=stage.terraform)
    by_value = password.source.startswith(("DB_PASSWORD", "TF_VAR", "db_password in"))
    assert (password.value.reference is None) == by_value
    assert (password.value.value is None) != by_value
    if not by_value:
        assert (password.value.reference or "").endswith(":password::")


@pytest.mark.parametrize("output", [None, "rds_master_user_secret_arn", "db_password_secret_arn"])
def test_the_masters_secret_serves_only_the_master(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, output: str | None
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "managed")
    (stage.terraform / "secrets.tfvars").unlink(missing_ok=True)
    stage.outputs({output: MANAGED} if output else {})
    assert (stack_of(stage).password.value.reference or "").endswith(":password::")
    with pytest.raises(ConfigurationError, match="database's user migrator: only the password of postgres") as caught:
        stack_of(stage, {"db_user": "migrator"})
    assert caught.value.hint is not None
    assert "Set DB_PASSWORD" in caught.value.hint


def test_so_does_the_password_that_terraform_gave_the_master(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    assert stack_of(stage, {"db_user": "postgres"}).password.source.endswith("secrets.tfvars")
    with pytest.raises(
        ConfigurationError, match=r"migrator: only the password of postgres \(db_password in .*\), no DB"
    ):
        stack_of(stage, {"db_user": "migrator"})
    assert stack_of(stage, {"db_user": "migrator"}, {"DB_PASSWORD": "x"}).password.source == "DB_PASSWORD"


@pytest.mark.parametrize(
    ("host", "tfvars", "denied", "outcome"),
    [
        (None, False, True, "may not do rds:DescribeDBInstances"),
        ("db.internal", False, False, "only the password of a master who is not known"),
        (None, True, True, "db_password in "),
    ],
)
def test_a_master_who_is_not_known_is_nobody(
    make_cloud: MakeCloud,
    clock: FakeClock,
    tmp_path: Path,
    host: str | None,
    tfvars: bool,
    denied: bool,
    outcome: str,
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "managed")
    if not tfvars:
        (stage.terraform / "secrets.tfvars").unlink(missing_ok=True)
    stage.outputs({"rds_master_user_secret_arn": MANAGED, "rds_username": None, **({"rds_host": host} if host else {})})

    def deny(call: Call) -> None:
        if denied and call.service == "rds":
            raise Refusal("AccessDenied", "no", 403)

    stage.cloud.server.faults.append(deny)
    if tfvars:
        assert stack_of(stage, {"db_user": "postgres"}).password.source.startswith(outcome)
        return
    with pytest.raises(LauncherError, match=outcome):
        stack_of(stage, {"db_user": "postgres"})


@pytest.mark.parametrize("given", [MANAGED, f"{MANAGED}:::", f"{MANAGED}::AWSCURRENT:", f"{MANAGED}:username::"])
def test_a_managed_secret_is_completed_by_its_key(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, given: str
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    reference = stack_of(stage, {"db_password_secret": given}).password.value.reference or ""
    parts = reference.split(":")
    assert (len(parts), parts[7]) == (10, "username" if "username" in given else "password")
    assert parts[8] == ("AWSCURRENT" if "AWSCURRENT" in given else "")


def test_network_and_roles_are_the_running_services(make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    stack, local = stack_of(stage), stage.cloud.stack
    assert stack.subnets == Sourced(tuple(local.subnets), f"service {local.service}")
    assert stack.security_groups.value == (local.service_group,)
    assert stack.assign_public_ip.value is False
    assert stack.execution_role.value == local.execution_role_arn
    assert stack.task_role is not None
    assert stack.task_role.value == local.task_role_arn
    assert stack.password.value.value is not None
    assert stack.password.value.value.reveal() == PASSWORD
    assert PASSWORD not in repr(stack)


@pytest.mark.parametrize(
    ("given", "outputs", "region", "source"),
    [
        ({"region": "eu-west-1"}, {"aws_region": "us-east-1"}, "eu-west-1", "--region"),
        ({}, {"aws_region": "us-east-1"}, "us-east-1", "terraform output aws_region"),
        ({}, {}, "ap-northeast-1", "default"),
    ],
)
def test_the_caller_names_the_region_before_terraform_does(
    given: dict[str, str], outputs: dict[str, str], region: str, source: str
) -> None:
    options = Options("dev", {name: Sourced(value, f"--{name}") for name, value in given.items()})
    assert region_for(options, Outputs(outputs, "terraform output")) == Sourced(region, source)


def test_both_sides_take_the_same_environments_for_production() -> None:
    assert NON_PRODUCTION == THE_DATABASES
    assert Options("prod").production
    assert Options("staging").production
    assert not Options("dev").production


@pytest.mark.parametrize(
    ("host", "given", "instance"),
    [
        ("neuraknot-dev-db.aaaa.ap-northeast-1.rds.amazonaws.com", {}, "neuraknot-dev-db"),
        ("neuraknot-dev-db.aaaa.ap-northeast-1.rds.amazonaws.com", {"db_instance": "mine"}, "mine"),
        ("neuraknot-dev-db.proxy-aaaa.ap-northeast-1.rds.amazonaws.com", {}, None),
        ("neuraknot-dev-db.endpoint.proxy-aaaa.ap-northeast-1.rds.amazonaws.com", {}, None),
        ("neuraknot-dev-db.cluster-aaaa.ap-northeast-1.rds.amazonaws.com", {}, "neuraknot-dev-db"),
        ("neuraknot-dev-db.cluster-custom-aaaa.ap-northeast-1.rds.amazonaws.com", {}, None),
        ("neuraknot-dev-db.global-aaaa.global.rds.amazonaws.com", {}, None),
        ("neuraknot-dev-db.shardgrp-aaaa.ap-northeast-1.rds.amazonaws.com", {}, None),
        ("neuraknot-dev-db.aaaa.rds.cn-north-1.amazonaws.com.cn", {}, "neuraknot-dev-db"),
        ("NeuraKnot-dev-db.Cluster-aaaa.us-gov-west-1.rds.amazonaws.com", {}, "neuraknot-dev-db"),
        ("neuraknot-dev-db.aaaa.ap-northeast-1.rds.amazonaws.com.example", {}, None),
        ("db.internal", {}, None),
        ("db.internal", {"db_instance": "mine"}, "mine"),
    ],
)
def test_a_host_that_names_nothing_in_rds_has_none_unless_it_is_named(
    host: str, given: dict[str, str], instance: str | None
) -> None:
    found = instance_for(Options("dev", {name: Sourced(value, f"--{name}") for name, value in given.items()}), host)
    assert (found.value if found else None) == instance


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("name", ["db", "DB", "my-cluster-ro-db"])
def test_a_reader_s_host_is_refused_with_the_writer_s(given: bool, name: str) -> None:
    reader = "CLUSTER-RO-AAAA" if name.isupper() else "cluster-ro-aaaa"
    host = f"{name}.{reader}.ap-northeast-1.rds.amazonaws.com"
    options = Options("dev", {"db_host": Sourced(host, "--db-host")} if given else {})
    with pytest.raises(ConfigurationError, match=f"readers of the cluster {name.lower()} are: a migration") as refused:
        value_for(options, Outputs({"rds_host": host}, "terraform output", Path("x")), "db_host")
    writer = f"{name.lower()}.cluster-aaaa.ap-northeast-1.rds.amazonaws.com"
    assert refused.value.hint == f"Name its writer: --db-host {writer}"


@pytest.mark.parametrize("kind", ["managed", "own", "file"])
@pytest.mark.parametrize("named", ["by its host", "by name", "by both", "not at all"])
def test_what_terraform_has_of_passwords_is_for_its_own_host(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path, kind: str, named: str
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    stage.outputs(
        {"managed": {"rds_master_user_secret_arn": MANAGED}, "own": {"db_password_secret_arn": ARN}}.get(kind, {})
    )
    restored = stage.cloud.stack.rds.create_db_instance(
        {
            "db_instance_identifier": "restored",
            "engine": "postgres",
            "engine_version": "15.8",
            "db_instance_class": "db.t4g.micro",
            "allocated_storage": 20,
            "port": 5432,
            "db_subnet_group_name": next(iter(stage.cloud.stack.rds.subnet_groups)),
            "master_username": "postgres",
            "manage_master_user_password": True,
        }
    )
    given = {"db_host": restored.address if named in ("by its host", "by both") else "elsewhere.example"}
    given |= {"db_instance": "restored"} if named in ("by name", "by both") else {}
    sources = {"managed": "terraform output rds_master", "own": "terraform output db_pass", "file": "db_password in "}
    assert stack_of(stage).password.source.startswith(sources[kind])
    assert stack_of(stage, given, {"TF_VAR_db_password": "x"}).password.source == "TF_VAR_db_password"
    if named != "not at all":
        assert stack_of(stage, given).password.source == "MasterUserSecret of restored"
        return
    with pytest.raises(
        ConfigurationError, match="no DB_PASSWORD, and what Terraform has is for its own host"
    ) as caught:
        stack_of(stage, given)
    assert "with --db-password-secret" in (caught.value.hint or "")
    # Of an alias of its own host, the caller says so.
    alias = stack_of(stage, {**given, "db_instance": "neuraknot-dev-db"})
    assert alias.password.source.startswith(sources[kind])
    assert alias.production


@pytest.mark.slow
def test_a_database_elsewhere_is_no_instance_of_this_account(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "managed")
    stack = stack_of(stage, {"db_host": "db.internal"}, {"DB_PASSWORD": "x"})
    assert stack.db_instance is None
    assert not [entry for entry in policy(PolicyResources.of(stack))["Statement"] if "rds" in str(entry)]


@pytest.mark.parametrize(
    ("own", "host", "guarded"),
    [
        ("db.internal", "other.internal", True),
        ("db.internal:5432", "DB.internal", False),
        (5, "db.internal", False),
        ("", "db.internal", False),
    ],
)
def test_a_host_that_is_not_terraform_s_is_guarded(
    own: object, host: str, guarded: bool, make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    stage.outputs({"rds_host": own})
    assert stack_of(stage, {"db_host": host}, {"DB_PASSWORD": "x"}).production is guarded


def test_an_option_is_named_for_each_output_that_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Outputs({}, "terraform output", Path("x")).require("rds_host", "--db-host")
    assert "--db-host" in (caught.value.hint or "")


def given(**values: object) -> Options:
    return Options("dev", {name: Sourced(value, f"--{name}") for name, value in values.items()})


ECS_ARN = "arn:aws:ecs:ap-northeast-1:123456789012"


@pytest.mark.parametrize("by_option", [True, False])
@pytest.mark.parametrize(
    ("option", "output", "arn", "name"),
    [
        ("cluster", "ecs_cluster_name", f"{ECS_ARN}:cluster/mine", "mine"),
        ("service", "backend_go_service_name", f"{ECS_ARN}:service/mine/backend", "backend"),
    ],
)
def test_an_arn_is_taken_for_the_name_in_it(by_option: bool, option: str, output: str, arn: str, name: str) -> None:
    options, outputs = (given(**{option: arn}), {}) if by_option else (given(), {output: arn})
    found = value_for(options, Outputs(outputs, "terraform output", Path("x")), option)
    assert found == Sourced(name, f"--{option}" if by_option else f"terraform output {output}")


def test_the_policy_of_a_cluster_given_by_its_arn_names_that_cluster(
    make_cloud: MakeCloud, clock: FakeClock, tmp_path: Path
) -> None:
    stage = stage_of(make_cloud, clock, tmp_path, "tfvars")
    local = stage.cloud.stack
    by_arn = stack_of(stage, {"cluster": local.arn("ecs", f"cluster/{local.cluster}")})
    assert policy(PolicyResources.of(by_arn)) == policy(PolicyResources.of(stack_of(stage)))


@pytest.mark.parametrize(
    ("options", "outputs", "host", "port"),
    [
        ({}, {"rds_host": "db.internal:6543"}, "db.internal", Sourced(6543, "terraform output rds_host")),
        ({}, {"rds_host": "db:5432", "rds_port": 5432}, "db", Sourced(5432, "terraform output rds_port")),
        ({}, {"rds_host": "db:5432", "rds_port": "5432"}, "db", Sourced(5432, "terraform output rds_port")),
        ({"db_port": 5432}, {"rds_host": "db:5432"}, "db", Sourced(5432, "--db_port")),
        ({"db_host": "db:6543"}, {}, "db", Sourced(6543, "--db_host")),
        ({"db_host": "db"}, {"rds_host": "x:5432", "rds_port": 6543}, "db", Sourced(6543, "terraform output rds_port")),
        ({}, {"rds_host": "fd00::5", "rds_port": 5432}, "fd00::5", Sourced(5432, "terraform output rds_port")),
    ],
)
def test_an_endpoint_is_a_host_and_a_port(
    options: dict[str, object], outputs: dict[str, object], host: str, port: Sourced[int]
) -> None:
    read = Outputs(outputs, "terraform output", Path("x"))
    assert value_for(given(**options), read, "db_host").value == host
    assert value_for(given(**options), read, "db_port") == port


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({}, {"rds_host": "db:5432", "rds_port": 6543}),
        ({"db_port": 6543}, {"rds_host": "db:5432"}),
        ({"db_host": "db:5432"}, {"rds_host": "db", "rds_port": 6543}),
    ],
)
def test_two_ports_are_refused(options: dict[str, object], outputs: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="port is 6543") as caught:
        value_for(given(**options), Outputs(outputs, "terraform output", Path("x")), "db_port")
    assert caught.value.hint == "Give both: --db-host db --db-port 6543"
