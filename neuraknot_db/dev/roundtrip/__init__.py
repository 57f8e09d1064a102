"""Try each revision up, back and up again with rows in every table, on servers of this machine's own.

trial   one revision on one server: its upgrade, its downgrade, and what each does to schema and rows
rows    every row of a database as text, and which of them a way there and back has lost or changed
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from neuraknot_db.dev.own_servers import OwnServer
from neuraknot_db.dev.roundtrip.trial import Course
from neuraknot_db.revisions import files

log = logging.getLogger(__name__)


def try_out(
    config: Config, script: ScriptDirectory, selected: Sequence[Script], servers: Sequence[OwnServer]
) -> tuple[list[str], list[str]]:
    """Try revisions on scratch databases of each server; tell what was tried as it goes.

    Args:
        config: Alembic's.
        script: where the revisions are.
        selected: those to try, oldest first.
        servers: where.

    Returns:
        What is wrong, a line each, by revision; and the revisions that some server could not try.

    Raises:
        UsageError: the sample rows can't be inserted, or there is no server.
        UnreachableError: a server does not start.
    """
    found: dict[str, dict[str, list[int]]] = {each.revision: defaultdict(list) for each in selected}
    untried = set()
    for server in servers:
        with server.running() as where, contextlib.closing(Course(config, script, where)) as course:
            for revision in selected:
                with contextlib.redirect_stdout(sys.stderr):  # what a revision prints is no finding
                    trial = course.run(revision)
                tell = log.warning if trial.untried else log.info
                tell("%s on PostgreSQL %s: %s", revision.revision, server.version, trial.told)
                for note in trial.notes:
                    log.info("  note: %s", note)
                for finding in trial.findings.values():
                    found[revision.revision][finding].append(server.version)
                untried |= {revision.revision} if trial.untried else set()
    lines = [
        f"{files.here(each.path)}: {finding}" + f" (on PostgreSQL {on[0]} only)" * (len(on) < len(servers))
        for each in selected
        for finding, on in found[each.revision].items()
    ]
    return lines, sorted(untried)
