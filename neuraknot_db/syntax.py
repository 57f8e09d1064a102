"""A revision's file as a syntax tree, read and never run: what its functions use, what they send, what they amount to.

Only the standard library and `sqltext`: each Python from 3.11 on must find the same canonical form of the same file.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from operator import itemgetter
from typing import Any

from neuraknot_db import sqltext

_EXECUTE = "alembic.op.execute"
_DEDENT = "textwrap.dedent"
_STRIPPING = ("strip", "lstrip", "rstrip")

# What the compiler ignores, or only a type checker reads, or a newer Python has added.
_IGNORED = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})

# Whatever a function does with these, it may reach any name of the file.
_REACHING = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "modules", "__import__", "__name__", "__dict__", "__globals__"}
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Scope = _Definition | ast.Lambda | _Comprehension

_LONGEST_CHAIN = 20
"""Of names that stand for names, before a text counts as unknown."""


class Source:
    """A file of Python.

    Attributes:
        tree: its syntax tree.
    """

    def __init__(self, source: bytes) -> None:
        """Parse it.

        Raises:
            SyntaxError, ValueError: it is no Python.
        """
        with warnings.catch_warnings():
            # Alembic has loaded the file, and said it then.
            warnings.simplefilter("ignore")
            self.tree = ast.parse(source)
        self._nodes = {id(statement): _walked(statement) for statement in self.tree.body}
        nodes = [node for within in self._nodes.values() for node in within]
        self._reads_docstrings = any(
            "__doc__" in (getattr(node, "id", ""), getattr(node, "attr", ""))
            for node in nodes
            if isinstance(node, ast.Name | ast.Attribute)
        )
        # A dataclass is made of them; elsewhere an annotation is a comment.
        classes = (node.body for node in nodes if isinstance(node, ast.ClassDef))
        self._of_classes = {id(each) for body in classes for each in body}
        self._module_names: Counter[str] = Counter()
        self._bound: dict[int, set[str]] = {}
        self._inner_names: dict[int, Counter[str]] = {}
        for statement in self.tree.body:
            bound = set(_bound_in_scope([statement]))
            inside = [name for node in self._nodes[id(statement)] for name in _binding(node)]
            declared = (node.names for node in self._nodes[id(statement)] if isinstance(node, ast.Global))
            bound.update(name for names in declared for name in names)
            if _is_text(statement):
                bound.add("__doc__")
            if isinstance(statement, _Definition):
                inside.remove(statement.name)
            self._bound[id(statement)] = bound
            self._inner_names[id(statement)] = Counter(inside)
            self._module_names.update(bound)
        self._definitions: dict[int | None, Mapping[str, ast.expr | str]] = {}

    def canonical(self, *roots: str) -> bytes:
        """What the named functions and variables amount to, with all that they use of this file.

        Not counted: comments, docstrings, annotations, imports, and whatever else the file defines. The SQL of a text
        that is handed to `op.execute`, or of a constant that is named there, counts as PostgreSQL's tokens, so that its
        comments and the white space between tokens don't; every other literal counts byte for byte.

        Returns:
            Bytes that no other tree has.
        """
        return b"".join(self._encoded(self._used(roots)))

    def texts(self, *roots: str) -> list[str]:
        """Every constant text that the named functions, and those that they use, may hand to `op.execute`."""
        used = (node for statement in self._used(roots) for node in self._nodes[id(statement)])
        return [self._sql[id(node)] for node in used if id(node) in self._sql]

    def exactly(self, function: str) -> list[str] | None:
        """All that a function hands to `op.execute`, in order; None where that shows only when it runs."""
        found = [each for each in self.tree.body if function in self._bound[id(each)]]
        if len(found) != 1 or not isinstance(found[0], ast.FunctionDef) or found[0].decorator_list:
            return None
        texts: list[str] = []
        for statement in self._kept(found[0].body):
            text = self._only_text(statement)
            if text is not None:
                texts.append(text)
            elif not (isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant)):
                return None
        return texts

    def qualified(self, node: ast.expr, within: ast.stmt | None = None) -> str | None:
        """What an expression names of another module, such as `alembic.op.execute`; None for anything else.

        Args:
            node: a name, or an attribute of one.
            within: the statement of the file's own level that it stands in.
        """
        if isinstance(node, ast.Attribute):
            base = self.qualified(node.value, within)
            return base and f"{base}.{node.attr}"
        if not isinstance(node, ast.Name):
            return None
        found, _ = self._meaning(node.id, within)
        return found if isinstance(found, str) else None

    @cached_property
    def _sql(self) -> Mapping[int, str]:
        """By each expression that `op.execute` gets: its text, where that is constant."""
        found: dict[int, str] = {}
        for statement in self.tree.body:
            for node in self._nodes[id(statement)]:
                if isinstance(node, ast.Call) and self.qualified(node.func, statement) == _EXECUTE:
                    named = (keyword.value for keyword in node.keywords if keyword.arg == "sqltext")
                    argument = node.args[0] if node.args else next(named, None)
                    if argument is not None and (text := self._text(argument, statement)) is not None:
                        found[id(argument)] = text
        return found

    def _only_text(self, statement: ast.stmt) -> str | None:
        """What a statement hands to `op.execute`, if it is such a call and nothing else."""
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or len(call.args) + len(call.keywords) != 1:
            return None
        return self._sql.get(id((call.args or [keyword.value for keyword in call.keywords])[0]))

    def _text(self, node: ast.expr, within: ast.stmt | None, names: int = 0) -> str | None:
        """The text that an expression always has; None where it is none, or depends on what happens."""
        if isinstance(node, ast.BinOp):
            return self._sum(node, within, names)
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name) and names < _LONGEST_CHAIN:
            found, scope = self._meaning(node.id, within)
            return self._text(found, scope, names + 1) if isinstance(found, ast.expr) else None
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(part, within, names) for part in node.values]
            return None if None in parts else "".join(filter(None, parts))
        if isinstance(node, ast.Call) and not node.keywords:
            return self._called(node, within, names)
        return None

    def _part(self, node: ast.expr, within: ast.stmt | None, names: int) -> str | None:
        if isinstance(node, ast.FormattedValue):
            plain = node.conversion == -1 and node.format_spec is None
            return self._text(node.value, within, names) if plain else None
        return self._text(node, within, names)

    def _sum(self, node: ast.expr, within: ast.stmt | None, names: int) -> str | None:
        parts: list[str | None] = []
        while isinstance(node, ast.BinOp):
            if not isinstance(node.op, ast.Add):
                return None
            parts.append(self._text(node.right, within, names))
            node = node.left
        parts.append(self._text(node, within, names))
        return None if None in parts else "".join(filter(None, reversed(parts)))

    def _called(self, node: ast.Call, within: ast.stmt | None, names: int) -> str | None:
        if self.qualified(node.func, within) == _DEDENT and len(node.args) == 1:
            import textwrap

            text = self._text(node.args[0], within, names)
            return None if text is None else textwrap.dedent(text)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _STRIPPING and not node.args:
            text = self._text(node.func.value, within, names)
            return None if text is None else str(getattr(text, node.func.attr)())
        return None

    def _meaning(self, name: str, within: ast.stmt | None) -> tuple[ast.expr | str | None, ast.stmt | None]:
        """What a name always stands for: a value, or what is imported, and where that value is to be read.

        None where the name is bound more than once, or otherwise than by an assignment or an import.
        """
        for scope in (within, None):
            names = self._module_names if scope is None else self._inner_names[id(scope)]
            if name in names:
                return (self._defined(scope).get(name) if names[name] == 1 else None), scope
        return None, None

    def _defined(self, scope: ast.stmt | None) -> Mapping[str, ast.expr | str]:
        key = None if scope is None else id(scope)
        if key not in self._definitions:
            found: dict[str, ast.expr | str] = {}
            if scope is None:
                statements: Collection[ast.AST] = self.tree.body
            else:
                statements = tuple(_in_scope(scope.body)) if isinstance(scope, _Function) else ()
            for node in statements:
                found.update(_definition(node))
            self._definitions[key] = found
        return self._definitions[key]

    def _used(self, roots: Collection[str]) -> list[ast.stmt]:
        """The file's statements that bind the names, or may change what they hold, and so on for all that these use."""
        names = set(roots)
        used: dict[int, ast.stmt] = {}
        grown = True
        while grown:
            grown = False
            for statement in self.tree.body:
                key = id(statement)
                if key not in used and (names & self._bound[key] or self._may_change(statement, names)):
                    used[key] = statement
                    names.update(self._names(statement))
                    grown = True
            if names & _REACHING:
                return list(self.tree.body)
        found = [statement for statement in self.tree.body if id(statement) in used]
        bound = [name for statement in found for name in self._bound[id(statement)]]
        if all(map(_is_definition, found)) and all(self._module_names[name] == 1 for name in bound):
            # Each name has its one value: in which order they stand says nothing.
            found.sort(key=lambda statement: sorted(self._bound[id(statement)]))
        return found

    def _may_change(self, statement: ast.stmt, names: Collection[str]) -> bool:
        return not _is_definition(statement) and not self._names(statement).isdisjoint(names)

    def _names(self, statement: ast.stmt) -> set[str]:
        """The names of the file's own level that a statement mentions, but for constants that are folded as SQL."""
        found: set[str] = set()
        ahead: list[tuple[object, frozenset[str]]] = [(statement, frozenset())]
        while ahead:
            node, hidden = ahead.pop()
            if isinstance(node, list):
                ahead += [(item, hidden) for item in self._kept(node)]
            elif not isinstance(node, ast.AST) or id(node) in self._sql or id(node) in self._folded_constants:
                continue
            elif isinstance(node, ast.Name):
                found.update({node.id} - hidden)
            else:
                if isinstance(node, ast.Attribute) and node.attr in _REACHING:
                    found.add(node.attr)
                local = hidden | _locals(node)
                outside = (node.decorator_list,) if isinstance(node, _Function) else ()
                ahead += [(item, hidden) for item in outside]
                if isinstance(node, _Function | ast.Lambda):
                    ahead += [(item, hidden) for item in (node.args.defaults, node.args.kw_defaults)]
                ahead += [(value, local) for name, value in _fields(node) if name != "decorator_list" or not outside]
        return found

    @cached_property
    def _folded_constants(self) -> frozenset[int]:
        """The assignments of a function's own constants that it does nothing with but name them in `op.execute`."""
        found: set[int] = set()
        for function in (each for each in self.tree.body if isinstance(each, _Function)):
            nodes = self._nodes[id(function)]
            sent = [node for node in nodes if id(node) in self._sql]
            inside = {id(node) for expression in sent for node in _walked(expression)}
            loads = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
            folded = {node.id for node in loads if id(node) in inside}
            folded -= {node.id for node in loads if id(node) not in inside}
            for node in _in_scope(function.body):
                for name, value in _definition(node).items():
                    if name in folded and self._meaning(name, function)[0] is value and not isinstance(value, str):
                        found.add(id(node))
        return frozenset(found)

    def _kept(self, items: list[Any]) -> list[Any]:
        """The items of a list in the tree, but for statements that do nothing, or import."""
        return [item for item in items if not self._is_dropped(item)]

    def _is_dropped(self, item: object) -> bool:
        if isinstance(item, ast.Import | ast.ImportFrom | ast.Pass) or id(item) in self._folded_constants:
            return True
        if isinstance(item, ast.AnnAssign) and item.value is None:
            return id(item) not in self._of_classes
        return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and not self._reads_docstrings

    def _encoded(self, statements: list[ast.stmt]) -> Iterator[bytes]:
        ahead: list[Any] = [statements]
        while ahead:
            item = ahead.pop()
            if isinstance(item, bytes):
                yield item
            elif isinstance(item, list):
                kept = self._kept(item)
                yield b"[%d" % len(kept)
                ahead += reversed(kept)
            elif id(item) in self._sql:
                yield from _encoded_sql(self._sql[id(item)])
            elif isinstance(item, ast.Constant):
                yield _encoded_value(item.value)
            elif isinstance(item, ast.JoinedStr):
                parts = _merged(item.values)
                yield b"" if _is_constant(parts) else b"(JoinedStr[%d" % len(parts)
                ahead += reversed(parts or [ast.Constant("")])
            elif isinstance(item, ast.AnnAssign) and item.value and id(item) not in self._of_classes:
                ahead.append(ast.Assign([item.target], item.value))
            elif isinstance(item, ast.AST):
                fields = [
                    (name, value) for name, value in _fields(item) if not isinstance(value, list) or self._kept(value)
                ]
                yield b"(%s %d" % (type(item).__name__.encode(), len(fields))
                for name, value in reversed(fields):
                    ahead += [value, b" %s=" % name.encode()]
            else:
                yield _encoded_value(item)


def _walked(node: ast.AST) -> list[ast.AST]:
    """The node and all within, but for what says whether a name is read or written; `ast.walk` takes thrice as long."""
    found = [node]
    for each in found:
        found += _children(each)
    return found


def _children(node: ast.AST) -> list[ast.AST]:
    found: list[ast.AST] = []
    for value in vars(node).values():
        if isinstance(value, list):
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    return found


def _fields(node: ast.AST) -> list[tuple[str, Any]]:
    """What of a node counts, in an order of our own: a newer Python may know more fields, and have others as empty."""
    found = ((name, value) for name, value in ast.iter_fields(node) if name not in _IGNORED)
    return sorted(((name, value) for name, value in found if value is not None and value != []), key=itemgetter(0))


def _merged(parts: list[ast.expr]) -> list[ast.expr]:
    """An f-string's parts, its neighbouring constants as one: 3.12.1 splits them otherwise than 3.11 and 3.13."""
    merged: list[ast.expr] = []
    for part in parts:
        if isinstance(part, ast.Constant) and not part.value:
            continue
        if isinstance(part, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(f"{merged[-1].value!s}{part.value!s}")
        else:
            merged.append(part)
    return merged


def _is_constant(parts: list[ast.expr]) -> bool:
    return not parts or (len(parts) == 1 and isinstance(parts[0], ast.Constant))


def _encoded_sql(sql: str) -> Iterator[bytes]:
    tokens = list(sqltext.tokens(sql))
    yield b"(SQL[%d" % len(tokens)
    for token in tokens:
        # A string's further part and a string of its own are told apart by nothing else.
        yield from (_encoded_value(token.kind), _encoded_value(token.text))


def _encoded_value(value: object) -> bytes:
    if isinstance(value, str):
        tag, data = b"s", value.encode("utf-8", "surrogatepass")
    elif isinstance(value, bytes):
        tag, data = b"b", value
    elif isinstance(value, int) and not isinstance(value, bool):
        tag, data = b"i", b"%x" % value
    elif isinstance(value, float):
        tag, data = b"f", value.hex().encode()
    elif isinstance(value, complex):
        tag, data = b"c", value.imag.hex().encode()
    else:
        tag, data = b"k", repr(value).encode()
    return b"%s%d:%s" % (tag, len(data), data)


def _binding(node: ast.AST) -> Iterator[str]:
    """The names that a node binds by itself; twice what a scope takes from outside, since it is bound there too."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            yield from names * 2


def _in_scope(nodes: Collection[ast.AST]) -> Iterator[ast.AST]:
    """The nodes and all within, but for what lies in functions, classes and comprehensions of their own."""
    ahead = list(nodes)
    while ahead:
        node = ahead.pop()
        yield node
        if not isinstance(node, _Scope):
            ahead += _children(node)


def _bound_in_scope(nodes: Collection[ast.AST]) -> Iterator[str]:
    for node in _in_scope(nodes):
        yield from _binding(node)


def _locals(node: ast.AST) -> frozenset[str]:
    """The names that a function, a lambda or a comprehension has for itself."""
    if isinstance(node, _Comprehension):
        return frozenset(_bound_in_scope([comprehension.target for comprehension in node.generators]))
    if not isinstance(node, _Function | ast.Lambda):
        return frozenset()
    body = node.body if isinstance(node.body, list) else [node.body]
    declared = {name for each in _in_scope(body) if isinstance(each, ast.Global) for name in each.names}
    return frozenset({*_bound_in_scope(body), *_bound_in_scope([node.args])} - declared)


def _definition(node: ast.AST) -> Mapping[str, ast.expr | str]:
    """The names that an assignment or an import binds, with the value, or with what they name in another module."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return {name: value}
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return {name: value}
        case ast.Import(names=names):
            return {each.asname or each.name.partition(".")[0]: _import(each) for each in names}
        case ast.ImportFrom(module=module, names=names, level=level):
            prefix = "." * level + (f"{module}." if module else "")
            return {each.asname or each.name: prefix + each.name for each in names}
    return {}


def _import(found: ast.alias) -> str:
    return found.name if found.asname else found.name.partition(".")[0]


def _is_definition(statement: ast.stmt) -> bool:
    """Whether it does nothing but bind names."""
    if isinstance(statement, ast.Assign):
        nodes = (node for target in statement.targets for node in _walked(target))
        return not any(isinstance(node, ast.Attribute | ast.Subscript) for node in nodes)
    if isinstance(statement, ast.AnnAssign):
        return isinstance(statement.target, ast.Name)
    return isinstance(statement, _Definition | ast.Import | ast.ImportFrom) or _is_text(statement)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
