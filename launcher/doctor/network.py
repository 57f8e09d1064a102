"""The network checks of `doctor`: a single VPC, and the routes to the database and to AWS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.doctor.diagnose import Check, SkippedError, WrongError
from launcher.doctor.facts import Facts, Network
from launcher.doctor.policy_resources import secret_arn
from launcher.environment.service import STARTING_SERVICES
from launcher.errors import ExitCode


def _network(facts: Facts) -> Network:
    facts.signed_in()
    return facts.network.need("not known, without the service or the options that stand for it")


def _one_vpc(facts: Facts) -> str:
    facts.signed_in()
    network = facts.network.get()
    subnets = facts.aws.subnets(network.subnets)
    groups = facts.aws.security_groups(network.security_groups) if network.security_groups else []
    places = {subnet["VpcId"] for subnet in subnets} | {group["VpcId"] for group in groups}
    if len(places) != 1:
        raise WrongError(
            f"Subnets and security groups are of {len(places)} VPCs: {', '.join(sorted(places))}.",
            fix=f"launcher doctor{facts.subject.options} --subnets subnet-... --security-groups sg-...",
            exit_code=ExitCode.NOT_STARTED,
        )
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets})
    return f"{len(subnets)} subnets in {', '.join(zones)} of {places.pop()}"


def _vpc(facts: Facts) -> str:
    """Return the task's VPC, from its first subnet."""
    network = _network(facts)
    return facts.aws.subnets(network.subnets[:1])[0]["VpcId"]


def _database_door(facts: Facts) -> str:
    instance = facts.database.need("not known, without the RDS instance")
    network, port = _network(facts), facts.subject.db_port
    wanted = [group["VpcSecurityGroupId"] for group in instance.get("VpcSecurityGroups", [])]
    if not wanted:
        raise SkippedError("the instance has no VPC security groups")
    blocks = _blocks(facts, network)
    for group in facts.aws.security_groups(wanted):
        if any(_admits(rule, port, network.security_groups, blocks) for rule in group.get("IpPermissions", [])):
            return f"{group['GroupId']} lets the task in on port {port}"
    source = network.security_groups[0] if network.security_groups else "sg-..."
    raise WrongError(
        f"The database's security group {', '.join(wanted)} lets none of the task's in on port {port}.",
        fix=f"aws ec2 authorize-security-group-ingress --region {facts.subject.region} --group-id {wanted[0]} "
        f"--protocol tcp --port {port} --source-group {source}",
        exit_code=6,
    )


def _task_door(facts: Facts) -> str:
    network, port = _network(facts), facts.subject.db_port
    if not network.security_groups:
        raise SkippedError("the VPC's default security group is used")
    groups = facts.aws.security_groups(network.security_groups)
    closed = [
        number
        for number in (port, 443)
        if not any(_covers(rule, number) for group in groups for rule in group.get("IpPermissionsEgress", []))
    ]
    if closed:
        name = groups[0]["GroupId"]
        rules = [f"IpProtocol=tcp,FromPort={n},ToPort={n},IpRanges='[{{CidrIp=0.0.0.0/0}}]'" for n in closed]
        raise WrongError(
            f"The task's security group {name} lets nothing out on port {' and '.join(map(str, closed))}.",
            fix=f"aws ec2 authorize-security-group-egress --region {facts.subject.region} --group-id {name} "
            f"--ip-permissions {' '.join(rules)}",
            exit_code=ExitCode.NOT_STARTED,
        )
    return f"{', '.join(group['GroupId'] for group in groups)} lets out ports {port} and 443"


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535)


def _admits(rule: Mapping[str, Any], port: int, groups: Sequence[str], blocks: Sequence[Any]) -> bool:
    """Whether a rule admits the addresses of every subnet, or one of the groups, on a port."""
    if not _covers(rule, port):
        return False
    if any(pair.get("GroupId") in groups for pair in rule.get("UserIdGroupPairs", [])):
        return True
    allowed = [ipaddress.ip_network(entry["CidrIp"]) for entry in rule.get("IpRanges", [])]
    return bool(blocks) and all(any(block.subnet_of(outer) for outer in allowed) for block in blocks)


def _way_out(facts: Facts) -> str:
    network, subject = _network(facts), facts.subject
    vpc = _vpc(facts)
    tables, endpoints = facts.aws.route_tables(vpc), facts.aws.vpc_endpoints(vpc)
    secret = facts.secret
    needed = [*STARTING_SERVICES, *(["secretsmanager"] if secret_arn(secret) else ["ssm"] if secret else [])]
    ways: set[str] = set()
    used: list[Mapping[str, Any]] = []
    for subnet in network.subnets:
        table = _table(tables, subnet)
        way = _default_route(table, network.public_ip)
        if way is not None:
            ways.add(way)
            continue
        found = {name: _endpoint(endpoints, table, f"com.amazonaws.{subject.region}.{name}") for name in needed}
        missing = [name for name, endpoint in found.items() if endpoint is None]
        if missing:
            raise WrongError(
                f"{subnet} has no way out: no NAT gateway, and no VPC endpoint for {', '.join(missing)}.",
                fix=" && ".join(_endpoint_command(subject.region, vpc, name, network, table) for name in missing),
                exit_code=ExitCode.NOT_STARTED,
            )
        ways.add("VPC endpoints")
        used += [endpoint for endpoint in found.values() if endpoint is not None]
    _endpoints_let_in(facts, network, used)
    return f"by {' and '.join(sorted(ways))}"


def _endpoints_let_in(facts: Facts, network: Network, endpoints: Sequence[Mapping[str, Any]]) -> None:
    """Check that each interface endpoint admits the task over HTTPS."""
    wanted = {
        endpoint["ServiceName"]: [group["GroupId"] for group in endpoint.get("Groups", [])]
        for endpoint in endpoints
        if endpoint.get("Groups")
    }
    names = sorted({name for groups in wanted.values() for name in groups})
    if not names:
        return
    groups = {group["GroupId"]: group for group in facts.aws.security_groups(names)}
    blocks = _blocks(facts, network)
    for service, ids in wanted.items():
        rules = [rule for name in ids for rule in groups[name].get("IpPermissions", [])]
        if not any(_admits(rule, 443, network.security_groups, blocks) for rule in rules):
            source = network.security_groups[0] if network.security_groups else "sg-..."
            raise WrongError(
                f"The VPC endpoint {service} does not let the task in on port 443.",
                fix=f"aws ec2 authorize-security-group-ingress --region {facts.subject.region} --group-id {ids[0]} "
                f"--protocol tcp --port 443 --source-group {source}",
                exit_code=ExitCode.NOT_STARTED,
            )


def _blocks(facts: Facts, network: Network) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(subnet["CidrBlock"]) for subnet in facts.aws.subnets(network.subnets)]


def _table(tables: Sequence[Any], subnet: str) -> Mapping[str, Any]:
    """Return a subnet's route table: its own, else the VPC's main one."""
    main: Mapping[str, Any] = {}
    for table in tables:
        for association in table.get("Associations", []):
            if association.get("SubnetId") == subnet:
                return dict(table)
            if association.get("Main"):
                main = dict(table)
    return main


def _default_route(table: Mapping[str, Any], public_ip: bool) -> str | None:
    for route in table.get("Routes", []):
        if route.get("DestinationCidrBlock") != "0.0.0.0/0" or route.get("State") == "blackhole":
            continue
        if "NatGatewayId" in route:
            return f"the NAT gateway {route['NatGatewayId']}"
        if route.get("GatewayId", "").startswith("igw-"):
            if public_ip:
                return f"the internet gateway {route['GatewayId']}"
            continue  # an internet gateway only routes public addresses
        return "a default route"
    return None


def _endpoint(
    endpoints: Sequence[Mapping[str, Any]], table: Mapping[str, Any], service: str
) -> Mapping[str, Any] | None:
    """Return the endpoint through which a subnet with this route table reaches a service; None if there is none."""
    for endpoint in endpoints:
        if endpoint.get("ServiceName") != service or endpoint.get("State", "available") != "available":
            continue
        if endpoint.get("VpcEndpointType") == "Gateway":
            if table.get("RouteTableId") in endpoint.get("RouteTableIds", []):
                return endpoint
        elif endpoint.get("PrivateDnsEnabled", True):  # without it the service's name resolves to a public address
            return endpoint
    return None


def _endpoint_command(region: str, vpc: str, service: str, network: Network, table: Mapping[str, Any]) -> str:
    command = (
        f"aws ec2 create-vpc-endpoint --region {region} --vpc-id {vpc} --service-name com.amazonaws.{region}.{service}"
    )
    if service == "s3":
        return f"{command} --vpc-endpoint-type Gateway --route-table-ids {table.get('RouteTableId', 'rtb-...')}"
    groups = f" --security-group-ids {' '.join(network.security_groups)}" if network.security_groups else ""
    return (
        f"{command} --vpc-endpoint-type Interface --private-dns-enabled --subnet-ids {' '.join(network.subnets)}"
        f"{groups}"
    )


NETWORK_CHECKS: tuple[Check[Facts], ...] = (
    Check("Network", "one VPC", _one_vpc),
    Check("Network", "way out to AWS", _way_out),
    Check("Network", "task's way out", _task_door),
    Check("Network", "database's door", _database_door),
)
