"""A revision id that does not follow its parent's."""

from __future__ import annotations

from collections.abc import Iterator

from neuraknot_db.dev.lint.finding import Finding, Subject

CODE = "id-out-of-sequence"
HELP = "Ids are numbers, each one more than the id in down_revision: neuraknot-db revision gives the next one."


def check(subject: Subject) -> Iterator[Finding]:
    """Find an id that is not the next number, and a file that is not named after its id."""
    own, parent = subject.revision.revision, subject.revision.down_revision
    if not (parent is None or isinstance(parent, str)):
        message = f"Revision {own} has {len(parent)} parents."
        yield subject.finding(
            subject.line_of("down_revision"), CODE, message, "Revisions follow each other in one line."
        )
        return
    number = int(parent) + 1 if parent and parent.isdigit() else 1
    if own != f"{number:03d}":
        message = f"Revision {own} follows {parent or 'nothing'}: its id should be {number:03d}."
        yield subject.finding(subject.line_of("revision"), CODE, message, HELP)
    if not subject.path.name.startswith(f"{own}_"):
        message = f"The file of revision {own} is not named {own}_...: files would not stand in their order."
        yield subject.finding(1, CODE, message, HELP)
