"""A revision's file as a syntax tree, never run: what its functions use, what they send, what they amount to.

Uses only the standard library and `sql_text`: every Python from 3.11 on must give a file the same canonical form.
"""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from neuraknot_db.database import sql_text

_EXECUTE = "alembic.op.execute"
_DEDENT = "textwrap.dedent"
_STRIPPING = ("strip", "lstrip", "rstrip")

# Ignored by the compiler, read only by type checkers, or added by a newer Python.
_IGNORED = frozenset({"annotation", "returns", "type_comment", "type_params", "kind", "ctx"})

# Code that uses these may read or bind any name of the file.
_REACHING = frozenset(
    {"globals", "locals", "vars", "eval", "exec", "modules", "__import__", "__name__", "__dict__", "__globals__"}
    | {"f_globals", "f_locals"}
)

_READING_DOCSTRINGS = {"__doc__", "getdoc"}

# Tuples, and tables by type: every node of every revision is checked, and isinstance with a union is slow.
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BINDING_STATEMENTS = (*_FUNCTIONS, ast.ClassDef, *_IMPORTS)
_PARTS_OF_OTHERS = (ast.Attribute, ast.Subscript)
_DEFINING = {ast.Assign, ast.AnnAssign, *_IMPORTS}

_LONGEST_CHAIN = 20
"""Maximum names that refer to names, before a text counts as unknown."""


class Source:
    """A file of Python.

    Attributes:
        tree: its syntax tree.
    """

    def __init__(self, source: bytes) -> None:
        """Parse it.

        Raises:
            SyntaxError, ValueError: it is not valid Python.
        """
        with warnings.catch_warnings():
            # Alembic has loaded the file, and shown its warnings then.
            warnings.simplefilter("ignore")
            self.tree = ast.parse(source)
        # Most files have neither, and need no walk.
        has_globals = b"global" in source or _is_encoded(source)
        reads_docstrings = (b"doc" in source or not source.isascii() or _is_encoded(source)) and any(
            _READING_DOCSTRINGS & {getattr(node, "id", ""), getattr(node, "attr", "")} for node in _walked(self.tree)
        )
        self._module = _Scope(self.tree.body)
        self._parts = [_Part(each, self._module, has_globals, reads_docstrings) for each in self.tree.body]
        self._module.names.update(name for part in self._parts for name in part.bound)

    def canonical(self, *roots: str) -> bytes:
        """Return what the named functions and variables amount to, with all that they use of this file.

        Ignored are comments, docstrings, annotations, imports, and whatever else the file defines. The SQL of a text
        passed to `op.execute`, or of a constant named there, counts as PostgreSQL's tokens, so that its comments and
        the white space between tokens are ignored; every other literal counts byte for byte.

        Returns:
            Bytes that no other tree has.
        """
        parts = [part for part in self._used(roots) if part.kept([part.statement])]
        return ascii([len(parts), *(each for part in parts for each in part.flat())]).encode()

    def texts(self, *roots: str) -> list[str]:
        """Return every constant text that the named functions, and those that they use, may pass to `op.execute`."""
        return [text for part in self._used(roots) for text in part.sql.values()]

    def exactly(self, function: str) -> list[str] | None:
        """Return all that a function passes to `op.execute`, in order; None if that is known only when it runs."""
        found = [part for part in self._parts if function in part.bound]
        statement = found[0].statement if len(found) == 1 else None
        if not isinstance(statement, ast.FunctionDef) or statement.decorator_list:
            return None
        texts: list[str] = []
        for each in found[0].kept(statement.body):
            text = self._only_text(each, found[0])
            if text is not None:
                texts.append(text)
            elif not (isinstance(each, ast.Assign | ast.AnnAssign) and isinstance(each.value, ast.Constant)):
                return None
        return texts

    def only_raises(self, function: str) -> bool:
        """Whether all that a function does is to raise."""
        found = [part for part in self._parts if function in part.bound]
        statement = found[-1].statement if found else None
        body = found[-1].kept(statement.body) if isinstance(statement, ast.FunctionDef) else []
        return bool(body) and isinstance(body[0], ast.Raise)

    def qualified(self, node: ast.expr, function: ast.stmt) -> str | None:
        """Return an expression's name in another module, such as `alembic.op.execute`; None for anything else.

        Args:
            node: a name, or an attribute of one.
            function: the top-level statement that contains it.
        """
        return _named(node, next(part.scope for part in self._parts if part.statement is function))

    def _only_text(self, statement: ast.stmt, part: _Part) -> str | None:
        """Return what a statement passes to `op.execute`, if it is such a call and nothing else."""
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or len(call.args) + len(call.keywords) != 1:
            return None
        return part.sql.get(id((call.args or [keyword.value for keyword in call.keywords])[0]))

    def _used(self, roots: Collection[str]) -> list[_Part]:
        """Return the statements that bind the names or may change their values, and those that these use, and so on."""
        binding: dict[str, list[_Part]] = {}
        for part in self._parts:
            for name in part.bound:
                binding.setdefault(name, []).append(part)
        changing = [part for part in self._parts if not part.only_binds]
        found: set[_Part] = set()
        names, ahead = set(roots), list(roots)

        def use(part: _Part) -> None:
            if part not in found:
                found.add(part)
                ahead.extend(part.mentioned - names)
                names.update(part.mentioned)

        while ahead:
            while ahead:
                for part in binding.get(ahead.pop(), ()):
                    use(part)
            held = {name for name in names if any(not part.imports for part in binding.get(name, ()))}
            for part in changing:
                if part not in found and held & _reached(part, binding):
                    use(part)
        if names.union(*(part.mentioned for part in changing)) & _REACHING:
            return self._parts
        used = [part for part in self._parts if part in found]
        if all(part.only_binds and all(self._module.names[name] == 1 for name in part.bound) for part in used):
            # Each name has a single value: the order of statements is irrelevant.
            used.sort(key=lambda part: sorted(part.bound))
        return used


class _Part:
    """A top-level statement of the file.

    Attributes:
        statement: the statement.
        bound: the top-level names that it binds.
    """

    def __init__(self, statement: ast.stmt, module: _Scope, has_globals: bool, reads_docstrings: bool) -> None:
        self.statement = statement
        self._module = module
        self._reads_docstrings = reads_docstrings
        self.bound = _bound_in_scope([statement])
        if has_globals:
            self.bound.update(name for node in self.nodes if isinstance(node, ast.Global) for name in node.names)
        if _is_text(statement):
            self.bound.add("__doc__")

    @property
    def only_binds(self) -> bool:
        """Whether it only binds names; a call, for example, may also change what a name holds."""
        statement = self.statement
        if isinstance(statement, ast.ClassDef) and (statement.bases or statement.keywords):
            return False  # the base class may register it
        if isinstance(statement, _BINDING_STATEMENTS):
            return not any(isinstance(node, ast.Call) for each in _outside(statement) for node in _walked(each)) and (
                not getattr(statement, "decorator_list", ())
            )
        if isinstance(statement, ast.Assign):
            nodes = (node for target in statement.targets for node in _walked(target))
            if any(isinstance(node, _PARTS_OF_OTHERS) for node in nodes):
                return False
        elif not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            return _is_text(statement)
        value = statement.value
        return value is None or isinstance(value, ast.Constant) or not any(type(n) is ast.Call for n in _walked(value))

    @property
    def imports(self) -> bool:
        """Whether all that it binds comes from another module."""
        return isinstance(self.statement, _IMPORTS)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The statement and all within."""
        return _walked(self.statement)

    @cached_property
    def scope(self) -> _Scope:
        """The scope of the names within."""
        body = self.statement.body if isinstance(self.statement, ast.FunctionDef | ast.AsyncFunctionDef) else ()
        scope = _Scope((node for each in body for node in _in_scope([each])), outer=self._module)
        scope.names.update(name for node in self.nodes for name in _binding(node))
        if isinstance(own := getattr(self.statement, "name", None), str):
            scope.names[own] -= 1
        return scope

    @cached_property
    def sql(self) -> Mapping[int, str]:
        """For each expression passed to `op.execute`, its text, if constant."""
        found: dict[int, str] = {}
        for node in self.nodes:
            if isinstance(node, ast.Call) and _named(node.func, self.scope) == _EXECUTE:
                named = (keyword.value for keyword in node.keywords if keyword.arg == "sqltext")
                argument = node.args[0] if node.args else next(named, None)
                if argument is not None and (text := _text(argument, self.scope)) is not None:
                    found[id(argument)] = text
        return found

    @cached_property
    def mentioned(self) -> set[str]:
        """The top-level names that it mentions, except constants that are folded into SQL."""
        found: set[str] = set()
        scopes: list[tuple[list[ast.AST], frozenset[str]]] = [(self.kept([self.statement]), frozenset())]
        while scopes:
            ahead, hidden = scopes.pop()
            while ahead:
                node = ahead.pop()
                if id(node) in self.sql:
                    continue
                if isinstance(node, ast.Name):
                    if node.id not in hidden:
                        found.add(node.id)
                elif isinstance(node, _SCOPES):
                    ahead += _outside(node)
                    scopes.append((self.kept(_children(node, _COUNTED)), hidden | _locals(node)))
                else:
                    if isinstance(node, ast.Attribute) and node.attr in _REACHING:
                        found.add(node.attr)
                    within = _children(node, _COUNTED)
                    ahead += within if isinstance(node, ast.expr) else self.kept(within)
        return found

    def fields(self, node: ast.AST) -> dict[str, Any]:
        """Return a node's fields that count, in our own order: a newer Python may add fields, and leave them empty."""
        found: dict[str, Any] = {}
        for name in _COUNTED[type(node)]:
            value = getattr(node, name, None)
            if type(value) is list and not isinstance(node, ast.expr):
                value = self.kept(value)
            if value is not None and value != []:
                found[name] = value
        return found

    def kept(self, items: list[Any]) -> list[Any]:
        """Return a list's items without statements that do nothing, or import."""
        return [item for item in items if not isinstance(item, ast.stmt) or not self._is_dropped(item)]

    def _is_dropped(self, item: ast.stmt) -> bool:
        if isinstance(item, (*_IMPORTS, ast.Pass)) or id(item) in self._folded_constants:
            return True
        if isinstance(item, ast.AnnAssign) and item.value is None:
            return id(item) not in self._of_classes
        return _is_text(item) and not self._reads_docstrings

    @cached_property
    def _folded_constants(self) -> frozenset[int]:
        """The assignments of a function's own constants that are used only in `op.execute`."""
        if not any(type(node) in _DEFINING for node in self.nodes):
            return frozenset()
        sent = [node for node in self.nodes if id(node) in self.sql]
        inside = {id(node) for expression in sent for node in _walked(expression)}
        loads = [node for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        folded = {node.id for node in loads if id(node) in inside}
        folded -= {node.id for node in loads if id(node) not in inside}
        return frozenset(
            id(node)
            for node in self.nodes
            for name, value in _definition(node).items()
            if name in folded and self.scope.meaning(name)[0] is value and isinstance(value, ast.expr)
        )

    @cached_property
    def _of_classes(self) -> frozenset[int]:
        """What is in a class: annotations define a dataclass; elsewhere they are comments."""
        return frozenset(id(each) for node in self.nodes if isinstance(node, ast.ClassDef) for each in node.body)

    def flat(self) -> Iterator[object]:
        """Yield what it amounts to: names, numbers of parts and constants, each node before its parts."""
        ahead: list[Any] = [self.statement]
        while ahead:
            item = ahead.pop()
            if isinstance(item, list):
                yield len(item)
                ahead += reversed(item)
            elif item is None:
                yield ("nothing",)  # the key of a ** item, or a missing default: not the constant None
            elif not isinstance(item, ast.AST):
                yield _constant(item)
            elif id(item) in self.sql:
                # With the kind: only that distinguishes a string's continuation from a separate string.
                tokens = [part for token in sql_text.tokens(self.sql[id(item)]) for part in (token.kind, token.text)]
                yield ("SQL", *tokens)
            elif isinstance(item, ast.Constant):
                yield _constant(item.value)
            elif isinstance(item, ast.JoinedStr):
                parts = _merged(item.values)
                if not _is_constant(parts):
                    yield ("JoinedStr", len(parts))
                ahead += reversed(parts or [ast.Constant("")])
            elif isinstance(item, ast.AnnAssign) and item.value and id(item) not in self._of_classes:
                ahead.append(ast.Assign([item.target], item.value))
            else:
                fields = self.fields(item)
                yield (type(item).__name__, *fields)
                ahead += reversed(fields.values())


class _Scope:
    """The top level of the file, or the inside of one of its statements.

    Attributes:
        names: how often each name is bound there.
    """

    def __init__(self, nodes: Iterable[ast.AST], outer: _Scope | None = None) -> None:
        self.names: Counter[str] = Counter()
        self._nodes = nodes
        self._outer = outer

    @cached_property
    def definitions(self) -> Mapping[str, ast.expr | str]:
        """The values that assignments and imports bind to names."""
        return {name: value for node in self._nodes for name, value in _definition(node).items()}

    def meaning(self, name: str) -> tuple[ast.expr | str | None, _Scope]:
        """Return what a name always stands for (a value or an import), and the scope in which to read that value.

        None if the name is bound more than once, or by anything but an assignment or an import.
        """
        times = self.names[name]
        if times == 0 and self._outer is not None:
            return self._outer.meaning(name)
        return (self.definitions.get(name) if times == 1 else None), self


def _named(node: ast.expr, scope: _Scope) -> str | None:
    if isinstance(node, ast.Attribute):
        base = _named(node.value, scope)
        return base and f"{base}.{node.attr}"
    if not isinstance(node, ast.Name):
        return None
    found, _ = scope.meaning(node.id)
    return found if isinstance(found, str) else None


def _text(node: ast.expr, scope: _Scope, names: int = 0) -> str | None:
    """Return the text that an expression always has; None if it has none, or depends on what runs."""
    if isinstance(node, ast.BinOp):
        return _sum(node, scope, names)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name) and names < _LONGEST_CHAIN:
        found, scope = scope.meaning(node.id)
        return _text(found, scope, names + 1) if isinstance(found, ast.expr) else None
    if isinstance(node, ast.JoinedStr):
        parts = [_part_text(part, scope, names) for part in node.values]
        return None if None in parts else "".join(filter(None, parts))
    if isinstance(node, ast.Call) and not node.keywords:
        return _called(node, scope, names)
    return None


def _part_text(node: ast.expr, scope: _Scope, names: int) -> str | None:
    if isinstance(node, ast.FormattedValue):
        plain = node.conversion == -1 and node.format_spec is None
        return _text(node.value, scope, names) if plain else None
    return _text(node, scope, names)


def _sum(node: ast.expr, scope: _Scope, names: int) -> str | None:
    parts: list[str | None] = []
    while isinstance(node, ast.BinOp):
        if not isinstance(node.op, ast.Add):
            return None
        parts.append(_text(node.right, scope, names))
        node = node.left
    parts.append(_text(node, scope, names))
    return None if None in parts else "".join(filter(None, reversed(parts)))


def _called(node: ast.Call, scope: _Scope, names: int) -> str | None:
    if _named(node.func, scope) == _DEDENT and len(node.args) == 1:
        import textwrap  # few runs need it

        text = _text(node.args[0], scope, names)
        return None if text is None else textwrap.dedent(text)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _STRIPPING and not node.args:
        text = _text(node.func.value, scope, names)
        return None if text is None else str(getattr(text, node.func.attr)())
    return None


class _Fields(dict[type, tuple[str, ...]]):
    """The names of the fields of each node type, computed on first use; none for a constant."""

    def __init__(self, but: Collection[str]) -> None:
        self._but = frozenset(but)

    def __missing__(self, kind: type) -> tuple[str, ...]:
        names = () if kind is ast.Constant else getattr(kind, "_fields", ())
        self[kind] = found = tuple(sorted({*names} - self._but))
        return found


_COUNTED = _Fields(_IGNORED)
_WITHIN = _Fields({"ctx", "id", "attr", "arg", "kind", "type_comment"})


def _walked(node: ast.AST) -> list[ast.AST]:
    """Return the node and all within, without load and store contexts; `ast.walk` takes three times as long."""
    found = [node]
    for each in found:
        found += _children(each)
    return found


def _children(node: ast.AST, fields: _Fields = _WITHIN) -> list[ast.AST]:
    found: list[ast.AST] = []
    for name in fields[type(node)]:
        value = getattr(node, name, None)
        if type(value) is list:
            found += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST):
            found.append(value)
    return found


def _merged(parts: list[ast.expr]) -> list[ast.expr]:
    """Return an f-string's parts with adjacent constants merged: 3.12.1 splits them differently from 3.11 and 3.13."""
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


def _constant(value: object) -> object:
    """Return a constant as a value that `ascii` writes identically in every Python."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (hex(value),)  # Python limits the digits of a decimal number
    return value


_BINDING: Mapping[type, Callable[[Any], Collection[str]]] = {
    ast.Name: lambda node: () if isinstance(node.ctx, ast.Load) else (node.id,),
    ast.arg: lambda node: (node.arg,),
    **dict.fromkeys((*_FUNCTIONS, ast.ClassDef), lambda node: (node.name,)),
    **dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar), lambda node: (node.name,) if node.name else ()),
    ast.MatchMapping: lambda node: (node.rest,) if node.rest else (),
    ast.alias: lambda node: (node.asname or node.name.partition(".")[0],),
    **dict.fromkeys((ast.Global, ast.Nonlocal), lambda node: node.names * 2),
}


def _binding(node: ast.AST) -> Collection[str]:
    """Return the names that a node itself binds; twice for global and nonlocal names, also bound in an outer scope."""
    found = _BINDING.get(type(node))
    return found(node) if found else ()


def _in_scope(nodes: Iterable[ast.AST]) -> list[ast.AST]:
    """Return the nodes and all within, except inside nested functions, classes and comprehensions."""
    found = list(nodes)
    for node in found:
        found += _outside(node) if isinstance(node, _SCOPES) else _children(node)
    return found


def _outside(node: ast.AST) -> list[ast.AST]:
    """Return what the enclosing scope evaluates of a function, class or comprehension."""
    if isinstance(node, _COMPREHENSIONS):
        return [node.generators[0].iter]
    found: list[ast.AST] = [*getattr(node, "decorator_list", ())]
    if isinstance(node, ast.ClassDef):
        return [*found, *node.bases, *node.keywords]
    if isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        found += filter(None, (*node.args.defaults, *node.args.kw_defaults))
    return found


def _reached(part: _Part, binding: Mapping[str, list[_Part]]) -> set[str]:
    """Return the top-level names that a statement may touch through whatever it uses."""
    found, ahead = set(part.mentioned), [*part.mentioned]
    while ahead:
        for each in binding.get(ahead.pop(), ()):
            ahead += each.mentioned - found
            found |= each.mentioned
    return found


def _bound_in_scope(nodes: Iterable[ast.AST]) -> set[str]:
    return {name for node in _in_scope(nodes) for name in _binding(node)}


def _locals(node: ast.AST) -> frozenset[str]:
    """Return the local names of a function, a lambda or a comprehension."""
    if isinstance(node, _COMPREHENSIONS):
        return frozenset(_bound_in_scope([comprehension.target for comprehension in node.generators]))
    if not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        return frozenset()
    inside = list(_in_scope([*(node.body if isinstance(node.body, list) else [node.body]), node.args]))
    declared = {name for each in inside if isinstance(each, ast.Global) for name in each.names}
    return frozenset({name for each in inside for name in _binding(each)} - declared)


def _definition(node: ast.AST) -> Mapping[str, ast.expr | str]:
    """Return the names that an assignment or import binds, with their value or their name in another module."""
    if type(node) not in _DEFINING:
        return {}
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


def _is_encoded(source: bytes) -> bool:
    """Whether it may not be UTF-8: its keywords may then differ from ASCII."""
    return b"coding" in source


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
