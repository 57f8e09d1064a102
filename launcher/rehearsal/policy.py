"""IAM's decision: does a set of policies allow an action on a resource?"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from moto.iam.models import IAMBackend, iam_backends

Document = Mapping[str, Any]
"""An IAM policy: `Version` and `Statement`."""


def allows(documents: Iterable[Document], action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether the policies together allow the action: see `decide`."""
    return decide(documents, action, resource, context) == "allowed"


def decide(documents: Iterable[Document], action: str, resource: str, context: Mapping[str, str] | None = None) -> str:
    """Return IAM's decision: `allowed` if a statement allows it, and none denies it; `explicitDeny` or `implicitDeny`.

    Args:
        documents: identity policies.
        action: `ecs:RunTask`.
        resource: the resource's ARN, `*` for actions without one.
        context: the known condition keys, such as `iam:PassedToService`.
    """
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _list(document["Statement"])
        if _concerns(statement, action, resource, context or {})
    }
    return "explicitDeny" if "Deny" in effects else "allowed" if effects else "implicitDeny"


def missing_keys(
    documents: Iterable[Document], action: str, resource: str, context: Mapping[str, str] | None = None
) -> set[str]:
    """Return the condition keys that the policies ask about this action and resource, and `context` lacks."""
    return {
        key
        for document in documents
        for statement in _list(document["Statement"])
        if _concerns({**statement, "Condition": {}}, action, resource, {})
        for keys in statement.get("Condition", {}).values()
        for key in keys
        if key not in (context or {})
    }


def role_documents(account: str, role: str) -> list[Document]:
    """Return the inline policies of a role in the local AWS; it has no other policies.

    Raises:
        KeyError: there is no such role.
    """
    backends: Iterable[IAMBackend] = iam_backends[account].values()  # one for each partition; only one has roles
    roles = (entry for backend in backends for entry in backend.roles.values())
    found = next((entry for entry in roles if role in (entry.name, entry.arn)), None)
    if found is None:
        raise KeyError(role)
    return [json.loads(text) for text in found.policies.values()]


def _concerns(statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]) -> bool:
    if "NotAction" in statement or "NotResource" in statement:
        raise NotImplementedError("NotAction and NotResource are not known to the local IAM")
    return (
        any(_like(pattern.lower(), action.lower()) for pattern in _list(statement["Action"]))
        and any(_like(pattern, resource) for pattern in _list(statement["Resource"]))
        and _holds(statement.get("Condition", {}), context)
    )


def _holds(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            value = context.get(key)
            if operator in ("StringEquals", "ArnEquals"):
                matches = value in _list(wanted)
            elif operator in ("StringLike", "ArnLike"):
                matches = value is not None and any(_like(pattern, value) for pattern in _list(wanted))
            elif operator == "Bool":
                matches = value is not None and value.lower() in (str(each).lower() for each in _list(wanted))
            else:
                raise NotImplementedError(f"the condition {operator} is not known to the local IAM")
            if not matches:
                return False
    return True


def _like(pattern: str, value: str) -> bool:
    # IAM has only * and ? as wildcards; a bracket is literal.
    return re.fullmatch(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
