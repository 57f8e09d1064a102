"""The awslogs driver: puts a container's lines into CloudWatch Logs through the API; also reads them back."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from moto.logs.models import LogsBackend

from launcher.rehearsal.api import JSON_TYPE, Call, Refusal
from launcher.rehearsal.program import Lines

_TARGET = "Logs_20140328"
_PAGE = 10_000


class LogDriver:
    """Writes one account's container output, like ECS's agent with the execution role.

    Attributes:
        access_key: the key that it signs with; the local AWS does not record these calls as the launcher's.
    """

    access_key = "AGENTAGENTAGENTAGENT"

    def __init__(self, url: str, region: str) -> None:
        self._address = urlsplit(url).netloc
        self._credential = f"{self.access_key}/{time.strftime('%Y%m%d')}/{region}/logs/aws4_request"

    def create_stream(self, group: str, stream: str) -> None:
        """Create the log stream.

        Raises:
            Refusal: CloudWatch Logs refuses it, for example because the group does not exist.
        """
        self._call("CreateLogStream", {"logGroupName": group, "logStreamName": stream})

    def put(self, group: str, stream: str, lines: Lines) -> None:
        """Write lines; an empty one becomes a blank, as CloudWatch Logs does not accept empty messages."""
        events = [{"timestamp": int(at * 1000), "message": text or " "} for at, text in lines]
        self._call("PutLogEvents", {"logGroupName": group, "logStreamName": stream, "logEvents": events})

    def _call(self, operation: str, parameters: Mapping[str, Any]) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            headers = {
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self._credential}, SignedHeaders=host",
                "Content-Type": JSON_TYPE,
                "X-Amz-Target": f"{_TARGET}.{operation}",
            }
            connection.request("POST", "/", json.dumps(parameters), headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != http.client.OK:
            error = json.loads(body)
            raise Refusal(error["__type"].rpartition("#")[2], error["message"], response.status)


def get_log_events(call: Call, logs: LogsBackend) -> dict[str, Any]:
    """Answer GetLogEvents, with tokens that never repeat or lose an event.

    A token is a position in the order of arrival, so that a late line with an older timestamp is also read; moto's
    tokens are positions in the order of timestamps.

    Raises:
        Refusal: the group or the stream does not exist, or the token is not valid.
    """
    parameters = call.parameters
    group = logs.groups.get(parameters["logGroupName"])
    if group is None:
        raise Refusal("ResourceNotFoundException", "The specified log group does not exist.")
    stream = group.streams.get(parameters["logStreamName"])
    if stream is None:
        raise Refusal("ResourceNotFoundException", "The specified log stream does not exist.")
    events = list(stream.events)
    limit = int(parameters.get("limit", _PAGE))
    token = parameters.get("nextToken")
    if token is None:
        first = 0 if parameters.get("startFromHead", False) else max(0, len(events) - limit)
        last = min(len(events), first + limit)
    else:
        direction, _, place = str(token).partition("/")
        if direction not in ("f", "b") or not place.isdigit():
            raise Refusal("InvalidParameterException", "The specified nextToken is invalid.")
        first = int(place) if direction == "f" else max(0, int(place) - limit)
        last = min(len(events), first + limit) if direction == "f" else int(place)
    page = sorted(events[first:last], key=lambda event: event.timestamp)
    return {
        "events": [event.to_response_dict() for event in page],
        "nextForwardToken": f"f/{last:056d}",
        "nextBackwardToken": f"b/{first:056d}",
    }
