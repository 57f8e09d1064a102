"""How to run a task, whatever it does: the options that `ecs-migrate` and `ecs-run` share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from launcher.errors import UsageError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h)?", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST = 365 * 86_400

RESET = "Reset: all rows go"
TASK = "How the task is run"
RARE = "Rarely needed"

# Name, type and default of each; the annotation has the spelling on the command line.
OPTIONS: tuple[tuple[str, Any, Any], ...] = (
    (
        "snapshot",
        Annotated[
            bool | None,
            typer.Option(
                "--snapshot/--no-snapshot",
                envvar="NEURAKNOT_SNAPSHOT",
                rich_help_panel=TASK,
                help="An RDS snapshot first; by default before a reset or a rollback of production.",
            ),
        ],
        None,
    ),
    (
        "image",
        Annotated[
            str | None,
            typer.Option(
                envvar="NEURAKNOT_IMAGE",
                metavar="IMAGE",
                help="An image that exists: REGISTRY/NAME:TAG, or by digest.",
                rich_help_panel=TASK,
            ),
        ],
        None,
    ),
    (
        "base",
        Annotated[
            str | None,
            typer.Option(
                envvar="NEURAKNOT_BASE",
                metavar="IMAGE",
                rich_help_panel=RARE,
                help="The base image to build on, such as a mirror's; else Dockerfile.migrate's own.",
            ),
        ],
        None,
    ),
    (
        "timeout",
        Annotated[
            str | None,
            typer.Option(
                envvar="NEURAKNOT_TIMEOUT",
                metavar="DURATION",
                rich_help_panel=TASK,
                help="How long the task may take: 90s, 30m, 2h; else 30m. Then it is stopped, or let go if another run"
                " started it.",
            ),
        ],
        None,
    ),
    (
        "dry_run",
        Annotated[
            bool,
            typer.Option("--dry-run", envvar="NEURAKNOT_DRY_RUN", help="Show what would be done, and change nothing."),
        ],
        False,
    ),
    (
        "detach",
        Annotated[
            bool,
            typer.Option(
                "--detach",
                envvar="NEURAKNOT_DETACH",
                help="Return as soon as the task is started.",
                rich_help_panel=TASK,
            ),
        ],
        False,
    ),
    (
        "attach",
        Annotated[
            bool,
            typer.Option(
                "--attach",
                envvar="NEURAKNOT_ATTACH",
                help="If a task with the same command is alive, follow that one.",
                rich_help_panel=TASK,
            ),
        ],
        False,
    ),
    (
        "client_token",
        Annotated[
            str | None,
            typer.Option(
                envvar="NEURAKNOT_CLIENT_TOKEN",
                metavar="NAME",
                rich_help_panel=RARE,
                help="Names this run: a second try follows the first one's task, and repeats nothing but a plain"
                " upgrade. GitHub Actions sets one by itself.",
            ),
        ],
        None,
    ),
)


@dataclass(frozen=True)
class RunOptions:
    """How to run a task, whatever it does.

    Attributes:
        snapshot: whether to make an RDS snapshot first; if None, only before a reset of production.
        image: an image reference, instead of the content-addressed one.
        base: the base image to build on, instead of the Dockerfile's.
        timeout: seconds; None if not given.
        dry_run: plan only.
        detach: return once the task is started.
        attach: follow a task that is alive.
        client_token: names this run.
    """

    snapshot: bool | None = None
    image: str | None = None
    base: str | None = None
    timeout: float | None = None
    dry_run: bool = False
    detach: bool = False
    attach: bool = False
    client_token: str | None = None


def read(values: Mapping[str, Any], by_variable: Mapping[str, str]) -> RunOptions:
    """Return the options from the values of a command line; `by_variable` is that of `pairs.settled`.

    Raises:
        UsageError: the timeout is not a duration, or the base not an image reference.
    """
    from launcher.image.tag import require_base

    given = {each.name: values[each.name] for each in fields(RunOptions)}
    given |= {name: given[name] or None for name in ("base", "image", "client_token")}  # empty is unset
    if given["base"] is not None:
        require_base(given["base"], by_variable.get("base", "--base"))
    timeout = duration(given["timeout"], by_variable.get("timeout", "--timeout"))
    return RunOptions(**{**given, "timeout": timeout})


def duration(text: str | None, source: str) -> float | None:
    """Parse `90`, `90s`, `30m` or `2h` from an option or variable into seconds; None if it is not given.

    Raises:
        UsageError: it is not a valid duration, zero, or more than a year.
    """
    if text is None:
        return None
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _UNITS[(found[2] or "s").lower()] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        what = "longer than a year" if seconds else "not a valid duration"
        raise UsageError(f"{source} {text!r} is {what}.", hint="Write it as 90s, 30m or 2h: --timeout 30m")
    return seconds
