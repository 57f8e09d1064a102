"""What the checks of `doctor` found, and its lines on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from launcher.machine.wrapping import wrapped


class Status(StrEnum):
    """The result of a check."""

    OK = "OK"
    NG = "NG"
    NOTE = "NOTE"
    SKIP = "SKIP"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        group, name: its place in the tree.
        status: OK; NG if a task would fail because of it; NOTE if it should be put right all the same; SKIP if it can't
            be known or does not apply.
        text: what was seen, in one sentence.
        fix: the command that fixes it, perhaps with a comment; None unless the status is NG or NOTE.
        exit_code: the exit code of `ecs-migrate` for this problem; 0 unless the status is NG.
    """

    group: str
    name: str
    status: Status
    text: str
    fix: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Report:
    """The findings of all checks, in the order of the tree."""

    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 if nothing is NG; else the exit code of the first NG."""
        return next((finding.exit_code for finding in self.findings if finding.status is Status.NG), 0)

    def count(self, status: Status) -> int:
        """Return the number of findings with this status."""
        return sum(finding.status is status for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the report for `--json`."""
        return {
            "exit_code": self.exit_code,
            "ok": self.count(Status.OK),
            "ng": self.count(Status.NG),
            "note": self.count(Status.NOTE),
            "skip": self.count(Status.SKIP),
            "checks": [
                {
                    "group": finding.group,
                    "name": finding.name,
                    "status": finding.status.value,
                    "text": finding.text,
                    "fix": finding.fix,
                }
                for finding in self.findings
            ],
        }


def lines(report: Report, columns: int) -> Iterator[tuple[str, str]]:
    """Yield the tree's lines, each with a style: a status's name, `group`, `fix` or `sum`.

    Sentences are wrapped at `columns`; commands never are, so that they can be copied.
    """
    width = max((len(finding.name) for finding in report.findings), default=0)
    group = None
    for finding in report.findings:
        if finding.group != group:
            group = finding.group
            yield "group", group
        head = f"  {finding.status.value:<4}  {finding.name:<{width}}  "
        text = wrapped(head + finding.text, max(columns, len(head) + 20), " " * len(head))
        yield from ((finding.status.value, line) for line in text)
        if finding.fix is not None:
            yield "fix", f"        {finding.fix}"
    yield "sum", ", ".join(f"{report.count(status)} {status}" for status in Status if report.count(status))
