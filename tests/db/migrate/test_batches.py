"""The batches of a backfill: each row exactly once, whatever ends them; what they wait for, and what they refuse."""

from __future__ import annotations

import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuraknot_db.database import lock
from neuraknot_db.history.tables import PROGRESS as PROGRESS_TABLE
from neuraknot_db.migrate import backfill
from tests.db.cli.test_bad_input import SCHEMA, said
from tests.db.conftest import Database, Finished, Project, running_15, standby_of
from tests.db.killing import Fork
from tests.db.proxies import is_commit, proxied
from tests.db.running import MIGRATOR, held, log_of, running, wait_until

TABLE = """
CREATE TABLE public.notes (id uuid PRIMARY KEY, note text, hash text, changes int NOT NULL DEFAULT 0, batch bigint);
CREATE FUNCTION public.counted() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.changes := OLD.changes + 1; NEW.batch := txid_current(); RETURN NEW; END';
CREATE TRIGGER counted BEFORE UPDATE OF hash ON public.notes FOR EACH ROW EXECUTE FUNCTION public.counted();
"""
"""Each row knows how often it was changed, and by which transaction last."""

ROWS = """
INSERT INTO public.notes SELECT (lpad(to_hex(g), 8, '0') || '-0000-0000-0000-000000000000')::uuid, 'note ' || g
  FROM generate_series(1, {}) g
"""
RANDOM_ROWS = "INSERT INTO public.notes SELECT gen_random_uuid(), 'note ' || g FROM generate_series(1, {}) g"
HASH: dict[str, Any] = {"table": "notes", "set": "hash = md5(note)", "where": "hash IS NULL"}

CHANGES = "SELECT changes, count(*) FROM public.notes GROUP BY 1 ORDER BY 1"
DONE = "SELECT count(*) FROM public.notes WHERE hash = md5(note)"
BATCHES = "SELECT count(*) FROM public.notes WHERE batch IS NOT NULL GROUP BY batch ORDER BY batch"
PROGRESS = "SELECT revision, rows_changed::int FROM neuraknot_db.backfill_progress"
SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE {MIGRATOR}"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"

ON_UPDATE = """
CREATE FUNCTION public.also() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {}; RETURN NEW; END$$;
CREATE TRIGGER also AFTER UPDATE ON public.notes FOR EACH ROW WHEN ({}) EXECUTE FUNCTION public.also();
"""
GATE = ON_UPDATE.format("PERFORM pg_advisory_xact_lock(7)", "NEW.note = 'note {}'")
"""The batch with that row waits within its transaction, while somebody holds the lock 7."""


def upgraded(database: Database, project: Project, *more: str, **environ: str) -> Finished:
    return database.alembic(*more, "upgrade", "head", cwd=project.root, **environ)


@pytest.fixture
def notes(empty: Project, database: Database) -> Database:
    """A database at revision 001, which has a table of notes."""
    empty.add("001", TABLE, "DROP TABLE public.notes; DROP FUNCTION public.counted", after="")
    done = upgraded(database, empty)
    assert done.code == 0, done.err
    return database


KILLS = 40
"""On each of the two servers."""


@pytest.mark.slow
def test_ended_at_any_moment_each_row_is_changed_exactly_once(
    notes: Database,
    empty: Project,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEURAKNOT_DEADLINE", str(time.time() + 3600))
    seed = random.SystemRandom().randrange(10**9)
    record_property("seed", seed)
    print(f"seed {seed}")
    chance = random.Random(seed)
    notes.run(RANDOM_ROWS.format(200_000))
    empty.add_backfill("002", after="001", extra="batch_duration = '50ms'", **HASH)
    fork, hit = Fork(notes, empty.root / "alembic.ini"), 0
    for number, way in enumerate(["terminate", "alarm", "backend", *["kill"] * KILLS]):
        before = notes.run(PROGRESS)
        gone_on = lambda before=before: notes.run(PROGRESS) != before  # noqa: E731
        code = fork.run("upgrade", "head", after=chance.uniform(0, 0.15), way=way, once=gone_on)
        wait_until(lambda: notes.value(SESSIONS) == 0)
        codes = {"kill": {0, -9}, "terminate": {0, 143, -15}, "alarm": {0, 24, -14}, "backend": {0, 6}}
        assert code in codes[way], (seed, number, fork.said)
        hit += way == "kill" and code != 0 and notes.run(PROGRESS) not in ([], before)
    record_property("hit", hit)
    assert hit >= KILLS / 2, seed
    assert fork.run("upgrade", "head") == 0, (seed, fork.said)
    assert notes.run(CHANGES) == [(1, 200_000)], seed
    assert notes.run(PROGRESS) == []


def test_a_run_that_is_ended_says_what_stays_and_the_next_goes_on(
    notes: Database, empty: Project, tmp_path: Path
) -> None:
    notes.run(ROWS.format(1000) + ";" + GATE.format(101))
    empty.add_backfill("002", after="001", **HASH)
    with (
        held(notes, "SELECT pg_advisory_lock(7)"),
        running(notes, "upgrade", "head", said=tmp_path / "said", cwd=empty.root) as migration,
    ):
        wait_until(lambda: notes.value(WAITING) == 1)
        migration.process.send_signal(signal.SIGTERM)
        done = migration.ended()
    said(done, 143, "Terminated: revision 002 was rolled back to its last batch, with 100 rows changed.")
    assert "Hint: The database is at 001. Run the command again: it goes on from there." in done.err
    assert notes.run(PROGRESS) == [("002", 100)]
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert "  002 goes on behind 100 rows changed" in done.err
    assert notes.run(CHANGES) == [(1, 1000)]
    assert log_of(notes)[-2:] == [("002", "upgrade", "interrupted"), ("002", "upgrade", "succeeded")]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["a batch", "the pause behind one that blocked somebody", "waiting for a standby"])
def test_a_deadline_is_an_end_as_any_other(
    notes: Database, empty: Project, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    notes.run(ROWS.format(1000))
    empty.add_backfill("002", after="001", **HASH)
    fork, now = Fork(notes, empty.root / "alembic.ini"), lambda: "in the pause" in fork.said or "waits: it" in fork.said
    (empty.root / "said").touch()
    monkeypatch.setenv("NEURAKNOT_DEADLINE", str(time.time() + 3600))
    with held(notes, "SELECT pg_advisory_lock(7)"), monkeypatch.context() as played:
        if place == "a batch":
            notes.run(GATE.format(101))
            now = lambda: notes.value(WAITING) == 1  # noqa: E731
        elif place == "waiting for a standby":
            behind = "SELECT 'it is behind' AS what, 'x' AS view, NULL AS reader FROM neuraknot_db.backfill_progress"
            played.setattr(backfill, "_BEHIND", behind)
        else:
            wait = time.sleep
            played.setattr(backfill, "_KEEP", backfill._KEEP.replace("EXISTS", "true OR EXISTS"))
            played.setattr(time, "sleep", lambda _: (sys.stderr.write("in the pause\n"), wait(600)))
        assert fork.run("upgrade", "head", after=0, way="alarm", once=now) == 24, fork.said
    assert " UTC passed; revision 002 was rolled back to its last batch, with 100 rows changed." in fork.said
    assert "Hint: The database is at 001. Run the command again: it goes on from there." in fork.said
    assert notes.run(PROGRESS) == [("002", 100)]
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 1000)]
    assert log_of(notes)[-2:] == [("002", "upgrade", "interrupted"), ("002", "upgrade", "succeeded")]


@pytest.mark.parametrize("fate", ["lose the answer", "lose the request"])
def test_a_batch_whose_commit_has_no_answer(notes: Database, empty: Project, fate: str) -> None:
    notes.run(ROWS.format(1000))
    empty.add_backfill("002", after="001", **HASH)
    kept: list[str] = []

    def meets(text: str) -> str:
        """Meet the COMMIT of the second batch."""
        if f"INSERT INTO {PROGRESS_TABLE}" in text or (len(kept) == 2 and is_commit(text)):
            kept.append(text)
            return fate if len(kept) == 3 else "pass"
        return "pass"

    with proxied(notes, meets) as (_, unsafe):
        said(upgraded(unsafe, empty), 6, "Revision 002", "with 100 or 300 rows changed")
    assert notes.run(PROGRESS) == [("002", 300 if fate == "lose the answer" else 100)]
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 1000)]


def test_a_commit_that_is_refused(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(300) + "; ALTER TABLE public.notes ADD UNIQUE (hash) DEFERRABLE INITIALLY DEFERRED")
    empty.add_backfill(
        "002",
        after="001",
        **HASH | {"set": "hash = CASE WHEN id > '00000080-0000-0000-0000-000000000000' THEN 'x' ELSE note END"},
    )
    done = upgraded(notes, empty)
    said(done, 7, "Revision 002 failed and was rolled back to its last batch, with 100 rows changed: duplicate key")


READ_ONLY = "PERFORM set_config('transaction_read_only', 'on', true)"


def test_a_refusal_behind_the_first_batch_is_a_failure(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(300) + ";" + ON_UPDATE.format(READ_ONLY, "NEW.note = 'note 101'"))
    empty.add_backfill("002", after="001", **HASH)
    done = upgraded(notes, empty)
    said(done, 7, "rolled back to its last batch, with 100 rows changed", "The database is at 001.")


def test_it_tells_how_far_it_has_come(notes: Database, empty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    notes.run(f"{ROWS.format(300)}; UPDATE public.notes SET hash = '' WHERE id::text < '00000065'; ANALYZE notes")
    empty.add_backfill("002", after="001", **HASH)
    monkeypatch.setattr(backfill, "_TELL", 0.0)
    fork = Fork(notes, empty.root / "alembic.ini")
    assert fork.run("upgrade", "head") == 0, fork.said
    told = re.findall(r"  002: (\d+) rows changed, (\d+) %, \d[\d.]* m?s left, [\d,]+ rows/s\n", fork.said)
    assert [(int(rows), int(share)) for rows, share in told[:2]] == [(0, 33), (100, 67)], fork.said


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"where": "hash IS NULL AND nix"}, "hash IS NULL AND nix"),
        ({"where": "note"}, "note"),
        ({"set": "hash = nix"}, "SET hash = nix"),
        ({"set": "hash = md5(note) || 1 / (length(note) - 8)"}, ""),
    ],
)
def test_an_error_is_told_where_its_author_wrote_it(
    notes: Database, empty: Project, change: dict[str, str], place: str
) -> None:
    notes.run(ROWS.format(300))
    empty.add_backfill("002", after="001", **HASH | change)
    done = upgraded(notes, empty)
    said(done, 7, "Revision 002 failed and was rolled back: ", "002_added.py, line 11:")
    assert "neuraknot_key" not in done.err
    assert "00000001" not in done.err
    lines = done.err.splitlines()
    carets = [number for number, line in enumerate(lines) if line.strip("| ") == "^"]
    assert [lines[number - 1][lines[number].index("^") :] for number in carets] == place.split()[-1:]


def test_a_batch_that_blocks_somebody_is_halved_after_a_pause(
    notes: Database, empty: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.run(ROWS.format(1000) + ";" + GATE.format(100))
    empty.add_backfill("002", after="001", **HASH)
    monkeypatch.setattr(time, "sleep", lambda _seconds: print("paused"))
    fork = Fork(notes, empty.root / "alembic.ini")
    with held(notes, "SELECT pg_advisory_lock(7)") as gate:

        def block() -> None:
            wait_until(lambda: notes.value(WAITING) == 1)
            change = "UPDATE public.notes SET note = 'mine' WHERE note = 'note 1'"
            application = threading.Thread(target=notes.run, args=[change])
            application.start()
            wait_until(lambda: notes.value(WAITING) == 2)
            gate.exec_driver_sql("SELECT pg_advisory_unlock(7)")
            application.join()

        blocking = threading.Thread(target=block)
        blocking.start()
        assert fork.run("upgrade", "head") == 0, fork.said
        blocking.join()
    assert fork.said.count("paused") == 1
    assert [rows for (rows,) in notes.run(BATCHES)][:2] == [100, 50]
    assert notes.run(CHANGES) == [(1, 1000)]


def test_a_batch_without_a_lock_is_tried_again_and_those_before_it_stay(
    notes: Database, empty: Project, tmp_path: Path
) -> None:
    notes.run(ROWS.format(1000))
    expected = 'expects = {"no hash is there": "SELECT id FROM public.notes WHERE hash IS NOT NULL"}'
    empty.add_backfill("002", after="001", extra=f"batch_duration = '50ms'\n{expected}", **HASH)
    with (
        held(notes, "UPDATE public.notes SET note = note || '.' WHERE note = 'note 101'") as application,
        running(
            notes, "upgrade", "head", said=tmp_path / "said", cwd=empty.root, NEURAKNOT_LOCK_PAUSE="100ms"
        ) as migration,
    ):
        migration.says("Revision 002, with 100 rows changed: no lock in time, try 2 of 10")
        application.commit()
        done = migration.ended()
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 1000)]
    assert [rows for (rows,) in notes.run(BATCHES)][:2] == [100, 100]
    assert ("002", "failed") in log_of(notes, "revision, outcome")
    failed = "SELECT error FROM neuraknot_db.migration_log WHERE outcome = 'failed' LIMIT 1"
    assert "in time and was rolled back to its last batch, with 100 rows changed" in str(notes.value(failed))


def test_many_rows_that_match_behind_many_that_dont_are_no_large_batch(notes: Database, empty: Project) -> None:
    notes.run(f"{ROWS.format(20_000)}; UPDATE public.notes SET hash = 'x' WHERE id::text < '00004'")
    notes.run("UPDATE public.notes SET batch = NULL, changes = 0")
    empty.add_backfill("002", after="001", **HASH)
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(BATCHES)[0] == (100,)
    assert notes.value("SELECT count(*) FROM public.notes WHERE changes = 1") == 20_000 - 0x4000 + 1


ADDED = "INSERT INTO public.notes SELECT {}::uuid, 'added' ON CONFLICT DO NOTHING"
FIRST_KEY = "'00000000-0000-0000-0000-000000000000'"


def test_a_reset_runs_it_as_one_update(notes: Database, empty: Project) -> None:
    empty.add("002", ROWS.format(300), after="001")
    empty.add_backfill("003", after="002", **HASH)
    done = notes.neuraknot_db("reset", "--confirm", notes.name, cwd=empty.root)
    assert done.code == 0, done.err
    assert notes.run(BATCHES) == [(300,)]


def test_one_after_another(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(150))
    empty.add_backfill("002", after="001", **HASH)
    empty.add_backfill("003", after="002", table="notes", set="note = 'x'", where="note <> 'x'")
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run("SELECT count(*) FROM public.notes WHERE note = 'x' AND hash <> md5(note)") == [(150,)]
    assert notes.run(CHANGES) == [(1, 150)]


def test_a_table_without_rows(notes: Database, empty: Project) -> None:
    empty.add_backfill("002", after="001", **HASH)
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert log_of(notes)[-1] == ("002", "upgrade", "succeeded")


def test_what_is_wrong_with_it_is_found_without_rows(notes: Database, empty: Project) -> None:
    empty.add_backfill("002", after="001", **HASH | {"set": "hash = nix"})
    said(upgraded(notes, empty), 7, 'Revision 002 failed and was rolled back: column "nix" does not exist', "line 11")
    assert log_of(notes)[-1] == ("002", "upgrade", "failed")


def test_rows_that_are_added_behind_the_position(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(300) + ";" + ON_UPDATE.format(ADDED.format(FIRST_KEY), "NEW.note = 'note 300'"))
    empty.add_backfill("002", after="001", **HASH)
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 301)]
    assert "  002 goes through once more" in done.err
    assert "still, or again" not in done.err


def test_rows_that_are_added_without_an_end_are_told(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(300) + ";" + ON_UPDATE.format(ADDED.format("gen_random_uuid()"), "true"))
    empty.add_backfill("002", after="001", **HASH)
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    left = notes.value("SELECT count(*) FROM public.notes WHERE hash IS NULL")
    assert f"002: {left} rows match its where" in done.err
    assert "`ensures`" in done.err


def test_a_where_that_stays_true(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(250))
    stays = {"set": "hash = CASE WHEN note < 'note 150' OR length(note) < 8 THEN md5(note) END"}
    empty.add_backfill("002", after="001", **HASH | stays)
    done = upgraded(notes, empty)
    said(done, 7, "Revision 002 failed and was rolled back to its last batch, with 100 rows changed: ")
    assert "of a batch still match where after the change" in done.err
    assert "Hint: The database is at 001. Let set make false what where asks for" in done.err
    assert notes.run(CHANGES) == [(0, 150), (1, 100)]
    assert notes.run(PROGRESS) == [("002", 100)]
    assert log_of(notes)[-1] == ("002", "upgrade", "failed")


def test_a_where_that_reads_what_a_trigger_changes(notes: Database, empty: Project) -> None:
    notes.run(ROWS.format(150) + "; CREATE TABLE public.todo AS SELECT id FROM public.notes")
    notes.run(ON_UPDATE.format("DELETE FROM public.todo WHERE id = NEW.id", "true"))
    empty.add_backfill("002", after="001", **HASH | {"where": "id IN (SELECT id FROM public.todo)"})
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 150)]


@pytest.mark.parametrize(
    ("make", "table", "message"),
    [
        ("", "nowhere", "which does not exist"),
        ("CREATE VIEW public.v AS TABLE public.notes", "v", "which is a view"),
        ("CREATE TABLE public.p (id int PRIMARY KEY, hash text) PARTITION BY LIST (id)", "p", "which is partitioned"),
        ("CREATE TABLE public.c () INHERITS (public.notes)", "notes", "which has tables that inherit from it"),
        ("CREATE TABLE public.k (id int, hash text)", "k", "which has no primary key"),
        (
            "CREATE TABLE public.k (a int, b int, PRIMARY KEY (a, b))",
            "public.k",
            "which has a primary key of 2 columns",
        ),
    ],
)
def test_a_table_that_batches_can_not_go_through(
    notes: Database, empty: Project, make: str, table: str, message: str
) -> None:
    notes.run(make or "SELECT 1")
    before = notes.value(SCHEMA)
    empty.add_backfill("002", after="001", **HASH | {"table": table})
    said(upgraded(notes, empty), 5, f"Revision 002 can't change {table} in batches, {message}: it was not begun.")
    assert notes.value(SCHEMA) == before


@pytest.mark.parametrize(("kind", "value"), [("int", "g"), ("char(9)", r"'%''\ ' || g")])
def test_quoted_names_and_any_keys(database: Database, empty: Project, kind: str, value: str) -> None:
    make = (
        'CREATE SCHEMA "My ""schema";'
        f' CREATE TABLE "My ""schema"."{{T}}" ("The {{key}}" {kind} PRIMARY KEY, note text);'
        f' INSERT INTO "My ""schema"."{{T}}" SELECT {value} FROM generate_series(1, 250) g'
    )
    empty.add("001", make, after="")
    empty.add_backfill(
        "002", after="001", table='"My ""schema"."{T}"', set="note = '{x} % :y'", where="note IS NULL --"
    )
    done = upgraded(database, empty)
    assert done.code == 0, done.err
    assert database.value("""SELECT count(*) FROM "My ""schema"."{T}" WHERE note = '{x} % :y'""") == 250


def test_rows_that_the_role_may_not_see(notes: Database, empty: Project) -> None:
    role = f"plain_{notes.name}"
    notes.run(f"""
        {ROWS.format(20)}; CREATE ROLE {role} LOGIN; ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;
        CREATE POLICY p ON public.notes USING (note < 'note 2');
        GRANT CREATE, USAGE ON SCHEMA public, neuraknot_db TO {role};
        GRANT ALL ON ALL TABLES IN SCHEMA public, neuraknot_db TO {role}""")
    try:
        empty.add_backfill("002", after="001", **HASH)
        done = upgraded(notes.as_user(role), empty)
        said(done, 5, "Row-level security may hide rows of notes", "Hint: Migrate as the owner of notes")
        assert notes.run(CHANGES) == [(0, 20)]
    finally:
        notes.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_table_that_goes_between_two_batches(notes: Database, empty: Project, tmp_path: Path) -> None:
    notes.run(ROWS.format(300) + ";" + GATE.format(100))
    empty.add_backfill("002", after="001", **HASH)
    with (
        held(notes, "SELECT pg_advisory_lock(7)") as gate,
        running(notes, "upgrade", "head", said=tmp_path / "said", cwd=empty.root) as migration,
    ):
        wait_until(lambda: notes.value(WAITING) == 1)
        dropping = threading.Thread(target=notes.run, args=["ALTER TABLE public.notes RENAME TO gone"])
        dropping.start()
        wait_until(lambda: notes.value(WAITING) == 2)
        gate.exec_driver_sql("SELECT pg_advisory_unlock(7)")
        done = migration.ended()
        dropping.join()
    said(done, 7, "Revision 002 failed and was rolled back to its last batch, with 100 rows changed: relation")
    assert "002_added.py, line 11:" in done.err
    assert "00000064" not in done.err


def test_the_lock_of_the_run_is_still_held_at_each_batch(notes: Database, empty: Project, tmp_path: Path) -> None:
    notes.run(ROWS.format(300))
    notes.run(GATE.format(101).replace("BEGIN ", "BEGIN PERFORM pg_advisory_unlock_all(); "))
    empty.add_backfill("002", after="001", **HASH)
    with (
        held(notes, "SELECT pg_advisory_lock(7)") as gate,
        running(notes, "upgrade", "head", said=tmp_path / "said", cwd=empty.root) as migration,
    ):
        wait_until(lambda: notes.value(WAITING) == 1)
        assert gate.exec_driver_sql(f"SELECT pg_try_advisory_lock({lock.KEY})").scalar()
        gate.exec_driver_sql("SELECT pg_advisory_unlock(7)")
        done = migration.ended()
    said(done, 4, "another has it now: it was rolled back to its last batch, with 100 rows changed.")
    assert notes.run(CHANGES) == [(0, 200), (1, 100)]


def test_what_it_expects_is_asked_before_and_what_it_ensures_behind_the_last_batch(
    notes: Database, empty: Project
) -> None:
    notes.run(ROWS.format(300))
    conditions = """
expects = {"every note is there": "SELECT id FROM public.notes WHERE note IS NULL"}
ensures = {"no hash is bad": "SELECT id FROM public.notes WHERE hash = 'bad'"}
"""
    empty.add_backfill("002", after="001", extra=conditions, **HASH)
    notes.run("UPDATE public.notes SET note = NULL WHERE note = 'note 1'")
    said(upgraded(notes, empty), 5, "1 row breaks that: it was not begun.")
    notes.run("UPDATE public.notes SET note = 'note 1' WHERE note IS NULL")
    notes.run("UPDATE public.notes SET hash = 'bad' WHERE note = 'note 7'")
    done = upgraded(notes, empty)
    said(done, 7, "Revision 002 ensures", "1 row breaks that: it was not recorded.", "299 rows stay changed.")
    notes.run("UPDATE public.notes SET note = NULL WHERE note = 'note 2'")
    said(upgraded(notes, empty), 5, "1 row breaks that: it stays at 299 rows changed.")
    notes.run("UPDATE public.notes SET note = '' WHERE note IS NULL; DELETE FROM public.notes WHERE hash = 'bad'")
    done = upgraded(notes, empty)
    assert done.code == 0, done.err
    assert notes.run(CHANGES) == [(1, 299)]
    assert notes.run(PROGRESS) == []


@pytest.fixture
def unfinished(notes: Database, empty: Project) -> Database:
    """A database whose backfill stopped after its first batch."""
    notes.run(ROWS.format(300) + ";" + ON_UPDATE.format("PERFORM 1 / 0", "NEW.note = 'note 101'"))
    empty.add_backfill("002", after="001", **HASH)
    said(upgraded(notes, empty), 7, "with 100 rows changed: division by zero")
    notes.run("DROP TRIGGER also ON public.notes; DROP FUNCTION public.also")
    return notes


def test_one_that_is_edited_in_between(unfinished: Database, empty: Project) -> None:
    assert unfinished.run(PROGRESS) == [("002", 100)]
    empty.add_backfill("002", after="001", **HASH | {"where": "hash IS NULL /* a comment */", "set": "hash=md5(note)"})
    before = unfinished.value(SCHEMA)
    empty.add_backfill(
        "002", after="001", **HASH | {"set": "hash = 'x' || md5(note)", "where": "hash !~ 'x' IS NOT false"}
    )
    done = upgraded(unfinished, empty)
    said(
        done,
        5,
        "The backfill of revision 002 was edited after its batches had changed 100 rows, which stay, so nothing",
    )
    assert unfinished.value(SCHEMA) == before
    done = upgraded(unfinished, empty, "-x", "accept_edit=002")
    assert done.code == 0, done.err
    assert unfinished.run(CHANGES) == [(1, 200), (2, 100)]
    assert unfinished.run(PROGRESS) == []


@pytest.mark.parametrize("way", ["downgrade", "stamp", "reset", "script"])
def test_its_position_is_forgotten_by_what_else_moves_the_database(
    unfinished: Database, empty: Project, way: str
) -> None:
    assert unfinished.run(PROGRESS) == [("002", 100)]
    if way == "reset":
        done = unfinished.neuraknot_db("reset", "--no-upgrade", "--confirm", unfinished.name, cwd=empty.root)
    elif way == "script":
        done = unfinished.alembic("downgrade", "001:base", "--sql", cwd=empty.root)
        assert "DELETE FROM neuraknot_db.backfill_progress WHERE true" in done.out
        unfinished.run("DELETE FROM neuraknot_db.backfill_progress")
    else:
        done = unfinished.alembic(way, "base", cwd=empty.root)
    assert done.code == 0, done.err
    assert unfinished.run(PROGRESS) == []


def test_the_rights_that_only_a_backfill_needs(notes: Database, empty: Project, database: Database) -> None:
    notes.run(ROWS.format(150))
    role = f"plain_{notes.name}"
    rights = f"""
        CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA public, neuraknot_db TO {role};
        GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA neuraknot_db TO {role};
        GRANT UPDATE ON neuraknot_db.settings TO {role};
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"""
    notes.run(rights)
    try:
        plain = notes.as_user(role)
        empty.add("002", "SELECT 1", after="001")
        for move in ("upgrade", "downgrade"):
            done = plain.alembic(move, "+1" if move == "upgrade" else "-1", cwd=empty.root)
            assert done.code == 0, done.err
        empty.add_backfill("002", after="001", **HASH)
        done = upgraded(plain, empty)
        grant = f'GRANT UPDATE, DELETE ON neuraknot_db.backfill_progress TO "{role}"'
        said(done, 5, f"User {role} may not keep the position of a backfill", f"Hint: As an administrator: {grant}")
        notes.run(grant)
        done = upgraded(plain, empty)
        assert done.code == 0, done.err
        assert notes.run(CHANGES) == [(1, 150)]
    finally:
        notes.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.slow
def test_it_waits_for_a_standby_and_for_a_slot(empty: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        running_15("-E", "UTF8", more="-c max_wal_size=32MB -c min_wal_size=32MB") as server,
        standby_of(server) as standby,
    ):
        notes, replica = server.database("postgres"), standby.database("postgres")
        empty.add("001", TABLE, after="")
        assert upgraded(notes, empty).code == 0
        notes.run(ROWS.format(1000))
        empty.add_backfill("002", after="001", **HASH)
        monkeypatch.setattr(backfill, "LAG", "0.3s")
        fork, seen = Fork(notes, empty.root / "alembic.ini"), []

        replica.run("SELECT pg_wal_replay_pause()")
        notes.run(ROWS.format(1).replace("1,", "2000,").replace(", 1)", ", 2000)"))
        wait_until(lambda: notes.value("SELECT max(replay_lag) > interval '0.3s' FROM pg_stat_replication"))
        monkeypatch.setenv("NEURAKNOT_LOCK_WAIT", "0")
        assert fork.run("upgrade", "head") == 4
        assert "Revision 002 waited 0 ms, since the standby walreceiver is 00:00:0" in fork.said
        assert "Hint: The database is at 001. See SELECT * FROM pg_stat_replication; once that is over" in fork.said

        def resume() -> None:
            wait_until(lambda: "  002 waits: the standby walreceiver is" in fork.said)
            seen.append(notes.value(DONE))
            replica.run("SELECT pg_wal_replay_resume()")

        monkeypatch.delenv("NEURAKNOT_LOCK_WAIT")
        resuming = threading.Thread(target=resume)
        resuming.start()
        assert fork.run("upgrade", "head") == 0, fork.said
        resuming.join()
        assert seen == [0]
        assert notes.value(DONE) == notes.value("SELECT count(*) FROM public.notes")

        notes.run("SELECT pg_create_physical_replication_slot('left', true)")
        for _ in range(6):
            notes.run("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
        notes.run("CHECKPOINT")
        empty.add_backfill("003", after="002", table="notes", set="hash = ''", where="hash <> ''")
        done = upgraded(notes, empty, NEURAKNOT_LOCK_WAIT="0")
        said(
            done, 4, "since WAL piles up for the replication slot left (extended)", "SELECT * FROM pg_replication_slots"
        )
        notes.run("SELECT pg_drop_replication_slot('left')")

        notes.run(
            "CREATE ROLE plain LOGIN; GRANT USAGE, CREATE ON SCHEMA neuraknot_db, public TO plain;"
            " GRANT ALL ON ALL TABLES IN SCHEMA neuraknot_db, public TO plain"
        )
        done = upgraded(notes.as_user("plain"), empty)
        assert done.code == 0, done.err
        assert done.err.count('not known without GRANT pg_read_all_stats TO "plain": it is not waited for') == 1
