"""What moto's lists lack: AWS sends them in pages, of which some are empty, and says where the next one begins."""

from __future__ import annotations

from functools import partial
from xml.etree import ElementTree

from launcher.rehearsal.api import Call
from launcher.rehearsal.server import Answer, LocalServer

_PAGE = 2  # items: without a limit of the caller's, how many there are is AWS's to choose
_LISTS = {
    "ec2:DescribeRouteTables": "routeTableSet",
    "ec2:DescribeSecurityGroups": "securityGroupInfo",
    "ec2:DescribeSubnets": "subnetSet",
    "ec2:DescribeVpcEndpoints": "vpcEndpointSet",
}


def send_pages(server: LocalServer) -> None:
    """Have the lists that the launcher asks EC2 and SSM for come in pages, as moto sends those of CloudWatch Logs."""
    for action, name in _LISTS.items():
        server.changes[action] = partial(_page, name)
    server.handlers["ssm:DescribeParameters"] = _none_at_first


def _page(name: str, call: Call, answer: bytes) -> bytes:
    """Return a page of moto's answer, in which `name` is the list, from the call's token on."""
    root = ElementTree.fromstring(answer)  # noqa: S314 - moto's own
    items = root.find(f"{{*}}{name}")
    if items is not None:
        first = int(call.parameters.get("NextToken", 0))
        more = len(items) > first + _PAGE
        items[:] = items[first : first + _PAGE]
        if more:
            ElementTree.SubElement(root, "nextToken").text = str(first + _PAGE)
    return ElementTree.tostring(root)


def _none_at_first(call: Call) -> Answer | None:
    return None if "NextToken" in call.parameters else {"Parameters": [], "NextToken": "0"}
