"""A list that AWS sends in pages is read to its end, and one without an end is no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from moto.ssm.models import ssm_backends

from launcher.aws import client
from launcher.aws.client import Aws
from launcher.errors import TransientAwsError
from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.cloud import LocalAws
from launcher.rehearsal.server import Answer
from tests.ecs.doctor.test_iam_policy import calls_of_aws_py

# Calls that name the one thing that they ask for: AWS has no pages then.
BY_NAME = {
    ("ecr", "describe_images"),
    ("ecr", "describe_repositories"),
    ("rds", "describe_db_cluster_snapshots"),
    ("rds", "describe_db_clusters"),
    ("rds", "describe_db_instances"),
    ("rds", "describe_db_snapshots"),
}


def test_every_call_that_has_pages_follows_them(cloud: LocalAws) -> None:
    once = {(service, method) for service, method, paged in calls_of_aws_py() if not paged}
    client: Any = boto3.client
    assert {(service, method) for service, method in once if client(service).can_paginate(method)} == BY_NAME


def test_what_is_on_another_page_is_found(cloud: LocalAws, aws: Aws) -> None:
    stack, ec2 = cloud.stack, boto3.client("ec2")
    for number in range(100, 105):
        subnet = ec2.create_subnet(VpcId=stack.vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"]
        table = ec2.create_route_table(VpcId=stack.vpc)["RouteTable"]["RouteTableId"]
        ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        ec2.create_security_group(GroupName=str(number), Description="one of many", VpcId=stack.vpc)
        ec2.create_vpc_endpoint(VpcId=stack.vpc, ServiceName=f"com.amazonaws.ap-northeast-1.service{number}")
    assert len(ec2.describe_subnets()["Subnets"]) == 2, "which is one page"
    subnets = [each.id for zone in stack.ec2.subnets.values() for each in zone.values() if each.vpc_id == stack.vpc]
    groups = list(stack.ec2.groups[stack.vpc])
    tables = [each.id for each in stack.ec2.route_tables.values() if each.vpc_id == stack.vpc]
    endpoints = list(stack.ec2.vpc_end_points)
    assert {each["SubnetId"] for each in aws.subnets(subnets)} == {*subnets}
    assert {each["GroupId"] for each in aws.security_groups(groups)} == {*groups}
    assert {each["RouteTableId"] for each in aws.route_tables(stack.vpc)} == {*tables}
    assert {each["VpcEndpointId"] for each in aws.vpc_endpoints(stack.vpc)} == {*endpoints}
    assert min(map(len, (subnets, groups, tables, endpoints))) >= 5


def test_a_log_group_behind_many_with_its_prefix_is_found(cloud: LocalAws, aws: Aws) -> None:
    name = cloud.stack.log_group
    first = [{"logGroupName": f"{name}-{number}"} for number in range(50)]
    told: list[Answer] = [{"logGroups": first, "nextToken": "a"}, {"logGroups": [], "nextToken": "b"}]
    pages = iter(told)
    cloud.server.handlers["logs:DescribeLogGroups"] = lambda _: next(pages, {"logGroups": [{"logGroupName": name}]})
    assert (aws.log_group(name) or {}).get("logGroupName") == name


@pytest.mark.parametrize("there", [True, False])
def test_a_parameter_behind_an_empty_page_is_there(cloud: LocalAws, aws: Aws, there: bool) -> None:
    if there:
        ssm = ssm_backends[cloud.stack.account][cloud.stack.region]
        ssm.put_parameter("/db", "", "x", "SecureString", "", "", False, [], "text", None, None)
    assert (aws.parameter("/db", "db") is not None) == there
    assert [call.operation for call in cloud.server.calls] == ["DescribeParameters"] * 2


def ec2(operation: str, name: str) -> Answer:
    return {"xml": f"<{operation}Response><{name}/><nextToken>same</nextToken></{operation}Response>"}


def simulated(marker: str) -> Answer:
    inner = f"<IsTruncated>true</IsTruncated>{marker}<EvaluationResults/>"
    name = "SimulatePrincipalPolicy"
    return {"xml": f"<{name}Response><{name}Result>{inner}</{name}Result></{name}Response>"}


ENDLESS: dict[str, tuple[Answer, Callable[[Aws], Any]]] = {
    "ec2:DescribeRouteTables": (ec2("DescribeRouteTables", "routeTableSet"), lambda aws: aws.route_tables("vpc-1")),
    "ec2:DescribeSecurityGroups": (
        ec2("DescribeSecurityGroups", "securityGroupInfo"),
        lambda aws: aws.security_groups(["sg-1"]),
    ),
    "ec2:DescribeSubnets": (ec2("DescribeSubnets", "subnetSet"), lambda aws: aws.subnets(["subnet-1"])),
    "ec2:DescribeVpcEndpoints": (ec2("DescribeVpcEndpoints", "vpcEndpointSet"), lambda aws: aws.vpc_endpoints("vpc-1")),
    "iam:SimulatePrincipalPolicy": (
        simulated("<Marker>same</Marker>"),
        lambda aws: aws.simulate("arn:aws:iam::1:role/x", ["ecs:RunTask"], ["*"]),
    ),
    "logs:DescribeLogGroups": ({"logGroups": [], "nextToken": "same"}, lambda aws: aws.log_group("group")),
    "ssm:DescribeParameters": ({"Parameters": [], "NextToken": "same"}, lambda aws: aws.parameter("name")),
}


@pytest.mark.parametrize("action", ENDLESS)
def test_a_list_whose_pages_have_no_end_is_no_answer(cloud: LocalAws, aws: Aws, action: str) -> None:
    answer, ask = ENDLESS[action]
    cloud.server.handlers[action] = lambda _: answer
    with pytest.raises(TransientAwsError, match=rf"{action} can't be read \(its pages have no end\)"):
        ask(aws)


@pytest.mark.parametrize("token", [lambda call: call % 2, lambda call: call], ids=["2", "new"])
def test_nor_is_one_with_ever_other_tokens(
    cloud: LocalAws, aws: Aws, token: Callable[[int], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(_: Call) -> Answer:
        number = len(cloud.server.calls)
        if number > 20:
            raise Refusal("InvalidParameterException", "it would go on for ever")
        return {"taskArns": [], "nextToken": f"t{token(number)}"}

    monkeypatch.setattr(client, "_PAGES", 10)
    cloud.server.handlers["ecs:ListTasks"] = page
    with pytest.raises(TransientAwsError, match=r"ecs:ListTasks can't be read \(its pages have no end\)"):
        aws.task_arns("cluster", "family", stopped=False)


def test_a_simulation_that_is_cut_off_without_a_next_page_is_no_answer(cloud: LocalAws, aws: Aws) -> None:
    """As if all that was asked for were allowed."""
    cloud.server.handlers["iam:SimulatePrincipalPolicy"] = lambda _: simulated("")
    with pytest.raises(TransientAwsError, match="iam:SimulatePrincipalPolicy can't be read"):
        aws.simulate("arn:aws:iam::1:role/x", ["ecs:RunTask"], ["*"])
