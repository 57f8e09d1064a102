"""`doctor` finds what is broken before a task is started, names the one thing, and says how to put it right."""

from __future__ import annotations

import functools
import ipaddress
import json
import operator
import os
import shlex
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.ssm.models import ssm_backends

from launcher.aws.client import Aws
from launcher.doctor import Finding, Report, Status, examine, least_policy, lines
from launcher.doctor.diagnose import Check, Fact, diagnose
from launcher.doctor.policy_resources import PolicyResources, RdsNames, secret_arn
from launcher.environment.options import Options
from launcher.environment.service import network_for
from launcher.environment.stack import outputs_for
from launcher.errors import ConfigurationError
from launcher.machine.process import Completed
from launcher.models import Identity, Sourced
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.plays import start_task
from launcher.rehearsal.stack import DATABASE_PASSWORD
from launcher.rehearsal.terraform import write_root
from launcher.terraform.outputs import Outputs
from tests.ecs.conftest import MakeCloud

IDENTITY = Identity("123456789012", "arn:aws:sts::123456789012:assumed-role/ci/x")
REGION = Sourced("ap-northeast-1", "default")


def no_terraform(arguments: Any, **_: Any) -> Completed:
    """A machine where `terraform` is there and knows nothing of the root, so the state file is read."""
    return Completed(tuple(arguments), 1, "", "Initialization required")


def doctor(cloud: LocalAws, folder: Path, **given: Any) -> Report:
    options = Options(
        cloud.stack.options.environment,
        {name: Sourced(value, f"--{name}") for name, value in given.items()},
        terraform_dir=Sourced(folder / "tf", "--terraform-dir"),
    )

    def aws(region: str | None = None) -> Aws:
        return Aws(region=region, attempts=1)

    shown = "--environment dev"
    return examine(options, lambda: outputs_for(options, no_terraform, aws), aws, os.environ, shown, shown)


def write_outputs(cloud: LocalAws, folder: Path, **changes: Any) -> None:
    write_root(folder / "tf", {**cloud.stack.outputs, **changes}, DATABASE_PASSWORD)


def by_name(cloud: LocalAws) -> PolicyResources:
    return PolicyResources.by_name(Options("dev"), Outputs(), cloud.stack.account, cloud.stack.region)


def let_the_caller_do_what_the_policy_says(cloud: LocalAws) -> None:
    stack = cloud.stack
    named = replace(by_name(cloud), caller=stack.ci_role_arn)
    stack.allow(stack.ci_role, "launcher", *least_policy.policy(named)["Statement"])


def named(report: Report, status: Status) -> list[str]:
    return [finding.name for finding in report.findings if finding.status is status]


@pytest.mark.slow
@pytest.mark.parametrize("way_out", ["nat", "endpoints"])
@pytest.mark.parametrize("login", ["tfvars", "managed", "output"])
def test_a_sound_stack_is_found_sound(make_cloud: MakeCloud, tmp_path: Path, way_out: str, login: str) -> None:
    cloud = make_cloud(way_out=way_out, login=login)
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == []
    assert named(report, Status.SKIP) == (["reads the secret"] if login == "tfvars" else [])
    assert report.exit_code == 0


@pytest.mark.parametrize("kind", ["aurora", "multi-az"])
def test_a_sound_cluster_is_found_sound_with_the_policy_that_is_printed(
    make_cloud: MakeCloud, tmp_path: Path, kind: str
) -> None:
    cloud = make_cloud(database=kind, login="managed")
    stack = cloud.stack
    write_outputs(cloud, tmp_path)
    of_cluster = replace(
        by_name(cloud),
        caller=stack.ci_role_arn,
        secret=stack.secret,
        rds=RdsNames.of("neuraknot-dev-db", stack.database_host),
    )
    stack.allow(stack.ci_role, "deploy", *least_policy.policy(of_cluster)["Statement"])
    cloud.iam.caller = stack.ci_role
    report = doctor(cloud, tmp_path)
    assert (named(report, Status.NG), named(report, Status.SKIP)) == ([], [])
    [finding] = [finding for finding in report.findings if finding.name == "instance"]
    assert finding.text == "neuraknot-dev-db, a cluster of 1, PostgreSQL 15.8, available"
    stack.rds.clusters["neuraknot-dev-db"]._status = "stopped"
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "instance"]
    assert (finding.fix or "").startswith(
        "aws rds start-db-cluster --region ap-northeast-1 --db-cluster-identifier neu"
    )


AWAIT = "aws rds wait db-instance-available --region ap-northeast-1 --db-instance-identifier neuraknot-dev-db"
EVENTS = "aws rds describe-events --region ap-northeast-1 "


# The status, what the check says of it, and how its fix begins and ends.
@pytest.mark.parametrize(
    ("state", "status", "begins", "ends"),
    [
        ("storage-optimization", Status.OK, "", ""),
        ("backing-up", Status.OK, "", ""),
        ("modifying", Status.NOTE, AWAIT, AWAIT),
        ("upgrading", Status.NOTE, AWAIT, AWAIT),
        ("starting", Status.NG, AWAIT, AWAIT),
        ("stopped", Status.NG, "aws rds start-db-instance ", f" && {AWAIT}"),
        ("stopping", Status.NG, "until aws rds describe-db-instances ", f" && {AWAIT}"),
        ("inaccessible-encryption-credentials-recoverable", Status.NG, "aws rds start-db-instance ", AWAIT),
        ("storage-full", Status.NG, "aws rds modify-db-instance ", " --allocated-storage GIB"),
        (
            "failed",
            Status.NG,
            EVENTS,
            " --source-type db-instance --source-identifier neuraknot-dev-db --duration 20160",
        ),
        ("deleting", Status.NG, EVENTS, "20160"),
        ("incompatible-network", Status.NG, EVENTS, "20160"),
        ("inaccessible-encryption-credentials", Status.NG, EVENTS, "20160"),
        ("being-reinvented", Status.SKIP, "", ""),
    ],
)
def test_the_status_of_the_database_tells_whether_it_serves_and_what_leads_there(
    cloud: LocalAws, tmp_path: Path, state: str, status: Status, begins: str, ends: str
) -> None:
    write_outputs(cloud, tmp_path)
    cloud.stack.rds.databases[cloud.stack.database_instance].status = state
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "instance"]
    assert finding.status is status
    assert state in finding.text
    fix = finding.fix or ""
    assert fix.startswith(begins)
    assert fix.endswith(ends)
    assert bool(fix) == bool(begins)


def replica(_: Call, body: bytes) -> bytes:
    end = b"</DBInstanceIdentifier>"
    source = b"<ReadReplicaSourceDBInstanceIdentifier>neuraknot-main</ReadReplicaSourceDBInstanceIdentifier>"
    return body.replace(end, end + source, 1)


def test_a_read_replica_takes_no_migration(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    cloud.server.changes["rds:DescribeDBInstances"] = replica
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "instance"]
    assert finding.status is Status.NG
    assert finding.text == "neuraknot-dev-db is a read replica of neuraknot-main: a migration writes."


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ("db.internal.example", Status.OK, "neuraknot-dev-db"),
        ("other-db.aaaa.ap-northeast-1.rds.amazonaws.com", Status.NG, "the task would connect to other-db."),
        ("neuraknot-dev-db.aaaa.us-east-1.rds.amazonaws.com", Status.SKIP, "is in us-east-1, and only ap-northeast-1"),
    ],
)
@pytest.mark.parametrize("kind", ["instance", "aurora", "multi-az"])
def test_a_host_outside_of_rds_may_be_an_alias_of_what_is_named_and_one_in_rds_is_none(
    make_cloud: MakeCloud, tmp_path: Path, kind: str, host: str, status: Status, words: str
) -> None:
    cloud = make_cloud(database=kind)
    write_outputs(cloud, tmp_path)
    report = doctor(cloud, tmp_path, db_host=host, db_instance="neuraknot-dev-db")
    [finding] = [finding for finding in report.findings if finding.name == "instance"]
    assert finding.status is status
    assert words in finding.text


Break = Callable[[LocalAws, Path], None]


def database_door(cloud: LocalAws, _: Path) -> None:
    cloud.stack.ec2.revoke_security_group_ingress(
        cloud.stack.database_group, "tcp", "5432", "5432", [], [{"GroupId": cloud.stack.service_group}]
    )


def stopped_database(cloud: LocalAws, _: Path) -> None:
    cloud.stack.rds.databases[cloud.stack.database_instance].status = "stopped"


def other_host(cloud: LocalAws, folder: Path) -> None:
    write_outputs(cloud, folder, rds_host=cloud.stack.database_host.replace(".aaaa", ".bbbb"))


def denied_secret(cloud: LocalAws, _: Path) -> None:
    cloud.stack.iam.delete_role_policy(cloud.stack.execution_role, "database-secret")


def denied_log(cloud: LocalAws, _: Path) -> None:
    everything_else = {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}
    cloud.stack.allow(cloud.stack.execution_role, "execution", everything_else)


def no_endpoint(cloud: LocalAws, _: Path) -> None:
    endpoints = cloud.stack.ec2.vpc_end_points
    cloud.stack.ec2.delete_vpc_endpoints([name for name, each in endpoints.items() if "ecr.dkr" in each.service_name])


def closed_endpoints(cloud: LocalAws, _: Path) -> None:
    ec2 = cloud.stack.ec2
    group = next(group for group in ec2.groups[cloud.stack.vpc].values() if group.name == "endpoints-sg")
    ec2.revoke_security_group_ingress(group.id, "tcp", "443", "443", [{"CidrIp": "10.0.0.0/16"}])


def endpoint_without_names(cloud: LocalAws, _: Path) -> None:
    for endpoint in cloud.stack.ec2.vpc_end_points.values():
        endpoint.private_dns_enabled = endpoint.service_name.endswith("ecr.api") and endpoint.private_dns_enabled


def no_gateway(cloud: LocalAws, _: Path) -> None:
    paged = cloud.server.changes["ec2:DescribeRouteTables"]
    cloud.server.changes["ec2:DescribeRouteTables"] = lambda call, body: paged(call, body).replace(
        b">active<", b">blackhole<"
    )


def another_task(cloud: LocalAws, _: Path) -> None:
    start_task(cloud, started_by="somebody else")


def no_cluster(cloud: LocalAws, folder: Path) -> None:
    write_outputs(cloud, folder, ecs_cluster_name="elsewhere")


def no_service(cloud: LocalAws, _: Path) -> None:
    del cloud.stack.ecs.services[f"{cloud.stack.cluster}:{cloud.stack.service}"]


def no_role(cloud: LocalAws, _: Path) -> None:
    cloud.stack.iam.delete_role(cloud.stack.task_role)


def no_execution_role(cloud: LocalAws, _: Path) -> None:
    for policy in cloud.stack.iam.list_role_policies(cloud.stack.execution_role):
        cloud.stack.iam.delete_role_policy(cloud.stack.execution_role, policy)
    cloud.stack.iam.delete_role(cloud.stack.execution_role)


def outputs(**changes: object) -> Break:
    return lambda cloud, folder: write_outputs(cloud, folder, **changes)


def locked(_: LocalAws, folder: Path) -> None:
    info = {"ID": "b7f3", "Who": "alice@laptop", "Created": "2025-11-02T10:00:00Z"}
    (folder / "tf" / ".terraform.tfstate.lock.info").write_text(json.dumps(info))


def no_credentials(cloud: LocalAws, _: Path) -> None:
    cloud.server.know(cloud.credentials.access_key, expired=True)


def no_endpoints(cloud: LocalAws, _: Path) -> None:
    cloud.stack.ec2.delete_vpc_endpoints(list(cloud.stack.ec2.vpc_end_points))


def no_tfvars(_: LocalAws, folder: Path) -> None:
    (folder / "tf" / "secrets.tfvars").unlink()


def foreign_group(cloud: LocalAws, _: Path) -> None:
    group = cloud.stack.ec2.create_security_group("other", "of the default VPC")
    service = cloud.stack.ecs.services[f"{cloud.stack.cluster}:{cloud.stack.service}"]
    service.network_configuration["awsvpcConfiguration"]["securityGroups"] = [group.id]


def on_ec2(cloud: LocalAws, _: Path) -> None:
    service = cloud.stack.ecs.services[f"{cloud.stack.cluster}:{cloud.stack.service}"]
    service.launch_type, service.network_configuration = "EC2", {}
    definition: Any = cloud.stack.ecs.describe_task_definition(cloud.stack.service_definition)
    definition.network_mode, definition.execution_role_arn = "bridge", None
    definition.runtime_platform = None


def on_windows(cloud: LocalAws, _: Path) -> None:
    definition: Any = cloud.stack.ecs.describe_task_definition(cloud.stack.service_definition)
    definition.runtime_platform = {"operatingSystemFamily": "WINDOWS_SERVER_2022_CORE", "cpuArchitecture": "X86_64"}


def secret_to_be_deleted(cloud: LocalAws, _: Path) -> None:
    boto3.client("secretsmanager").delete_secret(SecretId=str(cloud.stack.secret), RecoveryWindowInDays=7)


def another_engine(cloud: LocalAws, _: Path) -> None:
    cloud.stack.rds.databases[cloud.stack.database_instance].engine = "mariadb"


def state_of_another(cloud: LocalAws, folder: Path) -> None:
    write_outputs(cloud, folder, environment="staging")


def no_state(_: LocalAws, folder: Path) -> None:
    (folder / "tf" / "terraform.tfstate").unlink()


def todays_ci_role(cloud: LocalAws, _: Path) -> None:
    cloud.stack.iam.delete_role_policy(cloud.stack.ci_role, "launcher")


# What is broken, how the stack is built; the checks that are NG, the exit code, and the beginning of the fix.
BROKEN: dict[str, tuple[Break, dict[str, str], list[str], int, str]] = {
    "database's door": (
        database_door,
        {},
        ["database's door"],
        6,
        "aws ec2 authorize-security-group-ingress --region ap-northeast-1 --group-id sg-",
    ),
    "stopped database": (stopped_database, {}, ["instance"], 6, "aws rds start-db-instance"),
    "another host": (other_host, {}, ["instance"], 6, "terraform -chdir={tf} apply   # or --db-host neuraknot-dev-db"),
    "secret": (denied_secret, {"login": "output"}, ["reads the secret"], 23, "aws iam put-role-policy --role-name"),
    "log": (denied_log, {}, ["writes the log"], 23, "aws iam put-role-policy --role-name"),
    "endpoint": (
        no_endpoint,
        {"way_out": "endpoints"},
        ["way out to AWS"],
        23,
        "aws ec2 create-vpc-endpoint --region ap-northeast-1",
    ),
    "endpoint that lets nobody in": (
        closed_endpoints,
        {"way_out": "endpoints"},
        ["way out to AWS"],
        23,
        "aws ec2 authorize-security-group-ingress --region ap-northeast-1 --group-id sg-",
    ),
    "a NAT gateway that is gone": (no_gateway, {}, ["way out to AWS"], 23, "aws ec2 create-vpc-endpoint --region ap-"),
    "another task": (another_task, {}, ["no other task"], 4, "launcher logs --environment dev --follow"),
    "cluster": (no_cluster, {}, ["cluster"], 20, "aws ecs list-clusters"),
    "service": (no_service, {}, ["service"], 20, "aws ecs list-services"),
    "role": (no_role, {}, ["task role"], 23, "terraform -chdir={tf} apply"),
    "execution role": (no_execution_role, {}, ["execution role"], 23, "terraform -chdir={tf} apply"),
    "password": (no_tfvars, {}, ["password"], 20, "aws secretsmanager list-secrets --region ap-northeast-1   # Set DB"),
    "group of another VPC": (foreign_group, {}, ["one VPC", "database's door"], 23, "launcher doctor --environment"),
    "a service on EC2, without a network": (
        on_ec2,
        {},
        ["execution role", "one VPC"],
        20,
        "launcher doctor --environment",
    ),
    "a service on Windows": (
        on_windows,
        {},
        ["definition"],
        20,
        "# Give --platform",
    ),
    "a secret that is to be deleted": (
        secret_to_be_deleted,
        {"login": "output"},
        ["password"],
        23,
        "aws secretsmanager restore-secret --region ap-northeast-1 --secret-id 'arn:aws:secretsmanager:",
    ),
    "another engine": (another_engine, {}, ["instance"], 6, "launcher doctor --environment dev --db-instance"),
    "state of another environment": (state_of_another, {}, ["Terraform"], 20, "launcher doctor --environment staging"),
    "no state": (no_state, {}, ["Terraform"], 20, "terraform -chdir={tf} apply   # A workspace"),
    "locked state": (locked, {}, ["Terraform"], 20, "# Wait"),
    "credentials": (no_credentials, {}, ["credentials"], 21, "aws configure list-profiles   # Set AWS_"),
    "no host": (outputs(rds_host=None), {}, ["Terraform"], 20, "terraform -chdir={tf} apply   # Give --db-host"),
    "no subnets": (outputs(private_subnet_ids=[]), {}, ["Terraform"], 20, "terraform -chdir={tf} apply"),
    "a number for a host": (outputs(rds_host=5), {}, ["Terraform"], 20, "terraform -chdir={tf} apply"),
    "no port": (outputs(rds_port="abc"), {}, ["Terraform"], 20, "# Give --db-port"),
    "regions": (outputs(aws_region=["x"]), {}, ["Terraform"], 20, "terraform -chdir={tf} apply"),
    "another account": (
        outputs(aws_account_id="999999999999"),
        {},
        ["credentials"],
        21,
        "aws configure list-profiles   # Sign in to the other account",
    ),
    "today's CI role": (todays_ci_role, {}, ["permissions"], 21, "launcher iam-policy --environment dev > policy.json"),
}


@pytest.mark.parametrize(("break_it", "options", "names", "code", "fix"), BROKEN.values(), ids=BROKEN.keys())
def test_the_one_thing_that_is_wrong_stands_out_with_its_fix(
    make_cloud: MakeCloud,
    tmp_path: Path,
    break_it: Break,
    options: dict[str, str],
    names: list[str],
    code: int,
    fix: str,
) -> None:
    cloud = make_cloud(**options)
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    break_it(cloud, tmp_path)
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == names
    assert report.exit_code == code
    first = next(finding for finding in report.findings if finding.status is Status.NG)
    assert (first.fix or "").startswith(fix.format(tf=tmp_path / "tf"))


def open_the_database_to(**source: Any) -> Break:
    def change(cloud: LocalAws, folder: Path) -> None:
        database_door(cloud, folder)
        rule: Any = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, **source}
        boto3.client("ec2").authorize_security_group_ingress(GroupId=cloud.stack.database_group, IpPermissions=[rule])

    return change


def open_the_database_to_another_group(cloud: LocalAws, folder: Path) -> None:
    made = boto3.client("ec2").create_security_group(GroupName="other", Description="other", VpcId=cloud.stack.vpc)
    open_the_database_to(UserIdGroupPairs=[{"GroupId": made["GroupId"]}])(cloud, folder)


def let_the_task_out_to(port: int, **destination: Any) -> Break:
    def change(cloud: LocalAws, _: Path) -> None:
        group, ec2 = cloud.stack.service_group, boto3.client("ec2")
        [everything] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[everything])
        for number in (443, 5432):
            to = destination if number == port else {"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            rule: Any = {"IpProtocol": "tcp", "FromPort": number, "ToPort": number, **to}
            ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[rule])

    return change


def service_network(cloud: LocalAws) -> Any:
    service = cloud.stack.ecs.services[f"{cloud.stack.cluster}:{cloud.stack.service}"]
    return service.network_configuration["awsvpcConfiguration"]


def ipv6_only(cloud: LocalAws, _: Path) -> None:
    ec2, vpc = boto3.client("ec2"), cloud.stack.vpc
    given = ec2.associate_vpc_cidr_block(VpcId=vpc, AmazonProvidedIpv6CidrBlock=True)["Ipv6CidrBlockAssociation"]
    block = given["Ipv6CidrBlock"].replace("/56", "/64")
    made = ec2.create_subnet(VpcId=vpc, Ipv6CidrBlock=block, Ipv6Native=True, AvailabilityZone="ap-northeast-1a")
    service_network(cloud)["subnets"] = [made["Subnet"]["SubnetId"]]


def ipv6_only_and_closed(cloud: LocalAws, folder: Path) -> None:
    ipv6_only(cloud, folder)
    open_the_database_to(Ipv6Ranges=[{"CidrIpv6": "::/0"}])(cloud, folder)


def by_a_transit_gateway(cloud: LocalAws, _: Path) -> None:
    ec2, table = boto3.client("ec2"), cloud.stack.route_table
    gateway = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", TransitGatewayId=gateway)


def by_an_egress_only_gateway(cloud: LocalAws, _: Path) -> None:
    ec2, table = boto3.client("ec2"), cloud.stack.route_table
    made = ec2.create_egress_only_internet_gateway(VpcId=cloud.stack.vpc)["EgressOnlyInternetGateway"]
    ec2.delete_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0")
    gateway = made["EgressOnlyInternetGatewayId"]
    ec2.create_route(RouteTableId=table, DestinationIpv6CidrBlock="::/0", EgressOnlyInternetGatewayId=gateway)


def no_tables(cloud: LocalAws, _: Path) -> None:
    cloud.stack.ec2.route_tables.clear()


def endpoint_policy(document: str) -> Break:
    def change(cloud: LocalAws, _: Path) -> None:
        for endpoint in cloud.stack.ec2.vpc_end_points.values():
            if endpoint.service_name.endswith("s3"):
                endpoint.policy_document = document

    return change


def infrequent_access(cloud: LocalAws, _: Path) -> None:
    group = {"logGroupName": cloud.stack.log_group, "logGroupClass": "INFREQUENT_ACCESS"}
    cloud.server.handlers["logs:DescribeLogGroups"] = lambda _: {"logGroups": [group]}


OPEN: dict[str, Any] = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
READS_OURS = {**OPEN, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::ours/*"}
# An endpoint's policy, and the words about it: whoever wrote it, no defect of the launcher.
POLICIES: dict[str, tuple[Any, str]] = {
    "a policy of its own": ({"Statement": [READS_OURS]}, "has a policy of its own: "),
    "one statement": ({"Statement": READS_OURS}, "has a policy of its own: "),
    "a condition": ({"Statement": [{**OPEN, "Condition": {}}]}, "has a policy of its own: "),
    "odd members": ({"Statement": [{"Effect": [], "Principal": {"AWS": {}}}]}, "has a policy of its own: "),
    "nothing allowed": ({"Statement": []}, "has a policy of its own: "),
    "no statement": ({"Version": "2012-10-17"}, "that is not understood (it has no statements): "),
    "null for statements": ({"Statement": None}, "that is not understood (it has no statements): "),
    "words for statements": ({"Statement": ["Allow", "*"]}, "that is not understood (it has no statements): "),
    "a list": ([OPEN], "that is not understood (it has no statements): "),
    "a word": ("Allow", "that is not understood (it has no statements): "),
    "null": (None, "that is not understood (it has no statements): "),
    "no JSON": ("{", "that is not understood (it is not valid JSON, line 1): "),
}


def refuse(cloud: LocalAws, action: str, code: str) -> None:
    def fault(call: Call) -> None:
        if call.action == action:
            raise Refusal(code, "no")

    cloud.server.faults.append(fault)


def throttled(action: str) -> Break:
    return lambda cloud, _: refuse(cloud, action, "ThrottlingException")


# What can't be judged, how the stack is built, the check that says so, and its words.
UNCLEAR: dict[str, tuple[Break, dict[str, str], str, str]] = {
    "a subnet with IPv6 only": (ipv6_only, {}, "way out to AWS", "has no IPv4 addresses"),
    "its way out": (ipv6_only, {}, "task's way out", "has no IPv4 addresses"),
    "a database open to IPv6": (ipv6_only_and_closed, {}, "database's door", "opens port 5432 to ::/0"),
    "a database open to a prefix list": (
        open_the_database_to(PrefixListIds=[{"PrefixListId": "pl-1"}]),
        {},
        "database's door",
        "opens port 5432 to the prefix list pl-1",
    ),
    "a database open to a part of a subnet": (
        open_the_database_to(IpRanges=[{"CidrIp": "10.0.10.16/28"}]),
        {},
        "database's door",
        "opens port 5432 to 10.0.10.16/28",
    ),
    "a task let out to a prefix list": (
        let_the_task_out_to(443, PrefixListIds=[{"PrefixListId": "pl-2"}]),
        {},
        "task's way out",
        "lets port 443 out to pl-2 only",
    ),
    "a task let out to some addresses": (
        let_the_task_out_to(5432, IpRanges=[{"CidrIp": "10.1.0.0/16"}]),
        {},
        "task's way out",
        "lets port 5432 out to 10.1.0.0/16 only",
    ),
    "endpoints without private names": (
        endpoint_without_names,
        {"way_out": "endpoints"},
        "way out to AWS",
        "for ecr.dkr, logs has no private DNS name",
    ),
    "a database open to a group, and a task in its VPC's default one": (
        lambda cloud, _: service_network(cloud).update(securityGroups=[]),
        {},
        "database's door",
        "opens port 5432 to the group sg-",
    ),
    "a log whose class can't be read": (
        infrequent_access,
        {},
        "log group",
        "is of the class INFREQUENT_ACCESS",
    ),
    "a transit gateway": (by_a_transit_gateway, {}, "way out to AWS", "where its route to tgw-"),
    "an egress-only gateway": (by_an_egress_only_gateway, {}, "way out to AWS", "where its route to eigw-"),
    "a subnet without a table": (no_tables, {}, "way out to AWS", "are not known"),
    **{
        f"an endpoint with {name}": (
            endpoint_policy(policy if name == "no JSON" else json.dumps(policy)),
            {"way_out": "endpoints"},
            "way out to AWS",
            words,
        )
        for name, (policy, words) in POLICIES.items()
    },
    "a throttled call": (throttled("rds:DescribeDBInstances"), {}, "instance", "not known now: AWS can't serve rds:"),
}


@pytest.mark.parametrize(("change", "options", "name", "words"), UNCLEAR.values(), ids=UNCLEAR.keys())
def test_what_can_t_be_judged_is_not_known_and_not_wrong(
    make_cloud: MakeCloud, tmp_path: Path, change: Break, options: dict[str, str], name: str, words: str
) -> None:
    cloud = make_cloud(**options)
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    change(cloud, tmp_path)
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == []
    [finding] = [finding for finding in report.findings if finding.name == name]
    assert finding.status is Status.SKIP
    assert words in finding.text


@pytest.mark.parametrize("policy", [{"Statement": OPEN}, {"Statement": [{**OPEN, "Principal": {"AWS": "*"}}]}])
def test_an_endpoint_with_the_policy_that_all_have_is_a_way_out(
    make_cloud: MakeCloud, tmp_path: Path, policy: Any
) -> None:
    cloud = make_cloud(way_out="endpoints")
    write_outputs(cloud, tmp_path)
    endpoint_policy(json.dumps(policy))(cloud, tmp_path)
    [finding] = [each for each in doctor(cloud, tmp_path).findings if each.name == "way out to AWS"]
    assert finding.text == "by VPC endpoints"


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (
            open_the_database_to(IpRanges=[{"CidrIp": "10.0.10.0/24"}]),
            "database's door",
            " on port 5432 from {second}.",
        ),
        (open_the_database_to(IpRanges=[{"CidrIp": "10.9.0.0/16"}]), "database's door", " the task in on port 5432."),
        (open_the_database_to_another_group, "database's door", "does not let the task in"),
    ],
    ids=["one subnet", "other addresses", "another group"],
)
def test_what_is_closed_is_wrong(cloud: LocalAws, tmp_path: Path, change: Break, name: str, words: str) -> None:
    write_outputs(cloud, tmp_path)
    change(cloud, tmp_path)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == name]
    assert finding.status is Status.NG
    assert words.format(second=cloud.stack.subnets[1]) in finding.text


@pytest.mark.parametrize(
    "change",
    [
        open_the_database_to(
            IpRanges=[{"CidrIp": "10.0.10.0/25"}, {"CidrIp": "10.0.10.128/25"}, {"CidrIp": "10.0.11.0/24"}]
        ),
        let_the_task_out_to(5432, IpRanges=[{"CidrIp": "0.0.0.0/1"}, {"CidrIp": "128.0.0.0/1"}]),
        lambda cloud, folder: let_the_task_out_to(5432, UserIdGroupPairs=[{"GroupId": cloud.stack.database_group}])(
            cloud, folder
        ),
    ],
    ids=["blocks together", "halves of the internet", "the database's group"],
)
def test_what_several_rules_open_together_is_open(cloud: LocalAws, tmp_path: Path, change: Break) -> None:
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    change(cloud, tmp_path)
    report = doctor(cloud, tmp_path)
    assert (named(report, Status.NG), named(report, Status.SKIP)) == ([], ["reads the secret"])


RULE = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "backend", "filterType": "WILDCARD"}]}]


@pytest.mark.parametrize(
    ("rules", "own", "status", "words"),
    [
        (None, False, Status.NOTE, "are not scanned"),
        (RULE, False, Status.NOTE, "are not scanned"),
        (RULE, True, Status.NOTE, "by its own setting only, which AWS deprecates"),
        ("*-migrate", False, Status.OK, ", scan on push"),
        ("neuraknot", False, Status.OK, ", scan on push"),
    ],
)
def test_whether_images_are_scanned_is_the_registry_s_to_say(
    cloud: LocalAws, tmp_path: Path, rules: Any, own: bool, status: Status, words: str
) -> None:
    write_outputs(cloud, tmp_path)
    let_the_caller_do_what_the_policy_says(cloud)
    ecr = boto3.client("ecr")
    if isinstance(rules, str):
        rules = [{**RULE[0], "repositoryFilters": [{"filter": rules, "filterType": "WILDCARD"}]}]
    if rules:
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=rules)
    ecr.create_repository(repositoryName=cloud.stack.repository, imageScanningConfiguration={"scanOnPush": own})
    cloud.iam.caller = cloud.stack.ci_role
    report = doctor(cloud, tmp_path)
    [finding] = [finding for finding in report.findings if finding.name == "repository"]
    assert (finding.status, report.exit_code) == (status, 0)
    assert words in finding.text
    if finding.fix is not None:  # pasted, it leaves the rules of others, and the note is gone
        *words_of_it, given = shlex.split(finding.fix)
        assert words_of_it[:4] == ["aws", "ecr", "put-registry-scanning-configuration", "--region"]
        cloud.iam.caller = None
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=json.loads(given))
        after = {each["filter"] for rule in json.loads(given) for each in rule["repositoryFilters"]}
        assert after == {cloud.stack.repository, *({"backend"} if rules else set())}
        [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "repository"]
        assert finding.status is Status.OK


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_images_that_are_not_scanned_are_noted_even_if_the_registry_s_rules_are_not_known(
    cloud: LocalAws, tmp_path: Path, code: str
) -> None:
    write_outputs(cloud, tmp_path)
    boto3.client("ecr").create_repository(repositoryName=cloud.stack.repository)
    refuse(cloud, "ecr:GetRegistryScanningConfiguration", code)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "repository"]
    assert finding.status is Status.NOTE
    assert "are not scanned" in finding.text
    assert (finding.fix or "").startswith(
        "aws ecr get-registry-scanning-configuration --region ap-northeast-1   # then"
    )


@pytest.mark.parametrize("days", [None, 30])
def test_a_log_that_is_kept_for_ever_is_noted(cloud: LocalAws, tmp_path: Path, days: int | None) -> None:
    write_outputs(cloud, tmp_path)
    logs = boto3.client("logs")
    logs.create_log_group(logGroupName=cloud.stack.log_group)
    if days:
        logs.put_retention_policy(logGroupName=cloud.stack.log_group, retentionInDays=days)
    report = doctor(cloud, tmp_path)
    [finding] = [finding for finding in report.findings if finding.name == "log group"]
    assert finding.status is (Status.OK if days else Status.NOTE)
    assert finding.fix == (
        None
        if days
        else "aws logs put-retention-policy --region ap-northeast-1 --log-group-name /ecs/neuraKnot-dev-migrate"
        " --retention-in-days 7"
    )
    assert report.as_json()["note"] == (0 if days else 1)


def test_what_iam_can_t_tell_is_not_lacking(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    let_the_caller_do_what_the_policy_says(cloud)
    stack = cloud.stack
    statements = least_policy.policy(by_name(cloud))["Statement"]
    for statement in statements:
        if "ecs:RegisterTaskDefinition" in statement["Action"]:
            statement["Condition"] = {"StringEquals": {"aws:SourceVpc": "vpc-1"}}
    stack.iam.delete_role_policy(stack.ci_role, "deploy")
    stack.allow(stack.ci_role, "launcher", *statements)
    kms = {
        "Effect": "Allow",
        "Action": "logs:*",
        "Resource": "*",
        "Condition": {"Bool": {"aws:SecureTransport": "true"}},
    }
    stack.allow(stack.execution_role, "execution", {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}, kms)
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == []
    told = {finding.name: finding.text for finding in report.findings if finding.status is Status.SKIP}
    assert told["permissions"].endswith("may do ecs:RegisterTaskDefinition without knowing aws:SourceVpc")
    assert told["writes the log"].endswith("without knowing aws:SecureTransport")


def deployed_by(cloud: LocalAws, controller: str, *, primary: bool = True) -> None:
    """Have the service's network and definition be those of a task set only."""
    stack = cloud.stack
    service = stack.ecs.services[f"{stack.cluster}:{stack.service}"]
    network, definition = service.network_configuration, service.task_definition
    service.deployment_controller, service.network_configuration = {"type": controller}, {}
    service.task_definition = None if controller == "EXTERNAL" else "arn:aws:ecs:ap-northeast-1:1:task-definition/old:1"
    made = stack.ecs.create_task_set(
        stack.service, stack.cluster, str(definition), network_configuration=network, launch_type="FARGATE"
    )
    made.status = "PRIMARY" if primary else "ACTIVE"


@pytest.mark.parametrize("controller", ["CODE_DEPLOY", "EXTERNAL"])
def test_task_sets_tell_what_a_service_runs(cloud: LocalAws, tmp_path: Path, aws: Aws, controller: str) -> None:
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    deployed_by(cloud, controller)
    report = doctor(cloud, tmp_path)
    assert (named(report, Status.NG), named(report, Status.SKIP)) == ([], ["reads the secret"])
    [definition] = [finding.text for finding in report.findings if finding.name == "definition"]
    assert definition.startswith(cloud.stack.service)
    found = network_for({}, Sourced(cloud.stack.cluster, ""), Sourced(cloud.stack.service, ""), aws, IDENTITY, REGION)
    assert found.subnets.value == cloud.stack.subnets
    assert found.execution_role.value == cloud.stack.execution_role_arn


@pytest.mark.parametrize("controller", ["CODE_DEPLOY", "EXTERNAL"])
def test_a_service_that_tells_nothing_is_refused_in_words(
    cloud: LocalAws, tmp_path: Path, aws: Aws, controller: str
) -> None:
    write_outputs(cloud, tmp_path)
    deployed_by(cloud, controller, primary=False)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "service"]
    assert f"it is deployed by {controller}, and " in finding.text
    assert "--subnets, --security-groups and --execution-role" in (finding.fix or "")
    with pytest.raises(ConfigurationError, match=f"deployed by {controller}"):
        network_for({}, Sourced(cloud.stack.cluster, ""), Sourced(cloud.stack.service, ""), aws, IDENTITY, REGION)


def test_the_platform_that_is_given_stands_for_a_service_on_windows(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    on_windows(cloud, tmp_path)
    report = doctor(cloud, tmp_path, platform="linux/arm64")
    [finding] = [finding for finding in report.findings if finding.name == "definition"]
    assert finding.status is Status.OK
    assert finding.text.endswith(", linux/arm64")


# What ECS leaves empty in the definition and the service, and a check's finding.
@pytest.mark.parametrize(
    ("definition", "service", "name", "status", "words"),
    [
        (
            {"runtimePlatform": {"operatingSystemFamily": "", "cpuArchitecture": ""}},
            {},
            "definition",
            Status.OK,
            "amd64",
        ),
        ({"taskRoleArn": ""}, {}, "task role", Status.SKIP, "names no task role"),
        ({"executionRoleArn": ""}, {}, "execution role", Status.NG, "names no execution role"),
        ({}, {"deploymentController": {"type": ""}}, "service", Status.OK, "running"),
        ({}, {"taskDefinition": ""}, "definition", Status.SKIP, "it lacks taskDefinition"),
    ],
)
def test_what_ecs_leaves_empty_is_not_given(
    cloud: LocalAws, tmp_path: Path, definition: Any, service: Any, name: str, status: Status, words: str
) -> None:
    def with_empty(values: Any, *path: Any) -> Callable[[Call, bytes], bytes]:
        def change(_: Call, body: bytes) -> bytes:
            answer = json.loads(body)
            functools.reduce(operator.getitem, path, answer).update(values)
            return json.dumps(answer).encode()

        return change

    write_outputs(cloud, tmp_path)
    cloud.server.changes["ecs:DescribeTaskDefinition"] = with_empty(definition, "taskDefinition")
    cloud.server.changes["ecs:DescribeServices"] = with_empty(service, "services", 0)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == name]
    assert finding.status is status
    assert words in finding.text


def test_a_surprise_in_one_check_is_that_check_s_finding_and_loses_no_other() -> None:
    subnet = dict[str, str]()

    def surprised(number: int) -> Callable[[None], str]:
        return lambda _: subnet["CidrBlock"] if number == 0 else str(ipaddress.ip_network("10.0.0.1/8"))

    fact = Fact[str](lambda: secret_arn(5) or "")  # type: ignore[arg-type]
    checks: list[Check[None]] = [Check("group", f"surprise {number}", surprised(number)) for number in range(2)]
    checks += [Check("group", name, lambda _: fact.get()) for name in ("a fact", "the same")]
    checks += [Check("group", "depends", lambda _: fact.need("not asked")), Check("group", "sound", lambda _: "well")]
    report = diagnose(checks, None)
    assert report.exit_code == 0
    assert [finding.status for finding in report.findings] == [*[Status.SKIP] * 5, Status.OK]
    key, value, first, second, depends, _ = (finding.text for finding in report.findings)
    assert "KeyError 'CidrBlock'" in key
    assert "ValueError" in value
    assert first == second
    assert "TypeError" in first
    assert "(policy_resources.py, line " in first
    assert depends == "not asked"


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_a_password_in_ssm_is_looked_for_and_so_is_the_right_to_read_it(
    cloud: LocalAws, tmp_path: Path, allowed: bool
) -> None:
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    stack = cloud.stack
    ssm_backends[stack.account][stack.region].put_parameter(
        "/neuraknot/dev/db", "", "x", "SecureString", "", "", False, [], "text", None, None
    )
    arn = stack.arn("ssm", "parameter/neuraknot/dev/db")
    if allowed:
        statement = {"Effect": "Allow", "Action": "ssm:GetParameters", "Resource": arn}
        stack.allow(stack.execution_role, "parameter", statement)
    report = doctor(cloud, tmp_path, db_password_secret=arn)
    assert named(report, Status.NG) == ([] if allowed else ["reads the secret"])
    assert named(doctor(cloud, tmp_path, db_password_secret=f"{arn}2"), Status.NG)[-1] == "password"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "resource"),
    [("db_password", "db_password"), ("/db_password", "db_password"), ("/neuraknot/db", "neuraknot/db")],
)
def test_a_parameter_is_found_whether_its_name_begins_with_a_slash_or_not(
    cloud: LocalAws, tmp_path: Path, name: str, resource: str
) -> None:
    write_outputs(cloud, tmp_path)
    stack = cloud.stack
    arn = stack.arn("ssm", f"parameter/{resource}")
    [missing] = [each for each in doctor(cloud, tmp_path, db_password_secret=arn).findings if each.name == "password"]
    assert f"--name {name.removeprefix('/') if name.count('/') == 1 else name} " in (missing.fix or "")
    ssm_backends[stack.account][stack.region].put_parameter(
        name, "", "x", "SecureString", "", "", False, [], "text", None, None
    )
    [found] = [each for each in doctor(cloud, tmp_path, db_password_secret=arn).findings if each.name == "password"]
    assert found.status is Status.OK
    asked = next(call for call in reversed(cloud.server.calls) if call.operation == "DescribeParameters")
    assert name in asked.parameters["ParameterFilters"][0]["Values"]  # moto itself takes either spelling


@pytest.mark.parametrize(
    ("key", "may", "status", "words"),
    [
        (None, False, Status.OK, "may GetSecretValue"),
        ("alias/aws/secretsmanager", False, Status.OK, "may GetSecretValue"),
        ("{key}", False, Status.SKIP, "has no right to kms:Decrypt on {key}, unless that key's own policy gives it"),
        ("{key}", True, Status.OK, "may GetSecretValue, Decrypt"),
        ("0a1b", True, Status.OK, "may GetSecretValue, Decrypt"),
        ("alias/ours", True, Status.SKIP, "alias/ours is not known"),
    ],
)
def test_a_secret_that_a_key_of_one_s_own_encrypts_is_read_by_whoever_may_use_the_key(
    make_cloud: MakeCloud, tmp_path: Path, key: str | None, may: bool, status: Status, words: str
) -> None:
    cloud = make_cloud(login="output")
    write_outputs(cloud, tmp_path)
    stack = cloud.stack
    own = stack.arn("kms", "key/0a1b")
    secret: Any = stack.secrets.secrets[str(stack.secret)]
    secret.kms_key_id = key and key.format(key=own)
    if may:
        via = {"StringEquals": {"kms:ViaService": "secretsmanager.ap-northeast-1.amazonaws.com"}}
        statement = {"Effect": "Allow", "Action": "kms:Decrypt", "Resource": own, "Condition": via}
        stack.allow(stack.execution_role, "key", statement)
    [finding] = [each for each in doctor(cloud, tmp_path).findings if each.name == "reads the secret"]
    assert finding.status is status
    assert words.format(key=own) in finding.text


@pytest.mark.parametrize("service", ["ssm", "secretsmanager"])
def test_a_secret_is_looked_for_in_its_own_region_and_not_in_another_account(
    cloud: LocalAws, tmp_path: Path, service: str
) -> None:
    write_outputs(cloud, tmp_path)
    if service == "ssm":
        boto3.client("ssm", "us-east-1").put_parameter(Name="/neuraKnot/db", Value="x", Type="SecureString")
        arn = f"arn:aws:ssm:us-east-1:{cloud.stack.account}:parameter/neuraKnot/db"
    else:
        arn = boto3.client("secretsmanager", "us-east-1").create_secret(Name="db", SecretString="x")["ARN"]

    def look(reference: str) -> Finding:
        report = doctor(cloud, tmp_path, db_password_secret=reference)
        return next(each for each in report.findings if each.name == "password")

    assert look(arn).status is Status.OK
    absent = look(f"{arn}2")
    assert absent.status is Status.NG
    assert " --region us-east-1 " in (absent.fix or "")
    foreign = look(arn.replace(cloud.stack.account, "999999999999"))
    assert foreign.status is Status.SKIP
    assert "of another account, 999999999999" in foreign.text


def test_a_parameter_needs_an_endpoint_of_its_own(make_cloud: MakeCloud, tmp_path: Path) -> None:
    cloud = make_cloud(way_out="endpoints")
    write_outputs(cloud, tmp_path)
    arn = cloud.stack.arn("ssm", "parameter/db")
    report = doctor(cloud, tmp_path, db_password_secret=arn)
    [finding] = [finding for finding in report.findings if finding.name == "way out to AWS"]
    assert finding.text.endswith("no VPC endpoint for ssm.")
    assert "com.amazonaws.ap-northeast-1.ssm " in (finding.fix or "")


@pytest.mark.slow
@pytest.mark.parametrize(("public", "expected"), [(True, []), (False, ["way out to AWS"])])
def test_an_internet_gateway_is_a_way_out_for_public_addresses_only(
    cloud: LocalAws, tmp_path: Path, public: bool, expected: list[str]
) -> None:
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    ec2, table = cloud.stack.ec2, cloud.stack.route_table
    ec2.delete_route(table, "0.0.0.0/0")
    ec2.create_route(table, "0.0.0.0/0", gateway_id=next(iter(ec2.internet_gateways)))
    assert named(doctor(cloud, tmp_path, public_ip=public), Status.NG) == expected


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["from Terraform", "all given"])
def test_without_credentials_only_that_is_wrong_and_nothing_else_is_asked(
    cloud: LocalAws, tmp_path: Path, given: bool
) -> None:
    write_outputs(cloud, tmp_path)
    cloud.server.know(cloud.credentials.access_key, expired=True)
    stack = cloud.stack
    values = {
        "subnets": stack.subnets,
        "security_groups": (stack.service_group,),
        "execution_role": stack.execution_role_arn,
        "task_role": stack.task_role_arn,
        "db_password_secret": stack.arn("secretsmanager", "secret:db-x"),
    }
    report = doctor(cloud, tmp_path, **(values if given else {}))
    assert named(report, Status.NG) == ["credentials"]
    assert named(report, Status.OK) == ["Terraform"]
    assert report.exit_code == 21
    assert {call.action for call in cloud.server.calls} == {"sts:GetCallerIdentity"}


@pytest.mark.slow
def test_a_caller_who_may_only_migrate_gets_skips_and_no_ng(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    stack = cloud.stack
    statements = [
        entry for entry in least_policy.policy(by_name(cloud))["Statement"] if not entry["Sid"].startswith("Doctor")
    ]
    stack.allow(stack.ci_role, "launcher", *statements)
    cloud.iam.caller = stack.ci_role
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == []
    assert "one VPC" in named(report, Status.SKIP)


@pytest.mark.slow
@pytest.mark.parametrize("may_ask", [True, False])
def test_a_role_of_sso_is_looked_at_by_its_real_arn(
    cloud: LocalAws, tmp_path: Path, may_ask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session's ARN leaves the role's path out, and IAM knows no role without it."""
    write_outputs(cloud, tmp_path)
    stack, name = cloud.stack, "AWSReservedSSO_Admin_0a1b"
    path = "/aws-reserved/sso.amazonaws.com/ap-northeast-1/"
    role = stack.iam.create_role(name, "{}", path, None, "", [], "3600")
    stack.allow(name, "admin", {"Effect": "Allow", "Action": "*" if may_ask else "ecs:*", "Resource": "*"})
    cloud.iam.caller = name
    session = stack.sign_in(role.arn)
    cloud.server.know(session.access_key)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", session.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", session.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session.session_token)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "permissions"]
    if may_ask:
        assert finding.text == f"{name} may do everything that the launcher needs"
        asked = [call.parameters["PolicySourceArn"] for call in cloud.server.calls if "Simulate" in call.operation]
        assert role.arn in asked
    else:
        assert finding.status is Status.SKIP
    stack.allow(name, "admin", {"Effect": "Allow", "Action": ["ecs:*", "iam:*"], "Resource": "*"})
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "permissions"]
    assert finding.status is Status.NG
    assert "permission set" in (finding.fix or "")


def test_with_the_policy_everything_can_be_looked_at(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    let_the_caller_do_what_the_policy_says(cloud)
    cloud.stack.iam.delete_role_policy(cloud.stack.ci_role, "deploy")
    cloud.iam.caller = cloud.stack.ci_role
    report = doctor(cloud, tmp_path)
    assert (named(report, Status.NG), named(report, Status.SKIP)) == ([], ["reads the secret"])


def test_the_examination_only_reads_and_never_a_secret_s_value(make_cloud: MakeCloud, tmp_path: Path) -> None:
    cloud = make_cloud(login="output")
    write_outputs(cloud, tmp_path)
    report = doctor(cloud, tmp_path)
    asked = {call.operation for call in cloud.server.calls}
    assert all(operation.startswith(("Describe", "Get", "List", "Simulate")) for operation in asked)
    assert "GetSecretValue" not in asked
    assert DATABASE_PASSWORD not in repr(report)


@pytest.mark.slow
def test_without_the_execution_role_nobody_asks_what_it_may(cloud: LocalAws, tmp_path: Path) -> None:
    write_outputs(cloud, tmp_path)
    no_execution_role(cloud, tmp_path)
    skipped = [finding for finding in doctor(cloud, tmp_path).findings if finding.status is Status.SKIP]
    assert {"pulls the image", "writes the log"} <= {finding.name for finding in skipped}


def test_each_endpoint_that_is_missing_is_made_by_the_fix(make_cloud: MakeCloud, tmp_path: Path) -> None:
    cloud = make_cloud(way_out="endpoints")
    write_outputs(cloud, tmp_path)
    no_endpoints(cloud, tmp_path)
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "way out to AWS"]
    for command, service in zip((finding.fix or "").split(" && "), ("ecr.api", "ecr.dkr", "s3", "logs"), strict=True):
        assert command.startswith("aws ec2 create-vpc-endpoint --region ap-northeast-1")
        assert f"com.amazonaws.ap-northeast-1.{service} " in command


@pytest.mark.parametrize("there", [True, False])
def test_what_a_migration_can_do_without_need_not_be_allowed(cloud: LocalAws, tmp_path: Path, there: bool) -> None:
    write_outputs(cloud, tmp_path)
    stack = cloud.stack
    some = {"rds:CreateDBSnapshot", "rds:AddTagsToResource", "rds:DescribeDBSnapshots"}
    unless_there = {"ecr:CreateRepository", "logs:CreateLogGroup", "logs:PutRetentionPolicy"}
    statements = least_policy.policy(by_name(cloud))["Statement"]
    for statement in statements:
        statement["Action"] = [action for action in statement["Action"] if action not in some | unless_there]
    stack.allow(stack.ci_role, "launcher", *(statement for statement in statements if statement["Action"]))
    if there:
        stack.put_image("x", "sha256:" + "1" * 64)
        stack.logs.create_log_group(stack.log_group, {})
    [finding] = [finding for finding in doctor(cloud, tmp_path).findings if finding.name == "permissions"]
    assert finding.status is (Status.OK if there else Status.NG)
    assert ("rds:CreateDBSnapshot" in finding.text) == there
    assert "logs:CreateLogGroup" in finding.text


def test_a_stack_that_is_given_by_options_needs_no_service(cloud: LocalAws, tmp_path: Path) -> None:
    stack = cloud.stack
    let_the_caller_do_what_the_policy_says(cloud)
    no_service(cloud, tmp_path)
    given = {
        "cluster": stack.cluster,
        "db_host": stack.database_host,
        "subnets": stack.subnets,
        "security_groups": (stack.service_group,),
        "execution_role": stack.execution_role_arn,
    }
    report = doctor(cloud, tmp_path, **given, db_password_secret=stack.arn("secretsmanager", "secret:db-x"))
    assert named(report, Status.NG) == ["reads the secret", "password"]  # there is no such secret
    assert "service" in named(report, Status.SKIP)


def test_all_checks_are_made_at_once() -> None:
    together = threading.Barrier(8, timeout=20)

    def look(_: None) -> str:
        together.wait()
        return "was not alone"

    report = diagnose([Check("group", str(number), look) for number in range(8)], None)
    assert [finding.name for finding in report.findings] == [str(number) for number in range(8)]
    assert report.exit_code == 0


def test_the_tree_wraps_sentences_and_never_commands() -> None:
    command = "aws " + "--option value " * 20
    findings = (
        Finding("ECS", "cluster", Status.OK, "there"),
        Finding("ECS", "service", Status.NG, "word " * 30, command, 20),
        Finding("Network", "one VPC", Status.SKIP, "not known"),
    )
    printed = list(lines(Report(findings), 60))
    assert [line for style, line in printed if style == "group"] == ["ECS", "Network"]
    assert all(len(line) <= 60 for style, line in printed if style != "fix")
    assert ("fix", " " * 8 + command) in printed
    assert printed[-1] == ("sum", "1 OK, 1 NG, 1 SKIP")


@pytest.mark.parametrize(("denier", "words"), [("Organizations", "service control"), ("PermissionsBoundary", "ndary")])
def test_a_denial_that_no_permission_undoes_is_given_its_own_remedy(
    make_cloud: MakeCloud, tmp_path: Path, denier: str, words: str
) -> None:
    cloud = make_cloud()
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    cloud.iam.deniers = {"ecs:RunTask": denier, "ecr:BatchGetImage": denier}
    report = doctor(cloud, tmp_path)
    assert named(report, Status.NG) == ["permissions", "pulls the image"]
    for finding in report.findings:
        if finding.status is Status.NG:
            assert words in (finding.fix or "")
            assert (finding.fix or "").startswith("# ec")
    cloud.stack.iam.delete_role_policy(cloud.stack.execution_role_arn.rsplit("/", 1)[-1], "execution")
    [finding] = [each for each in doctor(cloud, tmp_path).findings if each.name == "pulls the image"]
    assert '"Action": ["ecr:GetDownloadUrlForLayer"]' in (finding.fix or "")
    assert words in (finding.fix or "")


def test_doctor_is_no_cure_for_what_it_has_found(make_cloud: MakeCloud, tmp_path: Path) -> None:
    cloud = make_cloud()
    let_the_caller_do_what_the_policy_says(cloud)
    write_outputs(cloud, tmp_path)
    report = doctor(
        cloud, tmp_path, subnets=("subnet-0123456789abcdef0",), security_groups=(cloud.stack.service_group,)
    )
    wrong = [finding for finding in report.findings if finding.status is Status.NG]
    assert wrong
    assert not [finding.fix for finding in wrong if (finding.fix or "").startswith("launcher doctor")]
