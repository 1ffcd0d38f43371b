"""Brackets, strings and comments by a light scan: what is open at the cursor, and what a continuation closes.

A scan of text knows less than a parser but never fails, not even on half-typed code. It takes each language's quotes
and comments from the table in `languages`. Brackets inside strings and comments are followed, too, because editors
close them automatically there as well; they matter only until the string or comment ends.
"""

from __future__ import annotations

import re
from functools import cache

from attrs import frozen

from codegen_lsp.source.languages import Language

PAIRS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(PAIRS.values())

_REST_OF_CLOSERS = re.compile(r"""[)\]}"'`\s]*[:{;,]?\s*""")

Open = tuple[str, ...]
"""Open brackets, quotes and comment openers, outermost first."""


@frozen
class Scan:
    """The result of reading a text."""

    open: Open
    """Symbols open at its end."""
    unmatched: tuple[int, ...]
    """Offsets of brackets that close nothing, outside of strings and comments."""
    comments: tuple[tuple[int, int], ...]
    """Start and end of each comment, without the line break at its end."""


def scan(text: str, language: Language, before: Open = ()) -> Scan:
    """Read `text`, at whose start `before` is open."""
    stack = list(before)
    spans = [number for number, symbol in enumerate(stack) if _is_span(symbol, language)]
    unmatched: list[int] = []
    comments: list[tuple[int, int]] = []
    comment_start = 0
    for mark in _marks(language).finditer(text):
        symbol = mark.group()
        span = stack[spans[-1]] if spans else ""
        if span and _ends_span(symbol, span, language):
            if _is_comment(span, language):
                comments.append((comment_start, mark.start() if symbol == "\n" else mark.end()))
            del stack[spans.pop() :]
        elif symbol in PAIRS:
            stack.append(symbol)
        elif symbol in CLOSERS:
            if stack and PAIRS.get(stack[-1]) == symbol:
                stack.pop()
            elif not span:
                unmatched.append(mark.start())
        elif not span and _is_span(symbol, language):
            spans.append(len(stack))
            stack.append(symbol)
            comment_start = mark.start()
    if spans and _is_comment(stack[spans[-1]], language):
        comments.append((comment_start, len(text)))
    return Scan(tuple(stack), tuple(unmatched), tuple(comments))


def open_at_end(text: str, language: Language) -> Open:
    """Return what is still open after `text`."""
    return scan(text, language).open


def in_string_or_comment(opened: Open, language: Language) -> bool:
    """Return true if a string or a comment is open."""
    return any(_is_span(symbol, language) for symbol in opened)


def without_comments(text: str, language: Language, before: Open = ()) -> str:
    """Return the text without its comments."""
    pieces: list[str] = []
    at = 0
    for start, end in scan(text, language, before).comments:
        pieces.append(text[at:start])
        at = end
    return "".join([*pieces, text[at:]])


def code_of(line: str, language: Language) -> str:
    """Return the line without comments and without white space at its end."""
    return without_comments(line, language).rstrip()


def is_rest_of_closers(rest: str) -> bool:
    """Return true if the rest of a line is empty or consists of closers, optionally followed by one of `:{;,`."""
    return _REST_OF_CLOSERS.fullmatch(rest) is not None


def split_closers(text: str, language: Language) -> list[tuple[str, int]]:
    """Return the brackets and quotes at the start of `text`, each with its end; white space between them is skipped."""
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


def closes(opener: str, symbol: str) -> bool:
    """Return true if `symbol` is the bracket or quote that ends what `opener` began."""
    return PAIRS.get(opener, opener) == symbol


def _is_comment(symbol: str, language: Language) -> bool:
    return symbol == language.line_comment or (
        language.block_comment is not None and symbol == language.block_comment[0]
    )


def _is_span(symbol: str, language: Language) -> bool:
    return symbol in language.quotes or _is_comment(symbol, language)


def _ends_span(symbol: str, span: str, language: Language) -> bool:
    if span in language.quotes:
        return symbol == span or (symbol == "\n" and span not in language.long_quotes)
    if span == language.line_comment:
        return symbol == "\n"
    return language.block_comment is not None and symbol == language.block_comment[1]


@cache
def _marks(language: Language) -> re.Pattern[str]:
    symbols = [*language.quotes, *PAIRS, *CLOSERS]
    symbols += [language.line_comment] if language.line_comment else []
    symbols += language.block_comment or []
    symbols.sort(key=len, reverse=True)
    return re.compile(r"\\.|\n|" + "|".join(map(re.escape, symbols)))
