"""Brackets, strings and comments by a light scan: what is open at the cursor, and what a continuation closes.

A scan of text knows less than a parser but never fails, on half-typed code least of all. It reads each language's
quotes and comments from the table in `languages`.
"""

from __future__ import annotations

import re
from functools import cache

from attrs import frozen

from codegen_lsp.completion.languages import Language

PAIRS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(PAIRS.values())

_REST_OF_CLOSERS = re.compile(r"""[)\]}"'`\s]*[:{;,]?\s*""")

Open = tuple[str, ...]
"""What is open, outermost first: brackets, quotes, and what opens a comment."""


@frozen
class Closer:
    """A bracket or quote in a continuation that closes nothing which the continuation itself opened."""

    at: int
    """Where it begins in the continuation."""
    text: str
    opened: bool
    """Whether the text before the continuation opened it."""

    @property
    def end(self) -> int:
        """Where it ends in the continuation."""
        return self.at + len(self.text)


@frozen
class Scan:
    """The outcome of reading a continuation."""

    open: Open
    """At its end."""
    closers: tuple[Closer, ...]


def scan(text: str, language: Language, before: Open = ()) -> Scan:
    """Read `text` with `before` open at its start."""
    stack = list(before)
    outer = len(stack)
    closers: list[Closer] = []
    for mark in _marks(language).finditer(text):
        symbol = mark.group()
        top = stack[-1] if stack else ""
        if _is_comment(top, language) or top in language.quotes:
            closing = _closes_span(symbol, top, language)
            if not closing:
                continue
            stack.pop()
            if len(stack) < outer and symbol != "\n":
                closers.append(Closer(mark.start(), symbol, opened=True))
        elif symbol in PAIRS or symbol in language.quotes or _is_comment(symbol, language):
            stack.append(symbol)
        elif symbol in CLOSERS and PAIRS.get(top) == symbol:
            stack.pop()
            if len(stack) < outer:
                closers.append(Closer(mark.start(), symbol, opened=True))
        elif symbol in CLOSERS:
            closers.append(Closer(mark.start(), symbol, opened=False))
        outer = min(outer, len(stack))
    return Scan(tuple(stack), tuple(closers))


def open_at_end(text: str, language: Language) -> Open:
    """What is still open after `text`."""
    return scan(text, language).open


def in_string_or_comment(opened: Open, language: Language) -> bool:
    """Whether the innermost open thing is a string or a comment."""
    return bool(opened) and (opened[-1] in language.quotes or _is_comment(opened[-1], language))


def code_of(line: str, language: Language) -> str:
    """The line without a comment at its end, and without white space at its end."""
    stack: list[str] = []
    for mark in _marks(language).finditer(line):
        symbol = mark.group()
        if stack and stack[-1] in language.quotes:
            if symbol == stack[-1]:
                stack.pop()
        elif _is_comment(symbol, language):
            return line[: mark.start()].rstrip()
        elif symbol in language.quotes:
            stack.append(symbol)
    return line.rstrip()


def split_closers(text: str, language: Language) -> list[tuple[str, int]]:
    """The brackets and quotes at the start of `text`, white space between them passed over, each with its end."""
    found: list[tuple[str, int]] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        symbol = next((quote for quote in language.quotes if text.startswith(quote, at)), text[at])
        if symbol not in CLOSERS and symbol not in language.quotes:
            break
        at += len(symbol)
        found.append((symbol, at))
    return found


def is_rest_of_closers(rest: str) -> bool:
    """Whether the rest of a line is empty or only closers, optionally followed by one of `:{;,`."""
    return _REST_OF_CLOSERS.fullmatch(rest) is not None


def _is_comment(symbol: str, language: Language) -> bool:
    return symbol != "" and (
        symbol == language.line_comment or (language.block_comment is not None and symbol == language.block_comment[0])
    )


def _closes_span(symbol: str, top: str, language: Language) -> bool:
    if top in language.quotes:
        return symbol == top or (symbol == "\n" and top not in language.long_quotes)
    if top == language.line_comment:
        return symbol == "\n"
    return language.block_comment is not None and symbol == language.block_comment[1]


@cache
def _marks(language: Language) -> re.Pattern[str]:
    symbols = [*language.quotes, *PAIRS, *CLOSERS]
    symbols += [language.line_comment] if language.line_comment else []
    symbols += language.block_comment or []
    symbols.sort(key=len, reverse=True)
    return re.compile(r"\\.|\n|" + "|".join(map(re.escape, symbols)))
