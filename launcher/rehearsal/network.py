"""The VPC of the local stack: private subnets with a route to AWS, and the security groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moto.ec2.models import EC2Backend

from launcher.aws.partitions import endpoint_name

WayOut = Literal["nat", "endpoints"]
ENDPOINTS = ("ecr.api", "ecr.dkr", "s3", "logs", "secretsmanager")
"""The AWS services that a task needs; a VPC without a NAT gateway has an endpoint for each."""

_BLOCK = "10.0.0.0/16"


@dataclass(frozen=True)
class LocalNetwork:
    """The IDs of a network's parts.

    Attributes:
        vpc: the VPC, with DNS names enabled.
        subnets: private, in two zones.
        route_table: the subnets' route table.
        service_group, database_group: the second admits the first on the database's port.
    """

    vpc: str
    subnets: tuple[str, ...]
    route_table: str
    service_group: str
    database_group: str


def build_network(ec2: EC2Backend, region: str, way_out: WayOut, service: str, database: str) -> LocalNetwork:
    """Build a network.

    Args:
        ec2: moto's backend for the account and region.
        region: the region of its zones.
        way_out: how the private subnets reach AWS.
        service: the prefix of the first security group's name.
        database: the prefix of the second's.
    """
    vpc = ec2.create_vpc(_BLOCK).id
    for attribute in ("enable_dns_support", "enable_dns_hostnames"):
        ec2.modify_vpc_attribute(vpc, attribute, "true")
    subnets = tuple(
        ec2.create_subnet(vpc, f"10.0.{10 + number}.0/24", availability_zone=zone.name).id
        for number, zone in enumerate(ec2.describe_availability_zones()[:2])
    )
    table = ec2.create_route_table(vpc).id
    for subnet in subnets:
        ec2.associate_route_table(table, subnet_id=subnet)
    service_group = ec2.create_security_group(f"{service}-sg", "the Go service", vpc).id
    database_group = ec2.create_security_group(f"{database}-sg", "the database", vpc).id
    source = [{"GroupId": service_group}]
    ec2.authorize_security_group_ingress(database_group, "tcp", "5432", "5432", [], source_groups=source)
    if way_out == "nat":
        _add_nat(ec2, vpc, f"{region}a", table)
    else:
        _add_endpoints(ec2, vpc, region, subnets, table)
    return LocalNetwork(vpc, subnets, table, service_group, database_group)


def _add_nat(ec2: EC2Backend, vpc: str, zone: str, table: str) -> None:
    public = ec2.create_subnet(vpc, "10.0.0.0/24", availability_zone=zone).id
    gateway = ec2.create_internet_gateway().id
    ec2.attach_internet_gateway(gateway, vpc)
    public_table = ec2.create_route_table(vpc).id
    ec2.associate_route_table(public_table, subnet_id=public)
    ec2.create_route(public_table, "0.0.0.0/0", gateway_id=gateway)
    address = ec2.allocate_address("vpc")
    nat = ec2.create_nat_gateway(public, str(address.allocation_id)).id
    ec2.create_route(table, "0.0.0.0/0", nat_gateway_id=nat)


def _add_endpoints(ec2: EC2Backend, vpc: str, region: str, subnets: tuple[str, ...], table: str) -> None:
    group = ec2.create_security_group("endpoints-sg", "the VPC endpoints", vpc).id
    ec2.authorize_security_group_ingress(group, "tcp", "443", "443", [{"CidrIp": _BLOCK}])
    for service in ENDPOINTS:
        gateway = service == "s3"
        ec2.create_vpc_endpoint(
            vpc,
            endpoint_name(region, service),
            "Gateway" if gateway else "Interface",
            None,
            [table] if gateway else [],
            subnet_ids=None if gateway else list(subnets),
            security_group_ids=None if gateway else [group],
            private_dns_enabled=not gateway,
        )
