"""What AWS refuses is told once, in our words, with what only AWS's own add to them."""

from __future__ import annotations

import re
from collections.abc import Callable

import botocore.session
import pytest

from launcher.aws.client import Aws
from launcher.aws.refusals import _NOT_FOUND, advice, refusal
from launcher.errors import AccessDeniedError, AwsError, CredentialsError, NotFoundError, TransientAwsError
from launcher.models import Place
from launcher.rehearsal.cloud import LocalAws
from launcher.task.causes import cause

WHO = "arn:aws:sts::123456789012:assumed-role/ci/session"
WHAT = "arn:aws:ecs:ap-northeast-1:123456789012:task-definition/neuraKnot-prod-migrate:1"
DENIED = f"User: {WHO} is not authorized to perform: ecs:RunTask on resource: {WHAT}"


def refused(code: str, message: str) -> AwsError:
    return refusal("ecs:RunTask", code, message, 400, sign_in="Sign in.")


@pytest.mark.parametrize(
    ("message", "details"),
    [
        (DENIED, ()),
        (
            f"{DENIED} because no identity-based policy allows the ecs:RunTask action",
            ("AWS says: no identity-based policy allows the ecs:RunTask action",),
        ),
        (
            f"{DENIED} with an explicit deny in a service control policy",
            ("AWS says: with an explicit deny in a service control policy",),
        ),
    ],
)
def test_a_denial_names_each_arn_once(message: str, details: tuple[str, ...]) -> None:
    error = refused("AccessDeniedException", message)
    assert isinstance(error, AccessDeniedError)
    assert error.message == f"{WHO} may not do ecs:RunTask on {WHAT}."
    assert error.details == details
    assert error.hint is not None


IDENTITY = "because no identity-based policy allows the ecs:RunTask action"


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        (IDENTITY, "`launcher iam-policy`"),
        ("", "`launcher iam-policy`"),
        ("with an explicit deny in a service control policy", "A service control policy of the organization"),
        ("because no service control policy allows the ecs:RunTask action", "A service control policy"),
        ("with an explicit deny in a resource control policy", "A resource control policy of the organization"),
        ("because no permissions boundary allows the ecs:RunTask action", "A permissions boundary"),
        ("with an explicit deny in a permissions boundary", "A permissions boundary"),
        ("because no session policy allows the ecs:RunTask action", "The policy of this session"),
        ("because no VPC endpoint policy allows the ecs:RunTask action", "The policy of a VPC endpoint"),
        ("with an explicit deny in a resource-based policy", "The resource's own policy"),
        ("with an explicit deny in an identity-based policy: arn:aws:iam::1:policy/x", "look for its Deny"),
        ("with an explicit deny", "look for its Deny"),
        ("with an explicit deny in a policy of another kind", "look for its Deny"),
        ("because no role trust policy allows the sts:AssumeRole action", "The resource's own policy"),
        ("because it is disabled by a Declarative Policy", "A declarative policy of the organization"),
        ("due to an organizational policy in effect", "A policy of the organization"),
    ],
)
def test_only_a_missing_permission_is_sent_to_the_policy(why: str, hint: str) -> None:
    """Also where Docker, Terraform or ECS quote AWS."""
    message = f"{DENIED} {why}".strip()
    assert hint in (refused("AccessDeniedException", message).hint or "")
    helps = hint == "`launcher iam-policy`"
    assert (advice(message) is None) == helps
    place = Place("prod", "ap-northeast-1", "c", "neuraKnot-prod-migrate", "migrate", "r", "/ecs/g")
    assert ("Allow ecs:RunTask" if helps else hint) in cause(message, place).hint


def test_a_tag_policy_is_named() -> None:
    error = refused("TagPolicyException", "The tag policy does not allow the specified value for the tag key: Owner")
    assert error.hint is not None
    assert "A tag policy of the organization" in error.hint


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        (
            "This functionality has been disabled by a Declarative Policy. Custom Message: ours",
            "A declarative policy of",
        ),
        ("This action is denied due to an organizational policy in effect", "A policy of the organization denies it"),
    ],
)
@pytest.mark.parametrize("code", ["UnauthorizedOperation", "OperationNotPermitted"])
def test_what_the_organization_declares_is_sent_to_its_administrator(code: str, message: str, hint: str) -> None:
    assert (refused(code, message).hint or "").startswith(hint)


# As botocore's models, the lists of common errors and S3's error responses have them, and others of the same form.
CODES: dict[type[AwsError], tuple[str, ...]] = {
    AccessDeniedError: (
        "AccessDenied",
        "AccessDeniedException",
        "AccessDeniedFault",
        "Client.UnauthorizedOperation",
        "ForbiddenException",
        "KMS.AccessDeniedException",
        "KMSAccessDeniedException",
        "KMSAccessDeniedFault",
        "KmsAccessDenied",
        "NotAuthorized",
        "NotAuthorizedException",
        "S3AccessDeniedFault",
        "UnauthorizedAccess",
        "UnauthorizedException",
        "UnauthorizedOperation",
    ),
    CredentialsError: (
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IDPRejectedClaim",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidSecurity",
        "InvalidToken",
        "InvalidTokenException",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "UnrecognizedClientException",
    ),
    TransientAwsError: ("KMS.ThrottlingException", "RequestLimitExceeded", "Throttling", "TooManyRequestsException"),
    AwsError: ("InvalidNextToken", "InvalidGrantTokenException", "KMSInvalidStateException", "OptInRequired"),
}


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, codes in CODES.items() for code in codes])
def test_a_code_is_taken_in_each_of_its_forms(kind: type[AwsError], code: str) -> None:
    assert type(refused(code, "no")) is kind


def test_a_wrong_mfa_code_is_no_missing_permission() -> None:
    words = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    error = refused("AccessDenied", words)
    assert error.message == "AWS does not accept this MFA code."
    assert error.exit_code == 21


@pytest.mark.parametrize(("action", "codes"), _NOT_FOUND.items())
def test_only_the_codes_that_say_so_mean_that_there_is_none(action: str, codes: set[str]) -> None:
    service, _, operation = action.partition(":")
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    assert codes <= {shape.metadata.get("error", {}).get("code") or shape.name for shape in model.error_shapes}
    for code in (*codes, "NotFoundException", "NoSuchThing", "ResourcePolicyNotFoundException"):
        error = refusal(action, code, "Not found.", 404, sign_in="Sign in.")
        assert isinstance(error, NotFoundError) == (code in codes)


def test_a_denial_in_other_words_is_given_in_full() -> None:
    error = refused("UnauthorizedOperation", "You are not authorized to perform this operation.")
    assert error.message == "The caller may not do ecs:RunTask."
    assert error.details == ("AWS says: You are not authorized to perform this operation.",)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("SignatureDoesNotMatch", "Signature expired: 20261127T080000Z is now earlier than 20261127T081500Z"),
        (
            "InvalidSignatureException",
            "Signature not yet current: 20261127T090000Z is still later than 20261127T082500Z",
        ),
        ("AuthFailure", "Signature expired: 20261127T080000Z is now earlier than 20261127T081500Z"),
        ("RequestExpired", "Request has expired."),
        ("RequestInTheFuture", ""),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
    ],
)
def test_a_wrong_clock_is_no_fault_of_the_credentials(code: str, message: str) -> None:
    error = refused(code, message)
    assert (
        error.message == f"AWS does not accept the time of this call: {message or code + '.'}".removesuffix(".") + "."
    )
    assert "timedatectl" in (error.hint or "")
    assert ("credentials have expired" in (error.hint or "")) == (
        code == "RequestExpired"
    )  # EC2 says it of credentials too
    assert error.exit_code == 21


def test_the_signature_of_a_wrong_secret_is_no_matter_of_the_clock() -> None:
    words = "The request signature we calculated does not match the signature you provided."
    assert refused("SignatureDoesNotMatch", words).hint == "Sign in."


@pytest.mark.parametrize(
    ("action", "code", "helps"),
    [
        ("ecs:RunTask", "ClientException", True),
        ("ecs:RegisterTaskDefinition", "ClientException", True),
        ("ecs:RunTask", "InvalidParameterException", True),
        ("ecs:RunTask", "PlatformUnknownException", False),
        ("ecs:DescribeTasks", "InvalidParameterException", False),
        ("rds:CreateDBSnapshot", "SnapshotQuotaExceeded", False),
        ("s3:GetObject", "NoSuchBucket", False),
        ("ec2:DescribeSubnets", "InvalidSubnetID.NotFound", False),
    ],
)
def test_doctor_is_named_only_where_it_looks_at_the_cause(action: str, code: str, helps: bool) -> None:
    hint = refusal(action, code, "Something new.", 400, sign_in="Sign in.").hint
    assert hint == ("Look for the cause with: launcher doctor" if helps else None)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("BlockedException", "Your account is currently blocked."),
        ("AccessDeniedException", "Your account has been suspended"),
    ],
)
def test_a_blocked_account_is_sent_to_aws(code: str, message: str) -> None:
    assert "AWS Support" in (refused(code, message).hint or "")


@pytest.mark.parametrize("message", ["Rate exceeded", "Rate exceeded."])
def test_what_aws_says_ends_as_a_sentence(message: str) -> None:
    for code in ("ThrottlingException", "InvalidClientTokenId", "ClientException"):
        assert refused(code, message).message.endswith(" Rate exceeded.")


def test_a_role_that_may_not_be_assumed_needs_another_policy_than_the_launcher_s() -> None:
    assert "trust policy" in str(refused("AccessDenied", DENIED.replace("ecs:RunTask", "sts:AssumeRole")).hint)


ASKED: dict[str, tuple[str, Callable[[Aws], object]]] = {
    "DescribeClusters": ("clusters", lambda aws: aws.cluster("c")),
    "DescribeServices": ("services", lambda aws: aws.service("c", "s")),
    "DescribeTasks": ("tasks", lambda aws: aws.tasks("c", ["t"])),
}


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        ({"reason": "MISSING"}, None, ""),
        ({"reason": "SHARD_LOST", "detail": "Ask again."}, AwsError, "AWS refused ecs:{}: SHARD_LOST Ask again."),
        ({"reason": "AccessDeniedException", "detail": DENIED}, AccessDeniedError, f"{WHO} may not do ecs:RunTask"),
        ({"reason": "ThrottlingException"}, TransientAwsError, "AWS can't serve ecs:{} now: ThrottlingException"),
        ({}, AwsError, "AWS refused ecs:{}: it gives no reason"),
    ],
)
def test_missing_is_the_one_failure_that_means_that_there_is_none(
    cloud: LocalAws, aws: Aws, operation: str, failure: dict[str, str], kind: type[AwsError] | None, words: str
) -> None:
    name, ask = ASKED[operation]
    cloud.server.handlers[f"ecs:{operation}"] = lambda _: {name: [], "failures": [failure]}
    if kind is None:
        assert not ask(aws)
        return
    with pytest.raises(kind, match=re.escape(words.format(operation))) as refused:
        ask(aws)
    assert type(refused.value) is kind


@pytest.mark.parametrize("operation", ["DescribeClusters", "DescribeServices"])
def test_an_answer_without_anything_does_not_mean_that_there_is_none(cloud: LocalAws, aws: Aws, operation: str) -> None:
    name, ask = ASKED[operation]
    cloud.server.handlers[f"ecs:{operation}"] = lambda _: {name: [], "failures": []}
    with pytest.raises(TransientAwsError, match="neither"):
        ask(aws)
