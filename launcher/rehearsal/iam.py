"""What moto's IAM lacks: policy simulation, and enforcement of the policies of the caller's role."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.permissions import needed
from launcher.rehearsal.policy import Document, allows, decide, missing_keys, role_documents
from launcher.rehearsal.server import Answer, LocalServer
from launcher.rehearsal.stack import LocalStack

_PAGE = 3  # results in one answer: IAM may return fewer than asked for, and says so


class LocalIam:
    """IAM's decisions for one account.

    Attributes:
        caller: the role whose policies are enforced for every call; None allows everything.
        needed: the actions that the caller's calls have needed.
        deniers: by action, what denies it in a simulation: `Organizations` or `PermissionsBoundary`.
    """

    def __init__(self, server: LocalServer, stack: LocalStack) -> None:
        self.caller: str | None = None
        self.needed: set[str] = set()
        self.deniers: dict[str, str] = {}
        self._stack = stack
        server.handlers["iam:SimulatePrincipalPolicy"] = self.simulate
        server.faults.append(self.enforce)

    def enforce(self, call: Call) -> None:
        """Refuse what the caller's role does not allow.

        Raises:
            Refusal: no policy allows an action on its resource.
        """
        if self.caller is None or call.action == "sts:GetCallerIdentity":  # allowed to every caller
            return
        documents = role_documents(self._stack.account, self.caller)
        for action, resource, context in needed(self._stack, call):
            self.needed.add(action)
            if not allows(documents, action, resource, context):
                raise denied(self._stack, self.caller, action, resource)

    def simulate(self, call: Call) -> Answer:
        """Answer SimulatePrincipalPolicy."""
        role = str(call.parameters["PolicySourceArn"])
        try:
            documents = role_documents(self._stack.account, role)
        except KeyError as error:
            raise Refusal("NoSuchEntity", f"No such Entity {role}", 404) from error
        context = dict(zip(_members(call, "ContextEntries", ".ContextKeyName"), _values(call), strict=True))
        actions, resources = _members(call, "ActionNames"), _members(call, "ResourceArns") or ("*",)
        first = int(call.parameters.get("Marker", 0))
        last = first + min(int(call.parameters.get("MaxItems", _PAGE)), _PAGE)
        results = "".join(self._result(documents, action, resources, context) for action in actions[first:last])
        more = f"<Marker>{last}</Marker>" if last < len(actions) else ""
        name = "SimulatePrincipalPolicy"
        return {
            "xml": f'<{name}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><{name}Result>'
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
            f"<EvaluationResults>{results}</EvaluationResults></{name}Result>"
            f"<ResponseMetadata><RequestId>local</RequestId></ResponseMetadata></{name}Response>"
        }

    def _result(
        self, documents: Sequence[Document], action: str, resources: Sequence[str], context: Mapping[str, str]
    ) -> str:
        """Return the result for an action: its sum, and a part for each resource that is named."""
        denier = self.deniers.get(action)
        decisions = {
            resource: "explicitDeny" if denier else decide(documents, action, resource, context)
            for resource in resources
        }
        whole = min(decisions.values(), key=("explicitDeny", "implicitDeny", "allowed").index)
        missing = {resource: _missing(missing_keys(documents, action, resource, context)) for resource in resources}
        parts = "".join(
            f"<member><EvalResourceName>{escape(resource)}</EvalResourceName>"
            f"<EvalResourceDecision>{decision}</EvalResourceDecision>{missing[resource]}</member>"
            for resource, decision in decisions.items()
            if resource != "*"
        )
        detail = f"<{denier}DecisionDetail><AllowedBy{denier}>false</AllowedBy{denier}></{denier}DecisionDetail>"
        return (
            f"<member><EvalActionName>{escape(action)}</EvalActionName>"
            f"<EvalResourceName>{escape(resources[0])}</EvalResourceName><EvalDecision>{whole}</EvalDecision>"
            f"{detail if denier else ''}"
            f"{missing.get('*', '')}<ResourceSpecificResults>{parts}</ResourceSpecificResults></member>"
        )


def _missing(keys: Iterable[str]) -> str:
    members = "".join(f"<member>{escape(key)}</member>" for key in sorted(keys))
    return f"<MissingContextValues>{members}</MissingContextValues>"


def denied(stack: LocalStack, role: str, action: str, resource: str) -> Refusal:
    """Return the refusal with principal, action and resource, in AWS's wording."""
    on = "" if resource == "*" else f" on resource: {resource}"
    return Refusal(
        "AccessDeniedException",
        f"User: {stack.arn('sts', f'assumed-role/{role}/rehearsal')} is not authorized to perform: "
        f"{action}{on} because no identity-based policy allows the {action} action",
        status=400,
    )


def _members(call: Call, name: str, part: str = "") -> tuple[str, ...]:
    def values() -> Iterator[str]:
        number = 1
        while (key := f"{name}.member.{number}{part}") in call.parameters:
            yield str(call.parameters[key])
            number += 1

    return tuple(values())


def _values(call: Call) -> tuple[str, ...]:
    return _members(call, "ContextEntries", ".ContextKeyValues.member.1")
