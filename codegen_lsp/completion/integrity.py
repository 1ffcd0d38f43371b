"""The check that a document which parses still does with a suggestion in it, and that the code below keeps its block.

`correctness` accepts whatever a program can begin with, since code under construction seldom parses. Where the document
does parse, more can be asked: that it parses as a whole with the text, and that the code below has the same statements
around it as before. tree-sitter tells both for all languages. It accepts some wrong Python (a block without a body), so
CPython's parser reads the outermost statement or class member around the cursor as well.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache, partial

from codegen_lsp.completion.correctness import HEADER
from codegen_lsp.completion.nesting import takes_in
from codegen_lsp.completion.snapshot import REACH, Cursor
from codegen_lsp.source.blocks import continues_statement
from codegen_lsp.source.indentation import columns, margin
from codegen_lsp.source.lines import start_of_line, with_lf
from codegen_lsp.source.parse_tree import ParseTree, ancestors, edited, errors, member_start, node_at, parsed

LONGEST_PROGRAM = 40_000
"""Characters (about 1,000 lines, 15 ms) up to which a Python program is parsed as a whole where its part does not parse
alone."""
_DEFINITIONS = ("def ", "class ", "async def ", "@")

Intact = Callable[[str, int], bool]
"""Return true if the document parses with a text that replaces a number of characters after the cursor, and the code
below keeps its block."""


@lru_cache(maxsize=4)
def intact_judge(document: str, cursor: Cursor) -> Intact | None:
    """Return a function that judges texts put at the cursor; None if the document itself does not parse, or not in
    time."""
    source = parsed(document, cursor.language)
    if source is None or errors(source):
        return None
    python = _python_judge(source, cursor) if cursor.language.is_python else lambda line: True
    if python is None:
        return None
    below = _code_below(source, cursor)
    around = None if below is None else _around(source, below)
    line_below = "" if below is None else document[start_of_line(document, below) : below + 1]

    def judge(text: str, replaced: int) -> bool:
        after = edited(source, cursor.start, cursor.end + replaced, cursor.kept + text)
        if after is None:
            return True
        if errors(after) or not python(cursor.before + text + cursor.after[replaced:]):
            return False
        if below is None or takes_in(text.split("\n"), cursor, line_below) or _announces(cursor.before + text, cursor):
            return True
        return _around(after, below + len(after.text) - len(document)) == around

    return judge


def _code_below(source: ParseTree, cursor: Cursor) -> int | None:
    """Return the offset of the first character of code below the cursor's line; None if there is none nearby."""
    at = cursor.end + len(cursor.after)
    for line in source.text[at : at + REACH].splitlines(keepends=True):
        code = at + len(line) - len(line.lstrip())
        at += len(line)
        node = node_at(source, code, code + 1) if line.strip() else None
        if node is not None and "comment" not in node.type:
            return code
    return None


def _announces(text: str, cursor: Cursor) -> bool:
    """Return true for a decorator, annotation or template head, which belongs to the definition below."""
    last = text.rsplit("\n", 1)[-1].lstrip()
    return last.startswith("@") if cursor.language.annotations else last.startswith("template")


def _around(source: ParseTree, offset: int) -> frozenset[tuple[str, int]]:
    """Return the kinds and starts of the nodes that contain the character at an offset and begin before it.

    Left out are lists of statements, which begin with their first statement, whichever that is.
    """
    lists = ("block",) if source.language.is_python else ("statement_list",)
    return frozenset((kind, start) for kind, start in ancestors(source, offset) if start < offset and kind not in lists)


def _python_judge(source: ParseTree, cursor: Cursor) -> Callable[[str], bool] | None:
    """Return a function that tells if the program parses with other text as the cursor's line; None if it does not as
    it is."""
    line_start = start_of_line(source.text, cursor.start)
    line_end = cursor.end + len(cursor.after)
    start = member_start(source, line_start)
    around = [(_above(source.text[start:line_start]), _below(source.text[start:], source.text[line_end:], cursor))]
    if len(source.text) <= LONGEST_PROGRAM:
        around.append((with_lf(source.text[:line_start]), with_lf(source.text[line_end:])))
    line = source.text[line_start:line_end]
    for above, below in around:
        if _is_program(above + line + below):
            return partial(_is_program_around, above, below)
    return None


def _is_program_around(above: str, below: str, line: str) -> bool:
    return _is_program(above + line + below)


def _above(text: str) -> str:
    lines = with_lf(text)
    return HEADER + lines if lines[:1] in (" ", "\t") else lines


def _below(first: str, text: str, cursor: Cursor) -> str:
    """Return the lines below up to the end of the statement that begins with `first`, and a statement in place of the
    next."""
    column = columns(first.split("\n", 1)[0])
    lines = with_lf(text).split("\n")
    for number, line in enumerate(lines[1:], 1):
        code = line.lstrip()
        if not code or code.startswith("#") or columns(line) > column or continues_statement(line, cursor.language):
            continue
        following = "def f(): pass" if code.startswith(_DEFINITIONS) else "pass"
        return "\n".join([*lines[:number], margin(line) + following, ""])
    return "\n".join(lines)


def _is_program(text: str) -> bool:
    try:
        compile(text, "", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True
