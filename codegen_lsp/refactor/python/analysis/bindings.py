"""The scopes of a program, and which scope each occurrence of a name belongs to, as the compiler decides it.

Python's own `symtable` decides the same but does not say where a name occurs, and needs the whole text; the tests
compare the two on real files. The code of a function is looked at when it is asked for: a file may have
hundreds of them, and most questions are about one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from attrs import define, field, frozen

from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Function, has_line

ScopeKind = Literal["module", "function", "lambda", "class", "comprehension", "types"]
OccurrenceKind = Literal["read", "write", "delete", "declare"]

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@frozen(eq=False)
class Occurrence:
    """A place where a name is used, bound, deleted or declared: a field of a node of the syntax tree."""

    name: str
    node: ast.AST
    field: str
    kind: OccurrenceKind

    @property
    def line(self) -> int:
        """The number of the line, from 1."""
        return getattr(self.node, "lineno", 1)


@define
class _Contents:
    """What a scope has in it."""

    children: list[Scope] = field(factory=list)
    own: dict[str, list[Occurrence]] = field(factory=dict)
    global_names: set[str] = field(factory=set)
    nonlocal_names: set[str] = field(factory=set)
    modules: set[str] = field(factory=set)
    imported: set[str] = field(factory=set)


@define(eq=False)
class Scope:
    """A module, function, lambda, class, comprehension, or the type parameters of a definition."""

    node: ast.AST
    kind: ScopeKind
    parent: Scope | None
    parameters: set[str] = field(factory=set)
    _contents: _Contents | None = None
    """None for a function whose code has not been looked at."""

    @property
    def children(self) -> list[Scope]:
        """The scopes directly inside this one."""
        return self._looked_at().children

    @property
    def own(self) -> dict[str, list[Occurrence]]:
        """Occurrences in the code of the scope itself, by name."""
        return self._looked_at().own

    @property
    def global_names(self) -> set[str]:
        """Names that are declared `global`."""
        return self._looked_at().global_names

    @property
    def nonlocal_names(self) -> set[str]:
        """Names that are declared `nonlocal`."""
        return self._looked_at().nonlocal_names

    @property
    def modules(self) -> set[str]:
        """Names that `import` binds, to modules; `from ... import` may bind anything."""
        return self._looked_at().modules

    @property
    def imported(self) -> set[str]:
        """Names that `from ... import` binds."""
        return self._looked_at().imported

    def _looked_at(self) -> _Contents:
        if self._contents is None:
            self._contents = _Contents()
            try:
                _Builder(self).function_code()
            except BaseException:  # such as a RecursionError: half of the contents must not pass for the whole
                self._contents = None
                raise
        return self._contents

    def binds(self, name: str) -> bool:
        """Return whether the name is a variable of this scope."""
        if name in self.global_names:
            return self.kind == "module"
        if name in self.nonlocal_names:
            return False
        return name in self.parameters or any(one.kind in ("write", "delete") for one in self.own.get(name, ()))

    @cached_property
    def bound(self) -> frozenset[str]:
        """The variables of this scope."""
        return frozenset(name for name in {*self.own, *self.parameters} if self.binds(name))

    def owner(self, name: str) -> Scope | None:
        """Return the scope whose variable the name is here; None for one of a module that is not in this tree."""
        if name in self.bound or self.kind == "module":
            return self
        above = self.root if name in self.global_names else self.parent
        while above is not None:
            if above.kind == "module":
                return above
            if above.kind != "class" and name in above.bound:
                return above
            if name in above.global_names:
                return above.root
            above = above.parent
        return None

    @property
    def root(self) -> Scope | None:
        """The scope of the module, if this tree has one."""
        scope: Scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope if scope.kind == "module" else None

    def within(self) -> Iterator[Scope]:
        """Yield this scope and all scopes inside it."""
        yield self
        for child in self.children:
            yield from child.within()

    def on_line(self, line: int) -> Iterator[Scope]:
        """Yield this scope and the scopes inside it, but not those inside definitions that are on other lines."""
        yield self
        for child in self.children:
            if not isinstance(child.node, DEFINITIONS) or has_line(child.node, line):
                yield from child.on_line(line)

    def opened_by(self, node: ast.AST) -> Scope:
        """Return the scope inside this one, or this one itself, that a node opens."""
        near = self.on_line(getattr(node, "lineno", 1))
        # The line of a node in an f-string is wrong before Python 3.12.
        return next(one for one in chain(near, self.within()) if one.node is node and one.kind != "types")

    def uses(self, name: str) -> list[Occurrence]:
        """Return all occurrences of a variable of this scope, here and in the scopes inside."""
        return [one for scope in self.within() if scope.owner(name) is self for one in scope.own.get(name, ())]

    def inner_uses(self, name: str) -> list[Occurrence]:
        """Return the occurrences of a variable of this scope in functions, lambdas, classes and comprehensions."""
        return [
            one
            for scope in self.within()
            if scope is not self and scope.owner(name) is self
            for one in scope.own.get(name, ())
        ]

    @cached_property
    def sure(self) -> frozenset[str]:
        """The variables of a module that its statements bind on all ways through it, and nothing deletes."""
        deleted = {name for name, uses in self.own.items() if any(one.kind == "delete" for one in uses)}
        body: list[ast.stmt] = getattr(self.node, "body", [])
        return frozenset(_always_bound(body)) - deleted

    @property
    def has_star_import(self) -> bool:
        """Whether names may be bound that nothing here tells of."""
        return "*" in self.own


def _always_bound(body: list[ast.stmt]) -> set[str]:
    """Return the names that a suite binds if it is left at its end."""
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            targets = (one for target in node.targets for one in ast.walk(target))
            found |= {one.id for one in targets if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.If):
            found |= _always_bound(node.body) & _always_bound(node.orelse)
        elif isinstance(node, ast.Try):
            handled = [_always_bound(one.body) for one in node.handlers if not _leaves(one.body)]
            found |= _always_bound([*node.body, *node.orelse]).intersection(*handled) | _always_bound(node.finalbody)
    return found


def _leaves(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise)


def scope_of_module(tree: ast.Module) -> Scope:
    """Return the scope of a module."""
    scope = Scope(tree, "module", None, contents=_Contents())
    _Builder(scope).block(tree.body)
    return scope


class _Builder:
    """Adds the occurrences of names to a scope, and scopes to it as its children."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def visit(self, node: ast.AST | None) -> None:
        if node is None:
            return
        method = _VISITORS.get(type(node))
        if method is not None:
            method(self, node)
        else:
            for child in ast.iter_child_nodes(node):
                self.visit(child)

    def add(self, name: str, node: ast.AST, where: str, kind: OccurrenceKind) -> None:
        self._scope.own.setdefault(name, []).append(Occurrence(name, node, where, kind))

    def name(self, node: ast.Name) -> None:
        kinds: dict[type[ast.expr_context], OccurrenceKind] = {ast.Store: "write", ast.Del: "delete"}
        self.add(node.id, node, "id", kinds.get(type(node.ctx), "read"))

    def definition(self, node: Function | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self.add(node.name, node, "name", "write")
        inside = self._with_type_parameters(node)
        if isinstance(node, ast.ClassDef):
            for base in [*node.bases, *node.keywords]:
                inside.visit(base)
            child = inside._child(node, "class", _Contents())
            _Builder(child).block(node.body)
        else:
            self._defaults(node.args)
            inside.function_scope(node)

    def function_scope(self, node: Function | ast.Lambda) -> None:
        """Add the scope of a function: its annotations belong to the scope around, and its defaults, too."""
        if not isinstance(node, ast.Lambda):
            for one in _arguments(node.args):
                self.visit(one.annotation)
            self.visit(node.returns)
        child = self._child(node, "lambda" if isinstance(node, ast.Lambda) else "function", None)
        child.parameters |= {one.arg for one in _arguments(node.args)}

    def function_code(self) -> None:
        """Add what is in a function: its parameters and its code."""
        node = self._scope.node
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for one in _arguments(node.args):
            self.add(one.arg, one, "arg", "write")
        if isinstance(node, ast.Lambda):
            self.visit(node.body)
        else:
            self.block(node.body)

    def lambda_(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        self.function_scope(node)

    def comprehension(self, node: ast.expr) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.visit(generators[0].iter)
        inner = _Builder(self._child(node, "comprehension", _Contents()))
        for at, one in enumerate(generators):
            inner.visit(one.target)
            if at:
                inner.visit(one.iter)
            for condition in one.ifs:
                inner.visit(condition)
        for part in [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]:  # type: ignore[attr-defined]
            inner.visit(part)

    def walrus(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        scope = self._scope
        while scope.kind == "comprehension" and scope.parent is not None:
            scope = scope.parent
        _Builder(scope).name(node.target)
        if scope is not self._scope:
            # The comprehension itself sees the variable of the scope around.
            self._scope.own.setdefault(node.target.id, [])

    def handler(self, node: ast.ExceptHandler) -> None:
        self.visit(node.type)
        if node.name:
            self.add(node.name, node, "name", "write")
        self.block(node.body)

    def pattern(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.visit(getattr(node, "pattern", None))
        if node.name:
            self.add(node.name, node, "name", "write")

    def mapping_pattern(self, node: ast.MatchMapping) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child)
        if node.rest:
            self.add(node.rest, node, "rest", "write")

    def import_(self, node: ast.Import | ast.ImportFrom) -> None:
        names = self._scope.modules if isinstance(node, ast.Import) else self._scope.imported
        for alias in node.names:
            names.add(alias.asname or alias.name.split(".")[0])
            where = "asname" if alias.asname else "name"
            self.add(alias.asname or alias.name.split(".")[0], alias, where, "write")

    def declaration(self, node: ast.Global | ast.Nonlocal) -> None:
        names = self._scope.global_names if isinstance(node, ast.Global) else self._scope.nonlocal_names
        for name in node.names:
            names.add(name)
            self.add(name, node, "names", "declare")

    def annotated(self, node: ast.AnnAssign) -> None:
        self.visit(node.value)
        self.visit(node.annotation)
        if isinstance(node.target, ast.Name) and node.value is None and node.simple:
            # Binds nothing, but makes the name a variable of the scope.
            self.add(node.target.id, node.target, "id", "write")
        else:
            self.visit(node.target)

    def type_alias(self, node: ast.AST) -> None:
        self.visit(node.name)  # type: ignore[attr-defined]
        inside = self._with_type_parameters(node)
        inside.visit(node.value)  # type: ignore[attr-defined]

    def type_parameter(self, node: ast.AST) -> None:
        self.add(node.name, node, "name", "write")  # type: ignore[attr-defined]
        for child in ast.iter_child_nodes(node):
            self.visit(child)

    def _with_type_parameters(self, node: ast.AST) -> _Builder:
        """Return the builder of the scope of a definition's type parameters; this one where there are none."""
        parameters = getattr(node, "type_params", None)
        if not parameters:
            return self
        inside = _Builder(self._child(node, "types", _Contents()))
        for one in parameters:
            inside.visit(one)
        return inside

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            self.visit(default)

    def _child(self, node: ast.AST, kind: ScopeKind, contents: _Contents | None) -> Scope:
        child = Scope(node, kind, self._scope, contents=contents)
        self._scope.children.append(child)
        return child


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    extra = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra]


_VISITORS: dict[type[ast.AST], Callable[[_Builder, Any], None]] = {
    ast.Name: _Builder.name,
    ast.FunctionDef: _Builder.definition,
    ast.AsyncFunctionDef: _Builder.definition,
    ast.ClassDef: _Builder.definition,
    ast.Lambda: _Builder.lambda_,
    **dict.fromkeys(COMPREHENSIONS, _Builder.comprehension),
    ast.NamedExpr: _Builder.walrus,
    ast.ExceptHandler: _Builder.handler,
    ast.MatchAs: _Builder.pattern,
    ast.MatchStar: _Builder.pattern,
    ast.MatchMapping: _Builder.mapping_pattern,
    ast.Import: _Builder.import_,
    ast.ImportFrom: _Builder.import_,
    ast.Global: _Builder.declaration,
    ast.Nonlocal: _Builder.declaration,
    ast.AnnAssign: _Builder.annotated,
    **{
        kind: _Builder.type_alias if name == "TypeAlias" else _Builder.type_parameter
        for name in ("TypeAlias", "TypeVar", "ParamSpec", "TypeVarTuple")
        if (kind := getattr(ast, name, None)) is not None
    },
}
"""How nodes are visited that bind names, or open scopes; syntax that newer versions of Python have is optional."""
