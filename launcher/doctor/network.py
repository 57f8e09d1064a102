"""The network checks of `doctor`: a single VPC, and the routes to the database and to AWS."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.aws.partitions import endpoint_name
from launcher.doctor.diagnose import Check, SkippedError, WrongError
from launcher.doctor.facts import Facts, Network
from launcher.doctor.policy_resources import secret_arn
from launcher.environment.service import STARTING_SERVICES
from launcher.errors import ExitCode
from launcher.machine.untrusted_text import UnreadableError, parse_json

_EVERYWHERE = ipaddress.IPv4Network("0.0.0.0/0")
# The members of a route that name its target; a new kind of target is "another".
_TARGETS = (
    "GatewayId",
    "NatGatewayId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
    "NetworkInterfaceId",
    "InstanceId",
    "EgressOnlyInternetGatewayId",
    "LocalGatewayId",
    "CarrierGatewayId",
    "CoreNetworkArn",
)


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
    wanted = facts.database.need("not known, without the RDS instance or cluster").security_groups
    network, port = _network(facts), facts.subject.db_port
    if not wanted:
        raise SkippedError("the database has no VPC security groups")
    door, groups = f"The database's security group {', '.join(wanted)}", facts.aws.security_groups(wanted)
    _let_in(facts, network, door, groups, port, ExitCode.DATABASE_UNREACHABLE)
    return f"{', '.join(wanted)} lets the task in on port {port}"


def _opening(facts: Facts, network: Network, group: str, port: int) -> str:
    """Return the command that has a security group let the task in."""
    source = network.security_groups[0] if network.security_groups else "sg-..."
    return (
        f"aws ec2 authorize-security-group-ingress --region {facts.subject.region} --group-id {group} "
        f"--protocol tcp --port {port} --source-group {source}"
    )


def _let_in(
    facts: Facts, network: Network, door: str, groups: Sequence[Mapping[str, Any]], port: int, exit_code: ExitCode
) -> None:
    """Check that the security groups of a door, in words, let the task in, from each of its subnets.

    Raises:
        WrongError: they do not.
        SkippedError: a rule might, and whether it does can't be seen from here.
    """
    rules = _rules(groups, "IpPermissions", port)
    pairs = [pair for rule in rules for pair in rule.get("UserIdGroupPairs", [])]
    if any(pair.get("GroupId") in network.security_groups for pair in pairs):
        return
    allowed = _addresses(rules)
    subnets = facts.aws.subnets(network.subnets)
    blocks = [block for subnet in subnets for block in [_ipv4(subnet)] if block is not None]
    inside = [block for block in blocks if any(block.subnet_of(outer) for outer in allowed)]
    left_out = [subnet["SubnetId"] for subnet in subnets if _ipv4(subnet) not in inside]
    if not left_out:
        return
    unclear = [
        f"the prefix list {entry.get('PrefixListId')}" for rule in rules for entry in rule.get("PrefixListIds", [])
    ]
    unclear += [str(part) for part in allowed if any(part.subnet_of(block) and part != block for block in blocks)]
    if any(_ipv6(subnet) for subnet in subnets):
        unclear += [str(entry.get("CidrIpv6")) for rule in rules for entry in rule.get("Ipv6Ranges", [])]
    if pairs and not network.security_groups:  # then the task is in its VPC's default group, whose ID nobody gave
        unclear += [f"the group {pair.get('GroupId')}" for pair in pairs]
    if unclear:
        names = ", ".join(str(group.get("GroupId")) for group in groups)
        raise SkippedError(
            f"{names} opens port {port} to {', '.join(unclear)}: whether the task is in there is not known"
        )
    where = f" from {', '.join(left_out)}" if inside else ""
    raise WrongError(
        f"{door} does not let the task in on port {port}{where}.",
        fix=_opening(facts, network, groups[0]["GroupId"], port),
        exit_code=exit_code,
    )


def _task_door(facts: Facts) -> str:
    network, port = _network(facts), facts.subject.db_port
    if not network.security_groups:
        raise SkippedError("the VPC's default security group is used")
    _ipv4_only(facts.aws.subnets(network.subnets))
    groups = facts.aws.security_groups(network.security_groups)
    names = ", ".join(str(group.get("GroupId")) for group in groups)
    rules = {number: _rules(groups, "IpPermissionsEgress", number) for number in (port, 443)}
    closed = [number for number, found in rules.items() if not found]
    if closed:
        opened = [f"IpProtocol=tcp,FromPort={n},ToPort={n},IpRanges='[{{CidrIp=0.0.0.0/0}}]'" for n in closed]
        raise WrongError(
            f"The task's security group {names} lets nothing out on port {' and '.join(map(str, closed))}.",
            fix=f"aws ec2 authorize-security-group-egress --region {facts.subject.region} "
            f"--group-id {network.security_groups[0]} --ip-permissions {' '.join(opened)}",
            exit_code=ExitCode.NOT_STARTED,
        )
    for number, found in rules.items():
        to = _places(found)
        if not (_EVERYWHERE in _addresses(found) or (number == port and to & _database_groups(facts))):
            raise SkippedError(
                f"{names} lets port {number} out to {', '.join(sorted(to))} only: whether that is enough is not known"
            )
    return f"{names} lets out ports {port} and 443"


def _database_groups(facts: Facts) -> set[str]:
    try:
        return set(facts.database.need("not known").security_groups)
    except SkippedError:
        return set()


def _rules(groups: Sequence[Mapping[str, Any]], kind: str, port: int) -> list[Mapping[str, Any]]:
    """Return the groups' rules of a kind that are about a TCP port."""
    return [rule for group in groups for rule in group.get(kind, []) if _covers(rule, port)]


def _covers(rule: Mapping[str, Any], port: int) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") in ("tcp", "6") and rule.get("FromPort", 0) <= port <= rule.get("ToPort", 65535)


def _addresses(rules: Sequence[Mapping[str, Any]]) -> list[ipaddress.IPv4Network]:
    """Return the IPv4 addresses that the rules name, neighbors as one."""
    found = (ipaddress.IPv4Network(entry["CidrIp"]) for rule in rules for entry in rule.get("IpRanges", []))
    return list(ipaddress.collapse_addresses(found))


def _places(rules: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return whatever the rules name: addresses, groups and prefix lists."""
    kinds = (
        ("IpRanges", "CidrIp"),
        ("Ipv6Ranges", "CidrIpv6"),
        ("PrefixListIds", "PrefixListId"),
        ("UserIdGroupPairs", "GroupId"),
    )
    return {str(entry.get(name)) for rule in rules for kind, name in kinds for entry in rule.get(kind, [])}


def _ipv4(subnet: Mapping[str, Any]) -> ipaddress.IPv4Network | None:
    block = subnet.get("CidrBlock")
    return ipaddress.IPv4Network(block) if block else None


def _ipv6(subnet: Mapping[str, Any]) -> bool:
    return bool(subnet.get("Ipv6Native") or subnet.get("Ipv6CidrBlockAssociationSet"))


def _ipv4_only(subnets: Sequence[Mapping[str, Any]]) -> None:
    """Raise SkippedError for a subnet without IPv4: rules, routes and endpoints are only read for IPv4."""
    for subnet in subnets:
        if _ipv4(subnet) is None:
            raise SkippedError(
                f"{subnet.get('SubnetId')} has no IPv4 addresses, and how IPv6 gets out is not looked at"
            )


def _way_out(facts: Facts) -> str:
    network, subject = _network(facts), facts.subject
    _ipv4_only(facts.aws.subnets(network.subnets))
    vpc = _vpc(facts)
    tables, endpoints = facts.aws.route_tables(vpc), facts.aws.vpc_endpoints(vpc)
    secret = facts.secret
    needed = [*STARTING_SERVICES, *(["secretsmanager"] if secret_arn(secret) else ["ssm"] if secret else [])]
    ways: set[str] = set()
    used: list[Mapping[str, Any]] = []
    for subnet in network.subnets:
        table = _table(tables, subnet)
        routes = [route for route in table.get("Routes", []) if route.get("State") != "blackhole"]
        if not table.get("Routes"):
            raise SkippedError(f"the routes of {subnet} are not known")
        way = next(filter(None, (_to_everywhere(route, network.public_ip) for route in routes)), None)
        if way is not None:
            ways.add(way)
            continue
        found = {name: _endpoint(endpoints, table, endpoint_name(subject.region, name)) for name in needed}
        missing = [name for name, endpoint in found.items() if endpoint is None]
        elsewhere = next(filter(None, (_to_others(route) for route in routes)), None)
        if missing and elsewhere is not None:
            raise SkippedError(
                f"{subnet} has no VPC endpoint for {', '.join(missing)}, and where its route to {elsewhere} ends can't"
                " be seen from here"
            )
        if missing:
            raise WrongError(
                f"{subnet} has no way out: no NAT gateway, and no VPC endpoint for {', '.join(missing)}.",
                fix=" && ".join(_endpoint_command(subject.region, vpc, name, network, table) for name in missing),
                exit_code=ExitCode.NOT_STARTED,
            )
        if nameless := [name for name, endpoint in found.items() if endpoint and not _has_name(endpoint)]:
            raise SkippedError(
                f"the VPC endpoint for {', '.join(nameless)} has no private DNS name: whether a hosted zone of your own"
                " leads there is not known"
            )
        ways.add("VPC endpoints")
        used += [endpoint for endpoint in found.values() if endpoint is not None]
    _endpoints_let_in(facts, network, used)
    return f"by {' and '.join(sorted(ways))}"


def _endpoints_let_in(facts: Facts, network: Network, endpoints: Sequence[Mapping[str, Any]]) -> None:
    """Check that each interface endpoint admits the task over HTTPS, and that none has a policy of its own."""
    doors = {str(each["ServiceName"]): [group["GroupId"] for group in each.get("Groups", [])] for each in endpoints}
    wanted = sorted({name for ids in doors.values() for name in ids})
    groups = {group["GroupId"]: group for group in (facts.aws.security_groups(wanted) if wanted else ())}
    for service, ids in doors.items():
        if ids:
            opened = [groups[name] for name in ids]
            _let_in(facts, network, f"The VPC endpoint {service}", opened, 443, ExitCode.NOT_STARTED)
    for endpoint in endpoints:
        kind = _policy_kind(endpoint.get("PolicyDocument"))
        if kind is not None:
            raise SkippedError(
                f"the VPC endpoint {endpoint['ServiceName']} has a policy {kind}: what it lets through is not known"
            )


def _policy_kind(document: str | None) -> str | None:
    """Return words for an endpoint's policy, which may hold anything; None for the one that it has by default."""
    if not document:
        return None
    try:
        policy = parse_json(document)
    except UnreadableError as error:
        return f"that is not understood ({error})"
    found = policy.get("Statement") if isinstance(policy, dict) else None
    statements = [found] if isinstance(found, dict) else found
    if not isinstance(statements, list) or not all(isinstance(statement, dict) for statement in statements):
        return "that is not understood (it has no statements)"
    default = [
        statement.get("Effect") == "Allow"
        and statement.get("Action") == statement.get("Resource") == "*"
        and statement.get("Principal") in ("*", {"AWS": "*"})
        and "Condition" not in statement
        for statement in statements
    ]
    return None if default and all(default) else "of its own"


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


def _to_everywhere(route: Mapping[str, Any], public_ip: bool) -> str | None:
    """Return the gateway to which a route leads every address; None if it does not, or only from public ones."""
    if route.get("DestinationCidrBlock") != "0.0.0.0/0":
        return None
    if route.get("NatGatewayId"):
        return f"the NAT gateway {route['NatGatewayId']}"
    gateway = str(route.get("GatewayId", ""))
    return f"the internet gateway {gateway}" if public_ip and gateway.startswith("igw-") else None


def _to_others(route: Mapping[str, Any]) -> str | None:
    """Return the target of a route that may reach AWS in a way that can't be seen from here; None for others."""
    target = next((str(route[name]) for name in _TARGETS if route.get(name)), "another target")
    if target == "local" or (target.startswith("igw-") and "DestinationCidrBlock" in route):  # for public addresses
        return None
    if target.startswith("vpce-") and "DestinationPrefixListId" in route:  # a gateway endpoint, which is looked at
        return None
    return target


def _endpoint(
    endpoints: Sequence[Mapping[str, Any]], table: Mapping[str, Any], service: str
) -> Mapping[str, Any] | None:
    """Return the endpoint through which a subnet with this route table reaches a service; None if there is none."""
    found = [
        endpoint
        for endpoint in endpoints
        if endpoint.get("ServiceName") == service
        and endpoint.get("State", "available") == "available"
        and (
            endpoint.get("VpcEndpointType") != "Gateway"
            or table.get("RouteTableId") in endpoint.get("RouteTableIds", ())
        )
    ]
    return max(found, key=_has_name, default=None)


def _has_name(endpoint: Mapping[str, Any]) -> bool:
    """Whether the service's own name leads to an endpoint: a gateway is in the route to it."""
    return endpoint.get("VpcEndpointType") == "Gateway" or endpoint.get("PrivateDnsEnabled", True)


def _endpoint_command(region: str, vpc: str, service: str, network: Network, table: Mapping[str, Any]) -> str:
    name = endpoint_name(region, service)
    command = f"aws ec2 create-vpc-endpoint --region {region} --vpc-id {vpc} --service-name {name}"
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
