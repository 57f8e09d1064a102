"""What moto's IAM lacks: policy simulation, and enforcement of the policies of the caller's role."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from launcher.rehearsal.api import Call, Refusal
from launcher.rehearsal.permissions import needed
from launcher.rehearsal.policy import allows, role_documents
from launcher.rehearsal.server import Answer, LocalServer
from launcher.rehearsal.stack import LocalStack


class LocalIam:
    """IAM's decisions for one account.

    Attributes:
        caller: the role whose policies are enforced for every call; None allows everything.
    """

    def __init__(self, server: LocalServer, stack: LocalStack) -> None:
        self.caller: str | None = None
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
        results = "".join(
            f"<member><EvalActionName>{escape(action)}</EvalActionName>"
            f"<EvalResourceName>{escape(resource)}</EvalResourceName><EvalDecision>{decision}</EvalDecision></member>"
            for action in _members(call, "ActionNames")
            for resource in _members(call, "ResourceArns") or ("*",)
            for decision in ["allowed" if allows(documents, action, resource, context) else "implicitDeny"]
        )
        name = "SimulatePrincipalPolicy"
        return {
            "xml": f'<{name}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><{name}Result>'
            f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults></{name}Result>"
            f"<ResponseMetadata><RequestId>local</RequestId></ResponseMetadata></{name}Response>"
        }


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
