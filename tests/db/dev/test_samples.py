"""Generated rows: each table gets some, and each column the values that break a way back."""

from __future__ import annotations

import pytest

from neuraknot_db.database import engine
from neuraknot_db.dev.samples import Samples
from tests.db.conftest import Database
from tests.db.measuring import settings_of

TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'so so', 'it''s ok');
CREATE DOMAIN code AS text CHECK (VALUE ~ '^[A-Z]{3}-[0-9]+$');
CREATE TABLE parents (
    id serial PRIMARY KEY, name varchar(5) UNIQUE, mood mood NOT NULL, level int CHECK (level BETWEEN 1 AND 7),
    size text CHECK (size IN ('S', 'M', 'L')), note text, at timestamptz, data jsonb, raw bytea, tags text[],
    price numeric(5, 2), up numeric GENERATED ALWAYS AS (price * 2) STORED, long varchar(3000), zone code
);
CREATE TABLE children (
    parent int PRIMARY KEY REFERENCES parents, other int REFERENCES parents, code code UNIQUE,
    UNIQUE (other, code)
);
CREATE TABLE "Odd ""ones" ("a b" date, parts int[]) PARTITION BY RANGE ("a b");
CREATE TABLE odd_ones PARTITION OF "Odd ""ones" DEFAULT;
CREATE TABLE never (a int CHECK (a > 1 AND a < 0 AND a IS NOT NULL));
"""

THERE = {
    "each label": "SELECT count(DISTINCT mood) = 3 FROM parents",
    "each value of a check": "SELECT array_agg(DISTINCT size) @> '{S,M,L}' FROM parents",
    "both ends of a check": "SELECT min(level) = 1 AND max(level) = 7 FROM parents",
    "the longest": "SELECT max(length(long)) = 3000 AND max(length(name)) = 5 FROM parents",
    "beyond ASCII": "SELECT bool_or(note = '日本語') AND bool_or(note = '🙂') AND bool_or(note LIKE '%\u0301%')"
    " FROM parents",
    "quotes and backslashes": r"""SELECT bool_or(note LIKE '%''%\\%"%') FROM parents""",
    "empty and NULL": "SELECT bool_or(note = '') AND bool_or(note IS NULL) AND bool_or(data IS NULL) FROM parents",
    "extremes": "SELECT max(at) = 'infinity' AND min(at) = '-infinity' AND bool_or(price = 999.99) FROM parents",
    "bytes": r"SELECT bool_or(raw = '') AND bool_or(raw = '\x00ff27') FROM parents",
    "lists": "SELECT bool_or(tags = '{}') AND bool_or(tags = '{NULL}') AND bool_or(cardinality(tags) = 2) FROM parents",
    "JSON": "SELECT count(DISTINCT jsonb_typeof(data)) = 5 FROM parents",
    "the like twice": "SELECT count(*) > 1 FROM parents"
    " WHERE note = 'x' AND level = 1 AND size = 'S' AND zone LIKE '___-%'",
    "a child for a parent each": "SELECT count(*) > 5 FROM children",
    "several parents": "SELECT count(DISTINCT other) > 1 AND bool_or(other IS NULL) FROM children",
    "texts that match": "SELECT count(DISTINCT code) > 3 FROM children",
    "parts": 'SELECT count(*) > 5 FROM "Odd ""ones"',
}


@pytest.fixture
def filled(database: Database) -> Samples:
    """Rows for a database in which some tables are hard to fill."""
    database.run(TABLES)
    with engine.connect(settings_of(database)) as connection:
        samples = Samples(connection)
        samples.insert()
        samples.vary()
    return samples


def test_every_value_worth_trying_is_there(filled: Samples, database: Database) -> None:
    assert [what for what, sql in THERE.items() if not database.value(sql)] == []
    assert {*filled.varied.values()} >= {"the values of another row", "mood = 'so so'", "other = NULL"}


def test_a_table_that_accepts_no_row_is_told_with_the_servers_words(filled: Samples) -> None:
    assert list(filled.refused) == ["public.never"]
    assert "never_a_check" in filled.refused["public.never"]
