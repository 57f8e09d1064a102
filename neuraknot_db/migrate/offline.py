"""Revisions without a database: printed as a script, or run to collect their SQL."""

from __future__ import annotations

import functools
import textwrap
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TextIO, cast

from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep

from neuraknot_db import __version__, settings
from neuraknot_db.database import lock, raw_sql, session
from neuraknot_db.database.state import joined
from neuraknot_db.errors import MigrationFailedError, NeuraknotError
from neuraknot_db.history.log import INSERT, Entry, forgetting
from neuraknot_db.history.tables import CREATE, FORMAT, SCHEMA, TABLE
from neuraknot_db.migrate.apply import entry_of
from neuraknot_db.migrate.command import Command
from neuraknot_db.migrate.heads import heads_after
from neuraknot_db.migrate.run import VERSION_SCHEMA
from neuraknot_db.revisions.containment import Conduct, contained, demand_run, supervised, words
from neuraknot_db.revisions.options import RevisionOptions, Step, late_block_error, objection_to, read_options
from neuraknot_db.revisions.places import failing_calls, locate


def emit(direction: Callable[[], object], buffer: TextIO) -> None:
    """Write what a revision's `upgrade` or `downgrade` emits, one `write` per `op.execute`.

    Don't call it while a migration runs: Alembic's `op` serves one context at a time.

    Raises:
        Exception: whatever the revision raises; EscapedError if that is not an Exception.
    """
    context = _context()
    context.impl.output_buffer = buffer
    with contained(), Operations.context(context):
        demand_run(direction())


def print_script(environment: EnvironmentContext, command: Command) -> None:
    """Print what a command would send, on Alembic's output, for psql: `--sql`.

    The script does what a run does for safety: it sets the session up, takes the lock, refuses a database that is
    elsewhere, and writes the log. What it leaves out it says.

    Args:
        environment: Alembic's environment.
        command: the command; its steps begin where `--sql` was told, or at no revision.

    Raises:
        NeuraknotError: it was refused before anything was printed, or a revision failed, and the script is not whole.
    """
    script = _Script()
    environment.configure(
        dialect_name="postgresql",
        literal_binds=True,
        transaction_per_migration=True,
        version_table_schema=VERSION_SCHEMA,
        fn=environment.context_opts["fn"] if command.steps is None else script,
        on_version_apply=script.applied,
    )
    migration = environment.get_context()
    cast("raw_sql.VerbatimPostgresqlImpl", migration.impl).psql = True
    heads = migration.get_current_heads()
    # Before anything is printed: a refusal must not leave half a script.
    script.ready += [(step, read_options(step)) for step in command.resolve(heads)]
    if command.steps is None:
        migration.impl.static_output("SET search_path = public;")
    else:
        migration.impl.static_output(_prologue(command, heads, script.ready))
    with environment.begin_transaction():
        environment.run_migrations()


class _Script:
    """The steps of a script. Alembic iterates over it, and prints each in its own transaction.

    Attributes:
        ready: the steps with the options of their revisions.
    """

    def __init__(self) -> None:
        self.ready: list[tuple[Step, RevisionOptions]] = []
        self._entry = Entry(None, "")

    def __call__(self, heads: Iterable[str], migration: MigrationContext) -> Iterator[Step]:
        """Yield the steps, each after the settings of its session."""
        limits, before = settings.limits(), frozenset(heads)
        for index, (step, options) in enumerate(self.ready):
            for what, query in options.losses.items():
                migration.impl.static_output(f"-- Loses {' '.join(f'{what}: {query}'.split())}")
            own = options.limits(limits, in_batches=False)
            if index or own != limits:
                changed = [f"SET {name} = '{value}'" for name, value in own.timeouts.items() if own != limits]
                migration.impl.static_output(" ".join([":neuraknot_db_session", *(f"{each};" for each in changed)]))
            after = heads_after([step], before)
            self._entry = entry_of(step, options)._replace(before=joined(before), after=joined(after))
            before = after
            if isinstance(step, RevisionStep):
                step.migration_fn = _printing(step, options, migration)
            yield step

    def applied(
        self, ctx: MigrationContext, step: MigrationInfo, heads: Collection[str], run_args: Mapping[str, Any]
    ) -> None:
        """Alembic's `on_version_apply`: print the step's row for the log, in its own transaction."""
        del step, heads, run_args
        values = {**self._entry._asdict(), "tool_version": __version__, "client_host": "psql"}
        named = defaultdict(lambda: "NULL", {name: raw_sql.literal(value) for name, value in values.items()})
        named["duration_ms"] = "(extract(epoch FROM clock_timestamp() - now()) * 1000)::bigint"
        for sql in filter(None, (forgetting(self._entry), INSERT)):
            ctx.impl.static_output(f"{(sql % named).strip()};")


_PROLOGUE = """\
-- {command} from {origin} to {target}. Run it with: psql -X -f FILE "$DATABASE_URL"
-- It stops at the first error; what was committed by then stays, and is in the log (neuraknot-db log). A run does more:
-- it tries again for a lock, repairs an invalid index, and compares the schema in the end (neuraknot-db verify).
\\set ON_ERROR_STOP on
\\set neuraknot_db_session {session}
:neuraknot_db_session

DO $neuraknot_db$
DECLARE
    found text[];
BEGIN
    IF NOT pg_try_advisory_lock({key}) THEN
        RAISE EXCEPTION 'another migration runs on this database';
    END IF;
    IF to_regclass('public.alembic_version') IS NOT NULL THEN
        EXECUTE 'SELECT array_agg(version_num::text ORDER BY version_num) FROM public.alembic_version' INTO found;
    END IF;
    IF coalesce(found, '{{}}') <> {heads}::text[] THEN
        RAISE EXCEPTION 'the database is at %, and this script begins at {origin}',
            coalesce(array_to_string(found, ', '), 'no revision');
    END IF;
    IF to_regclass('{table}') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS {schema};
{create}
    END IF;
    IF (SELECT value FROM {schema}.settings WHERE name = 'format') <> '{format}' THEN
        RAISE EXCEPTION 'the log of migrations has another format: run neuraknot-db mark with this version first';
    END IF;
END
$neuraknot_db$;"""


def _prologue(command: Command, heads: Collection[str], ready: Iterable[tuple[Step, RevisionOptions]]) -> str:
    target = heads_after([step for step, _ in ready], heads)
    # psql's own quotes, in which a backslash escapes.
    session_sql = session.script(settings.limits()).replace("\\", "\\\\")
    return _PROLOGUE.format(
        command=command.kind.capitalize(),
        origin=(joined(heads) or "no revision").replace("'", "''").replace("%", "%%"),
        target=joined(target) or "no revision",
        session=raw_sql.literal(" ".join(session_sql.split())),
        key=lock.KEY,
        heads=raw_sql.literal("{" + ",".join(sorted(heads)) + "}"),
        schema=SCHEMA,
        table=TABLE,
        create=textwrap.indent(CREATE.strip(), "        "),
        format=FORMAT,
    )


def _printing(step: RevisionStep, options: RevisionOptions, migration: MigrationContext) -> Callable[..., None]:
    apply, revision = step.migration_fn, step.revision.revision

    def objection(sql: str, in_transaction: bool) -> NeuraknotError | None:
        return objection_to(sql, revision, may_end=in_transaction)

    def ask(name: str, queries: Mapping[str, str]) -> None:
        for phrase, query in queries.items():
            from neuraknot_db.migrate.conditions import in_script  # few revisions have any

            migration.impl.static_output(in_script(revision, name, phrase, query))

    def printed(**_options: Any) -> None:
        try:
            ask("expects", options.expects)
            if options.transactional:
                late_block = functools.partial(late_block_error, revision)
                with supervised(migration, Conduct(), objection=objection, late_block=late_block):
                    demand_run(apply())
            else:
                _print_alone(step, apply, migration)
            ask("ensures", options.ensures)
        except NeuraknotError as error:
            error.hint = f"{error.hint or ''} The script is not whole: don't run it.".lstrip()
            raise
        except Exception as error:
            path = str(step.revision.path)
            place = locate(failing_calls(error, path), path).shown
            advice = f"{error.advice} " if isinstance(error, raw_sql.UnprintableError) else ""
            raise MigrationFailedError(
                f"Revision {revision} failed, and the script is not whole: {words(error)}.",
                hint=f"Don't run it. {advice}Correct {place}, and print it again.",
            ) from error

    printed.__name__ = apply.__name__  # Alembic prints it
    return printed


def _print_alone(step: RevisionStep, apply: Callable[..., None], migration: MigrationContext) -> None:
    from neuraknot_db.migrate import autocommit  # few runs need it

    held = autocommit.hold(apply, migration, step.revision.revision)
    read_options(step, [each.sql for each in held])
    with migration.autocommit_block():
        for each in held:
            migration.impl.send(each)  # type: ignore[attr-defined]


@functools.cache
def _context() -> MigrationContext:
    # Making it takes ten times as long as emitting a revision's SQL.
    return MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "literal_binds": True})
