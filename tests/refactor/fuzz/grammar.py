"""Programs by a grammar, as hypothesis strategies: each symbol has forms, and each form is source with `$symbol` in it.

A grammar is a file of `grammars/`: a section `== symbol` for each symbol, with one form a line, or with `--` between
forms of several lines. `@symbol` stands for all forms of another symbol, or of the same symbol in `common.txt`;
`@symbol*2` for each of them twice, so that they are drawn more often.

The first forms of a symbol are the simplest, because hypothesis shrinks towards them. Every program ends: loops run
over short lists or ask `fuel()`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEPEST = 4
"""Most symbols within one another."""
FOLDER = Path(__file__).parent / "grammars"
_SYMBOL = re.compile(r"\$([a-z]+)")
_INCLUDED = re.compile(r"@([a-z]+)(?:\*(\d+))?")

Forms = Mapping[str, list[str]]
"""The forms of each symbol."""
Draw = Callable[[st.SearchStrategy[Any]], Any]

BLOCKS = {
    "block": ("fs", 1, 3),
    "loop": ("ls", 1, 3),
    "body": ("fs", 2, 6),
    "generator": ("gs", 2, 5),
    "module": ("st", 2, 5),
}
"""Symbols that are several statements: the symbol of one, the fewest and the most."""
ENDS = {
    "body": ("", "return x", "return x, y", "return g()", "emit(x)"),
    "generator": ("", "yield x", "emit(y)"),
    "module": ("", "emit(x)", "emit(g())"),
}
"""Last statements of the bodies of functions and modules."""
PRELUDE = {
    "x": "x = 0",
    "y": "y = 2",
    "z": "z = a",
    "i": "i = 5",
    "q": "q = [1, 2, 3]",
    "o": "o = Counter()",
    "d": "d = {'k': 1}",
    "g": "def g():\n    return 4",
}
"""Statements before the first one, for names that a body may read before it binds them."""


@cache
def grammar(name: str) -> Grammar:
    """Return the grammar of a file of `FOLDER` on top of the common one."""
    common = _resolved(_sections("common"), {})
    return Grammar({**common, **(_resolved(_sections(name), common) if name != "common" else {})})


def _sections(name: str) -> Forms:
    """Return the forms of a file as they are written."""
    found: dict[str, list[str]] = {}
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    for section in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        symbol, _, forms = section.partition("\n")
        lines = forms.strip("\n").split("\n")
        several = "\n".join(lines).split("\n--\n")
        found[symbol] = several if len(several) > 1 else lines
    return found


def _resolved(own: Forms, common: Forms) -> Forms:
    def all_of(symbol: str, written: list[str]) -> Iterator[str]:
        for form in written:
            included = _INCLUDED.fullmatch(form)
            if included is None:
                yield form
                continue
            other, times = included.group(1), int(included.group(2) or 1)
            source = own[other] if other != symbol and other in own else common[other]
            yield from list(all_of(other, source)) * times

    return {symbol: list(all_of(symbol, written)) for symbol, written in own.items()}


class Grammar:
    """The strategies of a grammar, made once for each symbol and depth."""

    def __init__(self, forms: Forms) -> None:
        self._forms = {symbol: [_parts(one) for one in every] for symbol, every in forms.items()}
        self._flat = {symbol: [one for one in every if _is_flat(one)] for symbol, every in self._forms.items()}
        self._made: dict[tuple[str, int], st.SearchStrategy[str]] = {}

    def of(self, symbol: str, depth: int = 0) -> st.SearchStrategy[str]:
        """Return the strategy of a symbol that stands within `depth` others."""
        key = symbol, min(depth, DEEPEST)
        if key not in self._made:
            self._made[key] = self._block(*key) if symbol in BLOCKS else self._form(*key)
        return self._made[key]

    def _block(self, symbol: str, depth: int) -> st.SearchStrategy[str]:
        one, fewest, most = BLOCKS[symbol]
        statement = st.deferred(lambda: self.of(one, depth + 1))
        block = st.lists(statement, min_size=fewest, max_size=max(fewest, most - depth // 2)).map("\n".join)
        return _framed(block, ENDS[symbol]) if symbol in ENDS else block

    def _form(self, symbol: str, depth: int) -> st.SearchStrategy[str]:
        forms = (depth >= DEEPEST and self._flat[symbol]) or self._forms[symbol]
        if all(len(one) == 1 for one in forms):
            return st.sampled_from([one[0][0] for one in forms])
        form = st.sampled_from(forms)

        @st.composite
        def expanded(draw: Draw) -> str:
            text = ""
            for literal, inner in draw(form):
                text += literal
                if inner:
                    text += indented(draw(self.of(inner, depth + 1)), text)
            return text

        return expanded()


def _parts(form: str) -> list[tuple[str, str]]:
    """Return a form as pairs of literal text and the symbol behind it."""
    pieces = _SYMBOL.split(form)
    return list(zip(pieces[::2], [*pieces[1::2], ""], strict=True))


def _is_flat(parts: list[tuple[str, str]]) -> bool:
    """Return whether the form has only symbols without any in theirs."""
    return all(symbol in ("", "v", "w", "num") for _, symbol in parts)


def indented(text: str, before: str) -> str:
    """Return the text with the margin of the line that it is put into."""
    margin = before[before.rfind("\n") + 1 :]
    return text.replace("\n", "\n" + margin) if margin.isspace() else text


def _framed(body: st.SearchStrategy[str], ends: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Return statements that begin with the values of most names that they use, and end with a use of some."""
    end, mostly = st.sampled_from(ends), st.sampled_from([True] * 9 + [False])

    @st.composite
    def framed(draw: Draw) -> str:
        text = "\n".join(one for one in (draw(body), draw(end)) if one)
        used = [line for name, line in PRELUDE.items() if re.search(rf"\b{name}\b", text)]
        return "\n".join([*(line for line in used if draw(mostly)), text])

    return framed()
