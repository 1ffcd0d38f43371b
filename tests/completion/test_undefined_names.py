"""Names that nothing defines: those of modules, and the scopes that the cases do not show."""

from __future__ import annotations

import ast

import pytest

from codegen_lsp.completion.undefined_names import ALWAYS_DEFINED, undefined_names
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import parsed

MODULES = {
    "shapes": frozenset({"Circle", "area"}),
    "shapes.solid": frozenset({"Cube"}),
    "pkg": frozenset({"util", "main"}),
    "pkg.util": frozenset({"run"}),
    ".": frozenset({"near"}),
    ".near": frozenset({"walk"}),
    "..": frozenset({"far"}),
    "..near": frozenset({"fly"}),
}


def undefined(source: str) -> list[str]:
    """The undefined names between the marks ‹ and ›."""
    start, end = source.index("‹"), source.index("›") - 1
    tree = parsed(source.replace("‹", "").replace("›", ""), LANGUAGES["python"])
    assert tree is not None
    return [found.name for found in undefined_names(tree, start, end, MODULES)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import shapes\nx = ‹shapes.area(1)›\n", []),
        ("import shapes\nx = ‹shapes.volume(1)›\n", ["shapes.volume"]),
        ("import shapes as s\nx = ‹s.volume(1)›\n", ["s.volume"]),
        ("import shapes\nx = ‹shapes.solid.Cube›\n", []),
        ("from pkg import util\nx = ‹util.walk()›\n", ["util.walk"]),
        ("from pkg import util\nx = ‹util.run()›\n", []),
        ("from shapes import ‹Circle, Square›\n", ["shapes.Square"]),
        ("from shapes import ‹Square as Circle›\n", ["shapes.Square"]),
        ("from shapes import ‹solid›\n", []),
        ("from elsewhere import ‹Anything›\n", []),
        ("import shapes\nshapes = 1\nx = ‹shapes.volume›\n", []),
        ("import shapes\n‹shapes.volume› = 1\n", []),
        ("import shapes\nx = ‹shapes.__file__›\n", []),
        ("import shapes\nshapes.volume()\nx = ‹shapes.volume›\n", []),
        ("import shapes\nother.volume()\nx = ‹shapes.volume›\n", ["shapes.volume"]),
        ("import pkg.util\nx = ‹pkg.util.walk()›\n", ["pkg.util.walk"]),
        ("import pkg.util\nx = ‹pkg.util.run(), pkg.main, pkg.other›\n", ["pkg.other"]),
        ("import pkg.util\nimport pkg\nx = ‹pkg.other›\n", ["pkg.other"]),
        ("import shapes.solid\nx = ‹shapes.solid.Cube.anything›\n", []),
        ("from . import near\nx = ‹near.fly, near.walk›\n", ["near.fly"]),
        ("from . import ‹near, far›\n", ["..far"]),
        ("from .near import ‹walk, fly›\n", [".near.fly"]),
        ("from ..near import ‹walk, fly›\n", ["..near.walk"]),
        ("from .. import ‹far›, near\n", []),
        ("def f():\n    import shapes\n    return ‹shapes.volume›\n", ["shapes.volume"]),
        ("def f(shapes):\n    return ‹shapes.volume›\nimport shapes\n", []),
        ("try:\n    import shapes\nexcept ImportError:\n    shapes = None\nx = ‹shapes.volume›\n", []),
    ],
)
def test_names_of_modules_that_are_known(source: str, names: list[str]) -> None:
    assert undefined(source) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(a, *args, b=1, **kwargs):\n    return ‹a, args, b, kwargs, c›\n", ["c"]),
        ("def f(a: int, b: str = ''):\n    return ‹a, b›\n", []),
        ("def f(a=‹missing›):\n    pass\n", ["missing"]),
        ("def f():\n    def g():\n        pass\n    ‹g()›\n", []),
        ("for i, (a, *b) in []:\n    ‹print(i, a, b)›\n", []),
        ("with open('a') as (a, b):\n    ‹print(a, b)›\n", []),
        ("async def f():\n    async with f() as a:\n        ‹print(a)›\n", []),
        ("x = {k: v for k, v in ‹z.items()›}\n", ["z"]),
        ("x = lambda a: ‹a + b›\n", ["b"]),
        ("class A:\n    x = 1\n    y = ‹[x for _ in range(3)]›\n", []),
        ("class A:\n    def f(self):\n        return ‹__class__›\n", []),
        ("class A(‹Base›):\n    pass\n", ["Base"]),
        ("@‹decorate›\ndef f():\n    pass\n", ["decorate"]),
        ("def f() -> ‹Missing›:\n    pass\n", ["Missing"]),
        ("def f():\n    nonlocal_ = 1\n    def g():\n        nonlocal nonlocal_\n        ‹nonlocal_ += 1›\n", []),
        ("try:\n    pass\nexcept (ValueError, OSError) as e:\n    ‹raise e›\n", []),
        ("print(‹f'{name!r:>{width}}'›)\n", ["name", "width"]),
        ("x = ‹[a for b in range(3) for a in range(b)]›\n", []),
        ("x: int = 1\n‹print(x)›\n", []),
        ("match 1:\n    case {'a': a, **rest} if ‹a in rest›:\n        pass\n", []),
        ("import a.b as c, d\n‹c.x(d, a)›\n", ["a"]),
        ("‹x = x›\n", ["x"]),
        ("‹def f():\n    return g()\n\ndef g():\n    return f()›\n", []),
        ("‹for item in items:\n    print(item)›\n", ["items"]),
        ("é = 1\nprint(‹é, ü›)\n", ["ü"]),
        ("exec('x = 1')\n‹print(x)›\n", []),
    ],
)
def test_scopes(source: str, names: list[str]) -> None:
    assert undefined(source) == names


POINT = "class Point:\n    unit = 1\n\n    def __init__(self):\n        self.x = 1\n\n"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (POINT + "    def f(self):\n        return ‹self.x, self.unit, self.f, self.y›\n", ["self.y"]),
        (POINT + "class Solid(Point):\n    def f(self):\n        return ‹self.x, self.unit, self.z›\n", ["self.z"]),
        (
            POINT + "class A(Point): pass\nclass B(A):\n    def f(self):\n        return ‹self.unit, self.z›\n",
            ["self.z"],
        ),
        ("class A(A):\n    def f(self):\n        return ‹self.z›\n", ["self.z"]),
        ("class A(ValueError):\n    def f(self):\n        return ‹self.args, self.z›\n", ["self.z"]),
        ("from b import ValueError\nclass A(ValueError):\n    def f(self):\n        return ‹self.z›\n", []),
        ("from b import Base\nclass A(Base):\n    def f(self):\n        return ‹self.z›\n", []),
        ("class Base: pass\nclass Base(X): pass\nclass A(Base):\n    def f(self):\n        return ‹self.z›\n", []),
        ("class A:\n    def f(self):\n        ‹self.z = 1›\n", []),
        ("class A:\n    def f(self):\n        ‹self.z = 1\n        return self.z, self.y›\n", ["self.y"]),
        ("class A:\n    ‹def f(self):\n        return self.g(), self.h()\n    def g(self): pass›\n", ["self.h"]),
        ("class A:\n    def f(self):\n        return ‹self.z›\n    def g(this):\n        this.z = 1\n", []),
        ("class A:\n    def __getattr__(self, n):\n        pass\n    def f(self):\n        return ‹self.z›\n", []),
        ("@dataclass\nclass A:\n    def f(self):\n        return ‹self.z›\n", []),
        ("class A:\n    @classmethod\n    def f(self):\n        return ‹self.z›\n", []),
        ("class A(metaclass=M):\n    def f(self):\n        return ‹self.z›\n", []),
    ],
)
def test_attributes_of_self(source: str, names: list[str]) -> None:
    assert undefined(source) == names


def test_this_projects_own_names_are_defined() -> None:
    """Each statement of these modules as though it were suggested."""
    from codegen_lsp.completion import undefined_names as names
    from codegen_lsp.completion import window
    from codegen_lsp.completion.shaping import pipeline, trim
    from codegen_lsp.source import blocks

    for module in (blocks, names, pipeline, trim, window):
        assert module.__file__ is not None
        with open(module.__file__, encoding="utf-8") as file:  # noqa: PTH123
            text = file.read()
        tree = parsed(text, LANGUAGES["python"])
        assert tree is not None
        assert list(undefined_names(tree, 0, len(text))) == []
        used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        assert used - ALWAYS_DEFINED
