"""What is known of variables at the last statement of a function, whose ways all kinds of statements make."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from codegen_lsp.refactor.python.analysis.bindings import scope_of_module
from codegen_lsp.refactor.python.analysis.flow_builder import flow_of
from codegen_lsp.refactor.python.analysis.flow_events import FlowEvent
from codegen_lsp.refactor.python.analysis.flow_graph import FlowGraph


def flow(body: str) -> FlowGraph:
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    module = scope_of_module(ast.parse(f"def f(a, b):\n{lines}\n"))
    return flow_of(module.children[0])


def reads(graph: FlowGraph, name: str) -> Iterator[FlowEvent]:
    return (event for event in graph.events if event.kind == "read" and event.name == name)


@pytest.mark.parametrize(
    ("body", "unbound"),
    [
        ("x = 1\nuse(x)", False),
        ("if a:\n    x = 1\nuse(x)", True),
        ("if a:\n    x = 1\nelse:\n    x = 2\nuse(x)", False),
        ("if a:\n    x = 1\nelse:\n    return\nuse(x)", False),
        ("for x in a:\n    pass\nuse(x)", True),
        ("for x in a:\n    pass\nelse:\n    x = 1\nuse(x)", False),
        ("for y in a:\n    x = y\n    break\nelse:\n    x = 1\nuse(x)", False),
        ("while True:\n    x = a()\n    if x:\n        break\nuse(x)", False),
        ("while a:\n    x = 1\nuse(x)", True),
        ("try:\n    x = a()\nexcept OSError:\n    pass\nuse(x)", True),
        ("try:\n    x = a()\nexcept OSError:\n    raise\nuse(x)", False),
        ("try:\n    x = a()\nexcept OSError:\n    x = 1\nuse(x)", False),
        ("try:\n    x = a()\nfinally:\n    b()\nuse(x)", False),
        ("try:\n    a()\nfinally:\n    x = 1\nuse(x)", False),
        ("try:\n    x = a()\nfinally:\n    use(x)", True),
        ("try:\n    a()\nexcept OSError as x:\n    pass\nuse(x)", True),
        ("try:\n    pass\nexcept OSError as x:\n    use(x)", False),
        ("with open(a) as x:\n    pass\nuse(x)", False),
        ("with open(a):\n    x = b()\nuse(x)", False),
        ("with a:\n    x = b()\nuse(x)", True),
        ("with a as x:\n    b()\nuse(x)", False),
        ("x = 1\ndel x\nuse(x)", True),
        ("x = 1\nif a:\n    del x\n    x = 2\nuse(x)", False),
        ("import x\nuse(x)", False),
        ("from x import y as x\nuse(x)", False),
        ("a and (x := b)\nuse(x)", True),
        ("(x := b) and a\nuse(x)", False),
        ("[x := c for c in a]\nuse(x)", True),
        ("y = 1 if (x := a) else 2\nuse(x)", False),
        ("y = 1 if a else (x := 2)\nuse(x)", True),
        ("match a:\n    case [x, *_]:\n        pass\n    case _:\n        x = 1\nuse(x)", False),
        ("match a:\n    case [x, *_]:\n        pass\nuse(x)", True),
        ("match a:\n    case x:\n        pass\nuse(x)", False),
        ("match a:\n    case [x] if x:\n        pass\n    case _:\n        return\nuse(x)", False),
        ("def x():\n    pass\nuse(x)", False),
        ("class x:\n    pass\nuse(x)", False),
        ("assert (x := a)\nuse(x)", False),
        ("for y in a:\n    if y:\n        continue\n    x = y\n    use(x)", False),
        ("for y in a:\n    try:\n        x = y()\n    except OSError:\n        continue\n    use(x)", False),
        ("while True:\n    try:\n        x = a()\n        break\n    except OSError:\n        b()\nuse(x)", False),
        ("while True:\n    try:\n        x = a()\n        break\n    finally:\n        b()\nuse(x)", False),
        ("use([x for x in a])\nx = 1\nuse(x)", False),
        ("x: int\nuse(x)", True),
    ],
)
def test_a_variable_may_have_no_value(body: str, unbound: bool) -> None:
    graph = flow(body)
    found = [event for event in reads(graph, "x") if event in graph.reachable]
    assert found or "finally" in body or "pass\nexcept" in body
    assert any(graph.may_be_unbound("x", event) for event in found) is unbound


@pytest.mark.parametrize(
    ("body", "live"),
    [
        ("x = 1\nuse(x)", True),
        ("x = 1\nx = 2\nuse(x)", False),
        ("x = 1\nreturn a", False),
        ("x = 1\nif a:\n    x = 2\nuse(x)", True),
        ("x = 1\ndel x", True),
        ("for y in a:\n    use(x)\n    x = 1", True),
        ("for y in a:\n    x = 1\n    use(x)", True),
        ("try:\n    x = 1\n    a()\n    x = 2\nexcept OSError:\n    use(x)", True),
        ("try:\n    x = 1\nfinally:\n    use(x)", True),
        ("x = 1\nreturn lambda: x", True),
        ("x = 1\nreturn (x for y in a)", True),
        ("x = 1\nreturn [x for x in a]", False),
        ("x = 1\ndef g():\n    return x", True),
        ("x = 1\nx += a", True),
        ("while a:\n    x = 1\n    if b:\n        break\nelse:\n    return x\nreturn x", True),
    ],
)
def test_a_value_may_be_read(body: str, live: bool) -> None:
    graph = flow(body)
    write = next(event for event in graph.events if event.kind == "write" and event.name == "x")
    assert any(graph.is_live("x", event) for event in write.after) is live


def order(body: str) -> list[str]:
    """Return the variables that are read, in the order of evaluation."""
    return [event.name for event in flow(body).events if event.kind == "read" and event.name != "f"]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("p(q, r=s, *t)", "p q t s"),
        ("p[q] = r", "r p q"),
        ("p.q = r.s = t", "t p r"),
        ("p[q] += r", "p q r"),
        ("{p: q, r: s}", "p q r s"),
        ("p if q else r", "q p r"),
        ("lambda p=q: p", "q"),
        ("[p for q in r for s in t if u]", "r t u p"),
        ("p < q < r", "p q r"),
        ('f"{p!r:{q}}{r}"', "p q r"),
        ("p[q:r]", "p q r"),
        ("assert p, q", "p q"),
        ("raise p from q", "p q"),
        ("for p.q in r:\n    s", "r p s"),
        ("@p\ndef g(q=r) -> s:\n    t", "p r s"),
        ("with p as q.r, s:\n    t", "p q s t"),
    ],
)
def test_the_order_of_evaluation(body: str, names: str) -> None:
    assert order(body) == names.split()
