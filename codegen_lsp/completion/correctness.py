"""Whether a suggestion, put in its place, leaves the document at least as sound as it was.

Python is asked itself, since its parser knows what the beginning of a program may look like: the statement at the
outer level, or the member of a class, that the cursor is in, up to the end of the suggestion. For other languages,
and where what stands above the cursor's line is no Python already, it is tree-sitter's errors that are counted. Code
that is being written seldom parses as it stands, so the question is not whether there are errors but whether there
are more than before; before is the better of the document as it is and the document without the cursor's line, half
typed as that may be. A suggestion may also leave open what a next line will close, so it is tried with the least that
could follow: closing brackets, an operand, a semicolon, a body.
"""

from __future__ import annotations

import ast
import codeop
import re
import string
import warnings
from collections.abc import Callable, Iterable, Iterator

from codegen_lsp.completion.brackets import PAIRS, Open, is_rest_of_closers, scan
from codegen_lsp.completion.cursor import Cursor, with_lf
from codegen_lsp.completion.indentation import columns
from codegen_lsp.completion.languages import LANGUAGES, Language
from codegen_lsp.completion.names import Modules, Undefined, undefined_names
from codegen_lsp.completion.syntax import (
    MANY_ERRORS,
    Source,
    edited,
    errors,
    first_error,
    member_start,
    parsed,
    statement_start,
)
from codegen_lsp.inference.messages import Finish

PYTHON = LANGUAGES["python"]
TRIES = 8
"""How often a suggestion is shortened before it is given up."""
_BEGINNING: int = ast.PyCF_ONLY_AST | vars(codeop)["PyCF_ALLOW_INCOMPLETE_INPUT"]
"""Flags for `compile`: parse only, and tell a text that could go on from one that is wrong."""
OPERANDS = ("", "x", " x", "x: x")
_TAILS = dict.fromkeys(("C", "C++"), ("", ";", " {}", "\n#endif", " x();"))
BEGUN = (
    *("x", " x", ":", "x:", " x:", " in x:", " x in x:", " else x", ": x}"),
    *(" x():", "x():", " import x", " x import x", "x import x"),
)
"""What makes a beginning of a line a whole line, or of a statement over several lines."""

_TOKEN = re.compile(r"""\w*"(?:\\.|[^"\\])*"?|\w*'(?:\\.|[^'\\])*'?|\w+|\s+|.""", re.DOTALL)

Judge = Callable[[str, int], int | None]
"""Where in a text (which replaces so many characters after the cursor) the first error is; None when there is none."""


def longest_sound(text: str, document: str, cursor: Cursor, replaced: int, opened: Open, finish: Finish) -> str:
    """The longest beginning of `text` that adds nothing to the document that does not parse; may be empty.

    The text stands after the cursor and replaces as many characters there. If the model was stopped because it became
    unsure, the text need only be the beginning of something that parses. What can't be parsed in time is taken to be
    sound.
    """
    judge = judge_of(document, cursor, opened, finish)
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
    """The first name that the text uses, put in its place, and nothing defines."""
    source = parsed(document, cursor.language)
    if source is None or cursor.language.name != "Python":
        return None
    put = cursor.kept + text
    closers = _closers(scan(text, cursor.language, opened).open, (), cursor.language)
    after = _best(source, cursor, put, replaced, ["", closers, closers + ": pass", "x" + closers])
    if after is None:
        return None
    start, end = cursor.start + len(cursor.kept), cursor.start + len(put)
    made_up = len(after.text) - len(document) + (cursor.end + replaced - cursor.start) - len(put)
    unsure = len(text) - len(text.rstrip(_WORD_CHARACTERS)) if cut_short else 0
    return next(undefined_names(after, start, end - unsure, modules, made_up=made_up + unsure), None)


_WORD_CHARACTERS = string.ascii_letters + string.digits + "_"


def _best(source: Source, cursor: Cursor, put: str, replaced: int, followed_by: Iterable[str]) -> Source | None:
    """The tree of the document with the text, completed so that as much as possible of it parses."""
    best, fewest = None, MANY_ERRORS + 1
    for following in followed_by:
        after = edited(source, cursor.start, cursor.end + replaced, put + following)
        if after is None or errors(after) >= fewest:
            continue
        best, fewest = after, errors(after)
        if not fewest:
            break
    return best


def judge_of(document: str, cursor: Cursor, opened: Open, finish: Finish) -> Judge | None:
    """What finds errors in texts put at the cursor; None where nothing can."""
    source = parsed(document, cursor.language)
    if source is None:
        return None
    if cursor.language.name == "Python":
        line_start = document.rfind("\n", 0, cursor.start) + 1
        member = _lines(document[member_start(source, line_start) : line_start])
        above = _lines(document[statement_start(source, line_start) : line_start])
        if is_beginning(member) and (member == above or _indent(cursor.before) >= _indent(member)):
            return _python_judge(member, cursor, opened, finish)
        if is_beginning(above):
            return _python_judge(above, cursor, opened, finish)
    return _tree_judge(source, cursor, opened, finish)


def is_beginning(text: str) -> bool:
    """Whether a Python program can begin with these lines."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "", "exec", _BEGINNING, dont_inherit=True)
    except SyntaxError as error:
        return "incomplete input" in str(error)
    except (ValueError, MemoryError, RecursionError):
        return False
    return True


def _lines(text: str) -> str:
    """Lines as a program of their own: a header goes before indented ones."""
    lines = with_lf(text)
    return f"if 1:\n{lines}" if lines[:1] in (" ", "\t") else lines


def _indent(text: str) -> int:
    return columns(text.removeprefix("if 1:\n"))


def can_go_on(text: str, rest: str = "", opened: Open = ()) -> bool:
    """Whether a Python program can begin with a text that ends anywhere but in a word; `rest` follows on its line."""
    after = scan(text, PYTHON, opened).open
    quote = next((symbol for symbol in reversed(after) if symbol in PYTHON.quotes), "")
    begun = [operand for operand in BEGUN if quote or not (_ends_in_word(text) and operand[0].isalpha())]
    return any(is_beginning(text + rest + quote + operand) for operand in ("", *begun)) or any(
        is_beginning(text + quote + operand + rest) for operand in ("", *begun)
    )


def _python_judge(above: str, cursor: Cursor, opened: Open, finish: Finish) -> Judge:
    def judge(text: str, replaced: int) -> int | None:
        line = above + cursor.before + text
        rest = cursor.after[replaced:]
        if is_beginning(line + rest):
            return None
        if (finish == "unlikely" or not is_rest_of_closers(rest)) and can_go_on(line, rest):
            return None
        if finish == "length" and is_beginning(line + _quote_of_the_user(text, opened) + rest):
            return None
        return text.rfind("\n") + 1

    return judge


def _quote_of_the_user(text: str, opened: Open) -> str:
    """The quote that would end a string which was open at the cursor and still is after the text."""
    still = opened and opened[-1] in PYTHON.quotes and scan(text, PYTHON, opened).open == opened
    return opened[-1] if still else ""


def _tree_judge(source: Source, cursor: Cursor, opened: Open, finish: Finish) -> Judge:
    allowed = _errors_before(source, cursor)

    def judge(text: str, replaced: int) -> int | None:
        put = cursor.kept + text
        first: int | None = None
        for number, following in enumerate(_continuations(text, cursor, opened, finish)):
            after = edited(source, cursor.start, cursor.end + replaced, put + following)
            if after is None or errors(after) <= allowed:
                return None
            if number == 0:
                first = first_error(after, cursor.start, cursor.start + len(put))
        return len(text) if first is None else max(0, first - cursor.start - len(cursor.kept))

    return judge


def _errors_before(source: Source, cursor: Cursor) -> int:
    found = errors(source)
    if not found:
        return 0
    line_start = source.text.rfind("\n", 0, cursor.start) + 1
    blank = edited(source, line_start, cursor.end + len(cursor.after), "")
    return min(found, errors(blank)) if blank else found


def _continuations(text: str, cursor: Cursor, opened: Open, finish: Finish) -> Iterator[str]:
    """The least that could follow a text, nothing first."""
    language = cursor.language
    new = _closers(scan(text, language, opened).open, opened, language)
    on_the_line = _closers(scan(cursor.before + text, language).open, (), language)
    tails = _TAILS.get(language.name, ("", ";", " {}")) if language.braces else ("", ": pass")
    if finish == "unlikely" and language.braces:
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
    """What closes the brackets, strings and comments that a text leaves open beyond those open before it."""
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
    """A shorter text: without the line that the error is on or, where that is the first, without its last token."""
    line_start = text.rfind("\n", 0, error) + 1
    if text[:line_start].strip():
        return text[:line_start].rstrip()
    line = text.split("\n")[0] if text.split("\n")[0].strip() else text
    token = list(_TOKEN.finditer(line))[-1]
    return text[: max(line_start, min(error, token.start()) if error > line_start else token.start())].rstrip()
