"""The check that a suggestion leaves the document at least as correct as before.

For Python, CPython's parser is asked, since it knows which texts a program can begin with: it gets the outermost
statement or class member that contains the cursor, up to the end of the suggestion. For other languages, and where the
text above the cursor's line does not parse already, tree-sitter's errors are counted. Code under construction seldom
parses as it is, so a suggestion may not add errors to those there are; there are as many as in the better of two
documents, the one at hand and the one without the cursor's half-typed line. A suggestion may also leave open what a
next line will close, so it is tried with the shortest possible continuations: closing brackets, an operand, a
semicolon, a body.
"""

from __future__ import annotations

import ast
import codeop
import re
import string
from collections.abc import Callable, Iterable, Iterator

from codegen_lsp.completion.shaping.draft import Ending
from codegen_lsp.completion.snapshot import Cursor
from codegen_lsp.completion.undefined_names import Modules, Undefined, undefined_names
from codegen_lsp.source.brackets import PAIRS, Open, is_rest_of_closers, scan
from codegen_lsp.source.indentation import columns
from codegen_lsp.source.languages import LANGUAGES, Language
from codegen_lsp.source.lines import start_of_line, with_lf
from codegen_lsp.source.parse_tree import (
    MANY_ERRORS,
    ParseTree,
    edited,
    errors,
    first_error,
    member_start,
    parsed,
    statement_start,
)

PYTHON = LANGUAGES["python"]
HEADER = "if 1:\n"
TRIES = 8
"""Attempts at a shorter suggestion before it is given up."""
_BEGINNING: int = ast.PyCF_ONLY_AST | vars(codeop)["PyCF_ALLOW_INCOMPLETE_INPUT"]
"""Flags for `compile`: parse only, and tell an incomplete text from a wrong one."""
OPERANDS = ("", "x", " x", "x: x")
_TAILS = ("", ";", " {}")
_TAILS_WITH_PREPROCESSOR = ("", ";", " {}", "\n#endif", " x();")
BEGUN = (
    *("x", " x", ":", "x:", " x:", " in x:", " x in x:", " else x", ": x}"),
    *(" x():", "x():", " import x", " x import x", "x import x"),
)
"""Endings that complete the beginning of a line, or of a statement over several lines."""

_TOKEN = re.compile(r"""\w*"(?:\\.|[^"\\])*"?|\w*'(?:\\.|[^'\\])*'?|\w+|\s+|.""", re.DOTALL)

Judge = Callable[[str, int], int | None]
"""Return the offset of the first error in a text that replaces a number of characters after the cursor; None if there
is no error."""


def longest_sound(text: str, document: str, cursor: Cursor, replaced: int, opened: Open, ending: Ending) -> str:
    """Return the longest beginning of `text` that adds no syntax error to the document; may be empty.

    The text is inserted at the cursor and replaces `replaced` characters after it. If the model became unsure, the text
    need only be the beginning of something that parses. Text that can't be parsed in time counts as correct.
    """
    judge = judge_of(document, cursor, opened, ending)
    for _ in range(TRIES):
        if judge is None or not text.strip():
            break
        error = judge(text, replaced)
        if error is None:
            return text
        text, replaced = _cut(text, error), 0
    return text if judge is None else ""


def first_undefined(
    text: str, document: str, cursor: Cursor, replaced: int, opened: Open, modules: Modules, *, cut_short: bool
) -> Undefined | None:
    """Return the first name in the inserted text that nothing defines; None if there is none."""
    source = parsed(document, cursor.language)
    if source is None or not cursor.language.is_python:
        return None
    put = cursor.kept + text
    closers = _closers(scan(text, cursor.language, opened).open, (), cursor.language)
    endings = ("", closers, f"{closers}: pass", f" x{closers}", f" else x{closers}")
    after = _best(source, cursor, put, replaced, endings)
    if after is None:
        return None
    start, end = cursor.start + len(cursor.kept), cursor.start + len(put)
    made_up = len(after.text) - len(document) + (cursor.end + replaced - cursor.start) - len(put)
    unsure = len(text) - len(text.rstrip(_WORD_CHARACTERS)) if cut_short else 0
    return next(undefined_names(after, start, end - unsure, modules, made_up=made_up + unsure), None)


_WORD_CHARACTERS = string.ascii_letters + string.digits + "_"


def _best(source: ParseTree, cursor: Cursor, put: str, replaced: int, followed_by: Iterable[str]) -> ParseTree | None:
    """Return the tree of the document with the text and with the ending that leaves the fewest errors."""
    best, fewest = None, MANY_ERRORS + 1
    for following in followed_by:
        after = edited(source, cursor.start, cursor.end + replaced, put + following)
        if after is None or errors(after) >= fewest:
            continue
        best, fewest = after, errors(after)
        if not fewest:
            break
    return best


def judge_of(document: str, cursor: Cursor, opened: Open, ending: Ending) -> Judge | None:
    """Return a function that finds errors in texts put at the cursor; None where nothing can."""
    source = parsed(document, cursor.language)
    if source is None:
        return None
    by_tree = _tree_judge(source, cursor, opened, ending)
    return _python_judge(source, cursor, opened, ending, by_tree) if cursor.language.is_python else by_tree


def is_beginning(text: str) -> bool:
    """Return true if a Python program can begin with these lines."""
    try:
        compile(text, "", "exec", _BEGINNING, dont_inherit=True)
    except SyntaxError as error:
        return "incomplete input" in str(error)
    except (ValueError, MemoryError, RecursionError):
        return False
    return True


def _lines(text: str) -> str:
    """Return lines as a program of their own, with a header before indented ones."""
    lines = with_lf(text)
    return HEADER + lines if lines[:1] in (" ", "\t") else lines


def _indent(text: str) -> int:
    return columns(text.removeprefix(HEADER))


def can_go_on(text: str, rest: str = "", opened: Open = ()) -> bool:
    """Return true if a Python program can begin with a text that ends anywhere but in a word; `rest` follows on its
    line."""
    after = scan(text, PYTHON, opened).open
    quote = next((symbol for symbol in reversed(after) if symbol in PYTHON.quotes), "")
    begun = [operand for operand in BEGUN if quote or not (_ends_in_word(text) and operand[0].isalpha())]
    return any(is_beginning(text + rest + quote + operand) for operand in ("", *begun)) or any(
        is_beginning(text + quote + operand + rest) for operand in ("", *begun)
    )


def _python_judge(source: ParseTree, cursor: Cursor, opened: Open, ending: Ending, otherwise: Judge) -> Judge:
    """Return a judge that counts an error if it is one in every stretch above the cursor: the member of the class, the
    outermost statement, and the whole text. In half-typed text the tree, which has their beginnings, may be wrong."""
    line_start = start_of_line(source.text, cursor.start)
    starts = {member_start(source, line_start), statement_start(source, line_start), 0}
    stretches = [_lines(source.text[start:line_start]) for start in sorted(starts, reverse=True)]
    in_order: dict[str, bool] = {}

    def is_in_order(above: str) -> bool:
        if above not in in_order:
            fits = not above.startswith(HEADER) or _indent(cursor.before) >= _indent(above)
            in_order[above] = fits and is_beginning(above)
        return in_order[above]

    def judge(text: str, replaced: int) -> int | None:
        line, rest = cursor.before + text, cursor.after[replaced:]
        judged = False
        for above in filter(is_in_order, stretches):
            judged = True
            if _may_follow(above, line, rest, opened, ending):
                return None
        return text.rfind("\n") + 1 if judged else otherwise(text, replaced)

    return judge


def _may_follow(above: str, line: str, rest: str, opened: Open, ending: Ending) -> bool:
    """Return true if a program can begin with the lines above, the line, and the rest of the line."""
    if is_beginning(above + line + rest):
        return True
    if ending == "unsure" or not is_rest_of_closers(rest):
        return can_go_on(above + line, rest)
    return ending == "truncated" and is_beginning(above + line + _quote_of_the_user(above + line, opened) + rest)


def _quote_of_the_user(text: str, opened: Open) -> str:
    """Return the quote that ends a string which was open at the cursor and still is after the text."""
    after = scan(text, PYTHON).open
    still = opened and opened[-1] in PYTHON.quotes and after[-1:] == opened[-1:] and len(after) <= len(opened)
    return opened[-1] if still else ""


def _tree_judge(source: ParseTree, cursor: Cursor, opened: Open, ending: Ending) -> Judge:
    known: list[int] = []

    def judge(text: str, replaced: int) -> int | None:
        if not known:
            known.append(_errors_before(source, cursor))
        allowed = known[0]
        put = cursor.kept + text
        first: int | None = None
        for number, following in enumerate(_continuations(text, cursor, opened, ending)):
            after = edited(source, cursor.start, cursor.end + replaced, put + following)
            if after is None or errors(after) <= allowed:
                return None
            if number == 0:
                first = first_error(after, cursor.start, cursor.start + len(put))
        return len(text) if first is None else max(0, first - cursor.start - len(cursor.kept))

    return judge


def _errors_before(source: ParseTree, cursor: Cursor) -> int:
    found = errors(source)
    if not found:
        return 0
    line_start = start_of_line(source.text, cursor.start)
    blank = edited(source, line_start, cursor.end + len(cursor.after), "")
    return min(found, errors(blank)) if blank else found


def _continuations(text: str, cursor: Cursor, opened: Open, ending: Ending) -> Iterator[str]:
    """Yield the shortest possible continuations of a text, the empty one first."""
    language = cursor.language
    new = _closers(scan(text, language, opened).open, opened, language)
    on_the_line = _closers(scan(cursor.before + text, language).open, (), language)
    tails: tuple[str, ...] = ("", ": pass")
    if language.braces:
        tails = _TAILS_WITH_PREPROCESSOR if language.preprocessor else _TAILS
    if ending == "unsure" and language.braces:
        tails = (*tails, " x;", " (x) {}", " x() {}", " (;;) {}", " x {}")
    tried = {""}
    yield ""
    for tail in tails:
        for closers in (new, on_the_line):
            for operand in OPERANDS:
                following = operand + closers + tail
                if following not in tried and not (_ends_in_word(text) and operand[:1].isalpha()):
                    tried.add(following)
                    yield following


def _ends_in_word(text: str) -> bool:
    return text[-1:].isalnum() or text[-1:] == "_"


def _closers(open_after: Open, open_before: Open, language: Language) -> str:
    """Return the closers of brackets, strings and comments that a text leaves open, except for those open before it."""
    shared = 0
    while shared < min(len(open_after), len(open_before)) and open_after[shared] == open_before[shared]:
        shared += 1
    closers = ""
    for symbol in reversed(open_after[shared:]):
        if symbol == language.line_comment:
            continue
        if language.block_comment and symbol == language.block_comment[0]:
            closers += language.block_comment[1]
        else:
            closers += PAIRS.get(symbol, symbol)
    return closers


def _cut(text: str, error: int) -> str:
    """Return a shorter text: without the line of the error or, if that is the first, without its last token."""
    line_start = start_of_line(text, error)
    if text[:line_start].strip():
        return text[:line_start].rstrip()
    line = text.split("\n")[0] if text.split("\n")[0].strip() else text
    token = list(_TOKEN.finditer(line))[-1]
    return text[: max(line_start, min(error, token.start()) if error > line_start else token.start())].rstrip()
