"""`docs/tables.md`, the テーブル定義書: every table with its parts and the comments on them, in Japanese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy.engine import Connection

from neuraknot_db.dev.definitions import ForeignKey, foreign_key, index_parts, readable
from neuraknot_db.dev.diagram.picture import short_type
from neuraknot_db.schema.catalog import Constraint, Schema, Table, Trigger, search_path_public

Comments = Mapping[tuple[str, ...], str]
"""The text of each comment, by the catalog and the names of what it is on, such as `pg_class`, `users`, `email`."""

_COMMENTS = """
SELECT classoid::regclass::text AS catalog,
       CASE classoid WHEN 'pg_proc'::regclass
                     THEN ARRAY[address.object_names[2] || '(' || pg_get_function_identity_arguments(objoid) || ')']
                     WHEN 'pg_type'::regclass THEN ARRAY[objoid::regtype::text]
                     ELSE address.object_names[2:] END AS names,
       description
  FROM pg_description
 CROSS JOIN pg_identify_object_as_address(classoid, objoid, objsubid) address
 WHERE objoid >= 16384  -- not the server's own
   AND (address.object_names[1] = 'public' OR classoid = 'pg_type'::regclass)
"""

_CONSTRAINTS = {"primary key": "主キー", "unique": "一意制約", "check": "チェック制約", "exclusion": "排他制約"}
_SPARSE = frozenset({"種類", "備考"})
"""Columns that are left out where they would be empty."""

_ABOVE = ("テーブル定義書", "テーブル一覧")
"""The headings above those of tables, which GitHub numbers if they repeat one."""

_NAME = r'(?:"(?:[^"]|"")*"|[^\s."]+)'
_TRIGGER = re.compile(rf"CREATE (?:CONSTRAINT )?TRIGGER {_NAME} (.+?) ON {_NAME}(?:\.{_NAME})? (.+)", re.DOTALL)


def read_comments(connection: Connection) -> Comments:
    """Read the comments on what the schema `public` holds, in a query that changes nothing.

    Args:
        connection: not in autocommit mode. Its transaction stays open.
    """
    with search_path_public(connection):
        rows = connection.exec_driver_sql(_COMMENTS).all()
    return {(row.catalog, *row.names): row.description for row in rows}


def render(revision: str, schema: Schema, comments: Comments) -> str:
    """Return the page: Markdown, as GitHub shows it.

    A view's query is not in it, which PostgreSQL 15 spells otherwise than 16, nor is a function's body: the snapshot
    has both.

    Args:
        revision: the one whose schema it is.
        schema: what the page describes.
        comments: what it says of that; where there is none, the cell is empty.
    """
    return "\n".join(_Page(revision, schema, comments).lines()) + "\n"


class _Page:
    def __init__(self, revision: str, schema: Schema, comments: Comments) -> None:
        self._revision = revision
        self._schema = schema
        self._comments = comments
        self._relations = [each for of in (schema.tables, schema.views) for _, each in sorted(of.items())]
        self._anchors = _anchors([*_ABOVE, *(table.name for table in self._relations)])

    def lines(self) -> Iterator[str]:
        yield f"# {_ABOVE[0]}"
        yield ""
        yield f"リビジョン {_text(self._revision)} の時点のスキーマ。図は [schema.svg](schema.svg) にある。"
        yield "説明はデータベースの COMMENT による。`neuraknot-db snapshot` が生成するので、直接編集しないこと。"
        yield from _table(
            f"## {_ABOVE[1]}",
            ("No.", "テーブル名", "種類", "説明"),
            (
                (
                    number,
                    self._link(table.name),
                    "" if table.kind == "table" else table.kind,
                    self._said("pg_class", table.name),
                )
                for number, table in enumerate(self._relations, start=1)
            ),
        )
        for table in self._relations:
            yield from ("", f"## {_text(table.name)}")
            if about := self._said("pg_class", table.name):
                yield from ("", f"説明: {about}")
            if table.traits:
                yield from ("", f"属性: {'、'.join(map(_code, table.traits))}")
            yield from self._columns(table)
            yield from self._constraints(table)
            yield from self._indexes(table)
            yield from self._references(table)
            yield from self._triggers(table)
        yield from _table(
            "## 関数",
            ("関数名", "戻り値", "言語", "備考"),
            (
                (_code(each.signature), _code(each.returns), each.language, self._said("pg_proc", each.signature))
                for each in self._schema.functions.values()
            ),
        )
        yield from _table(
            "## その他のオブジェクト",
            ("種類", "名前", "定義", "備考"),
            (
                (each.kind, _code(each.name), _code(each.definition), self._said("pg_type", each.name))
                for each in self._schema.others.values()
            ),
        )
        yield from _table("## 拡張機能", ("名前",), ((_code(name),) for name in self._schema.extensions))

    def _columns(self, table: Table) -> Iterator[str]:
        return _table(
            "**カラム**",
            ("No.", "カラム名", "型", "NOT NULL", "デフォルト", "説明"),
            (
                (
                    number,
                    _code(column.name),
                    _code(short_type(column.type)),
                    "" if column.nullable else "○",
                    _code(readable(column.default or "", table)),
                    self._said("pg_class", table.name, column.name),
                )
                for number, column in enumerate(table.columns.values(), start=1)
            ),
        )

    def _constraints(self, table: Table) -> Iterator[str]:
        return _table(
            "**主キー・制約**",
            ("種類", "制約名", "内容", "備考"),
            (
                (
                    title,
                    _code(each.name),
                    _code(readable(each.definition.removeprefix(f"{kind.upper()} "), table)),
                    _remarks(_code(_state(each)), self._said("pg_constraint", table.name, each.name)),
                )
                for kind, title in _CONSTRAINTS.items()
                for _, each in sorted(table.constraints.items())
                if each.kind == kind
            ),
        )

    def _indexes(self, table: Table) -> Iterator[str]:
        return _table(
            "**インデックス**",
            ("インデックス名", "一意", "方式", "カラム", "条件", "備考"),
            (
                (
                    _code(name),
                    "○" if index.unique else "",
                    index.method,
                    _code(", ".join(index.keys)),
                    _code(index.where),
                    _remarks(_code(index.rest), self._said("pg_class", name)),
                )
                for name, index in ((each.name, index_parts(each.definition, table)) for each in table.indexes.values())
            ),
        )

    def _references(self, table: Table) -> Iterator[str]:
        yield from _table(
            "**外部キー**",
            ("外部キー名", "カラム", "参照先", "ON DELETE", "備考"),
            (
                (
                    _code(each.name),
                    _code(", ".join(key.columns)),
                    f"{self._link(key.target)} {_code(', '.join(key.target_columns))}",
                    key.on_delete or "NO ACTION",
                    _remarks(_code(key.rest), _code(_state(each)), self._said("pg_constraint", table.name, each.name)),
                )
                for each, key in _foreign_keys(table)
            ),
        )
        yield from _table(
            "**参照元**",
            ("テーブル名", "カラム", "外部キー名", "ON DELETE"),
            (
                (self._link(other.name), _code(", ".join(key.columns)), _code(each.name), key.on_delete or "NO ACTION")
                for other in self._relations
                for each, key in _foreign_keys(other)
                if key.target == table.name
            ),
        )

    def _triggers(self, table: Table) -> Iterator[str]:
        return _table(
            "**トリガー**",
            ("トリガー名", "タイミング", "処理", "備考"),
            (
                (_code(each.name), *map(_code, _event(each)), self._said("pg_trigger", table.name, each.name))
                for each in table.triggers.values()
            ),
        )

    def _said(self, *names: str) -> str:
        return _text(self._comments.get(names, ""))

    def _link(self, name: str) -> str:
        return f"[{_text(name)}](#{self._anchors[name]})" if name in self._anchors else _code(name)


def _foreign_keys(table: Table) -> Iterator[tuple[Constraint, ForeignKey]]:
    for _, each in sorted(table.constraints.items()):
        if each.kind == "foreign key":
            yield each, foreign_key(each.definition)


def _state(constraint: Constraint) -> str:
    """Return what is unusual: not validated, or not enforced."""
    return str(constraint).removeprefix(constraint.definition).strip()


def _event(trigger: Trigger) -> Sequence[str]:
    """Return when a trigger fires, and what it then does."""
    found = _TRIGGER.fullmatch(str(trigger))
    return found.groups() if found else ("", str(trigger))


# Markdown --------------------------------------------------------------------------------------------------------


def _table(heading: str, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield a heading and a table; nothing if it has no rows."""
    cells = [[str(cell) for cell in row] for row in rows]
    shown = [index for index, title in enumerate(titles) if title not in _SPARSE or any(row[index] for row in cells)]
    if cells:
        yield from ("", heading, "")
        yield _line(titles[index] for index in shown)
        yield _line("---:" if titles[index] == "No." else "---" for index in shown)
        yield from (_line(row[index] for index in shown) for row in cells)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _remarks(*parts: str) -> str:
    return "、".join(filter(None, parts))


def _text(words: str) -> str:
    """Return text as Markdown that shows it as it is, its lines apart."""
    lines = (" ".join(line.split()) for line in words.strip().splitlines())
    # An underscore within a word is one anyway, and most names have them.
    return "<br>".join(re.sub(r"[\\`*\[\]<>&|~$#]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", line) for line in lines)


def _code(sql: str | None) -> str:
    """Return SQL as Markdown's code, in one line."""
    line = re.sub(r"\s*[\r\n]\s*", " ", sql or "").strip()
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", r"\|") if line else ""


def _anchors(names: Sequence[str]) -> Mapping[str, str]:
    """Return the anchors that GitHub gives to headings."""
    taken: dict[str, int] = {}
    anchors = {}
    for name in names:
        anchor = re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-")
        count = taken[anchor] = taken.get(anchor, -1) + 1
        anchors[name] = f"{anchor}-{count}" if count else anchor
    return anchors
