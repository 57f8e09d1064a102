"""`plan --markdown` and `lint --markdown`: tables for GitHub, in which nobody's text is markup."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt

from neuraknot_db.database.markdown import code, table, text
from tests.db.conftest import Database, Project

HOSTILE = [
    "a | b \\| c || \\\\|",
    "`code` ``more`` \\`",
    "<img src=x onerror=alert(1)> </code></td></table> <!-- --> &lt; &#64;",
    "**strong** __strong__ *em* _em_ ~~gone~~ a_b_c $x$",
    "[link](https://example.com) ![x](y) [ref]: z",
    "@everybody @team/x #12 owner/repo#3",
    "# heading",
    "two\nlines\r\n\n| and | a row |\n| --- | --- |",
]


def rendered(markdown: str) -> str:
    found: str = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    return found


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_text_of_any_kind_stays_the_text_of_its_cell(hostile: str) -> None:
    shown = rendered("\n".join(table(["one", "two"], [[code(hostile), text(hostile)]])))
    assert sorted(set(re.findall(r"</?(\w+)", shown))) == ["code", "table", "tbody", "td", "th", "thead", "tr"]
    in_code, plain = re.findall(r"<td>(.*?)</td>", shown, re.DOTALL)
    line = " ".join(hostile.split())
    assert html.unescape(in_code) == f"<code>{line}</code>"
    assert html.unescape(plain).replace("\u200b", "") == line
    # Outside of code, GitHub looks for names behind these.
    assert not re.search(r"[@#]\w", html.unescape(plain))


def without_blank_lines(markdown: str) -> str:
    return "\n".join(line for line in markdown.splitlines() if line.strip())


@pytest.mark.slow
def test_a_plan_is_a_table_of_statements_even_where_a_log_drops_blank_lines(at: Callable[[str], Database]) -> None:
    database = at("002")
    with database.engine().connect() as reader:
        reader.exec_driver_sql("SET application_name = 'a | <b> @all'")
        reader.exec_driver_sql("SELECT FROM public.users")
        done = database.neuraknot_db("plan", "--markdown")
    assert done.code == 0, done.err
    shown = rendered(done.out)
    assert shown == rendered(without_blank_lines(done.out))
    assert re.findall(r"<h\d>(.*?)</h\d>", shown) == [
        "Plan: 2 revisions from 002 to 004",
        "003: Avatars for users, an optional persona for agents",
        "004: New agents use gpt-4.1, and any model may be named",
        "In the way now",
    ]
    assert shown.count("<table>") == 3
    (row,) = re.findall(r"<tr>\s*<td>40</td>(.*?)</tr>", shown, re.DOTALL)
    cells = re.findall(r"<td>(.*?)</td>", row, re.DOTALL)
    assert cells[:4] == [
        "<code>ALTER TABLE public.users ADD COLUMN avatar_url text</code>",
        "<code>users</code>",
        "ACCESS EXCLUSIVE, blocks reads and writes",
        "catalogs only",
    ]
    assert cells[4].startswith("rows not counted yet, ")
    assert re.search(r"<td><code>users</code></td>\s*<td><code>in the way: pid \d+, a \| &lt;b&gt; @all", shown)


@pytest.mark.slow
def test_what_would_be_refused_comes_first(at: Callable[[str], Database], project: Project) -> None:
    database = at("003")
    applied = project.versions / "003_add_avatar_url_and_optional_persona.py"
    applied.write_text(applied.read_text().replace("avatar_url text", "avatar_url varchar"))
    out = database.neuraknot_db("plan", "--markdown", cwd=project.root).out
    assert re.search(r"^- ❌ \*\*It would be refused:\*\* Revision 003 ", out, re.MULTILINE)
    assert out.index("refused") < out.index("#### 004")


READER = """
GRANT USAGE ON SCHEMA public, neuraknot_db TO {0};
GRANT SELECT ON public.alembic_version TO {0};
GRANT SELECT ON ALL TABLES IN SCHEMA neuraknot_db TO {0}
"""


@pytest.mark.slow
def test_a_reader_plans_for_whoever_migrates(at: Callable[[str], Database]) -> None:
    database = at("003")
    name = f"reader_of_{database.name}"
    database.run(f"CREATE ROLE {name} LOGIN")
    try:
        database.run(READER.format(name))
        reader = database.as_user(name)
        for option in ((), ("--markdown",)):
            own, others = (
                reader.neuraknot_db("plan", *option).out,
                reader.neuraknot_db("plan", "--as-reader", *option).out,
            )
            assert "would be refused" in own.lower()
            assert "belongs to postgres" in own
            assert "refused" not in others
            assert "belongs to" not in others
            assert "Planned as a reader" in others
    finally:
        database.run(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_a_plan_has_one_form(database: Database) -> None:
    done = database.neuraknot_db("plan", "--json", "--markdown")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --json and --markdown exclude each other.\nHint: ")


def test_lint_tells_its_findings_and_what_was_measured(project: Project, database: Database) -> None:
    project.add("005", "CREATE INDEX slow ON public.users (display_name)", "DROP INDEX public.slow", after="004")
    done = database.neuraknot_db("lint", "003:005", "--markdown", cwd=project.root)
    assert done.code == 3
    shown = rendered(done.out)
    assert "<h3>Lint of 2 revisions: ❌ " in shown
    assert re.search(r"<td><code>alembic/versions/005_added\.py:\d+</code></td>\s*<td><code>require-concurrent", shown)
    assert re.search(r"<td><code>ai_agents</code></td>\s*<td>ACCESS EXCLUSIVE, blocks reads and writes</td>", shown)
    assert "❗ Not known: it was not measured." in shown
    assert database.neuraknot_db("lint", "003:004", "--markdown", cwd=project.root).code == 0
