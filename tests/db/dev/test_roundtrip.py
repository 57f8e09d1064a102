"""Bad ways back are found, each in a line that says what is wrong; good ones are let alone."""

from __future__ import annotations

import contextlib
import re

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from neuraknot_db.dev.roundtrip.trial import Course, Trial
from tests.db.conftest import Database, Project, Server
from tests.db.measuring import settings_of

BEFORE = """
CREATE TABLE teams (id serial PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    team_id int NOT NULL CONSTRAINT in_team REFERENCES teams ON DELETE CASCADE,
    email text NOT NULL UNIQUE CONSTRAINT with_at CHECK (email ~ '^[^@]+@[a-z]+$'),
    status varchar(10) NOT NULL DEFAULT 'new' CONSTRAINT known CHECK (status IN ('new', 'old')),
    score int, nick varchar(10), updated_at timestamp NOT NULL DEFAULT '2020-01-01'
);
CREATE INDEX by_score ON users (score);
COMMENT ON COLUMN users.score IS 'points';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.updated_at := now(); RETURN NEW; END$$;
CREATE TRIGGER touching BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE hits (url text, at timestamp);
CREATE TABLE kinds (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), kind text, "since then" timestamp DEFAULT now());
"""
ROWS = """
INSERT INTO teams (name) VALUES ('red'), ('blue');
INSERT INTO users (team_id, email, score) VALUES (1, 'hana@example', 3), (2, 'taro@example', 5);
INSERT INTO hits VALUES ('/', '2020-01-01'), ('/', '2020-01-01'), ('/a', NULL);
"""

NICKED = "ALTER TABLE users ADD nickname text"
KNOWN = "ALTER TABLE users DROP CONSTRAINT known, ADD CONSTRAINT known CHECK (status IN ('new', 'old'{}))"

BAD = {
    "lost rows": ("SELECT 1", "DELETE FROM users WHERE score = 5", r"downgrade\(\) loses \d+ rows? of users"),
    "an emptied table": ("SELECT 1", "DELETE FROM teams", r"loses \d+ rows of teams, and losses does not count"),
    "its dependants": ("SELECT 1", "DELETE FROM teams", r"loses \d+ rows of users"),
    "rows without a key": ("SELECT 1", "DELETE FROM hits WHERE at IS NULL", r"loses \d rows? of hits"),
    "an index": (
        "DROP INDEX by_score",
        "SELECT 1",
        "after downgrade(), users.by_score: index missing, expected CREATE INDEX by_score",
    ),
    "an index of another kind": (
        "DROP INDEX by_score",
        "CREATE UNIQUE INDEX by_score ON users (score)",
        r"downgrade\(\) fails in line \d+: could not create unique index \"by_score\"",
    ),
    "a unique constraint": (
        "ALTER TABLE users DROP CONSTRAINT users_email_key",
        "SELECT 1",
        "users.users_email_key: constraint missing",
    ),
    "a unique constraint that rows break": (
        "ALTER TABLE users DROP CONSTRAINT users_email_key",
        "ALTER TABLE users ADD UNIQUE (email)",
        r'downgrade\(\) fails in line \d+: could not create unique index "users_email_key" \(a row of users with',
    ),
    "a foreign key": ("ALTER TABLE users DROP CONSTRAINT in_team", "SELECT 1", "users.in_team: constraint missing"),
    "a foreign key that rows break": (
        "ALTER TABLE users DROP CONSTRAINT in_team",
        "ALTER TABLE users ADD CONSTRAINT in_team FOREIGN KEY (team_id) REFERENCES teams ON DELETE CASCADE",
        r"fails .* violates foreign key constraint \"in_team\" \(a row of users with team_id = ",
    ),
    "a foreign key's action": (
        "ALTER TABLE users DROP CONSTRAINT in_team",
        "ALTER TABLE users ADD CONSTRAINT in_team FOREIGN KEY (team_id) REFERENCES teams NOT VALID",
        "users.in_team: constraint FOREIGN KEY (team_id) REFERENCES teams(id), expected",
    ),
    "a check": (KNOWN.format(", 'gone'"), "ALTER TABLE users DROP CONSTRAINT known", "users.known: constraint missing"),
    "a check that new values break": (
        KNOWN.format(", 'gone'"),
        KNOWN.format(""),
        r"check constraint \"known\" of relation \"users\" is violated by some row \(a row of users with status = "
        r"'gone'",
    ),
    "a default": (
        "ALTER TABLE users ALTER status SET DEFAULT 'old'",
        "ALTER TABLE users ALTER status DROP DEFAULT",
        "users.status: default none, expected 'new'",
    ),
    "NOT NULL": ("ALTER TABLE users ALTER status DROP NOT NULL", "SELECT 1", "users.status: nullability NULL allowed"),
    "NOT NULL that rows break": (
        "ALTER TABLE users ALTER status DROP NOT NULL",
        "ALTER TABLE users ALTER status SET NOT NULL",
        r"column \"status\" of relation \"users\" contains null values \(a row of users with status = NULL\)",
    ),
    "a trigger": ("DROP TRIGGER touching ON users", "SELECT 1", "users.touching: trigger missing"),
    "a trigger that is left off": (
        "SELECT 1",
        "ALTER TABLE users DISABLE TRIGGER touching",
        "users.touching: trigger CREATE TRIGGER touching .* \\(disabled\\), expected",
    ),
    "a comment": ("COMMENT ON COLUMN users.score IS NULL", "SELECT 1", "users.score: comment missing"),
    "a table that stays": (
        "CREATE TABLE IF NOT EXISTS plans (id int PRIMARY KEY)",
        "SELECT 1",
        "after downgrade(), plans: unexpected table",
    ),
    "a type that stays": (
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE moods (mood mood PRIMARY KEY)",
        "DROP TABLE moods",
        "after downgrade(), mood: unexpected enum",
    ),
    "an upgrade that works once": (
        "CREATE SEQUENCE numbers",
        "SELECT 1",
        r'upgrade\(\) after downgrade\(\) fails in line \d+: relation "numbers" already exists',
    ),
    "a long value": (
        "ALTER TABLE users ALTER nick TYPE text",
        "ALTER TABLE users ALTER nick TYPE varchar(10)",
        r"value too long for type character varying\(10\) \(a row of users with nick = ",
    ),
    "cut values": (
        "ALTER TABLE users ALTER nick TYPE text",
        "ALTER TABLE users ALTER nick TYPE varchar(10) USING left(nick, 10)",
        r"downgrade\(\) changes \d rows? of users \(nick\), and losses does not count them",
    ),
    "a large number": (
        "ALTER TABLE users ALTER score TYPE bigint",
        "ALTER TABLE users ALTER score TYPE int",
        r"integer out of range \(a row of users with score = 9223372036854775807\)",
    ),
    "another type": (
        "ALTER TABLE users ALTER nick TYPE varchar(20)",
        "ALTER TABLE users ALTER nick TYPE varchar(12) USING left(nick, 12)",
        r"users.nick: type character varying\(12\), expected character varying\(10\)",
    ),
    "a new column's values": (NICKED, "ALTER TABLE users DROP nickname", r"downgrade\(\) changes \d+ rows of users"),
    "values that are touched": (
        KNOWN.format(", 'gone'"),
        "UPDATE users SET status = status;" + KNOWN.format(", 'gone'") + "; DELETE FROM users WHERE status = 'gone'; "
        + KNOWN.format(""),
        r"downgrade\(\) loses 1 row and changes \d+ rows of users \(updated_at\)",
    ),
    "a lost rename": (
        "ALTER TABLE users RENAME nick TO handle",
        "ALTER TABLE users DROP handle, ADD nick varchar(10)",
        r"downgrade\(\) changes \d+ rows of users \(handle\)",
    ),
    "a sequence that begins anew": (
        "ALTER TABLE teams ALTER id TYPE bigint",
        "ALTER TABLE teams ALTER id TYPE int; ALTER SEQUENCE teams_id_seq RESTART",
        r"the sequence of teams.id would give a value once more",
    ),
    "blanks": ("SELECT 1", "UPDATE users SET nick = btrim(nick)", r"changes \d+ rows of users \(nick, updated_at\)"),
    "other case": (
        "ALTER TABLE hits ADD id serial PRIMARY KEY",
        "UPDATE hits SET url = lower(url); ALTER TABLE hits DROP id",
        r"changes \d+ rows? of hits \(.*url",
    ),
    "keys that move": (
        "ALTER TABLE users DROP CONSTRAINT in_team,"
        " ADD CONSTRAINT in_team FOREIGN KEY (team_id) REFERENCES teams ON DELETE CASCADE ON UPDATE CASCADE",
        "UPDATE teams SET id = id + 1000; ALTER TABLE users DROP CONSTRAINT in_team,"
        " ADD CONSTRAINT in_team FOREIGN KEY (team_id) REFERENCES teams ON DELETE CASCADE",
        r"downgrade\(\) loses \d+ rows of teams",
    ),
    "a table made anew": (
        "SELECT 1",
        "CREATE TABLE other AS TABLE users; DROP TABLE users; ALTER TABLE other RENAME TO users",
        "users.users_pkey: constraint missing",
    ),
    "a clock of another zone": (
        "ALTER TABLE hits ALTER at TYPE timestamptz USING at AT TIME ZONE 'Asia/Tokyo'",
        "ALTER TABLE hits ALTER at TYPE timestamp",
        r"downgrade\(\) loses \d+ rows of hits",
    ),
    "a precision": (
        "ALTER TABLE hits ALTER at TYPE timestamp",
        "ALTER TABLE hits ALTER at TYPE timestamp(0); ALTER TABLE hits ALTER at TYPE timestamp",
        r"downgrade\(\) loses \d+ rows? of hits",
    ),
    "an older function": (
        "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SELECT 1",
        "after downgrade(), touch(): function text differs",
    ),
    "NULL and empty": (
        "SELECT 1",
        "ALTER TABLE users DISABLE TRIGGER touching; UPDATE users SET nick = coalesce(nick, '');"
        " ALTER TABLE users ENABLE TRIGGER touching",
        r"downgrade\(\) changes \d+ rows of users \(nick\)",
    ),
    "seeds that are not those": (
        "INSERT INTO kinds (kind) VALUES ('a')", "DELETE FROM kinds", r"downgrade\(\) loses \d+ rows? of kinds"
    ),
    "an error of its own": ("SELECT 1", "DO $$BEGIN RAISE 'not today'; END$$", "fails in line 14: not today"),
    "an upgrade that loses sample rows": ("DELETE FROM hits", "SELECT 1", r"upgrade\(\) loses \d rows? of hits"),
    "an upgrade that fails": ("ALTER TABLE users ADD CHECK (score > 5)", "SELECT 1", r"upgrade\(\) fails in line \d+"),
}  # fmt: skip

COUNTED = {
    "too few counted": (NICKED, "ALTER TABLE users DROP nickname", "SELECT count(*) FROM users WHERE nickname = ''"),
    "another table's": (NICKED, "ALTER TABLE users DROP nickname", "SELECT count(*) FROM hits"),
    "a query that fails": (NICKED, "ALTER TABLE users DROP nickname", "SELECT count(*) FROM users WHERE nack <> ''"),
}
COUNTS_HITS = "losses = {'ages': 'SELECT count(*) FROM hits WHERE age IS NOT NULL'}"
COUNTED_FOUND = {
    "too few counted": r"downgrade\(\) changes \d+ rows of users \(nickname\), and losses counts 1$",
    "another table's": r"and losses does not count them",
    "a query that fails": r'losses can\'t count nicknames: column "nack" does not exist',
}

GOOD = {
    "nothing": ("SELECT 1", "SELECT 1", ""),
    "a new column, counted": (
        NICKED,
        "ALTER TABLE users DROP nickname",
        "losses = {'nicknames': 'SELECT count(*) FROM public.users WHERE nickname IS NOT NULL'}",
    ),
    "a new table, counted": (
        "CREATE TABLE plans (user_id uuid PRIMARY KEY REFERENCES users, price numeric(5,2) CHECK (price >= 0.5),"
        " code text NOT NULL UNIQUE CHECK (code ~ '^[A-Z]{3}$'), tags text[], at timestamptz, data jsonb)",
        "DROP TABLE plans",
        "losses = {'plans': 'SELECT count(*) FROM plans'}",
    ),
    "a rename": ("ALTER TABLE users RENAME nick TO handle", "ALTER TABLE users RENAME handle TO nick", ""),
    "a renamed table": ("ALTER TABLE hits RENAME TO visits", "ALTER TABLE visits RENAME TO hits", ""),
    "values in another column": (
        "ALTER TABLE users ADD shout text; UPDATE users SET shout = upper(nick) || '!'; ALTER TABLE users DROP nick,"
        " ADD CHECK (shout = left(upper(shout), 10))",
        "ALTER TABLE users ADD nick varchar(10); UPDATE users SET nick = rtrim(lower(shout), '!');"
        " ALTER TABLE users DROP shout",
        "losses = {'marks within': 'SELECT count(*) FROM users'}",
    ),
    "a wider type, counted": (
        "ALTER TABLE users ALTER nick TYPE text",
        "ALTER TABLE users DISABLE TRIGGER touching, ALTER nick TYPE varchar(10) USING left(nick, 10);"
        " ALTER TABLE users ENABLE TRIGGER touching",
        "losses = {'ends': 'SELECT count(*) FROM users WHERE length(nick) > 10'}",
    ),
    "a backfill": ("ALTER TABLE users ADD x int; UPDATE users SET x = 1", "ALTER TABLE users DROP x",
                   "losses = {'x': 'SELECT count(*) FROM users WHERE x IS DISTINCT FROM 1'}"),
    "an index outside of a transaction": (
        "CREATE INDEX CONCURRENTLY by_nick ON users (nick)",
        "DROP INDEX CONCURRENTLY by_nick",
        "transactional = False",
    ),
    "a column that goes, and comes back empty": (
        "ALTER TABLE users DROP nick", "ALTER TABLE users ADD nick varchar(10)", ""
    ),
    "a table that goes, and comes back empty": ("DROP TABLE hits", "CREATE TABLE hits (url text, at timestamp)", ""),
    "a larger key": ("ALTER TABLE teams ALTER id TYPE bigint", "ALTER TABLE teams ALTER id TYPE int", ""),
    "values that only one way changes": ("UPDATE users SET nick = lower(nick)", "SELECT 1", ""),
    "a unique constraint that only generated rows break": (
        "ALTER TABLE users ADD UNIQUE (nick)", "ALTER TABLE users DROP CONSTRAINT users_nick_key", ""
    ),
    "doubles that go": (
        "DELETE FROM users a USING users b WHERE a.nick = b.nick AND a.id > b.id; ALTER TABLE users ADD UNIQUE (nick)",
        "ALTER TABLE users DROP CONSTRAINT users_nick_key",
        "",
    ),
    "a check that is not validated again": (
        KNOWN.format(", 'gone'"),
        KNOWN.format("") + " NOT VALID",
        "losses = {'gone': \"SELECT count(*) FROM users WHERE status = 'gone'\"}",
    ),
    "seeds": (
        "CREATE TABLE sizes (id serial PRIMARY KEY, size text UNIQUE); INSERT INTO sizes (size) VALUES ('S'), ('L')",
        "DROP TABLE sizes",
        "losses = {'sizes': 'SELECT count(*) FROM sizes'}",
    ),
    "seeds with a new key each time": (
        "INSERT INTO kinds (kind) VALUES ('a'), ('b')", "DELETE FROM kinds WHERE kind IN ('a', 'b')", ""
    ),
    "rows that move to another table": (
        "CREATE TABLE old (LIKE kinds INCLUDING ALL); INSERT INTO old SELECT * FROM kinds; DELETE FROM kinds",
        "INSERT INTO kinds SELECT * FROM old; DROP TABLE old",
        "",
    ),
    "a table in capitals": (
        'CREATE TABLE "Größe, \'in cm\'" (id serial PRIMARY KEY)',
        'DROP TABLE "Größe, \'in cm\'"',
        "losses = {'sizes': 'SELECT count(*) FROM \"Größe, \\'in cm\\'\"'}",
    ),
}  # fmt: skip


@pytest.fixture
def small(empty: Project) -> Project:
    """A project with some tables, and rows for them."""
    empty.add("001", BEFORE, "DROP TABLE hits, kinds, users, teams; DROP FUNCTION touch", after="")
    (empty.root / "alembic" / "snapshots" / "rows.sql").write_text(ROWS)
    return empty


def tried(project: Project, server: Server, revision: str = "002") -> Trial:
    config = Config(str(project.root / "alembic.ini"))
    script = ScriptDirectory.from_config(config)
    with contextlib.closing(Course(config, script, settings_of(server))) as course:
        return course.run(script.get_revision(revision))


@pytest.mark.parametrize("case", BAD)
def test_a_bad_way_back_is_found(case: str, small: Project, server: Server) -> None:
    upgrade, downgrade, expected = BAD[case]
    small.add("002", upgrade, downgrade, after="001")
    lines = "\n".join(tried(small, server).findings.values())
    assert expected in lines or re.search(expected, lines), lines


@pytest.mark.parametrize("case", COUNTED)
def test_losses_that_do_not_count_right_are_found(case: str, small: Project, server: Server) -> None:
    upgrade, downgrade, query = COUNTED[case]
    small.add("002", upgrade, downgrade, after="001", extra=f"losses = { ({'nicknames': query})!r}")
    lines = "\n".join(tried(small, server).findings.values())
    assert re.search(COUNTED_FOUND[case], lines, re.MULTILINE), lines


@pytest.mark.parametrize("case", GOOD)
def test_a_good_way_back_is_let_alone(case: str, small: Project, server: Server) -> None:
    upgrade, downgrade, extra = GOOD[case]
    small.add("002", upgrade, downgrade, after="001", extra=extra)
    trial = tried(small, server)
    assert trial.findings == {}
    assert re.fullmatch(r"back and up again with \d+ rows in \d tables", trial.told), trial.told


def test_what_can_not_be_tried_says_so_and_is_no_finding(small: Project, server: Server) -> None:
    small.add("002", "GRANT SELECT ON users TO nobody_here", "SELECT 1", after="001")
    small.add("003", "SELECT 1", after="002").write_text("revision = '003'\ndown_revision = '002'\n")
    lacking, missing = tried(small, server), tried(small, server, "003")
    assert lacking.told == 'not tried: upgrade() fails in line 10: role "nobody_here" does not exist'
    assert missing.told == "not tried: there is no downgrade()"
    assert not lacking.findings
    assert not missing.findings


def test_an_older_revision_that_fails_is_a_finding(small: Project, server: Server) -> None:
    small.add("002", "SELECT nonsense", "SELECT 1", after="001")
    small.add("003", "SELECT 1", "SELECT 1", after="002")
    trial = tried(small, server, "003")
    assert trial.told == "revision 002, before it, fails"
    assert [*trial.findings.values()] == ['revision 002, before it, fails in line 10: column "nonsense" does not exist']


def test_what_an_upgrade_changes_for_good_is_a_note(small: Project, server: Server) -> None:
    small.add("002", "UPDATE users SET score = score * 100", "SELECT 1", after="001")
    small.add("003", "UPDATE users SET score = score * 100", "UPDATE users SET score = score / 100", after="002")
    for_good, undone = tried(small, server), tried(small, server, "003")
    assert any(
        re.fullmatch(r"upgrade\(\) changes \d+ rows of users \(score.*\), and downgrade\(\) does not undo that", each)
        for each in for_good.notes
    )
    assert not any("(score" in each for each in undone.notes)


def test_expected_data_that_only_generated_rows_break_is_no_finding(small: Project, server: Server) -> None:
    asked = "expects = {'nicks are short': \"SELECT FROM users WHERE length(nick) > 5\"}"
    small.add("002", "SELECT 1", "SELECT 1", after="001", extra=asked)
    trial = tried(small, server)
    assert not trial.findings
    assert trial.notes[0].startswith('upgrade() fails: Revision 002 expects "nicks are short", and ')
    assert "a row of users with nick = " in trial.notes[0]


def test_an_upgrade_that_only_generated_rows_break_is_no_finding(small: Project, server: Server) -> None:
    unique = "ALTER TABLE users ADD CONSTRAINT u UNIQUE (nick)", "ALTER TABLE users DROP CONSTRAINT u"
    small.add("002", *unique, after="001")
    small.add("003", "UPDATE users SET email = left(lower(email), 4) || '@x'", "SELECT 1", after="002")
    first, second = tried(small, server), tried(small, server, "003")
    assert not first.findings
    assert not second.findings
    words = 'upgrade() fails in line 10: could not create unique index "u"; it was tried with the sample rows only'
    assert first.notes == [words]
    assert second.notes[-1].startswith("upgrade() after downgrade() fails in line 10: ")
    assert second.notes[-1].endswith(", with rows that have come since the first one")
    assert re.fullmatch(r"back with \d+ rows in \d tables", second.told)


def test_one_trial_leaves_nothing_to_the_next(small: Project, server: Server) -> None:
    small.add("002", NICKED, "DROP TABLE hits", after="001")
    small.add("003", "ALTER TABLE users ADD age int", "SELECT nonsense", after="002")
    small.add("004", "ALTER TABLE hits ADD age int", "ALTER TABLE hits DROP age", after="003", extra=COUNTS_HITS)
    config = Config(str(small.root / "alembic.ini"))
    script = ScriptDirectory.from_config(config)
    with contextlib.closing(Course(config, script, settings_of(server))) as course:
        found = [course.run(script.get_revision(each)).findings for each in ("001", "002", "003", "004")]
    assert [bool(each) for each in found] == [True, True, True, False]


def test_a_branch_and_a_merge_are_tried_where_they_stand(small: Project, server: Server) -> None:
    small.add("002", "CREATE TYPE one AS ENUM ('a')", "DROP TYPE one", after="001")
    small.add("003", "CREATE TYPE two AS ENUM ('a')", "DROP TYPE two", after="001")
    merge = small.add("004", "CREATE TYPE three AS ENUM ('a')", "DROP TYPE three", after="002")
    merge.write_text(merge.read_text().replace("down_revision = '002'", "down_revision = ('002', '003')"))
    for revision in ("003", "004"):
        assert tried(small, server, revision).findings == {}


@pytest.mark.slow
def test_our_own_revisions_are_clean_on_servers_of_the_machines_own(database: Database) -> None:
    done = database.neuraknot_db("test", "001:")
    assert (done.code, done.out) == (0, "")
    assert f"{database.name} on" in done.err
    assert "is left alone" in done.err
    for revision in ("002", "003", "004"):
        assert re.search(
            rf"^{revision} on PostgreSQL 18: back and up again with \d+ rows in 8 tables$", done.err, re.MULTILINE
        )
    assert database.value("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


@pytest.mark.slow
def test_a_finding_is_a_line_on_standard_output(small: Project, database: Database) -> None:
    small.add("002", "ALTER TABLE users ALTER status DROP NOT NULL", "SELECT 1", after="001")
    file = small.root / "alembic" / "versions" / "002_added.py"
    file.write_text(file.read_text().replace("def upgrade() -> None:", "def upgrade() -> None:\n    print('going up')"))
    done = database.neuraknot_db("test", "002", cwd=small.root)
    line = "alembic/versions/002_added.py: after downgrade(), users.status: nullability NULL allowed, expected NOT NULL"
    assert (done.code, done.out) == (3, f"{line}\n"), done.err
    assert re.search(r"1 finding in 1 revision on PostgreSQL (\d\d and )?18\.\nHint: ", done.err)


@pytest.mark.slow
def test_what_was_not_tried_is_named_in_the_last_line(small: Project, database: Database) -> None:
    small.add("002", "GRANT SELECT ON users TO nobody_here", "SELECT 1", after="001")
    done = database.neuraknot_db("test", "002", cwd=small.root)
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith("18: nothing found; not tried everywhere: 002\n"), done.err


def test_wrong_use_is_refused_before_a_server_starts(small: Project, database: Database) -> None:
    small.add("002", "SELECT 1", after="001")
    for arguments, words in (("9",), "no revision 9"), (("002:009",), "There is no range of revisions 002:009"):
        done = database.neuraknot_db("test", *arguments, cwd=small.root)
        assert (done.code, done.out) == (2, "")
        assert words in done.err
    small.add("003", "SELECT 1", after="001")
    done = database.neuraknot_db("test", cwd=small.root)
    assert done.code == 2
    assert "merge" in done.err
