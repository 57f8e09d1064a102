"""Try each revision up, back and up again with rows in every table, on servers of this machine's own.

trial   one revision on one server: its upgrade, its downgrade and what each does to schema and rows
rows    every row of a database as text, and which of them a way there and back has lost or changed

`try_out` takes the revisions to try and gives what is wrong with each.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from neuraknot_db.dev.own_servers import OwnServer
from neuraknot_db.dev.roundtrip.trial import Course
from neuraknot_db.revisions import files

log = logging.getLogger(__name__)


class Finding(NamedTuple):
    """Something wrong with a revision.

    Attributes:
        path: its file, as a person would type it here.
        message: what is wrong, as a clause.
        servers: the major versions on which it was seen; empty for all that were tried.
    """

    path: str
    message: str
    servers: Sequence[int]

    def __str__(self) -> str:
        seen = f" (PostgreSQL {' and '.join(map(str, self.servers))} only)" if self.servers else ""
        return f"{self.path}: {self.message}{seen}"


def try_out(
    config: Config, script: ScriptDirectory, selected: Sequence[Script], servers: Iterable[OwnServer]
) -> list[Finding]:
    """Try revisions on each server, on scratch databases; tell what was tried as it goes.

    Args:
        config: Alembic's.
        script: where the revisions are.
        selected: those to try, oldest first.
        servers: where.

    Returns:
        What is wrong, by revision.

    Raises:
        UsageError: the sample rows can't be inserted, or there is no server.
        UnreachableError: a server does not start.
    """
    seen: dict[tuple[str, str], list[int]] = {}
    tried: dict[str, list[int]] = {}
    for server in servers:
        with server.running() as where, contextlib.closing(Course(config, script, where)) as course:
            for revision in selected:
                trial = course.run(revision)
                place = f"{revision.revision} on PostgreSQL {course.version}"
                log.info("%s: %s", place, trial.told)
                for note in trial.notes:
                    log.info("  note: %s", note)
                path = str(files.here(revision.path))
                tried.setdefault(path, []).append(course.version)
                for message in trial.findings.values():
                    seen.setdefault((path, message), []).append(course.version)
    order = [str(files.here(revision.path)) for revision in selected]
    return [
        Finding(path, message, () if on == tried[path] else on)
        for (path, message), on in sorted(seen.items(), key=lambda each: order.index(each[0][0]))
    ]
