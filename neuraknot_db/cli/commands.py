"""This project's own commands, as Alembic registers a command."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from neuraknot_db import settings
from neuraknot_db.cli.chosen_database import chosen, lacks_dev
from neuraknot_db.cli.console import write, write_exactly, write_json
from neuraknot_db.database import display, session
from neuraknot_db.database.create import create_database
from neuraknot_db.database.state import DatabaseState
from neuraknot_db.errors import FindingsError, RefusedError, StaleFileError, UsageError
from neuraknot_db.history.log import History
from neuraknot_db.migrate.outcome import OUTCOME, Outcome
from neuraknot_db.migrate.schema_reading import reading_schema
from neuraknot_db.revisions import files, targets
from neuraknot_db.schema import queries, snapshots
from neuraknot_db.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A function that Alembic's command line can call, and our own options for it.

    Attributes:
        function: its name is the command's, its docstring the help, its keywords the options' names.
        options: the arguments of `add_argument`, one pair per option.
    """

    function: Callable[..., None]
    options: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()


@contextlib.contextmanager
def _in_checkout(command: str) -> Iterator[None]:
    """Around the imports of what the image is without.

    Raises:
        UsageError: it is not here.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not lacks_dev(error):
            raise
        raise UsageError(
            f"{command} needs a checkout: the image is without it.",
            hint=f"In the project's folder: neuraknot-db {command}",
        ) from None


@contextlib.contextmanager
def _writing(hint: str) -> Iterator[None]:
    """Around the writing of files.

    Raises:
        UsageError: one can't be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{error.filename} can't be written: {error.strerror}.", hint=hint) from error


def _server_for_scratch(command: str) -> Settings:
    """Return the database on whose server scratch databases are made; refuse one that counts as production."""
    if (named := settings.read()) and settings.is_production(named.environment):
        raise RefusedError(
            f"The scratch databases would be made beside {named.place}, which counts as production.",
            hint="Unset DATABASE_URL and DB_*, and the embedded PostgreSQL is used. Or, if that server may have them:"
            f" NEURAKNOT_ENV=dev neuraknot-db {command}",
        )
    return named or chosen()


def _selected(script: ScriptDirectory, text: str | None, command: str, behind: str | None = None) -> list[Script]:
    """Return the revisions of a range; without one those that are new, as `new_revisions` has it, and say why."""
    if text is not None:
        return targets.select(script, text, command)
    from neuraknot_db.dev import main_branch

    selected, why = main_branch.new_revisions(script, behind)
    log.info("to try: %s", why)
    return selected


def create_db(_config: Config) -> None:
    """Create the database that the settings name, unless it exists.

    Examples:
      neuraknot-db create_db
    """
    create_database(chosen())


def reset(config: Config, confirm: str | None = None, environment: str | None = None, no_upgrade: bool = False) -> None:
    """Drop and recreate the schema public and upgrade to head, all or nothing.

    Counts the rows that would go, and asks for the database's name unless --confirm gives it; in production for the
    environment's name too. The schema's owner, privileges, default privileges and comment stay as they are. If
    anything fails, the old schema and every row are still there.

    Examples:
      neuraknot-db reset
      neuraknot-db reset --confirm neuraKnot --environment prod
    """
    from neuraknot_db.migrate.reset import reset

    script = ScriptDirectory.from_config(config)
    files.load(script)
    reset(config, script, chosen(), confirm=confirm, environment=environment, upgrade=not no_upgrade)


def verify(config: Config, as_json: bool = False) -> None:
    """Compare the live schema with what its revision should hold.

    Exit code 0, or 3 with a line for each difference on standard output.

    Examples:
      neuraknot-db verify
    """
    from neuraknot_db.schema.verify import verify

    script = ScriptDirectory.from_config(config)
    files.load(script)
    with session.open_session(chosen()) as connection:
        files.demand_known(script, DatabaseState.of(connection))
        with reading_schema(connection, script):
            report = verify(connection, script)
        connection.rollback()
    if as_json:
        write_json(report.to_json())
    elif report.matches:
        write(f"revision {report.revision}: the schema is what it should be")
        for line in snapshots.summary(snapshots.load(script, str(report.revision))):
            write(f"  {line}")
    for difference in () if as_json else report.differences:
        write(str(difference))
    for note in report.notes:
        log.info("note: %s", note)
    report.demand(listed=True)


def adopt(config: Config, dry_run: bool = False, replace_functions: bool = False, as_json: bool = False) -> None:
    """Recognise the schema of an unversioned database and stamp the revision that it holds.

    No row and no table is touched. Where no revision fits, nothing is stamped, and the differences from the nearest
    are listed (exit code 3). Functions whose text differs are replaced only if that is asked for (exit code 5).

    Examples:
      neuraknot-db adopt --dry-run --replace-functions
      neuraknot-db adopt --replace-functions
    """
    from neuraknot_db.migrate.adopt import adopt_database

    script = ScriptDirectory.from_config(config)
    outcome: Outcome = config.attributes[OUTCOME]
    where = chosen()
    files.load(script)
    adoption = adopt_database(where, script, outcome, replace_functions=replace_functions, dry_run=dry_run)
    for note in adoption.notes:
        log.info("note: %s", note)
    if as_json:
        write_json(adoption.to_json())
        return
    for name in adoption.replaced_functions:
        write(f"{'would replace' if dry_run else 'replaced'} {name}")
    write(f"{where.place}: {'would be' if dry_run else 'is now'} at revision {adoption.revision}")


def snapshot(config: Config, check: bool = False) -> None:
    """Write alembic/snapshots/ anew: the schema after each revision, and what its statements lock and do.

    The newest schema is also written as SQL, into alembic/schema.sql, for tools that read no revisions, such as sqlc.
    Where there is a folder docs beside alembic, the newest schema is written there too: tables.md describes the
    tables in Japanese, with their comments, and schema.svg and schema.mmd are its pictures.
    All is seen on scratch databases, which are made on the server that the settings name, and dropped in the end.
    What a revision makes for the whole server, such as a role, stays there; so production's server is refused.
    With --check nothing is written: exit code 3 if a file is not as it should be.

    Examples:
      neuraknot-db snapshot
      neuraknot-db snapshot --check
    """
    with _in_checkout("snapshot"):
        from neuraknot_db.dev import generate
    script = ScriptDirectory.from_config(config)
    files.load(script)
    script.get_current_head()  # raises on two heads: no database will hold either schema
    wanted = generate.generate(config, script, _server_for_scratch("snapshot"))
    stale = generate.stale(script, wanted)
    if not stale:
        log.info("the snapshots, schema.sql, and what docs/ says of the schema, are as they should be")
    elif check:
        names = ", ".join(path.name for path in stale)
        raise StaleFileError(
            f"Not what the revisions make, and so out of date: {names}.",
            hint="Write them anew: neuraknot-db snapshot",
        )
    with _writing("See to it that it can, and write them again: neuraknot-db snapshot"):
        generate.write(stale, wanted)
    for path in stale:
        write(f"{'wrote' if path.exists() else 'removed'} {path}")


def renumber(config: Config, file: str | None = None, check: bool = False) -> None:
    """Move a revision behind that of another branch that was merged first, and write the snapshots anew.

    FILE is the one that main does not have yet; those that follow it move along: file names, ids and down_revision.
    Refused (exit code 5) where it may have been applied: on main, or in the database that the settings name.

    Examples:
      neuraknot-db renumber --check
      neuraknot-db renumber alembic/versions/005_mine.py
    """
    with _in_checkout("renumber"):
        from neuraknot_db.dev import lint, renumber
    if check == bool(file):
        raise UsageError("Name one file, or --check.", hint="neuraknot-db renumber --check")
    script = ScriptDirectory.from_config(config)
    if check:
        if found := list(lint.same_place(script)):
            write("\n".join(map(lint.rendered, found)))
            raise FindingsError("Revisions of two branches meet.", hint=found[0].help)
        log.info("one head, in one line")
    if file:
        moves = renumber.plan(script, file)
        server = _server_for_scratch(f"renumber {file}")
        with _writing(f"See to it that it can, and again: neuraknot-db renumber {file}"):
            done = renumber.apply(config, script, moves, server)
        write("\n".join(done))


def diagram(config: Config, output: str | None = None) -> None:
    """Draw the newest revision's tables, columns, indexes and references; no database is needed.

    Mermaid text on standard output, or a file: FILE.svg is a picture, FILE.mmd the Mermaid text.

    Examples:
      neuraknot-db diagram
      neuraknot-db diagram -o schema.svg
    """
    with _in_checkout("diagram"):
        from neuraknot_db.dev import diagram

    script = ScriptDirectory.from_config(config)
    files.load(script)
    head = script.get_current_head()
    if head is None:
        raise UsageError("There is no revision yet, and so no schema to draw.")
    suffix = Path(output).suffix if output else ".mmd"
    text = diagram.draw(head, snapshots.load(script, head), suffix=suffix)
    if output is None:
        write_exactly(text.removesuffix("\n"))
        return
    with _writing("Name another file with -o."):
        Path(output).write_text(text, encoding="utf-8")
    log.info("wrote %s", output)


def plan(
    config: Config,
    target: str | None = None,
    as_json: bool = False,
    as_markdown: bool = False,
    as_reader: bool = False,
    count: bool = False,
    rollback: bool = False,
) -> None:
    """Show what would run on the database, what it would lock, and who is in the way; nothing is changed.

    Each pending revision with its statements: the locks they take, whether they read or write a whole table, how
    large it is now, and who holds locks on it. REVISION is what upgrade or downgrade would get: head by default; an
    older one, base or -1 is planned as a way back. No revision is run for it: what its statements do was measured by
    neuraknot-db snapshot. Only --count reads tables: it counts the rows that would break what a revision expects, and
    those that a way back would lose; it ends with 0 all the same. --rollback plans the way back to where the last run
    began, by the log: exit code 5 where there is none.

    Examples:
      neuraknot-db plan
      neuraknot-db plan --count
      neuraknot-db plan --rollback --count
    """
    if rollback and target is not None:
        raise UsageError(f"--rollback finds its revision itself, and {target} is given.", hint="Leave one of them out.")
    if as_json and as_markdown:
        raise UsageError("--json and --markdown exclude each other.", hint="Leave one of them out.")
    from neuraknot_db.migrate import guards
    from neuraknot_db.plan.make import make

    script = ScriptDirectory.from_config(config)
    files.load(script)
    where = chosen()
    with session.open_session(where) as connection:
        goal = "head" if target is None and not rollback else target
        made = make(connection, script, where, settings.limits(), goal, as_reader=as_reader, count=count)
    outcome: Outcome = config.attributes[OUTCOME]
    outcome.before = outcome.after = made.current
    outcome.rollback = made.rollback_json
    if as_json:
        write_json(made.to_json())
    elif as_markdown:
        from neuraknot_db.plan.markdown import markdown

        write_exactly(markdown(made))
    else:
        from neuraknot_db.plan.render import render

        write(render(made, shutil.get_terminal_size().columns))
    if made.rollback and not settings.origin().task_metadata_uri:
        back = f"-x from={made.current} downgrade {made.target or 'base'}"
        log.info("to take it back: %s", guards.confirming(where.database, back))


def lint(config: Config, revision_range: str | None = None, as_markdown: bool = False) -> None:
    """Look for unsafe statements in revisions, with squawk and rules of our own; no database is needed.

    RANGE is A:B for the revisions after A up to B, or one revision; all by default. Exit code 3 with a line for each
    finding. Where a rule does not apply is said, with the reason, in alembic/lint.toml. With --markdown, what each
    statement was measured to lock and do is told too.

    Examples:
      neuraknot-db lint
      neuraknot-db lint 004
      neuraknot-db lint 003:head
    """
    with _in_checkout("lint"):
        from neuraknot_db.dev import lint

    script = ScriptDirectory.from_config(config)
    files.load(script)
    selected = targets.select(script, revision_range, "lint")
    found = lint.lint(script, selected)
    if as_markdown:
        from neuraknot_db.dev.lint.markdown import markdown

        write_exactly(markdown(script, selected, found))
    for finding in () if as_markdown else found:
        write(lint.rendered(finding))
    count = display.counted(len(selected), "revision")
    if found:
        raise FindingsError(f"{display.counted(len(found), 'finding')} in {count}.")
    log.info("%s: nothing found", count)


def try_revisions(config: Config, revision_range: str | None = None) -> None:
    """Try revisions up, back and up again with rows in every table: what does the way back lose?

    RANGE is A:B for the revisions after A up to B, or one revision; by default those that are new since the main
    branch, else all. The rows are those of alembic/snapshots/rows.sql and generated ones, among them rows that only the
    new schema allows. It runs on servers of this machine's own (the embedded PostgreSQL, those in /usr/lib/postgresql),
    and never on the database that the settings name. Exit code 3 with a line for each finding: a downgrade that fails,
    leaves another schema than there was, or loses more rows or values than its losses count.

    Examples:
      neuraknot-db test
      neuraknot-db test 004
      neuraknot-db test 003:head
    """
    with _in_checkout("test"):
        from neuraknot_db.dev import own_servers, roundtrip

    script = ScriptDirectory.from_config(config)
    files.load(script)
    script.get_current_head()  # raises on two heads: no database will hold either schema
    selected = _selected(script, revision_range, "test")
    servers = own_servers.own_servers()
    found, untried = roundtrip.try_out(config, script, selected, servers) if selected else ([], [])
    for finding in found:
        write(finding)
    count = (
        f"{display.counted(len(selected), 'revision')} on PostgreSQL {' and '.join(str(s.version) for s in servers)}"
    )
    if found:
        raise FindingsError(
            f"{display.counted(len(found), 'finding')} in {count}.",
            hint="Let downgrade() undo what upgrade() does; what it must lose, let losses count it: see"
            " docs/operations.md, Proving a revision.",
        )
    log.info("%s: nothing found%s", count, f"; not tried everywhere: {', '.join(untried)}" * bool(untried))


try_revisions.__name__ = "test"  # the command's name, which a linter takes for a test's


def compat(config: Config, action: str, revision_range: str | None = None, output: str | None = None) -> None:
    """Record which queries the application sends, and check whether they survive a revision.

    `compat record` reads pg_stat_statements, and writes the queries on our tables, without values, into
    alembic/queries.sql; with -o - to standard output, a JSON string a line. `compat check` reads it, and prepares
    each query before and after each revision of RANGE, on a server of this machine's own. Exit code 3 with query,
    revision and reason for each that breaks. What depends on the values is listed as `look yourself`, and is no break.

    Examples:
      neuraknot-db compat record
      neuraknot-db compat check
      neuraknot-db compat check 004:head
    """
    script = ScriptDirectory.from_config(config)
    files.load(script)
    if (other := revision_range if action == "record" else output) is not None:
        raise UsageError(f"compat {action} does not take {other}.", hint=f"Leave it out: neuraknot-db compat {action}")
    if action == "record":
        _record(script, output)
        return
    with _in_checkout("compat check"):
        from neuraknot_db.dev import compat
    path = queries.path_of(script)
    recorded = queries.parse(path)
    script.get_current_head()  # raises on two heads: no database will hold either schema
    selected = _selected(script, revision_range, "compat", behind=recorded.revision)
    if not selected:
        log.info("nothing is pending")
        return

    places = {query: f"{files.here(path)}:{line}" for query, line in recorded.queries.items()}
    steps = list[compat.Step]()
    with compat.server_for(recorded.version).running() as server:
        for step in compat.check(config, script, places, {each.revision for each in selected}, server):
            steps.append(step)
            for line in step.lines(places):
                write(line)
    failing = [each for each in places if steps and all(each in step.failing for step in steps)]
    for query in failing:
        write(f"not checked: {places[query]}: {steps[-1].failing[query]}")
    count = f"{len(places)} queries ({len(failing)} not checked), {len(steps)} of "
    count += display.counted(len(selected), "revision")
    if breaks := sum(len(step.breaks) for step in steps):
        raise FindingsError(
            f"{count}: {display.counted(breaks, 'break')}.",
            hint="First deploy an application that works before and after: Safe changes, in docs/operations.md.",
        )
    log.info("%s: no break found", count)


def _record(script: ScriptDirectory, output: str | None) -> None:
    """Write the recorded queries.

    Raises:
        UsageError: the file can't be written, or would be lost with the container.
    """
    if output != "-" and settings.origin().task_metadata_uri:
        raise UsageError(
            "compat record would write a file that is lost with the container.",
            hint="launcher ecs-run -- compat record -o - > alembic/queries.sql",
        )
    with session.open_session(chosen()) as connection:
        paragraphs, notes = queries.record(connection, script)
        connection.rollback()
    for note in notes:
        log.info("%s", note)
    if output == "-":
        write_exactly("\n".join(map(queries.as_line, paragraphs)))
        return
    path = Path(output) if output else queries.path_of(script)
    with _writing("Name another file with -o."):
        path.write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    log.info("wrote %s: %d queries", files.here(path), len(paragraphs) - 1)


def mark(config: Config, environment: str, confirm: str | None = None) -> None:
    """Change the environment marker that the first run stores in the database.

    A database that is marked as production is reset and taken back only with its environment's name. To mark it as
    one that is no production asks for the database's name, unless --confirm gives it.

    Examples:
      neuraknot-db mark dev --confirm neuraKnot
    """
    environment = settings.valid_environment(environment, "ENV is")
    from neuraknot_db.migrate.mark import mark

    mark(chosen(), ScriptDirectory.from_config(config), environment, config.attributes[OUTCOME], confirm=confirm)


def show_log(_config: Config, as_json: bool = False, by_run: bool = False) -> None:
    """Show what was run here: each revision and attempt, by whom, when, and how long it took.

    With --runs each run is told as a whole: where it began and came to, and the revisions between.

    Examples:
      neuraknot-db log
      neuraknot-db log --runs
      neuraknot-db log --json
    """
    from neuraknot_db.history import render
    from neuraknot_db.history.runs import runs

    with session.open_session(chosen()) as connection:
        history = History(connection)
        records = list(history.records(every=by_run))
        connection.rollback()
    if not history.exists:
        log.info("nothing was run here by this tool")
    told = list(runs(records)) if by_run else []
    if as_json:
        write_json([each.to_json() for each in told] if by_run else render.as_json(records))
        return
    for line in render.runs_as_text(told) if by_run else render.as_text(records):
        write(line)


show_log.__name__ = "log"  # the command's name; in this module `log` is the logger


def serve(_config: Config, data: str | None = None) -> None:
    """Run the embedded PostgreSQL in the foreground; its URL is the first line on standard output.

    Ctrl-C or SIGTERM ends it, with exit code 0. The data stays in .postgres of the checkout.

    Examples:
      neuraknot-db serve
    """
    with _in_checkout("serve"):
        from neuraknot_db.dev import devserver
    devserver.serve(Path(data).absolute() if data else None, announce=write_exactly)


_JSON = (("--json",), {"action": "store_true", "dest": "as_json", "help": "print a JSON object"})
_MARKDOWN = (("--markdown",), {"action": "store_true", "dest": "as_markdown", "help": "print Markdown for GitHub"})
_CONFIRM = (("--confirm",), {"metavar": "NAME", "help": "the database's name, to confirm"})

COMMANDS = (
    Registered(create_db),
    Registered(
        reset,
        (
            _CONFIRM,
            (("--environment",), {"metavar": "ENV", "help": "the environment's name, to confirm in production"}),
            (("--no-upgrade",), {"action": "store_true", "help": "leave the schema empty"}),
        ),
    ),
    Registered(
        adopt,
        (
            (("--dry-run",), {"action": "store_true", "help": "only say what would be done"}),
            (("--replace-functions",), {"action": "store_true", "help": "take our functions where theirs differ"}),
            _JSON,
        ),
    ),
    Registered(verify, (_JSON,)),
    Registered(
        snapshot,
        ((("--check",), {"action": "store_true", "help": "write nothing; exit code 3 if something is out of date"}),),
    ),
    Registered(
        renumber,
        (
            (("file",), {"metavar": "FILE", "nargs": "?", "help": "the revision that main does not have yet"}),
            (("--check",), {"action": "store_true", "help": "change nothing; exit code 3 if one has to move"}),
        ),
    ),
    Registered(mark, (_CONFIRM,)),
    Registered(
        show_log,
        (_JSON, (("--runs",), {"action": "store_true", "dest": "by_run", "help": "a run at a time"})),
    ),
    Registered(
        plan,
        (
            (
                ("target",),
                {"metavar": "REVISION", "nargs": "?", "help": "where to; head by default"},
            ),
            _JSON,
            _MARKDOWN,
            (("--as-reader",), {"action": "store_true", "help": "this user only reads: another one has the rights"}),
            (("--count",), {"action": "store_true", "help": "ask the queries of expects and losses: they read tables"}),
            (("--rollback",), {"action": "store_true", "help": "back to where the last run began, by the log"}),
        ),
    ),
    Registered(
        lint,
        (
            (("revision_range",), {"metavar": "RANGE", "nargs": "?", "help": "A:B, or one revision; all by default"}),
            _MARKDOWN,
        ),
    ),
    Registered(
        try_revisions,
        (
            (
                ("revision_range",),
                {"metavar": "RANGE", "nargs": "?", "help": "A:B, or one revision; by default what is new"},
            ),
        ),
    ),
    Registered(
        compat,
        (
            (
                ("revision_range",),
                {"metavar": "RANGE", "nargs": "?", "help": "of check: A:B, or one revision; by default what is new"},
            ),
            (("-o", "--output"), {"metavar": "FILE", "help": "of record: the file to write; - is standard output"}),
        ),
    ),
    Registered(diagram, ((("-o", "--output"), {"metavar": "FILE", "help": "FILE.svg or FILE.mmd"}),)),
    Registered(serve, ((("--data",), {"metavar": "FOLDER", "help": "keep the data there instead"}),)),
)
