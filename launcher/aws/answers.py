"""AWS's answers, held against botocore's own description of them: whatever is of another shape is no answer."""

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
    """What an answer describes; whoever needs a member that it lacks is told as of any answer that can't be read."""

    def __init__(self, action: str, members: dict[str, Any]) -> None:
        super().__init__(members)
        self._action = action

    def __missing__(self, name: str) -> Any:
        raise unreadable(self._action, f"it lacks {name}")


def checked(action: str, value: Any, shape: Any, name: str = "it") -> Any:
    """The value, with each structure in it such that it misses no member silently.

    Args:
        action: the call, as IAM names it.
        value: an answer, or a part of one, as botocore has parsed it: JSON's values without a look at their types.
        shape: botocore's description of it.
        name: what the answer calls it.

    Raises:
        TransientAwsError: a value in it is of another type.
    """
    kind: str = shape.type_name
    if not isinstance(value, _TYPES.get(kind, object)) or (type(value) is bool and kind != "boolean"):
        raise unreadable(action, f"{name} is not of type {kind}")
    if kind == "list":
        return [checked(action, item, shape.member, f"{name}[]") for item in value]
    if kind == "structure":
        members = shape.members
        known = {each: checked(action, value[each], members[each], each) for each in value if each in members}
        return _Structure(action, {**value, **known})
    return value


def unreadable(action: str, why: str) -> TransientAwsError:
    """The error for an answer that is none of AWS's."""
    return TransientAwsError(
        f"The answer to {action} can't be read ({why}): it may not be AWS's.",
        hint="Check the proxy (HTTPS_PROXY) and AWS_ENDPOINT_URL; then run the same command again.",
        action=action,
    )
