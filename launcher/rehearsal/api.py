"""The values of the local AWS: a call, a refusal, and the form of a refusal in each protocol."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment
from xml.sax.saxutils import escape

JSON_TYPE = "application/x-amz-json-1.1"

_CREDENTIAL = re.compile(r"Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")


@dataclass(frozen=True)
class Call:
    """One request to the AWS API.

    Attributes:
        service: the signing name, as in IAM actions: `ecs`, `logs`.
        operation: `RunTask`.
        parameters: the request's members; flat for the query protocols.
        region: the region that the request was signed for.
        access_key: the ID of the key that signed it.
        at: seconds since the epoch, on the local AWS's clock.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str
    access_key: str
    at: float

    @property
    def action(self) -> str:
        """The call as an IAM action: `ecs:RunTask`."""
        return f"{self.service}:{self.operation}"


class Refusal(Exception):  # noqa: N818 - the API's own answer, and no defect of this program
    """The API's response to a call that it does not execute.

    Attributes:
        code: the error code in the JSON protocols.
        message: AWS's error message.
        status: the HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


# The older protocols have their own codes for the same errors.
_OTHER_CODES = {
    "AccessDeniedException": {
        "query": "AccessDenied",
        "ec2": "UnauthorizedOperation",
        "rest": "AccessDenied",
    },
    "ExpiredTokenException": {"query": "ExpiredToken", "ec2": "RequestExpired", "rest": "ExpiredToken"},
    "UnrecognizedClientException": {
        "query": "InvalidClientTokenId",
        "ec2": "AuthFailure",
        "rest": "InvalidAccessKeyId",
    },
    "ThrottlingException": {"query": "Throttling", "ec2": "RequestLimitExceeded", "rest": "SlowDown"},
}
_QUERY_SERVICES = frozenset({"iam", "rds", "sts"})


def _protocol(service: str) -> str:
    if service == "ec2":
        return "ec2"
    if service == "s3":
        return "rest"
    return "query" if service in _QUERY_SERVICES else "json"


def read_call(environ: WSGIEnvironment, now: float) -> Call | None:
    """Parse a request; None if it is not signed for a service. The body stays readable."""
    signed = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    if signed is None:
        return None
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    service = signed["service"]
    target = environ.get("HTTP_X_AMZ_TARGET")
    parameters: Mapping[str, Any]
    if target is not None:
        operation = target.rpartition(".")[2]
        parameters = json.loads(body or b"{}")
    elif service == "s3":
        bucket, _, key = environ.get("PATH_INFO", "").lstrip("/").partition("/")
        method = environ["REQUEST_METHOD"].capitalize()
        operation = f"{method}{'Object' if key else 'Bucket'}"
        parameters = {"Bucket": bucket, "Key": key}
    else:
        parameters = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        operation = str(parameters.get("Action", ""))
    return Call(service, operation, parameters, signed["region"], signed["key"], now)


def refusal_body(service: str, refusal: Refusal) -> tuple[str, bytes]:
    """Return the content type and body of a refusal in a service's protocol."""
    protocol = _protocol(service)
    if protocol == "json":
        body = json.dumps({"__type": refusal.code, "message": refusal.message})
        return JSON_TYPE, body.encode()
    code = _OTHER_CODES.get(refusal.code, {}).get(protocol, refusal.code)
    error = f"<Error><Code>{escape(code)}</Code><Message>{escape(refusal.message)}</Message></Error>"
    body = {
        "query": f"<ErrorResponse>{error}<RequestId>local</RequestId></ErrorResponse>",
        "ec2": f"<Response><Errors>{error}</Errors><RequestID>local</RequestID></Response>",
        "rest": error,
    }[protocol]
    return "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode()
