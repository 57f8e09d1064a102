"""What `plan` says that a statement locks and does is what the server does, when it runs on tables with rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from neuraknot_db.database.create import scratch_database
from neuraknot_db.database.session import open_session
from neuraknot_db.dev.measure import merged, one_way
from neuraknot_db.schema import effects, snapshots
from neuraknot_db.schema.catalog import read_schema
from neuraknot_db.schema.effects import Effect, Effects, LockMode, Measured, Measurement
from tests.db.conftest import Database, Project, Server
from tests.db.measuring import measured, settings_of

TABLES = """
CREATE TABLE parent (id int PRIMARY KEY, other int);
CREATE TABLE t (
    id int PRIMARY KEY, a int, b int NOT NULL DEFAULT 0, proven int, v10 varchar(10), txt text, n numeric(5,2),
    ts timestamp, tz timestamptz(3), c char(3), parent_id int,
    checked varchar(5) CHECK (checked <> ''),
    CONSTRAINT t_proven CHECK (proven IS NOT NULL AND a < 9),
    CONSTRAINT t_parent FOREIGN KEY (parent_id) REFERENCES parent (id)
);
ALTER TABLE t ADD CONSTRAINT t_lax CHECK (a > 0) NOT VALID;
ALTER TABLE t ADD CONSTRAINT t_lax_parent FOREIGN KEY (a) REFERENCES parent (id) NOT VALID;
INSERT INTO parent VALUES (1);
INSERT INTO t SELECT 1, 1, 1, 1, 'x', 'x', 1, now(), now(), 'x', 1;
CREATE INDEX t_a ON t (a);
CREATE UNIQUE INDEX t_b ON t (b);
CREATE TABLE parts (id int) PARTITION BY LIST (id);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE lone (id int CONSTRAINT parts_check CHECK (id < 99));
CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER t_trigger AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop();
CREATE TABLE seen (id int);
CREATE MATERIALIZED VIEW m AS SELECT id FROM seen;
CREATE UNIQUE INDEX m_id ON m (id);
CREATE VIEW v AS SELECT id FROM seen;
CREATE SEQUENCE s;
CREATE TABLE published (id int);
CREATE PUBLICATION pub FOR TABLE published;
CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (4, 5) PARTITION BY LIST (id);
CREATE TABLE part_2a PARTITION OF part_2 FOR VALUES IN (5);
CREATE INDEX parts_id ON parts (id);
ALTER TABLE parts ADD CONSTRAINT parts_check CHECK (id < 99) NOT VALID;
CREATE TRIGGER parts_trigger AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION noop();
CREATE TABLE base (id int NOT NULL, w varchar(5));
CREATE TABLE heir () INHERITS (base);
CREATE INDEX base_id ON base (id);
ALTER TABLE base ADD CONSTRAINT base_check CHECK (id < 99) NOT VALID;
INSERT INTO base VALUES (1, 'x');
INSERT INTO heir VALUES (2, 'x');
CREATE TABLE grand (id int PRIMARY KEY, code varchar(5) UNIQUE);
CREATE TABLE child (id int PRIMARY KEY, grand_id int REFERENCES grand, code varchar(5) REFERENCES grand (code));
CREATE TABLE grandchild (id int PRIMARY KEY, child_id int REFERENCES child, own_id int REFERENCES grandchild);
CREATE TABLE stranger (code varchar(5) REFERENCES grand (code));
INSERT INTO grand VALUES (1, 'x');
INSERT INTO child VALUES (1, 1, 'x');
CREATE TYPE mood AS ENUM ('a');
CREATE DOMAIN amount AS int;
CREATE TABLE moody (mood mood, mood_name text, moods mood[]);
CREATE TABLE sums (amount_paid amount);
CREATE FUNCTION one() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE calls_in_default (id int DEFAULT public.one());
CREATE TABLE calls_in_check (one int CHECK (one > one()));
CREATE TABLE calls_in_index (one int);
CREATE INDEX ON calls_in_index ((one + one()));
CREATE TABLE tells (id int);
CREATE TRIGGER tells_trigger AFTER INSERT ON tells FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE parent_of_lone (id int);
CREATE TABLE open_parts (id int) PARTITION BY LIST (id);
CREATE TABLE open_1 PARTITION OF open_parts FOR VALUES IN (1);
CREATE TABLE open_rest PARTITION OF open_parts DEFAULT;
INSERT INTO open_parts VALUES (1), (2);
CREATE TABLE proven_parts (id int) PARTITION BY LIST (id);
CREATE TABLE proven_lone (id int NOT NULL CHECK (id = 8));
INSERT INTO proven_lone VALUES (8);
INSERT INTO sums VALUES (1);
CREATE FUNCTION locks_seen() RETURNS int LANGUAGE plpgsql AS 'BEGIN LOCK TABLE seen; RETURN 1; END';
CREATE PROCEDURE adds_a_column() LANGUAGE plpgsql AS 'BEGIN ALTER TABLE lone ADD y int; END';
CREATE FUNCTION goes_on() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END';
CREATE TABLE cascading (id int);
CREATE TRIGGER cascading_trigger AFTER INSERT ON cascading FOR EACH ROW EXECUTE FUNCTION goes_on();
CREATE SCHEMA other;
CREATE TABLE other.far (id int);
CREATE TABLE filled (id int);
INSERT INTO filled SELECT generate_series(1, 3);
"""

FORMS = """
ALTER TABLE t ADD COLUMN x int
ALTER TABLE t ADD x int DEFAULT 7 NOT NULL, ADD y text DEFAULT 'a' || 'b'
ALTER TABLE t ADD COLUMN IF NOT EXISTS x timestamptz NOT NULL DEFAULT now()
ALTER TABLE t ADD COLUMN x timestamptz DEFAULT clock_timestamp()
ALTER TABLE t ADD COLUMN x uuid DEFAULT gen_random_uuid()
ALTER TABLE t ADD COLUMN x bigserial
ALTER TABLE t ADD COLUMN x int GENERATED BY DEFAULT AS IDENTITY
ALTER TABLE t ADD COLUMN x int GENERATED ALWAYS AS (a + 1) STORED
ALTER TABLE t ADD COLUMN x int UNIQUE
ALTER TABLE t ADD COLUMN x int CHECK (x > 0)
ALTER TABLE t ADD COLUMN x int REFERENCES parent
ALTER TABLE t DROP COLUMN a
ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT 5, ALTER b DROP DEFAULT
ALTER TABLE t ALTER b DROP NOT NULL
ALTER TABLE t ALTER COLUMN a SET NOT NULL
ALTER TABLE t ALTER COLUMN b SET NOT NULL
ALTER TABLE t ALTER COLUMN proven SET NOT NULL
ALTER TABLE t ALTER COLUMN a SET STATISTICS 50
ALTER TABLE t ALTER COLUMN a SET (n_distinct = 5)
ALTER TABLE t ALTER COLUMN txt SET STORAGE EXTERNAL
ALTER TABLE t ALTER COLUMN v10 TYPE varchar(20)
ALTER TABLE t ALTER COLUMN v10 TYPE text
ALTER TABLE t ALTER COLUMN v10 TYPE varchar(5)
ALTER TABLE t ALTER COLUMN txt SET DATA TYPE character varying
ALTER TABLE t ALTER COLUMN txt TYPE varchar(20)
ALTER TABLE t ALTER COLUMN a TYPE bigint
ALTER TABLE t ALTER COLUMN a TYPE int4
ALTER TABLE t ALTER COLUMN parent_id TYPE int4
ALTER TABLE t ALTER COLUMN checked TYPE varchar(9)
ALTER TABLE t ALTER COLUMN v10 TYPE text USING trim(v10)
ALTER TABLE t ALTER COLUMN n TYPE decimal(7, 2)
ALTER TABLE t ALTER COLUMN n TYPE numeric
ALTER TABLE t ALTER COLUMN n TYPE numeric(7,3)
ALTER TABLE t ALTER COLUMN ts TYPE timestamp(0)
ALTER TABLE t ALTER COLUMN tz TYPE timestamptz(5)
ALTER TABLE t ALTER COLUMN tz TYPE timestamp with time zone
ALTER TABLE t ALTER COLUMN c TYPE text
ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0)
ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0) NOT VALID
ALTER TABLE t ADD CHECK (a > 0), ADD COLUMN y int
ALTER TABLE t ADD CONSTRAINT x UNIQUE (a)
ALTER TABLE t ADD CONSTRAINT x UNIQUE USING INDEX t_b
ALTER TABLE t ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES parent (id)
ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES parent NOT VALID
ALTER TABLE lone ADD PRIMARY KEY (id)
ALTER TABLE t VALIDATE CONSTRAINT t_lax
ALTER TABLE t VALIDATE CONSTRAINT t_lax_parent
ALTER TABLE t DROP CONSTRAINT t_proven
ALTER TABLE t DROP CONSTRAINT t_parent
ALTER TABLE t DISABLE TRIGGER t_trigger
ALTER TABLE t ENABLE ALWAYS TRIGGER t_trigger
ALTER TABLE t ENABLE ROW LEVEL SECURITY
ALTER TABLE t SET (fillfactor = 90)
ALTER TABLE t SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)
ALTER TABLE t RESET (fillfactor)
ALTER TABLE t CLUSTER ON t_a
ALTER TABLE t SET UNLOGGED
ALTER TABLE t OWNER TO CURRENT_USER
ALTER TABLE t REPLICA IDENTITY FULL
ALTER TABLE t RENAME COLUMN a TO x
ALTER TABLE t RENAME TO x
ALTER TABLE parts ATTACH PARTITION lone FOR VALUES IN (2)
ALTER TABLE parts DETACH PARTITION part_1
ALTER TABLE lone INHERIT parent_of_lone
ALTER INDEX t_a RENAME TO x
CREATE INDEX x ON t (a)
CREATE UNIQUE INDEX x ON ONLY public.t USING btree (a, lower(txt)) WHERE a > 0
DROP INDEX t_a
DROP INDEX IF EXISTS public.t_a, t_b
REINDEX TABLE t
REINDEX INDEX t_a
CREATE TRIGGER x BEFORE UPDATE OF a ON t FOR EACH ROW EXECUTE FUNCTION noop()
CREATE OR REPLACE TRIGGER t_trigger AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION noop()
DROP TRIGGER t_trigger ON t
ALTER TRIGGER t_trigger ON t RENAME TO x
CREATE POLICY x ON t
CREATE RULE x AS ON DELETE TO t DO INSTEAD NOTHING
CREATE STATISTICS x ON a, b FROM t
COMMENT ON TABLE t IS 'x'
COMMENT ON COLUMN public.t.a IS 'x'
COMMENT ON COLUMN t.a IS 'x'
COMMENT ON CONSTRAINT t_lax ON t IS 'x'
COMMENT ON TRIGGER t_trigger ON t IS 'x'
COMMENT ON FUNCTION noop() IS 'x'
CREATE TABLE x (id int REFERENCES parent, t_id int, FOREIGN KEY (t_id) REFERENCES t (id))
CREATE TABLE x (LIKE t)
CREATE TABLE x PARTITION OF parts FOR VALUES IN (3)
CREATE TABLE x AS SELECT t.id FROM t JOIN parent USING (id)
DROP TABLE t CASCADE
DROP TABLE lone CASCADE
DROP VIEW v
CREATE VIEW x AS SELECT id FROM lone
TRUNCATE t
TRUNCATE TABLE ONLY lone
INSERT INTO lone (id) SELECT id FROM t
UPDATE t SET a = 2 WHERE id IN (SELECT id FROM lone)
DELETE FROM ONLY t USING lone WHERE t.id = lone.id
WITH gone AS (DELETE FROM lone RETURNING id) SELECT * FROM gone
SELECT count(*) FROM t
SELECT id FROM t FOR UPDATE
WITH x AS (SELECT 1) SELECT t.id FROM t FOR NO KEY UPDATE OF t
WITH x AS (SELECT id FROM t FOR UPDATE SKIP LOCKED) UPDATE lone SET id = 1 FROM x WHERE x.id = lone.id
WITH x AS (SELECT 1 AS id) INSERT INTO parent SELECT id FROM x ON CONFLICT (id) DO UPDATE SET other = 1
INSERT INTO lone SELECT id FROM t FOR SHARE
SELECT 1 FROM (SELECT id FROM t FOR KEY SHARE) x
CREATE PUBLICATION x FOR TABLE t, ONLY public.lone (id), TABLE parent WHERE (id > 0)
CREATE PUBLICATION x FOR TABLE base
CREATE PUBLICATION x FOR TABLE ONLY base
CREATE PUBLICATION x FOR TABLES IN SCHEMA public
CREATE PUBLICATION x FOR ALL TABLES
ALTER PUBLICATION pub ADD TABLE t
ALTER PUBLICATION pub DROP TABLE published
ALTER PUBLICATION pub RENAME TO x
SELECT extract(year FROM ts), substring(txt FROM 2) FROM t WHERE a IS DISTINCT FROM b
SELECT 1 FROM lone l, parent AS p JOIN t x ON true, generate_series(1, 2) g
SELECT 1 FROM (SELECT id FROM lone) AS t
LOCK TABLE t, lone IN SHARE ROW EXCLUSIVE MODE
LOCK t
CLUSTER t USING t_a
REFRESH MATERIALIZED VIEW m
REFRESH MATERIALIZED VIEW CONCURRENTLY m
ANALYZE t
CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE TYPE x AS ENUM ('a')
GRANT SELECT ON t TO CURRENT_USER
TRUNCATE grand CASCADE
TRUNCATE TABLE grand, child, grandchild, stranger
TRUNCATE parts
TRUNCATE base
TRUNCATE ONLY base
TRUNCATE ONLY base, parts
TRUNCATE grandchild CASCADE
DROP TABLE grand CASCADE
DROP TABLE child CASCADE
DROP TABLE grand, child, grandchild, stranger
DROP TABLE parts
DROP TABLE part_1
DROP TABLE part_2a
DROP TABLE base CASCADE
DROP TABLE heir
ALTER TABLE grand DROP CONSTRAINT grand_pkey CASCADE
ALTER TABLE grand DROP CONSTRAINT grand_code_key CASCADE
ALTER TABLE grand DROP COLUMN code CASCADE
ALTER TABLE grand ADD x int, DROP id CASCADE
ALTER TABLE grand ALTER COLUMN id TYPE bigint
ALTER TABLE grand ALTER COLUMN code TYPE varchar(9)
ALTER TABLE grand RENAME COLUMN id TO x
DROP FUNCTION noop CASCADE
DROP FUNCTION IF EXISTS public.one() CASCADE
DROP FUNCTION one(), tell() CASCADE
DROP TYPE mood CASCADE
DROP DOMAIN amount CASCADE
ALTER TABLE parts ADD COLUMN x int
ALTER TABLE base ADD COLUMN x int
ALTER TABLE base ADD COLUMN x bigserial
ALTER TABLE base DROP COLUMN w
ALTER TABLE ONLY base DROP COLUMN w
ALTER TABLE ONLY base DROP CONSTRAINT base_check
ALTER TABLE ONLY base ALTER COLUMN w SET DEFAULT 'a'
ALTER TABLE base ALTER COLUMN w SET DEFAULT 'a'
ALTER TABLE base ALTER COLUMN w SET NOT NULL
ALTER TABLE base ALTER COLUMN w SET STATISTICS 5
ALTER TABLE base ALTER COLUMN w TYPE varchar(3)
ALTER TABLE base ALTER COLUMN w TYPE text
ALTER TABLE base ADD CONSTRAINT x CHECK (id > 0)
ALTER TABLE base VALIDATE CONSTRAINT base_check
ALTER TABLE base DROP CONSTRAINT base_check
ALTER TABLE base RENAME COLUMN w TO y
ALTER TABLE base RENAME CONSTRAINT base_check TO y
ALTER TABLE base RENAME TO y
ALTER TABLE base OWNER TO CURRENT_USER
ALTER TABLE base SET (fillfactor = 90)
ALTER TABLE base SET (fillfactor = 90), ADD COLUMN x int
ALTER TABLE base SET UNLOGGED
ALTER TABLE base REPLICA IDENTITY FULL
ALTER TABLE base ENABLE ROW LEVEL SECURITY
ALTER TABLE base CLUSTER ON base_id
ALTER TABLE heir NO INHERIT base
ALTER TABLE parts DISABLE TRIGGER parts_trigger
ALTER TABLE parts DROP CONSTRAINT parts_check
ALTER TABLE parts ADD PRIMARY KEY (id)
ALTER TABLE parts ADD FOREIGN KEY (id) REFERENCES grand
ALTER TABLE parts RENAME COLUMN id TO y
ALTER TABLE parts OWNER TO CURRENT_USER
ALTER TABLE parts DETACH PARTITION part_2
ALTER TABLE part_1 ADD CHECK (id < 44)
CREATE INDEX x ON parts (id)
CREATE INDEX x ON ONLY parts (id)
CREATE INDEX x ON base (id)
DROP INDEX parts_id
CREATE TRIGGER x AFTER INSERT ON parts FOR EACH ROW EXECUTE FUNCTION noop()
CREATE TRIGGER x AFTER INSERT ON base FOR EACH ROW EXECUTE FUNCTION noop()
DROP TRIGGER parts_trigger ON parts
ALTER TRIGGER parts_trigger ON parts RENAME TO y
LOCK TABLE parts IN SHARE MODE
LOCK TABLE base
LOCK TABLE ONLY base
COMMENT ON TABLE parts IS 'x'
CREATE RULE x AS ON DELETE TO base DO INSTEAD NOTHING
CLUSTER base USING base_id
DELETE FROM base
UPDATE parts SET id = 1
UPDATE ONLY base SET id = 1
SELECT id FROM base FOR UPDATE
CREATE TABLE x () INHERITS (base)
DO $$BEGIN IF true THEN EXECUTE 'DROP TABLE lone'; END IF; EXECUTE format('ALTER TABLE t ADD x int'); END$$
DO 'BEGIN PERFORM 1; EXECUTE ''DROP TABLE lone''; END'
SET LOCAL lock_timeout = 0
ALTER SEQUENCE s INCREMENT 2
ALTER SEQUENCE s RESTART
SELECT nextval('s')
CREATE OR REPLACE VIEW v AS SELECT id FROM seen WHERE id > 0
CREATE OR REPLACE VIEW v AS SELECT id, 1 AS one FROM seen
ALTER VIEW v RENAME TO x
ALTER DOMAIN amount ADD CHECK (VALUE > 0)
ALTER DOMAIN amount ADD CONSTRAINT x CHECK (VALUE > 0) NOT VALID
ALTER DOMAIN amount SET NOT NULL
ALTER DOMAIN amount SET DEFAULT 1
ALTER TYPE mood ADD VALUE 'b'
ALTER TYPE mood RENAME TO x
CREATE TABLE x PARTITION OF open_parts FOR VALUES IN (7)
ALTER TABLE open_parts ATTACH PARTITION lone FOR VALUES IN (8)
ALTER TABLE proven_parts ATTACH PARTITION proven_lone FOR VALUES IN (8)
ALTER TABLE open_parts DETACH PARTITION open_1
DROP TABLE open_1
DROP TABLE open_rest
INSERT INTO open_parts VALUES (1), (9)
UPDATE open_parts SET id = 9 WHERE id = 1
DELETE FROM open_parts WHERE id = 1
INSERT INTO tells VALUES (1)
INSERT INTO cascading VALUES (1)
INSERT INTO child VALUES (5000, 1, 'x')
SELECT locks_seen()
SELECT count(*) FROM t WHERE id IN (SELECT locks_seen())
WITH x AS (SELECT locks_seen() AS id) SELECT id FROM x
INSERT INTO filled SELECT locks_seen()
UPDATE filled SET id = locks_seen()
DO $$BEGIN PERFORM locks_seen(); END$$
DO $$BEGIN FOR i IN 1..2 LOOP EXECUTE format('ALTER TABLE %I ADD y int', (ARRAY['t', 'lone'])[i]); END LOOP; END$$
DO $$BEGIN IF EXISTS (SELECT FROM filled) THEN DELETE FROM filled; END IF; END$$
CALL adds_a_column()
LOCK TABLE v
INSERT INTO v VALUES (1)
DELETE FROM v
SELECT id FROM v
MERGE INTO t USING parent ON t.id = parent.id WHEN MATCHED THEN DELETE
WITH moved AS (DELETE FROM filled RETURNING id) INSERT INTO seen SELECT id FROM moved
WITH one AS (UPDATE t SET n = 2 RETURNING id), two AS (DELETE FROM filled) INSERT INTO seen SELECT id FROM one
DROP TABLE IF EXISTS nowhere
DROP SCHEMA public CASCADE
DROP EXTENSION IF EXISTS citext CASCADE
DROP SEQUENCE s CASCADE
DROP VIEW v CASCADE
ALTER TABLE t ADD x int REFERENCES parent ON DELETE CASCADE, DROP b CASCADE
ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (a WITH =)
ALTER TABLE t ALTER COLUMN a DROP EXPRESSION IF EXISTS
ALTER TABLE t ALTER COLUMN txt SET COMPRESSION pglz
ALTER TABLE t SET SCHEMA other
ALTER TABLE other.far ADD COLUMN x int
CREATE SCHEMA x
ALTER TABLE ALL IN TABLESPACE pg_default SET TABLESPACE pg_default
""".strip().splitlines()


AS_RUN = """
SELECT c.relname, max(array_position(ARRAY['AccessShareLock', 'RowShareLock', 'RowExclusiveLock',
           'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'],
           l.mode))
  FROM pg_locks l JOIN before c ON c.oid = l.relation
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation'
 GROUP BY 1
"""
BEFORE = """
CREATE TEMP TABLE before AS
SELECT oid, CASE relnamespace WHEN 'public'::regnamespace THEN '' ELSE relnamespace::regnamespace || '.' END || relname
       AS relname, relfilenode, relkind FROM pg_class
 WHERE relnamespace IN ('public'::regnamespace, 'other'::regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'S')
   AND relname <> 'alembic_version'
"""
ANEW = """
SELECT r.relname FROM before r JOIN pg_class c USING (oid)
 WHERE c.relfilenode <> r.relfilenode AND r.relkind IN ('r', 'm')
"""
MORE_ROWS = """
INSERT INTO grand SELECT g, g FROM generate_series(2, 500) g;
INSERT INTO child SELECT g, g, g FROM generate_series(10, 500) g;
INSERT INTO grandchild SELECT g, g FROM generate_series(10, 500) g;
INSERT INTO parent SELECT generate_series(2, 500);
INSERT INTO t SELECT g, g, g, g, 'x', 'x', 1, now(), now(), 'x', g FROM generate_series(2, 8) g;
INSERT INTO filled SELECT generate_series(10, 500);
INSERT INTO base SELECT g, 'x' FROM generate_series(10, 90) g;
INSERT INTO moody VALUES ('a', 'a', '{a}');
INSERT INTO part_2a VALUES (5);
INSERT INTO seen SELECT generate_series(10, 500);
ANALYZE
"""
"""That the sample rows are few must make no difference."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a statement did."""

    locks: Mapping[str, LockMode]
    anew: frozenset[str]


def as_run(connection: Connection, sql: str) -> Seen:
    """Run a statement and take it back."""
    connection.exec_driver_sql(BEFORE)
    connection.exec_driver_sql("COMMIT; BEGIN")
    try:
        connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        held = {name: LockMode(mode) for name, mode in connection.exec_driver_sql(AS_RUN)}
        return Seen(held, frozenset(name for (name,) in connection.exec_driver_sql(ANEW)))
    finally:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("DROP TABLE before; COMMIT")
        connection.rollback()


@pytest.mark.slow
def test_what_plan_says_is_what_the_server_does(new_database: Callable[..., Database], empty: Project) -> None:
    sample, live = new_database(), new_database()
    empty.add("001", TABLES, after="")
    names = [f"{number:03d}" for number in range(2, len(FORMS) + 2)]
    for before, revision, sql in zip(["001", *names], names, FORMS, strict=False):
        empty.add(revision, sql, after=before)
    script = ScriptDirectory(str(empty.root / "alembic"))
    assert live.neuraknot_db("upgrade", "001", cwd=empty.root).code == 0
    live.run(MORE_ROWS)
    sample.run(TABLES)
    with sample.connect() as connection:
        schema = read_schema(connection)
    for revision in ["001", *names]:
        snapshots.path_of(script, revision).write_text(snapshots.render(revision, schema))
    failed: list[str] = []
    with open_session(settings_of(sample)) as connection:
        for revision in names:
            connection.begin()  # each statement is measured, and run, from the same state
            way = one_way(connection, settings_of(sample), script.get_revision(revision), "upgrade")
            connection.rollback()
            if way.failure:
                failed.append(f"{FORMS[int(revision) - 2]}: {way.failure}")
            source = Path(script.get_revision(revision).path).read_bytes()
            text = effects.render(revision, Effects(effects.checksum(source), 15, upgrade=way))
            effects.path_of(script, revision).write_text(text)
    assert not failed, "\n".join(failed)
    done = live.neuraknot_db("plan", "--json", cwd=empty.root)
    assert done.code == 0, done.err
    wrong, marked = [], 0
    with live.engine().connect() as connection:
        for planned, sql in zip(json.loads(done.out)["revisions"], FORMS, strict=True):
            said = [lock for statement in planned["statements"] for lock in statement["locks"]]
            seen = as_run(connection, sql)
            locks = {lock["table"]: LockMode[lock["mode"].replace(" ", "_")] for lock in said if lock["mode"]}
            anew = {lock["table"] for lock in said if lock["rewritten"] or lock["emptied"]}
            if any(statement["note"] for statement in planned["statements"]):
                marked += 1
            if seen.locks != locks:
                wrong.append(f"{sql}: locks {shown(seen.locks)}; said {shown(locks)}")
            if seen.anew != anew:
                wrong.append(f"{sql}: writes {sorted(seen.anew)} anew; said {sorted(anew)}")
    assert not wrong, "\n".join(wrong)
    assert len(FORMS) >= 90
    print(f"{len(FORMS)} statements, {marked} of them marked")


@pytest.mark.slow
def test_15_and_18_do_the_same_but_for_two_statements(server_15: Server, server_18: Server, empty: Project) -> None:
    names = [f"{number:03d}" for number in range(1, len(FORMS) + 1)]
    for before, revision, sql in zip(["", *names], names, FORMS, strict=False):
        empty.add(revision, sql, after=before)
    script = ScriptDirectory(str(empty.root / "alembic"))
    found: list[list[Measurement]] = []
    for server in (server_15, server_18):
        with scratch_database(settings_of(server)) as where, open_session(where) as connection:
            connection.exec_driver_sql(TABLES)
            connection.commit()
            ways = []
            for revision in names:
                connection.begin()
                ways.append(one_way(connection, where, script.get_revision(revision), "upgrade"))
                connection.rollback()
            found.append(ways)
    assert [sql for sql, one, other in zip(FORMS, *found, strict=True) if one != other] == [
        # 18 reads t by its index.
        "WITH x AS (SELECT id FROM t FOR UPDATE SKIP LOCKED) UPDATE lone SET id = 1 FROM x WHERE x.id = lone.id",
        # 18 locks t, ACCESS SHARE.
        "GRANT SELECT ON t TO CURRENT_USER",
    ]


def shown(modes: Mapping[str, LockMode]) -> str:
    return ", ".join(f"{name} {mode}" for name, mode in sorted(modes.items())) or "none"


# What no transaction takes: other sessions hold the tables, and what is waited for is what is asked for.
_SUE, _AE = LockMode.SHARE_UPDATE_EXCLUSIVE, LockMode.ACCESS_EXCLUSIVE
ALONE = {
    # By relation: the lock, whether it is written anew, whether an index is built.
    "CREATE INDEX CONCURRENTLY i ON t (a)": {"t": (_SUE, False, True)},
    "DROP INDEX CONCURRENTLY t_a": {"t": (_SUE, False, False)},
    "REINDEX INDEX CONCURRENTLY t_a": {"t": (_SUE, False, True)},
    "REINDEX (CONCURRENTLY) TABLE t": {"t": (_SUE, False, True)},
    "ALTER TABLE parts DETACH PARTITION part_1 CONCURRENTLY": {
        "parts": (_SUE, False, False),
        "part_1": (_AE, False, False),
    },
    "VACUUM t": {"t": (_SUE, False, False)},
    "VACUUM (FULL, ANALYZE) t": {"t": (_AE, True, False)},
    "VACUUM FULL filled, seen": {"filled": (_AE, True, False), "seen": (_AE, True, False)},
    "CLUSTER t USING t_a": {"t": (_AE, True, False)},
    "REINDEX TABLE t": {"t": (LockMode.SHARE, False, True)},
    "ALTER TABLE t ADD COLUMN x int": {"t": (_AE, False, False)},
}


@pytest.mark.parametrize("sql", ALONE)
def test_what_no_transaction_takes(empty: Project, database: Database, sql: str) -> None:
    database.run(TABLES)
    empty.add("001", sql, after="", extra="transactional = False")
    revision = ScriptDirectory(str(empty.root / "alembic")).get_revision("001")
    with open_session(settings_of(database)) as connection:
        (statement,) = one_way(connection, settings_of(database), revision, "upgrade").statements
    found = {each.relation: (each.lock, each.rewritten, each.index_built) for each in statement.effects}
    assert found == ALONE[sql]


def test_vacuum_of_all_takes_each_table(empty: Project, database: Database) -> None:
    empty.add("001", "CREATE TABLE one (id int); CREATE TABLE two (id int PRIMARY KEY)", after="")
    empty.add("002", "VACUUM FULL", after="001", extra="transactional = False")
    (statement,) = measured(empty.root, database)["002"].upgrade.statements
    found = {effect.relation: (effect.lock, effect.rewritten) for effect in statement.effects}
    assert found == dict.fromkeys(("one", "two"), (LockMode.ACCESS_EXCLUSIVE, True))


# The sample rows ----------------------------------------------------------------------------------------------------

MIXED = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN name AS varchar(20) NOT NULL;
CREATE TABLE owners (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name name, mood mood NOT NULL,
    tags text[] NOT NULL, document jsonb NOT NULL, at timestamptz NOT NULL, price numeric(5,2), ip inet, raw bytea);
CREATE TABLE things (id uuid PRIMARY KEY, owner bigint NOT NULL REFERENCES owners, next uuid REFERENCES things,
    span int4range, ok bool NOT NULL, days interval, twice int GENERATED ALWAYS AS (2) STORED);
CREATE TABLE choosy (word text CHECK (word IN ('only', 'these')));
CREATE TABLE "Odd ""name" (id serial, "a b" date NOT NULL);
CREATE TABLE late (id int) PARTITION BY LIST (id);
CREATE TABLE late_1 PARTITION OF late FOR VALUES IN (1);
"""


def test_a_table_without_sample_rows_gets_one_that_is_made_up(empty: Project, database: Database) -> None:
    empty.add("001", MIXED, after="")
    counting = "UPDATE {} SET {} RETURNING 1"
    empty.add(
        "002",
        ";\n".join(
            counting.format(*each)
            for each in (
                ("owners", "tags = '{x}'"),
                ("things", "ok = false"),
                ('"Odd ""name"', "id = 9"),
                ("late", "id = 1"),
            )
        ),
        after="001",
    )
    statements = measured(empty.root, database)["002"].upgrade.statements
    found = [effect.relation for each in statements for effect in each.effects if effect.rows_changed]
    assert found == ["owners", "things", '"Odd ""name"', "late_1"]


def test_a_table_that_a_way_back_makes_anew_gets_one_too(empty: Project, database: Database) -> None:
    empty.add("001", "CREATE TABLE one (a int)", "DELETE FROM one", after="")
    empty.add("002", "DROP TABLE one", "CREATE TABLE one (a int)", after="001")
    empty.add("003", "CREATE TABLE two (a int CHECK (a <> 1))", "ALTER TABLE two ADD CHECK (a > 5)", after="002")
    (empty.root / "alembic" / "snapshots" / "rows.sql").write_text("INSERT INTO one VALUES (1), (2)")
    (statement,) = measured(empty.root, database)["001"].downgrade.statements
    assert (statement.effects[0].rows_changed, statement.note) == (("deleted",), "")


def test_sample_rows_that_are_wrong_are_named(empty: Project, database: Database) -> None:
    empty.add("001", MIXED, after="")
    (empty.root / "alembic" / "snapshots" / "rows.sql").write_text("INSERT INTO choosy VALUES ('other')")
    done = database.neuraknot_db("snapshot", cwd=empty.root)
    assert done.code == 2
    assert "The sample rows of alembic/snapshots/rows.sql can't be inserted" in done.err
    assert "choosy_word_check" in done.err
    assert "valid at the first revision" in done.err


def test_a_way_that_fails_on_the_sample_rows_is_measured_without_them_and_says_so(
    empty: Project, database: Database
) -> None:
    empty.add("001", "CREATE TABLE one (a int)", after="")
    empty.add("002", "ALTER TABLE one ADD CHECK (a > 5)", after="001")
    empty.add("003", "ALTER TABLE one ADD b int", "ALTER TABLE one DROP b", after="002")
    found = measured(empty.root, database)
    (statement,) = found["002"].upgrade.statements
    assert statement.note.startswith("measured without rows: with the sample rows it fails: CheckViolation: check")
    assert [effect.lock for effect in statement.effects] == [LockMode.ACCESS_EXCLUSIVE]
    assert [each.effects[0].columns_dropped for each in found["003"].downgrade.statements] == [("b",)]
    assert not found["003"].upgrade.failure


@pytest.mark.slow
def test_a_way_that_can_not_be_run_is_not_measured_and_the_schemas_are_written_all_the_same(
    empty: Project, database: Database
) -> None:
    empty.add("001", "CREATE TABLE one (a int)", "DROP TABLE one", after="")
    empty.add("002", "ALTER TABLE one ADD b int", "ALTER TABLE one DROP b; SELECT 1/0", after="001")
    done = database.neuraknot_db("snapshot", cwd=empty.root)
    assert done.code == 0, done.err
    told = f"the downgrade of revision 002 was not measured: PostgreSQL {database.server}: DivisionByZero: division by"
    assert told in done.err
    assert len(list((empty.root / "alembic" / "snapshots").glob("00[12].json"))) == 2
    assert database.neuraknot_db("upgrade", "head", cwd=empty.root).code == 0
    second, first = json.loads(database.neuraknot_db("plan", "base", "--json", cwd=empty.root).out)["revisions"]
    assert (second["may_lock_more"], "division by zero" in second["failure"]) == (True, True)
    # What comes before it is measured where it was just applied.
    assert (first["may_lock_more"], first["statements"][0]["locks"][0]["dropped"]) == (False, True)
    told = database.neuraknot_db("lint", cwd=empty.root).out
    assert [line.partition(":")[0] for line in told.splitlines() if "not-measured" in line] == [
        "alembic/versions/002_added.py"
    ]
    assert "Correct what fails there" in told


def lint_of(database: Database, project: Project) -> list[str]:
    """The lines of `not-measured`, after a snapshot."""
    done = database.neuraknot_db("snapshot", cwd=project.root)
    assert done.code == 0, done.err
    return [each for each in database.neuraknot_db("lint", cwd=project.root).out.splitlines() if "not-measured" in each]


@pytest.mark.slow
def test_what_another_server_could_not_measure_counts_until_its_cause_is_edited(
    server_15: Server, server_18: Server, empty: Project
) -> None:
    old, new = server_15.database("postgres"), server_18.database("postgres")
    renames = ("ALTER TABLE one RENAME TO two", "ALTER TABLE two RENAME TO one")
    empty.add("001", "CREATE TABLE one (a int)", "DROP TABLE one", after="")
    empty.add("002", renames[0], "SELECT 1 / 0", after="001")
    empty.add("003", "ALTER TABLE two ADD b int", "DROP TABLE IF EXISTS one; SELECT 1/0", after="002")
    assert len(lint_of(old, empty)) == 2
    # The first line of the file moves all others: they are the same statements.
    first = empty.versions / "001_added.py"
    first.write_text("# A comment.\n" + first.read_text())
    assert len(lint_of(new, empty)) == 2
    kept = effects.read(empty.root / "alembic" / "snapshots" / "001.effects.json")
    assert kept
    assert [(each.line, each.note) for each in kept.downgrade.statements] == [(kept.downgrade.statements[0].line, "")]
    empty.add("002", *renames, after="001")
    empty.add("003", "ALTER TABLE two ADD b int", "ALTER TABLE two DROP b", after="002")
    assert lint_of(new, empty) == []


def test_a_downgrade_that_does_not_change_back_is_told_and_not_the_one_that_fails_behind_it(
    empty: Project, database: Database
) -> None:
    empty.add("001", "CREATE TABLE one (a int)", "DROP TABLE one", after="")
    empty.add("002", "ALTER TABLE one RENAME TO two", "SELECT 1", after="001")
    found = measured(empty.root, database)
    told = "behind it, the downgrade of revision 001 fails: UndefinedTable"
    assert told in found["002"].downgrade.failure
    assert not found["001"].downgrade.failure
    assert found["001"].downgrade.statements[0].effects[0].dropped
    (line,) = [each for each in database.neuraknot_db("lint", cwd=empty.root).out.splitlines() if told in each]
    assert line.startswith("alembic/versions/002_added.py:")
    empty.add("002", "ALTER TABLE one RENAME TO two", "ALTER TABLE two RENAME TO one", after="001")
    assert not any(each.downgrade.failure for each in measured(empty.root, database).values())


@pytest.mark.slow
@pytest.mark.parametrize("edited", [False, True])
def test_what_another_server_saw_with_a_revision_that_is_gone_does_not_count(
    server_15: Server, server_18: Server, empty: Project, edited: bool
) -> None:
    def touched(server: Server) -> list[str]:
        assert server.database("postgres").neuraknot_db("snapshot", cwd=empty.root).code == 0
        found = effects.read(empty.root / "alembic" / "snapshots" / "001.effects.json")
        assert found
        return [effect.relation for each in found.downgrade.statements for effect in each.effects]

    empty.add("001", "CREATE TABLE one (a int PRIMARY KEY)", "DROP TABLE one CASCADE", after="")
    other = empty.add("002", "CREATE TABLE two (a int REFERENCES one)", "SELECT 1", after="001")
    assert touched(server_15) == touched(server_18) == ["one", "two"]
    if edited:
        empty.add("002", "CREATE TABLE two (a int)", "SELECT 1", after="001")
    else:
        other.unlink()
    assert touched(server_18) == ["one"]


def test_a_reset_that_fails_is_told_and_kept_until_what_it_needs_is_edited(empty: Project, database: Database) -> None:
    empty.add("001", "CREATE TABLE one (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)", "DROP TABLE one", after="")
    empty.add("002", "INSERT INTO one VALUES (1), (1); DELETE FROM one", after="001")
    empty.add("003", "ALTER TABLE one ADD b int", "ALTER TABLE one DROP b", after="002")
    third = empty.root / "alembic" / "snapshots" / "003.effects.json"

    def snapshot() -> str:
        done = database.neuraknot_db("snapshot", cwd=empty.root)
        assert done.code == 0, done.err
        told = done.err.partition("a reset fails at revision 003, where an upgrade does not: ")[2].partition("\n")[0]
        assert json.loads(third.read_text()).get("reset", "") == told
        return told

    words = 'ObjectInUse: cannot ALTER TABLE "one" because it has pending trigger events'
    assert snapshot() == f"PostgreSQL {database.server}: {words}"
    assert database.neuraknot_db("snapshot", "--check", cwd=empty.root).code == 0
    # Another server's word stays as long as nothing was edited that comes before.
    ours, theirs = f"PostgreSQL {database.server}: ", "PostgreSQL 99: "
    third.write_text(third.read_text().replace(ours, theirs))
    assert database.neuraknot_db("snapshot", "--check", cwd=empty.root).code == 0
    empty.add("002", "SELECT 1", after="001")
    assert snapshot() == ""


COMPUTED = "DO $$BEGIN PERFORM chr(98)::mood; END$$"
MADE_IN_BLOCK = "DO $$BEGIN CREATE TYPE mood AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END$$"
ADDING = "DO $$BEGIN EXECUTE format('ALTER TYPE mood ADD VALUE %L', chr(98)); END$$"


@pytest.mark.parametrize(
    ("types", "then", "use", "fails"),
    [
        ("CREATE TYPE mood AS ENUM ('a')", "ALTER TYPE mood ADD VALUE 'b'", COMPUTED, True),
        ("CREATE TYPE mood AS ENUM ('a')", ADDING, "CREATE TABLE m (x mood DEFAULT 'b')", True),
        (MADE_IN_BLOCK, ADDING, COMPUTED, True),
        ("CREATE TYPE mood AS ENUM ('a', 'b')", "SELECT 1", COMPUTED, False),
        ("CREATE TYPE mood AS ENUM ('a', 'c')", "ALTER TYPE mood RENAME VALUE 'c' TO 'b'", COMPUTED, False),
        ("CREATE TYPE mood AS ENUM ('a')", "ALTER TYPE mood ADD VALUE 'b'", COMPUTED.replace("98", "97"), False),
    ],
)
def test_a_computed_use_of_a_new_value_is_found_on_a_newer_server_too(
    empty: Project, database: Database, types: str, then: str, use: str, fails: bool
) -> None:
    for revision, (sql, after) in {"001": (types, ""), "002": (then, "001"), "003": (use, "002")}.items():
        empty.add(revision, sql, after=after)
    found = measured(empty.root, database)
    assert not any(each.upgrade.failure for each in found.values())
    server = 18 if types == MADE_IN_BLOCK and database.server == "18" else min(int(database.server), 16)
    told = f"PostgreSQL {server}: UnsafeNewEnumValueUsage: unsafe use of new value"
    assert [each.reset.startswith(told) for each in found.values()] == [False, False, fails]
    assert any(each.reset for each in found.values()) is fails
    if fails:
        told = database.neuraknot_db("lint", "003", cwd=empty.root).out
        assert "A new value can't be used before a COMMIT" in told


def test_a_revision_that_goes_round_op_execute_is_measured_too(empty: Project, database: Database) -> None:
    empty.add("001", "CREATE TABLE one (a int)", after="")
    path = empty.add("002", "SELECT 1", after="001")
    path.write_text(path.read_text().replace("op.execute(", "op.get_bind().exec_driver_sql('TABLE one');op.execute("))
    (statement,) = measured(empty.root, database)["002"].upgrade.statements
    assert statement.effects == (Effect("one", lock=LockMode.ACCESS_SHARE, scanned=True),)


# The file -----------------------------------------------------------------------------------------------------------

ALL = Effect(
    "a", "view", LockMode.SHARE, LockMode.EXCLUSIVE, True, True, True, True, True, ("deleted",), ("x",), ("y",)
)
FOUND = Effects(
    "tree:1",
    18,
    Measurement((Measured(3, "UPDATE ü", (ALL, Effect('"b c"')), "n"), Measured(4, "DO"))),
    Measurement(failure="it \"failed\""),
)  # fmt: skip


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(effects.render("001", FOUND))
    assert effects.read(path) == FOUND
    json.loads(path.read_text())
    for text in ("{", "[]", "{}", '{"checksum": 1, "server": 1, "upgrade": [1], "downgrade": []}'):
        path.write_text(text)
        assert effects.read(path) is None


def measured_as(server: int, lock: LockMode, checksum: str = "tree:1") -> Effects:
    return Effects(checksum, server, Measurement((Measured(1, "x", (Effect("a", lock=lock),)),)))


def test_where_servers_differ_the_stronger_is_kept() -> None:
    weak, strong = measured_as(18, LockMode.SHARE), measured_as(15, LockMode.EXCLUSIVE)
    both = merged(weak, strong)
    (statement,) = both.upgrade.statements
    assert (statement.effects[0].lock, statement.note) == (
        LockMode.EXCLUSIVE,
        "servers differ: the stronger is told",
    )
    for again in (weak, strong):  # whoever measures next changes nothing
        assert merged(both, again) == both
    assert merged(weak, measured_as(15, LockMode.SHARE)) == weak
    assert merged(strong, measured_as(15, LockMode.SHARE)) == measured_as(15, LockMode.SHARE)
    assert merged(strong, measured_as(18, LockMode.SHARE, "tree:2")) == measured_as(18, LockMode.SHARE, "tree:2")
    only = dataclasses.replace(weak, upgrade=Measurement())
    assert merged(only, strong).upgrade.statements[0].note == "servers differ: the stronger is told"
    assert merged(None, weak) == weak
    failing = dataclasses.replace(strong, reset="PostgreSQL 15: it fails")
    for both in (merged(failing, weak), merged(merged(failing, weak), weak)):
        assert both.reset == failing.reset
    assert merged(failing, strong).reset == ""


def test_the_order_in_which_statements_ran_is_kept() -> None:
    def of(server: int, *lines: int) -> Effects:
        return Effects("tree:1", server, Measurement(tuple(Measured(line, f"x {line}", note="n") for line in lines)))

    def lines(found: Effects) -> list[int]:
        return [each.line for each in found.upgrade.statements]

    backward, more = of(18, 40, 10, 10), of(15, 40, 20, 10, 10, 5)
    assert merged(backward, of(18, 40, 10, 10)) == backward
    both = merged(backward, more)
    assert lines(both) == [40, 20, 10, 10, 5]
    for again in (backward, more):
        assert lines(merged(both, again)) == [40, 20, 10, 10, 5]


def test_an_edit_of_either_way_makes_it_stale_and_a_comment_does_not(empty: Project, database: Database) -> None:
    path = empty.add("001", "CREATE TABLE one (a int)", "DROP TABLE one", after="")
    measured(empty.root, database)
    script = ScriptDirectory(str(empty.root / "alembic"))
    text = path.read_text()
    for edited, stale in (
        (text.replace("CREATE TABLE one (a int)", "CREATE TABLE one (a  int) -- not null"), False),
        (text.replace("a int", "a text"), True),
        (text.replace("DROP TABLE one", "DROP TABLE two"), True),
        (text.replace("def up", "transactional = False\n\n\ndef up"), True),
        (text, False),
    ):
        path.write_text(edited)
        found = effects.load(script, script.get_revision("001"))
        assert (found == "it was edited after it was measured") is stale
        assert isinstance(found, str) is stale
