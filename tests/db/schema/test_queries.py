"""The file of recorded queries: no value in it, and each mistake of an editor's hand is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuraknot_db.errors import UsageError
from neuraknot_db.schema import queries


@pytest.mark.parametrize(
    ("told", "recorded"),
    [
        ("select a from t where b = $1", "select a from t where b = $1"),
        ("/* trace 5 */ select a -- x\n  from t;", "select a\n  from t"),
        ("select a\r\n\r\n\n    from t", "select a\n    from t"),
        (
            "select 'a;\n\nb' from t where c = $1 and d = E'\\'x' and n = 5",
            "select $2 from t where c = $1 and d = $3 and n = $4",
        ),
        ("select 'a'\n  'b', $$x$$ from t", "select $1\n, $2 from t"),
        ("select c::varchar(10), d::numeric(3, 2) from t order by 1, 2", None),
        ("select a from t where b in (1, 2) limit 3", "select a from t where b in ($1, $2) limit $3"),
        ("insert into t values ($1, 2), (3, 4)", "insert into t values ($1, $2), ($3, $4)"),
        ("select f($1, a) from t group by f('x', a)", "select f($1, a) from t group by f($1, a)"),
        ("select f('x', a) from t group by f('x', a)", "select f($1, a) from t group by f($1, a)"),
        ("select f(a, $1) from t group by f(a, 2)", "select f(a, $1) from t group by f(a, $1)"),
        ('select "it\'s" from "T 1"', None),
        ("select $1 /*, ... */ from t", "select $1 from t"),
        (
            "select mod(a, 99), 8471, substring(b from 2 for 3) from t group by 1, 2 fetch first 9 rows only",
            "select mod(a, $1), $2, substring(b from $3 for $4) from t group by 1, 2 fetch first $5 rows only",
        ),
        (
            "insert into t select a from u group by 1, f(a, 7) order by 1, c, 9 returning b, 8",
            "insert into t select a from u group by 1, f(a, $1) order by 1, c, $2 returning b, $3",
        ),
        ("select a::timestamp(3), (select 5 order by 1), 6", "select a::timestamp(3), (select $1 order by 1), $2"),
        ("select 'it\\'s', 'secret' from t", ""),  # without standard_conforming_strings: it ends elsewhere
    ],
)
def test_a_text_is_recorded_without_values_and_comments(told: str, recorded: str | None) -> None:
    assert queries._normalised(told) == (told if recorded is None else recorded)
    assert queries._normalised(queries._normalised(told)) == queries._normalised(told)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("SELECT 1;\n\nSELECT a\n\nFROM t;\n", "line 3: a query ends with a semicolon"),
        ("SELECT 1", "line 1: a query ends with"),
        ("SELECT 1;\nSELECT 2;", "line 1: a query ends with"),
        ("-- said\n\n\nDROP TABLE t;", "line 4: this is no SELECT, INSERT, UPDATE, DELETE or MERGE"),
        ('said\n"-- header"\n"SELECT', "line 3: this is no SELECT"),
        ("\udcff", "can't be read: "),
        ("-- What the application asks\n", "holds no query"),
        ("Error: The server can't be reached.", "line 1: this is no SELECT"),  # what a redirected command said
    ],
)
def test_what_is_no_query_is_named_with_its_line(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError) as raised:
        queries.parse(path)
    assert wrong in raised.value.message
    assert "neuraknot-db compat record" in str(raised.value.hint)


def test_a_file_edited_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(
        "-- mine\n(SELECT 1)\nUNION ALL SELECT 2; -- two\n \n\n-- nothing\n\nselect 'cut of;\n\n"
        '(SELECT 1)\nUNION ALL SELECT 2;\n\n/* b */ (select\n"a");\n'
    )
    read = queries.parse(path)
    assert read == ({"(SELECT 1)\nUNION ALL SELECT 2": 2, "select 'cut of": 8, '(select\n"a")': 13}, None, None)
