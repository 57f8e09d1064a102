"""The options that a revision declares in module variables, checked before anything runs.

losses = {"values of users.avatar_url": "SELECT count(*) FROM ..."}   what its downgrade loses
expects = {"every user has a name": "SELECT id FROM ..."}   what must hold before its upgrade: a query without a row
ensures = {"every user has a name": "SELECT id FROM ..."}   what must hold after it
lock_timeout = "5s"          how long each of its statements waits for a lock
statement_timeout = "1h"     how long each may take
idle_in_transaction_session_timeout = "1h"   how long its Python may take between two of them
batch_duration = "500ms"     how long a batch of its backfill should take
transactional = False        it is one statement that can't be in a transaction
backfill = Backfill(...)     it changes rows in batches, see `backfill`, and has no upgrade()
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from alembic.runtime.migration import RevisionStep, StampStep

from neuraknot_db.errors import MigrationFailedError, RefusedError, UsageError
from neuraknot_db.revisions import backfill, concurrently, files
from neuraknot_db.revisions.backfill import Backfill
from neuraknot_db.settings import OF_A_REVISION, Limits, milliseconds

if TYPE_CHECKING:
    from types import CodeType, ModuleType

    from alembic.script import Script

    from neuraknot_db.database.sql_text import Statement
    from neuraknot_db.revisions.syntax import Source

Step = RevisionStep | StampStep

_NOT_RUN_BY_A_CALL = 0x20 | 0x80 | 0x200
"""Flags of a function's code: a generator, a coroutine, both (as in `inspect`, which is slow to import)."""

QUERIES = {
    "losses": 'what is lost and the query that counts it: {"rows of a": "SELECT count(*) FROM public.a"}',
    "expects": 'what must hold and the query for rows that break it: {"a has no b": "SELECT id FROM public.a WHERE b"}',
}
QUERIES["ensures"] = QUERIES["expects"]
"""The variables that hold queries, each with how to write it."""
_BEGIN_QUERIES = frozenset({"select", "with", "values", "table", "("})

# Searched in lower case first, because parsing a text takes longer.
_ENDING = re.compile(r"(?:commit|rollback|abort|end|prepare|discard|pg_advisory_unlock_all)\b")


class RevisionOptions(NamedTuple):
    """The options of a step's revision.

    Attributes:
        timeouts: its own ones among settings.OF_A_REVISION, by name, in milliseconds.
        transactional: False if it can't be in a transaction.
        alone: its one statement then; None if that is known only when it runs.
        losses: what a downgrade loses: a noun phrase for each query that counts it; empty for an upgrade.
        expects: what must hold before an upgrade: a phrase for each query, which gives the rows that break it.
        ensures: what must hold after it, likewise; both are empty for a downgrade.
        backfill: the rows that an upgrade changes in batches; None for another revision.
        source: the revision's file; empty for a stamp.
    """

    timeouts: Mapping[str, int] = MappingProxyType({})
    transactional: bool = True
    alone: Statement | None = None
    losses: Mapping[str, str] = MappingProxyType({})
    expects: Mapping[str, str] = MappingProxyType({})
    ensures: Mapping[str, str] = MappingProxyType({})
    backfill: Backfill | None = None
    source: bytes = b""

    def limits(self, of_run: Limits, *, in_batches: bool = True) -> Limits:
        """Return the revision's own limits, else the run's; none for a statement that only waits for others."""
        if self.alone is not None and concurrently.waits_for_others(self.alone):
            of_run = of_run._replace(lock_timeout=0, statement_timeout=0)
        if self.backfill is not None and in_batches:
            # Whoever wants a row that a batch has locked waits as long as that batch waits for another row.
            batch = self.timeouts.get("batch_duration", of_run.batch_duration)
            of_run = of_run._replace(lock_timeout=min(batch, of_run.lock_timeout))
        return of_run._replace(**self.timeouts) if self.timeouts else of_run


def is_transactional(module: ModuleType) -> bool:
    """Return whether a revision runs in a transaction; what is not a bool is refused before it runs."""
    return getattr(module, "transactional", True) is not False


def revision_of(step: Step) -> str:
    """Return the revision that a step applies, rolls back or stamps."""
    if isinstance(step, RevisionStep):
        return step.revision.revision
    return ", ".join(step.to_revisions) or "base"


def read_options(step: Step, sent: Sequence[str] | None = None) -> RevisionOptions:
    """Return what the step's revision declares; nothing of it is run.

    Args:
        step: a step of the run.
        sent: what a revision outside of a transaction wants to send, once it has run; None before that: then the
            constant texts in its file are read.

    Raises:
        UsageError: a timeout is not a valid duration, or another variable is not valid.
        MigrationFailedError: its function is missing, or calling it would not run it.
        RefusedError: it runs outside of a transaction and holds more than one statement, or it ends its own
            transaction, or it releases the lock that keeps other migrations out.
    """
    if not isinstance(step, RevisionStep):
        return RevisionOptions()
    module, revision = step.revision.module, step.revision.revision
    filling = declared_backfill(step.revision) if step.is_upgrade else None
    if found := _not_callable(getattr(module, _direction(step), None)):
        raise MigrationFailedError(
            f"The {_direction(step)}() of revision {revision} can't be run: {found}.",
            hint=f"Write it as `def {_direction(step)}() -> None:`, in {Path(step.revision.path).name}.",
        )

    source = Path(step.revision.path).read_bytes()
    text = source.decode("utf-8", errors="replace").lower()
    transactional = getattr(module, "transactional", True)
    if not isinstance(transactional, bool):
        raise UsageError(f"transactional of revision {revision} is {transactional!r}.", hint="Write True or False.")
    alone: Statement | None = None
    if not transactional:
        sent = _read(source).exactly(_direction(step)) if sent is None else sent
        alone = None if sent is None else _only_statement(step, sent)
    elif _ENDING.search(text):
        # Alembic's autocommit_block ends it properly.
        may_end = "autocommit_block" not in text
        for sql in _read(source).texts(_direction(step)):
            if objection := objection_to(sql, revision, may_end=may_end):
                raise objection
    endless = not transactional and (alone is None or concurrently.waits_for_others(alone))
    return RevisionOptions(
        timeouts={
            # Without a limit, the whole application would wait behind a statement that waits.
            name: milliseconds(
                value,
                f"{name} of revision {revision}",
                least=int(name == "batch_duration" or (name == "lock_timeout" and not endless)),
            )
            for name in OF_A_REVISION
            if (value := getattr(module, name, None)) is not None
        },
        transactional=transactional,
        alone=alone,
        backfill=filling,
        source=source,
        **{name: queries(module, revision, name) for name in QUERIES if (name == "losses") == step.is_downgrade},
    )


def declared_backfill(script: Script) -> Backfill | None:
    """Return the backfill that a revision declares; None for none.

    Raises:
        UsageError: it is to run outside of a transaction.
        RefusedError: it stands beside an `upgrade()`, or releases the lock that keeps other migrations out.
    """
    module, revision, path = script.module, script.revision, files.here(script.path)
    found = getattr(module, "backfill", None)
    if not isinstance(found, Backfill):
        return None
    if not backfill.is_completed(module):
        raise RefusedError(
            f"Revision {revision} has a backfill and an upgrade() as well, and one of the two would not run.",
            hint=f"Give what upgrade() does a revision of its own, and take it out of {path}.",
        )
    if not is_transactional(module):
        raise UsageError(
            f"Revision {revision} is a backfill, and says transactional = False.",
            hint=f"Take that out of {path}: each batch is a transaction of its own.",
        )
    if objection := objection_to(found.statement, revision, may_end=False):
        raise objection
    return found


def objection_to(sql: str, revision: str, *, may_end: bool) -> RefusedError | None:
    """Return why a revision may not send this: it would end its own transaction, or release the run's lock.

    Args:
        sql: one or more statements.
        revision: their revision.
        may_end: whether a statement that ends a transaction would end the revision's.
    """
    if not _ENDING.search(sql.lower()):
        return None
    from neuraknot_db.database import sql_text  # few runs need it

    for statement in sql_text.statements(sql):
        words = [token.text.lower() for token in statement.tokens]
        # In the body of a CREATE FUNCTION it is not run.
        unlocks = words[0] != "create" and any("pg_advisory_unlock_all" in word for word in words)
        if unlocks or words[:2] == ["discard", "all"]:
            return RefusedError(
                f"Revision {revision} gives up the lock that keeps other migrations out ({statement.text}).",
                hint="Take it out: whatever a revision sets is set back after it in any case.",
            )
        ends = words[0] in {"commit", "rollback", "abort", "end"} or words[:2] == ["prepare", "transaction"]
        if may_end and ends and not (words[0] == "rollback" and "to" in words[1:3]):
            return RefusedError(
                f"Revision {revision} ends its own transaction ({statement.text}): what comes before it would stay, or"
                " be lost, whatever comes after.",
                hint="Take it out: each revision is one transaction, committed when it has been recorded.",
            )
    return None


def late_block_error(revision: str) -> MigrationFailedError:
    """Return why a revision may not leave its transaction (Alembic's `autocommit_block`) after sending a statement."""
    return MigrationFailedError(
        f"Revision {revision} leaves its transaction (autocommit_block) after it has sent a statement, which would be"
        " committed without a record.",
        hint="Give what can't be in a transaction a revision of its own, with transactional = False.",
    )


def closing_error(step: RevisionStep) -> MigrationFailedError:
    """Return why a revision may not close the connection that it runs on."""
    return MigrationFailedError(
        f"Revision {step.revision.revision} closes the connection, which is the run's.",
        hint=f"Take that out of {files.here(step.revision.path)}: what a revision leaves open is closed for it.",
    )


def queries(module: ModuleType, revision: str, name: str) -> Mapping[str, str]:
    """Return a revision's `losses`, `expects` or `ensures`: a phrase for each query.

    Raises:
        UsageError: it is anything else, a phrase is blank, or a query is not one query.
    """
    found: Any = getattr(module, name, {})
    hint = f"Write {QUERIES[name]}"
    if not isinstance(found, Mapping) or not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise UsageError(f"{name} of revision {revision} is {found!r}.", hint=hint)
    for phrase, query in found.items():
        if not phrase.strip():
            raise UsageError(f"{name} of revision {revision} has a query without a phrase.", hint=hint)
        if wrong := _no_query(query, revision):
            raise UsageError(f'{name} of revision {revision}, "{phrase}": {wrong}.', hint=hint)
    return found


def _no_query(sql: str, revision: str) -> str:
    """Return a clause on why this is not one query that can be asked; empty if it is."""
    from neuraknot_db.database import sql_text  # few revisions have any

    found = sql_text.statements(sql)
    if len(found) != 1:
        return f"it holds {len(found)} statements, and not one query"
    if bad := next((token for token in found[0].tokens if token.kind == "error"), None):
        return f"the server can't read {bad.text[:20]}"
    if (first := found[0].tokens[0].text.lower()) not in _BEGIN_QUERIES:
        return f"{first.upper()} is no query, and it may only read"
    return "it gives up the lock of the run" if objection_to(sql, revision, may_end=True) else ""


def _not_callable(function: object) -> str | None:
    """Return a clause on why a call without arguments does not run a revision's function; None if it does."""
    if not callable(function):
        return "there is none" if function is None else "it is not a function"
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return None
    if code.co_flags & _NOT_RUN_BY_A_CALL:
        return "a call of it makes a generator or a coroutine, and runs nothing"
    defaults, named = getattr(function, "__defaults__", None) or (), getattr(function, "__kwdefaults__", None) or ()
    wanted = code.co_argcount - len(defaults) + code.co_kwonlyargcount - len(named)
    return "it wants an argument" if wanted > 0 else None


def _direction(step: RevisionStep) -> str:
    return "upgrade" if step.is_upgrade else "downgrade"


def _read(source: bytes) -> Source:
    from neuraknot_db.revisions.syntax import Source  # few runs need it

    return Source(source)


def _only_statement(step: RevisionStep, sent: Sequence[str]) -> Statement:
    # Imported here: few revisions need it, and it is slow to import.
    from neuraknot_db.database import sql_text

    revision = step.revision.revision
    found = [statement for sql in sent for statement in sql_text.statements(sql)]
    if len(found) != 1:
        raise RefusedError(
            f"Revision {revision} is not transactional, and its {_direction(step)} holds {len(found)} statements: if"
            " one failed, those before it would stay.",
            hint="Split it into revisions of one statement each.",
        )
    if objection := objection_to(found[0].text, revision, may_end=False):
        raise objection
    if concurrently.is_nameless_index(found[0]):
        raise RefusedError(
            f"Revision {revision} builds an index without a name, which can't be found again after a failure.",
            hint="Name it: CREATE INDEX CONCURRENTLY IF NOT EXISTS name ON ...",
        )
    return found[0]
