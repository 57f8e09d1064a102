"""SQL is read as PostgreSQL reads it: by tables of what is known, by properties, and by asking the server."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neuraknot_db.database.sql_text import statements, tokens, without_literals
from tests.db.conftest import Server

KNOWN = [
    # comments
    ("1--x\n+2", [("number", "1"), ("operator", "+"), ("number", "2")]),
    ("a-- b\rc", [("name", "a"), ("name", "c")]),
    ("a/* /* */ ' */b", [("name", "a"), ("name", "b")]),
    ("a/* -- */b", [("name", "a"), ("name", "b")]),
    ("/* '", [("error", "/* '")]),
    ("a /* /* */", [("name", "a"), ("error", "/* /* */")]),
    # strings
    ("'it''s; --'", [("string", "'it''s; --'")]),
    (r"'\' x", [("string", r"'\'"), ("name", "x")]),
    (r"E'\' x'", [("string", r"E'\' x'")]),
    (r"e'\\' x", [("string", r"e'\\'"), ("name", "x")]),
    ("b'01' X'1F'", [("string", "b'01'"), ("string", "X'1F'")]),
    ("b'0''1'", [("string", "b'0'"), ("string", "'1'")]),
    ("n'a' N 'a'", [("string", "n'a'"), ("name", "N"), ("string", "'a'")]),
    ("U&'d\\0061' u& 'x'", [("string", "U&'d\\0061'"), ("name", "u"), ("operator", "&"), ("string", "'x'")]),
    ("thee'x'", [("name", "thee"), ("string", "'x'")]),
    ("'a", [("error", "'a")]),
    ("E'a\\'", [("error", "E'a\\'")]),
    # a string goes on after a line's end, and is then read as it began
    ("'a'\n'b'", [("string", "'a'"), ("continuation", "'b'")]),
    ("'a' -- c\n  'b'", [("string", "'a'"), ("continuation", "'b'")]),
    ("E'a'\n'\\''", [("string", "E'a'"), ("continuation", "'\\''")]),
    ("'a'\n'b'\n\n'c'", [("string", "'a'"), ("continuation", "'b'"), ("continuation", "'c'")]),
    ("'a' 'b'", [("string", "'a'"), ("string", "'b'")]),
    ("'a' /*\n*/ 'b'", [("string", "'a'"), ("string", "'b'")]),
    ("'a'\n E'b'", [("string", "'a'"), ("string", "E'b'")]),
    ("$$a$$\n'b'", [("string", "$$a$$"), ("string", "'b'")]),
    ("'a'\n'b", [("string", "'a'"), ("error", "'b")]),
    # dollar quotes
    ("$$ ' -- /* $x$ $$", [("string", "$$ ' -- /* $x$ $$")]),
    ("$f$ $$ $F$ $f$", [("string", "$f$ $$ $F$ $f$")]),
    ("$é$ $e$ $é$", [("string", "$é$ $e$ $é$")]),
    ("a$$b$$", [("name", "a$$b$$")]),
    ("1$$b$$", [("number", "1"), ("string", "$$b$$")]),
    ("$1$$b$$", [("parameter", "$1"), ("string", "$$b$$")]),
    ("$1$ $1$", [("parameter", "$1"), ("error", "$"), ("parameter", "$1"), ("error", "$")]),
    ("$$ $x", [("error", "$$ $x")]),
    # names
    ('"a""b;" U&"\\0061"', [("quoted name", '"a""b;"'), ("quoted name", 'U&"\\0061"')]),
    ("会話_1", [("name", "会話_1")]),
    ("a\u00a0b", [("name", "a\u00a0b")]),
    ('"a', [("error", '"a')]),
    # numbers
    ("1..2", [("number", "1"), ("punctuation", ".."), ("number", "2")]),
    ("1. .5 1.5e-3 1e", [("number", "1."), ("number", ".5"), ("number", "1.5e-3"), ("number", "1e")]),
    ("0x1F 0b01 0o7 1_000", [("number", "0x1F"), ("number", "0b01"), ("number", "0o7"), ("number", "1_000")]),
    ("1a 1 a", [("number", "1a"), ("number", "1"), ("name", "a")]),
    ("a.1", [("name", "a"), ("number", ".1")]),
    # operators
    ("a=-1", [("name", "a"), ("operator", "="), ("operator", "-"), ("number", "1")]),
    ("a@-1", [("name", "a"), ("operator", "@-"), ("number", "1")]),
    ("a+--b", [("name", "a"), ("operator", "+")]),
    ("a*/*b*/c", [("name", "a"), ("operator", "*"), ("name", "c")]),
    ("a<>b->>c", [("name", "a"), ("operator", "<>"), ("name", "b"), ("operator", "->>"), ("name", "c")]),
    ("a::x:=1", [("name", "a"), ("punctuation", "::"), ("name", "x"), ("punctuation", ":="), ("number", "1")]),
    ("[2:3]", [("punctuation", "["), ("number", "2"), ("punctuation", ":"), ("number", "3"), ("punctuation", "]")]),
    # nothing
    ("", []),
    (" \t\r\n\f\v-- only a comment", []),
    ("\\d {x}\0", [("error", "\\"), ("name", "d"), ("error", "{"), ("name", "x"), ("error", "}"), ("error", "\0")]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), KNOWN, ids=[repr(sql) for sql, _ in KNOWN])
def test_tokens_are_what_the_servers_scanner_makes(sql: str, expected: list[tuple[str, str]]) -> None:
    assert [(token.kind, token.text) for token in tokens(sql)] == expected


SPLITS = [
    ("", []),
    (" ; ;; -- x\n", []),
    ("a; b", ["a", "b"]),
    ("a 'x;' ; $$;$$ /* ; */; -- ;\n c", ["a 'x;'", "$$;$$", "c"]),
    (" -- first\n a /* in */ b -- last\n;", ["a /* in */ b"]),
    ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); x", None),
    ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; x", None),
    ("create or replace procedure p() begin atomic select case when a then 1 end; end; x", None),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ BEGIN; $$; x", None),
    ("BEGIN; COMMIT", ["BEGIN", "COMMIT"]),
    ("SELECT begin atomic; x", ["SELECT begin atomic", "x"]),
    ("a); b", ["a)", "b"]),
    ("a 'x; b", ["a 'x; b"]),
]


@pytest.mark.parametrize(("sql", "expected"), SPLITS, ids=[repr(sql) for sql, _ in SPLITS])
def test_statements_end_where_the_server_ends_them(sql: str, expected: list[str] | None) -> None:
    found = [statement.text for statement in statements(sql)]
    assert found == (expected if expected is not None else [sql.removesuffix("; x"), "x"])


# Texts made of what is easy to get wrong.
PIECES = [
    *"\"'$;\\é a1.+-=@()e_:\t\n\r",
    *("$$", "$a$", "/*", "*/", "--", "E'", "b'", "x'", "N'", "U&'", 'U&"', "CREATE FUNCTION f() BEGIN ATOMIC ", "END"),
]
nasty = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(nasty)
@example("'a'\n/* */'b'")
def test_tokens_lose_nothing_but_comments_and_white_space(sql: str) -> None:
    position = 0
    for token in tokens(sql):
        assert sql[token.start : token.start + len(token.text)] == token.text
        assert only_blank(sql[position : token.start])
        position = token.start + len(token.text)
    assert only_blank(sql[position:])


def only_blank(text: str) -> bool:
    """Whether there is nothing but white space and whole comments, found without the code under test."""
    text = text.replace("\r", "\n")
    depth = index = 0
    while index < len(text):
        pair = text[index : index + 2]
        if pair == "/*":
            depth, index = depth + 1, index + 2
        elif depth and pair == "*/":
            depth, index = depth - 1, index + 2
        elif depth:
            index += 1
        elif pair == "--":
            index = (text + "\n").index("\n", index)
        elif text[index].isspace():
            index += 1
        else:
            return False
    return depth == 0


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(nasty)
def test_a_statement_read_alone_has_the_same_tokens(sql: str) -> None:
    for statement in statements(sql):
        assert sql[statement.start :].startswith(statement.text)
        alone = [(token.kind, token.text) for token in tokens(statement.text)]
        assert alone == [(token.kind, token.text) for token in statement.tokens]


inside = st.text(st.sampled_from("ab'\"\\$;-/*\n é0+ "), max_size=8)
literals = st.one_of(
    inside.map(lambda text: "'" + text.replace("'", "''") + "'"),
    inside.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    inside.map(lambda text: "$q$" + text.replace("$", "") + "$q$"),
    inside.map(lambda text: "U&'" + text.replace("\\", "\\\\").replace("'", "''") + "'"),
    inside.map(lambda text: 'x."' + text.replace('"', '""') + 'é"'),
    st.sampled_from(["1", "1.5", ".5", "1e3", "-1", "1+-1", "2*-3"]),
    st.sampled_from(["'a'\n'b'", "'a' -- c\n'b''c'", "E'a'\n'\\''"]),
    st.sampled_from(["1 <> 2", "5 %2", "'{\"a\":1}'::jsonb->>'a'", "@ -5", "|/4", "(ARRAY[1,2,3])[2:3]", "1::text"]),
)
gaps = st.sampled_from([" ", "\n", "/**/", "/* ; ' */", "/* /* $$ */ */", "-- '\n", "--\n--\n", "\t/*--*/"])


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(gaps, literals, gaps), min_size=1, max_size=8))
def test_the_server_reads_folded_sql_as_it_reads_the_original(
    server: Server, parts: list[tuple[str, str, str]]
) -> None:
    values = [(before, text, after) for before, text, after in parts if not text.startswith("x.")]
    names = [(before, text[2:], after) for before, text, after in parts if text.startswith("x.")]
    selected = ",".join("".join(part) for part in values) or "1"
    aliased = ",".join(f"{before}1 AS{before}{text}{after}" for before, text, after in names) or "2"
    sql = f"SELECT/**/{selected}\n,{aliased};/* ; */SELECT {selected}"
    first, second = statements(sql)
    for statement in (first, second):
        folded = " ".join(("\n" if token.kind == "continuation" else "") + token.text for token in statement.tokens)
        assert ask(server, folded) == ask(server, statement.text)


def ask(server: Server, sql: str) -> tuple[object, ...]:
    with server.database("postgres").connect() as connection:
        result = connection.exec_driver_sql(sql, execution_options={"no_parameters": True})
        return (*result.keys(), *(tuple(row) for row in result))


@pytest.mark.slow
def test_a_long_text_takes_time_in_proportion_to_its_length() -> None:
    # Any quadratic step would make this take minutes.
    body = "x" * 1_000_000
    for sql in (f"'{body}'", f"$${body}$$", f"/*{body}*/", f"'{body}", "'' " * 300_000, "$a$ " * 299_999, "/*" * 9999,
                "'a'" + "\n" * 500_000, "+" * 5_000, "a-- x\n" * 100_000):  # fmt: skip
        assert len(list(tokens(sql))) <= 400_000
        statements(sql)


def test_a_function_and_its_trigger_are_two_statements() -> None:
    text = (
        "CREATE FUNCTION f() RETURNS trigger AS $$\nBEGIN\n  NEW.a := 1;\n  RETURN NEW;\nEND;\n$$ LANGUAGE plpgsql;\n"
    )
    found = statements(text + "CREATE TRIGGER t BEFORE UPDATE ON x FOR EACH ROW EXECUTE FUNCTION f();")
    assert [re.match(r"CREATE (\w+)", statement.text)[1] for statement in found] == ["FUNCTION", "TRIGGER"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT 1 FROM t\n WHERE card = '4111-1111'", "SELECT ... FROM t WHERE card = '...'"),
        ('SELECT a, t."b c" FROM t', 'SELECT a, t."b c" FROM t'),
        ("ALTER ROLE app PASSWORD 'se''cret'", "ALTER ROLE app PASSWORD '...'"),
        ("SELECT E'a\\'secret', b", "SELECT '...', b"),
        ("SELECT $$secret$$, $x$secret$$x$, $1", "SELECT '...', '...', $1"),
        ("SELECT B'1010', X'5ec3e7', N'secret', U&'\\0053ecret'", "SELECT '...', '...', '...', '...'"),
        ("SELECT 'secret'\n  'secret'\n'secret', a", "SELECT '...', a"),
        ("SELECT -4111, 41.11, .5e7, 0xBEEF, 4111a", "SELECT -..., ..., ..., ..., ..."),
        ("SELECT a -- secret\n, b /* secret */", "SELECT a , b"),
        ("DATE '2020-01-01'::text || x1", "DATE '...'::text || x1"),
        # cut in the middle
        ("UPDATE t SET card = '4111-", "UPDATE t SET card = ..."),
        ("UPDATE t SET card = 'it''s ", "UPDATE t SET card = ..."),
        ("UPDATE t SET card = E'41\\'1", "UPDATE t SET card = ..."),
        ("UPDATE t SET card = $card$4111 $card", "UPDATE t SET card = ..."),
        ("UPDATE t SET card = '41' '", "UPDATE t SET card = '...' ..."),
        ("UPDATE t SET card = 'x'\n  '4111", "UPDATE t SET card = '...' ..."),
        ("UPDATE t SET card = 41", "UPDATE t SET card = ..."),
        ("UPDATE t /* 4111", "UPDATE t ..."),
        # with standard_conforming_strings off
        ("SELECT 'it\\'s secret', 'more", "SELECT '...'"),
        ("<insufficient privilege>", "<insufficient privilege>"),
        ("autovacuum: VACUUM public.t (to prevent wraparound)", "autovacuum: VACUUM public.t (to prevent wraparound)"),
        ("", ""),
    ],
)
def test_somebody_elses_sql_is_shown_without_its_literals(sql: str, shown: str) -> None:
    assert without_literals(sql) == shown


SECRET = "4111-1111"


@given(
    st.sampled_from(["'{}'", "E'{}'", "$${}$$", "$t${}$t$", "'a''{}'", "E'\\'{}'", "N'{}'", "'x'\n'{}'", "/* {} */"]),
    st.data(),
)
def test_wherever_the_server_cuts_no_part_of_a_literal_is_left(literal: str, data: st.DataObject) -> None:
    sql = f"SELECT a FROM t WHERE card = {literal.replace('{}', SECRET)} AND b"
    shown = without_literals(sql[: data.draw(st.integers(0, len(sql)))])
    assert not any(character.isdigit() for character in shown)
