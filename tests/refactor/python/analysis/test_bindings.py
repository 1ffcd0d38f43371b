"""Scopes are those of the compiler: of each file of the standard library that is drawn, and of each kind of binding."""

from __future__ import annotations

import ast
import random
import re
import symtable
from pathlib import Path

import pytest

from codegen_lsp.refactor.python.analysis.bindings import Scope, scope_of_module
from codegen_lsp.refactor.python.analysis.facts import ProgramFacts

NOT_WRITTEN = {"__class__", "__classdict__", "__conditional_annotations__", "__static_attributes__", ".0"}
"""Variables that the compiler adds."""

KINDS = """
import os.path, sys as system
from a import b as c
X: int = 1
Y: str

def f(a, *rest, b=X, **more):
    global G
    G = a
    with open(a) as (h, *i):
        for j, k in rest:
            l = [m for n in a if (o := n) for m in n]
    try:
        del l
    except OSError as e:
        nested = lambda p, q=a: (p, e)
    match a:
        case {"x": r, **s} | [r, *s]:
            pass
        case str() as t:
            u: int
    def g():
        nonlocal t
        t = s
        class C(b):
            v = t
            def w(self):
                return v, C, __class__
    return {x: y for x, y in (z for z in rest)}

class D:
    d = 1
    e = [d for _ in range(d)]
    def d2(self, d=d):
        return d
"""


def same(mine: Scope, theirs: symtable.SymbolTable, where: str) -> None:
    is_module = theirs.get_type() == "module"
    bound = {
        plain(one.get_name())
        for one in theirs.get_symbols()
        if one.is_local() or (is_module and (one.is_assigned() or one.is_imported()))
    }
    assert {plain(name) for name in mine.bound} - {"*"} == bound - NOT_WRITTEN, where
    left = list(theirs.get_children())
    for child in mine.children:
        candidates = [one for one in left if one.get_lineno() == first_line(child) and fits(child, one)]
        assert candidates, f"{where}: {child.kind} on line {first_line(child)}"
        left.remove(candidates[0])
        same(child, candidates[0], f"{where}, line {first_line(child)}")
    assert not left, where


def fits(mine: Scope, theirs: symtable.SymbolTable) -> bool:
    names = {ast.ListComp: "listcomp", ast.SetComp: "setcomp", ast.DictComp: "dictcomp", ast.GeneratorExp: "genexpr"}
    name = names.get(type(mine.node)) or getattr(mine.node, "name", "lambda")
    return theirs.get_name() == name and set(theirs.get_identifiers()) >= set(map(str, mine.parameters)) - private(mine)


def private(scope: Scope) -> set[str]:
    return {name for name in scope.parameters if name.startswith("__")}


def first_line(scope: Scope) -> int:
    return scope.node.lineno  # type: ignore[attr-defined, no-any-return]


def plain(name: str) -> str:
    """Return a name without the class that it is private to."""
    return re.sub(r"^_[A-Za-z0-9]\w*?(__\w+)$", r"\1", name)


def test_every_kind_of_binding() -> None:
    same(scope_of_module(ast.parse(KINDS)), symtable.symtable(KINDS, "<kinds>", "exec"), "kinds")


def files() -> list[Path]:
    library = Path(ast.__file__).parent
    found = sorted(path for path in library.rglob("*.py") if "lib2to3" not in path.parts and "test" not in path.parts)
    return random.Random(5).sample(found, 40)


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_a_file_of_the_standard_library(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree, table = ast.parse(text), symtable.symtable(text, str(path), "exec")
    except SyntaxError:
        pytest.skip("not of this version of Python")
    same(scope_of_module(tree), table, path.name)


def test_the_variable_that_a_name_means() -> None:
    tree = ast.parse(KINDS)
    module = scope_of_module(tree)
    scopes = {getattr(one.node, "name", one.kind): one for one in module.within()}
    assert scopes["f"].owner("G") is module
    assert scopes["g"].owner("t") is scopes["f"]
    assert scopes["w"].owner("v") is module  # a class is no scope around its methods
    assert scopes["f"].owner("o") is scopes["f"]  # a walrus in a comprehension binds outside
    assert scopes["d2"].owner("d") is scopes["d2"]


def test_only_functions_that_are_asked_about_are_looked_at() -> None:
    tree = ast.parse("class A:\n    def f(self): x = 1\n    def g(self): y = 2\n")
    (a,) = tree.body
    assert isinstance(a, ast.ClassDef)
    f, g = a.body
    facts = ProgramFacts(tree)
    assert facts.scope(g).bound == {"self", "y"}
    first, second = facts.scope(a).children
    assert (first.node, second.node) == (f, g)
    assert first._contents is None
    assert first.bound == {"self", "x"}


def test_the_scope_that_a_node_opens_is_found() -> None:
    tree = ast.parse(KINDS)
    facts = ProgramFacts(tree)
    for scope in scope_of_module(tree).within():
        if scope.kind != "types":
            found = facts.scope(scope.node)
            assert (found.node, found.kind) == (scope.node, scope.kind)


def test_code_that_is_too_deep_is_refused_each_time() -> None:
    deep: ast.expr = ast.Name("x", ast.Load())
    for _ in range(10_000):
        deep = ast.UnaryOp(ast.Not(), deep)
    tree = ast.parse("def f(x):\n    y = 1\n")
    (f,) = tree.body
    assert isinstance(f, ast.FunctionDef)
    f.body.append(ast.Expr(deep))
    scope = ProgramFacts(tree).scope(f)
    for _ in range(2):
        with pytest.raises(RecursionError):
            scope.own  # noqa: B018
