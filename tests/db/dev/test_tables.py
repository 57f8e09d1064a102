"""The テーブル定義書: it says what the schema holds, and shows each comment as it is, read as GitHub reads Markdown."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from neuraknot_db.dev import tables
from neuraknot_db.schema import snapshots
from neuraknot_db.schema.catalog import Column, Schema, Table, read_schema
from tests.db.conftest import Database, Finished, Project, Server

Tables = dict[str, list[list[str]]]
"""The rows of each table on a page, the titles first, by the headings above it."""

ODD = """
CREATE TYPE mood AS ENUM ('a|b', 'c');
CREATE TABLE _parent_ (id int PRIMARY KEY, code varchar(9) UNIQUE, at timestamptz(3));
CREATE TABLE "Odd, (name" (
    id bigint GENERATED ALWAYS AS IDENTITY,
    code varchar(9) DEFAULT 'x|y' NOT NULL,
    mood mood DEFAULT 'c',
    tags text[] DEFAULT ARRAY[]::text[],
    half numeric(3,2) CONSTRAINT chk_half CHECK (half BETWEEN 0 AND 2),
    CONSTRAINT odd_pkey PRIMARY KEY (id, code),
    CONSTRAINT odd_code CHECK (code IN ('`', '|') OR lower(code) = 'z'),
    CONSTRAINT odd_kept CHECK (id::text <> '1' AND tags <> (ARRAY[code] || tags)::text[] AND code::varchar(3) <> 'b'),
    CONSTRAINT odd_parent FOREIGN KEY (code) REFERENCES _parent_ (code) ON UPDATE CASCADE ON DELETE SET DEFAULT
        DEFERRABLE,
    CONSTRAINT odd_self FOREIGN KEY (id, code) REFERENCES "Odd, (name" ON DELETE SET NULL (code)
);
ALTER TABLE _parent_ ADD CONSTRAINT later CHECK (id > 0) NOT VALID;
CREATE UNIQUE INDEX odd_part ON "Odd, (name" (lower(code), half DESC) INCLUDE (mood) WHERE code <> 'a | b';
CREATE INDEX odd_hash ON "Odd, (name" USING hash (code);
CREATE VIEW seen AS SELECT id, code FROM _parent_;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION touch(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER "a trigger" BEFORE UPDATE OF code ON "Odd, (name" FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE "Odd, (name" DISABLE TRIGGER "a trigger";
COMMENT ON TABLE _parent_ IS 'the _parent_ | of *all*';
COMMENT ON COLUMN _parent_.id IS 'a | b';
COMMENT ON COLUMN _parent_.code IS E'first\n  second `line`';
COMMENT ON VIEW seen IS '<b>seen</b>';
COMMENT ON COLUMN seen.id IS 'of the view';
COMMENT ON CONSTRAINT later ON _parent_ IS 'on the constraint';
COMMENT ON CONSTRAINT odd_parent ON "Odd, (name" IS 'on the key';
COMMENT ON INDEX odd_part IS 'on the index';
COMMENT ON TRIGGER "a trigger" ON "Odd, (name" IS 'on the trigger';
COMMENT ON FUNCTION touch(integer) IS 'on the function';
COMMENT ON TYPE mood IS 'on the type';
"""


@pytest.fixture
def page(database: Database) -> str:
    database.run(ODD)
    with database.engine().connect() as connection:
        return tables.render("007", read_schema(connection), tables.read_comments(connection))


def test_it_says_what_the_schema_holds(page: str) -> None:
    assert read(page) == {
        "テーブル一覧": [
            ["No.", "テーブル名", "種類", "説明"],
            ["1", "Odd, (name #odd-name", "", ""],
            ["2", "_parent_ #_parent_", "", "the _parent_ | of *all*"],
            ["3", "seen #seen", "view", "<b>seen</b>"],
        ],
        "Odd, (name カラム": [
            ["No.", "カラム名", "型", "NOT NULL", "デフォルト", "説明"],
            ["1", "id", "bigint", "○", "GENERATED ALWAYS AS IDENTITY", ""],
            ["2", "code", "varchar(9)", "○", "'x|y'", ""],
            ["3", "mood", "mood", "", "'c'::mood", ""],
            ["4", "tags", "text[]", "", "ARRAY[]::text[]", ""],
            ["5", "half", "numeric(3,2)", "", "", ""],
        ],
        "Odd, (name 主キー・制約": [
            ["種類", "制約名", "内容"],
            ["主キー", "odd_pkey", "id, code"],
            ["チェック制約", "chk_half", "(half >= 0) AND (half <= 2)"],
            ["チェック制約", "odd_code", "(code = ANY (ARRAY['`', '|'])) OR (lower(code) = 'z')"],
            # Casts of the author's own stay.
            [
                "チェック制約",
                "odd_kept",
                "((id)::text <> '1') AND (tags <> (ARRAY[code] || (tags)::character varying[])::text[])"
                " AND (((code)::character varying(3))::text <> 'b')",
            ],
        ],
        "Odd, (name インデックス": [
            ["インデックス名", "一意", "方式", "カラム", "条件", "備考"],
            ["odd_hash", "", "hash", "code", "", ""],
            ["odd_part", "○", "btree", "lower(code), half DESC", "code <> 'a | b'", "INCLUDE (mood)、on the index"],
        ],
        "Odd, (name 外部キー": [
            ["外部キー名", "カラム", "参照先", "ON DELETE", "備考"],
            [
                "odd_parent",
                "code",
                "_parent_ #_parent_ code",
                "SET DEFAULT",
                "ON UPDATE CASCADE DEFERRABLE、on the key",
            ],
            ["odd_self", "id, code", "Odd, (name #odd-name id, code", "SET NULL (code)", ""],
        ],
        "Odd, (name 参照元": [
            ["テーブル名", "カラム", "外部キー名", "ON DELETE"],
            ["Odd, (name #odd-name", "id, code", "odd_self", "SET NULL (code)"],
        ],
        "Odd, (name トリガー": [
            ["トリガー名", "タイミング", "処理", "備考"],
            [
                "a trigger",
                "BEFORE UPDATE OF code",
                "FOR EACH ROW EXECUTE FUNCTION touch() (disabled)",
                "on the trigger",
            ],
        ],
        "_parent_ カラム": [
            ["No.", "カラム名", "型", "NOT NULL", "デフォルト", "説明"],
            ["1", "id", "integer", "○", "", "a | b"],
            ["2", "code", "varchar(9)", "", "", "first\nsecond `line`"],
            ["3", "at", "timestamptz(3)", "", "", ""],
        ],
        "_parent_ 主キー・制約": [
            ["種類", "制約名", "内容", "備考"],
            ["主キー", "_parent__pkey", "id", ""],
            ["一意制約", "_parent__code_key", "code", ""],
            ["チェック制約", "later", "id > 0", "NOT VALID、on the constraint"],
        ],
        "_parent_ 参照元": [
            ["テーブル名", "カラム", "外部キー名", "ON DELETE"],
            ["Odd, (name #odd-name", "code", "odd_parent", "SET DEFAULT"],
        ],
        "seen カラム": [
            ["No.", "カラム名", "型", "NOT NULL", "デフォルト", "説明"],
            ["1", "id", "integer", "", "", "of the view"],
            ["2", "code", "varchar(9)", "", "", ""],
        ],
        "関数": [
            ["関数名", "戻り値", "言語", "備考"],
            ["touch()", "trigger", "plpgsql", ""],
            ["touch(integer)", "integer", "sql", "on the function"],
        ],
        "その他のオブジェクト": [["種類", "名前", "定義", "備考"], ["enum", "mood", "('a|b', 'c')", "on the type"]],
    }


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\\|`_*[]<>&~$#")))
def test_a_comment_is_shown_as_it_is(comment: str) -> None:
    schema = Schema({"t": Table("t", {"c": Column("c", "text", nullable=True)})})
    shown = read(tables.render("001", schema, {("pg_class", "t", "c"): comment}))["t カラム"][1][-1]
    assert shown == "\n".join(" ".join(line.split()) for line in comment.strip().splitlines())


@pytest.mark.slow
def test_what_a_revision_changes_is_stale_until_it_is_written(server_18: Server, empty: Project) -> None:
    def snapshot(*options: str) -> Finished:
        return server_18.database("postgres").neuraknot_db("snapshot", *options, cwd=empty.root)

    docs = empty.root / "docs"
    docs.mkdir()
    empty.add("001", "CREATE TABLE public.users (id int PRIMARY KEY)", after="")
    assert snapshot().code == 0
    before = {path.name: path.read_bytes() for path in docs.iterdir()}
    assert sorted(before) == ["schema.mmd", "schema.svg", "tables.md"]
    empty.add(
        "002",
        "ALTER TABLE public.users ADD COLUMN boss_id int REFERENCES public.users ON DELETE SET NULL;"
        "CREATE INDEX idx_users_boss ON public.users (boss_id, id);"
        "COMMENT ON COLUMN public.users.boss_id IS '上司 | NULL = なし'",
        after="001",
    )
    done = snapshot("--check")
    assert done.code == 3
    assert "tables.md, schema.svg, schema.mmd" in done.err
    assert "Write them anew: neuraknot-db snapshot" in done.err
    assert {path.name: path.read_bytes() for path in docs.iterdir()} == before
    assert snapshot().code == 0
    after = read((docs / "tables.md").read_text(encoding="utf-8"))
    assert after["users カラム"][-1] == ["2", "boss_id", "integer", "", "", "上司 | NULL = なし"]
    assert after["users インデックス"][-1] == ["idx_users_boss", "", "btree", "boss_id, id", ""]
    assert after["users 外部キー"][-1] == ["users_boss_id_fkey", "boss_id", "users #users id", "SET NULL"]
    assert after["users 参照元"][-1] == ["users #users", "boss_id", "users_boss_id_fkey", "SET NULL"]
    assert ">SET NULL</text>" in (docs / "schema.svg").read_text(encoding="utf-8")
    (docs / "tables.md").unlink()
    (docs / "tables.md").symlink_to("/nowhere/tables.md")
    done = snapshot()
    assert done.code == 2
    assert "tables.md can't be written: No such file or directory." in done.err


def test_another_wording_is_another_page_but_the_same_snapshot(database: Database) -> None:
    pages, kept = [], []
    for words in ("上司", "上長"):
        database.run(f"CREATE TABLE IF NOT EXISTS t (); COMMENT ON TABLE t IS '{words}'")
        with database.engine().connect() as connection:
            schema = read_schema(connection)
            pages.append(tables.render("001", schema, tables.read_comments(connection)))
        kept.append(snapshots.render("001", schema))
    assert pages[0].replace("上司", "上長") == pages[1] != pages[0]
    assert kept[0] == kept[1]


# Markdown as GitHub reads it ---------------------------------------------------------------------------------------


def read(page: str) -> Tables:
    """Read a page's tables; a link is its text and its target."""
    found: Tables = defaultdict(list)
    chapter = part = ""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    for before, token in pairwise(tokens):
        if token.type == "tr_open":
            found[f"{chapter} {part}".strip()].append([])
        elif token.type == "inline" and before.type in ("td_open", "th_open"):
            found[f"{chapter} {part}".strip()][-1].append(shown(token))
        elif token.type == "inline" and before.tag in ("h1", "h2"):
            chapter, part = shown(token), ""
        elif token.type == "inline" and token.content.startswith("**"):
            part = shown(token)
    return dict(found)


def shown(token: Token) -> str:
    text = ""
    target = ""
    for child in token.children or ():
        if child.type == "link_open":
            target = f" {child.attrs['href']}"
        elif child.type == "link_close":
            text += target
        elif child.type == "html_inline":
            assert child.content == "<br>"
            text += "\n"
        else:
            text += child.content
    return text


def test_a_table_named_as_the_list_of_tables_is_linked() -> None:
    name = "テーブル一覧"
    schema = Schema(tables={name: Table(name=name)})
    assert f"[{name}](#{name}-1)" in tables.render("001", schema, {})
