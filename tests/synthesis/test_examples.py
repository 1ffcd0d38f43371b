"""Examples in what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.synthesis import examples
from codegen_lsp.synthesis.examples import Example, examples_in

CASES = [
    ("Sum x. `x = [1, 2]` → `3`", [Example("x = [1, 2]", "", "3")]),
    ("Sum x, e.g. x = [1, 2] -> 3.", [Example("x = [1, 2]", "", "3")]),
    ("Double it: double(4) → 8", [Example("", "double(4)", "8")]),
    ("double(4) => 8, and double('a') => 'aa'", [Example("", "double(4)", "8"), Example("", "double('a')", "'aa'")]),
    ("For example f([1, 2], 'a b') → {'a': 1}.", [Example("", "f([1, 2], 'a b')", "{'a': 1}")]),
    ("The n-th number. f(10) → 55", [Example("", "f(10)", "55")]),
    ("Say f('a. b') → 3", [Example("", "f('a. b')", "3")]),
    ("x = 1; y = 2 → 3", [Example("x = 1; y = 2", "", "3")]),
    (">>> f(2)\n4", [Example("", "f(2)", "4")]),
    ("Do it.\n`a = 'x'` → `'X'`\n`a = ''` → `''`", [Example("a = 'x'", "", "'X'"), Example("a = ''", "", "''")]),
    ("`s` → `'abc'`", [Example("", "s", "'abc'")]),
    ("f(1) → 2.5 exactly", [Example("", "f(1)", "2.5")]),
    ("Turn left → then right", []),
    ("def f(x) -> int", []),
    ("a -> ", []),
    ("→", []),
    ("It maps words to numbers.", []),
    (">>> x = 1", []),
    ("f(1) → (", []),
    ("", []),
]


@pytest.mark.parametrize(("request_text", "examples"), CASES)
def test_examples(request_text: str, examples: list[Example]) -> None:
    assert examples_in(request_text) == examples


@given(st.text(alphabet="fx(1) =→->`.,[]\n>'é", max_size=40))
def test_any_text_is_read(text: str) -> None:
    for example in examples_in(text):
        assert bool(example.setup) != bool(example.expression)
        assert "→" in example.text


def test_work_on_a_request_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each arrow is tried with each place before it: a text of arrows would take minutes."""
    tried = []
    monkeypatch.setattr(examples, "_expression", lambda text: tried.append(text))
    monkeypatch.setattr(examples, "_assigns", lambda text: bool(tried.append(text)))
    examples.examples_in("a b -> " * 20_000)
    assert len(tried) < 20_000
    assert max(map(len, tried)) <= 300
