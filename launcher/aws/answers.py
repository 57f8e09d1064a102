"""Validate AWS's responses against botocore's model: a response of another shape is an error."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from launcher.errors import TransientAwsError

_TYPES: dict[str, Any] = {
    "boolean": bool,
    "integer": int,
    "list": list,
    "long": int,
    "map": dict,
    "string": str,
    "structure": dict,
    "timestamp": datetime,
}


class _Structure(dict[str, Any]):
    """A structure in a response; access to a missing member raises the error for an unreadable response."""

    def __init__(self, action: str, members: dict[str, Any]) -> None:
        super().__init__(members)
        self._action = action

    def __missing__(self, name: str) -> Any:
        raise unreadable(self._action, f"it lacks {name}")


def checked(action: str, value: Any, shape: Any, name: str = "it") -> Any:
    """Return the value, with structures in it that raise an error on access to a missing member.

    Args:
        action: the call as an IAM action.
        value: a response, or a part of one, as parsed by botocore, which does not check the types of JSON values.
        shape: botocore's model of it.
        name: its name in the response.

    Raises:
        TransientAwsError: a value has another type than the model.
    """
    kind: str = shape.type_name
    if not isinstance(value, _TYPES.get(kind, object)) or (type(value) is bool and kind != "boolean"):
        raise unreadable(action, f"{name} is not of type {kind}")
    if kind == "list":
        return [checked(action, item, shape.member, f"{name}[]") for item in value]
    if kind == "structure":
        members = shape.members
        known = {each: checked(action, value[each], members[each], each) for each in value if each in members}
        told = {**value, **known}
        # ECS leaves empty what it has not. A variable's empty value goes too: whoever reads it knows that it is one.
        return _Structure(action, {k: v for k, v in told.items() if v != "" or not action.startswith("ecs:")})
    return value


def unreadable(action: str, why: str) -> TransientAwsError:
    """Return the error for a response that may not come from AWS."""
    return TransientAwsError(
        f"The answer to {action} can't be read ({why}): it may not be AWS's.",
        hint="Check the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL; then run the same command again.",
        action=action,
    )
