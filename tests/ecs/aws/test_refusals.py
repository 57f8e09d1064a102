"""What AWS refuses is told once, in our words, with what only AWS's own add to them."""

from __future__ import annotations

import pytest

from launcher.aws.refusals import refusal
from launcher.errors import AccessDeniedError, AwsError

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


def test_a_denial_in_other_words_is_given_in_full() -> None:
    error = refused("UnauthorizedOperation", "You are not authorized to perform this operation.")
    assert error.message == "The caller may not do ecs:RunTask."
    assert error.details == ("AWS says: You are not authorized to perform this operation.",)


def test_a_refusal_that_nobody_foresaw_has_a_hint_too() -> None:
    assert refused("ClientException", "Something new.").hint == "Look for the cause with: launcher doctor"
