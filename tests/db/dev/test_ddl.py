"""alembic/schema.sql: any PostgreSQL makes the same of it as the revisions do, and so does sqlc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from neuraknot_db.dev import ddl
from neuraknot_db.schema import compare, equivalence
from neuraknot_db.schema.catalog import Schema, read_schema
from neuraknot_db.settings import Settings
from tests.db.conftest import Database
from tests.db.schema.test_catalog import EVERYTHING

ODD = """
CREATE TABLE "Odd, ""(name" (
    id bigint GENERATED ALWAYS AS IDENTITY,
    "select" varchar(9) DEFAULT 'CONSTRAINT x NOT NULL' NOT NULL,
    "a
b" int,
    CONSTRAINT "odd pkey" PRIMARY KEY (id),
    CONSTRAINT "odd; key" UNIQUE ("select") DEFERRABLE,
    EXCLUDE USING btree (id WITH =)
);
ALTER TABLE "Odd, ""(name" RENAME "select" TO renamed;  -- PostgreSQL 18 keeps the older name in its NOT NULL's
ALTER TABLE "Odd, ""(name" ADD CONSTRAINT " UNIQUE " CHECK (id > 0 AND renamed <> ' PRIMARY KEY ') NOT VALID;
CREATE TABLE empty ();
CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
CREATE TABLE days (at date NOT NULL, id int REFERENCES base, PRIMARY KEY (at, id)) PARTITION BY LIST (at);
CREATE TABLE a_day PARTITION OF days FOR VALUES IN ('2026-11-27');
CREATE VIEW grouped AS SELECT o.*, count(*) AS n FROM "Odd, ""(name" o JOIN base USING (id) GROUP BY o.id;
CREATE TABLE zebra (id int PRIMARY KEY, other int REFERENCES zebra);
CREATE FUNCTION rows() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM zebra';  -- dumped before the table
CREATE FUNCTION atomic() RETURNS bigint BEGIN ATOMIC SELECT CASE count(*) WHEN 0 THEN 1 END FROM zebra; SELECT 2; END;
CREATE FUNCTION dumped() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
--
-- Name: dumped; Type: FUNCTION; Schema: public; Owner: -
--

    UPDATE zebra
SET other = 1;
    RETURN '
\\restrict x
SET row_security = off;';
END $$;
CREATE PROCEDURE done() LANGUAGE plpgsql AS 'BEGIN END';
CREATE POLICY own ON zebra USING (id > 0);
ALTER TABLE zebra ENABLE ROW LEVEL SECURITY;
CREATE SCHEMA app;
CREATE TABLE app.other (id int PRIMARY KEY, mood public.mood);
COMMENT ON TABLE zebra IS 'it''s a \\ "zebra";
-- SET x = 1;

SET y = 2;';
COMMENT ON COLUMN zebra.id IS 'シマウマ';
COMMENT ON CONSTRAINT zebra_pkey ON zebra IS '縞';
COMMENT ON CONSTRAINT "odd; key" ON "Odd, ""(name" IS 'odd';
COMMENT ON TYPE mood IS 'of the type';
"""
