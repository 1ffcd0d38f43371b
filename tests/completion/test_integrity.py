"""What a suggestion leaves of a document that parses, in six languages: properties of generated examples.

The answers are a model's at its worst: right lines with another indentation, with closers dropped or added, cut
anywhere, several times over, or what stands below already. The properties are checked by other
means than those of the code: a parse of the whole document, Python's syntax tree, and a stack of braces.
"""

from __future__ import annotations

import ast
import re
from itertools import pairwise

import pytest
from attrs import frozen
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codegen_lsp.completion.planning import plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import Candidate, Finish
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import errors, parsed
from tests.completion.options import options as make_options

OPTIONS = make_options(infill=True)
UNITS = ("  ", "   ", "    ", "\t")
Place = tuple[str, str, int]
"""A language, a document and the cursor's offset in it."""
Request = tuple[Place, Trigger, Finish, list[str]]


@frozen
class Style:
    """How one language writes the same programs: `{}` stands for what differs between statements and heads."""

    start: tuple[str, ...]
    heads: tuple[str, ...]
    simple: tuple[str, ...]
    end: tuple[str, ...] = ()

    @property
    def braces(self) -> bool:
        return self.heads[0].endswith("{")


CALLS = (
    "total = compute(items, [1, total])",
    "compute(items)",
    "items = compute(compute(total, 2), items)",
    "return total",
)
C_LIKE = tuple(f"{call};" for call in CALLS)
C_HEADS = ("if (total > 1) {", "while (compute(items)) {", "for (;;) {")
STYLES = {
    "python": Style(
        ("def f(items, total, compute):",),
        ("if total > 1:", "while compute(items):", "for total in items:", "with items:"),
        (*CALLS, 'compute("a", items)', "items.append(total)"),
    ),
    "javascript": Style(
        ("function f(items, total, compute) {",),
        (*C_HEADS, "for (const a of items) {"),
        (*C_LIKE, "compute('a', items);", "items.forEach((a) => a + 1);"),
        ("}",),
    ),
    "java": Style(
        ("class A {", "int f(int items, int total) {"), C_HEADS, (*C_LIKE[1:], 'compute("a", items);'), ("}", "}")
    ),
    "go": Style(
        ("func f(items int, total int) int {",),
        ("if total > 1 {", "for compute(items) {", "for {"),
        ("total = compute(items, total)", "compute(items)", 'compute("a", items)', "return total"),
        ("}",),
    ),
    "c": Style(("int f(int items, int total) {",), C_HEADS, (*C_LIKE[1:], 'compute("a", items);'), ("}",)),
    "cpp": Style(("int f(int items, int total) {",), C_HEADS, (*C_LIKE[1:], 'compute("a", items);'), ("}",)),
}


@st.composite
def blocks(draw: st.DrawFn, language: str, unit: str, depth: int, levels: int = 2) -> list[str]:
    """Lines of a body at a depth."""
    style, lines = STYLES[language], []
    for _ in range(draw(st.integers(1, 3))):
        if levels and draw(st.booleans()):
            lines.append(unit * depth + draw(st.sampled_from(style.heads)))
            lines += draw(blocks(language, unit, depth + 1, levels - 1))
            lines += [unit * depth + "}"] if style.braces else []
        else:
            lines.append(unit * depth + draw(st.sampled_from(style.simple)))
    return lines


@st.composite
def documents(draw: st.DrawFn, language: str, unit: str) -> list[str]:
    """Lines of a document that parses: one or two functions."""
    style = STYLES[language]
    depth = len(style.start)
    lines = ["package a", ""] if language == "go" else []
    for _ in range(draw(st.integers(1, 2))):
        lines += [unit * number + line for number, line in enumerate(style.start)]
        lines += draw(blocks(language, unit, depth))
        lines += [unit * (depth - number - 1) + line for number, line in enumerate(style.end)]
        lines.append("")
    return lines


@st.composite
def places(draw: st.DrawFn) -> Place:
    """A language, a document that parses, and the cursor's offset in it: on a new line, at the end or within one."""
    language, unit = draw(st.sampled_from(sorted(STYLES))), draw(st.sampled_from(UNITS))
    lines = draw(documents(language, unit))
    number = draw(st.sampled_from([number for number, line in enumerate(lines) if line.strip()]))
    line = lines[number]
    kind = draw(st.sampled_from(["new line", "new line", "end", "within"]))
    if kind == "new line":
        deeper = line.endswith(("{", ":"))
        typed = line[: len(line) - len(line.lstrip())] + unit * deeper
        lines.insert(number + 1, typed)
        column = len(typed)
        number += 1
    else:
        column = len(line) if kind == "end" else draw(st.integers(len(line) - len(line.lstrip()), len(line)))
    return language, "\n".join(lines) + "\n", sum(len(line) + 1 for line in lines[:number]) + column


@st.composite
def answers(draw: st.DrawFn, language: str, rest: str) -> str:
    """What a model might write: lines in a unit of its own, what stands below, or either of them spoiled."""
    lines = draw(blocks(language, draw(st.sampled_from(UNITS)), draw(st.integers(0, 3))))
    text = "\n".join(lines)
    if draw(st.booleans()):
        text = text.lstrip()
    text = draw(st.sampled_from([text, text, "\n" + text, rest[: draw(st.integers(1, 80))], text + "\n" + rest[:60]]))
    for spoil in draw(st.lists(st.sampled_from(["cut", "twice", "drop", "add"]), max_size=2)):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        if spoil == "cut":
            text = text[:at] or text
        elif spoil == "twice":
            text = f"{text}\n{text}\n{text}"
        elif spoil == "drop":
            text = re.sub(r"[)\]}]", "", text, count=1)
        else:
            text = text[:at] + draw(st.sampled_from([")", "}", "]", "(", "{", '"', ":", ";", " x"])) + text[at:]
    return text


@frozen
class Accepted:
    """A document before and after a suggestion."""

    language: str
    before: str
    snapshot: Snapshot
    suggestion: Suggestion

    @property
    def typed(self) -> str:
        return self.before[self.suggestion.start : self.snapshot.offset]

    @property
    def new(self) -> str:
        return self.suggestion.insert[len(self.typed) :]

    @property
    def after(self) -> str:
        return self.continued("")

    def continued(self, more: str) -> str:
        return self.before[: self.suggestion.start] + self.suggestion.insert + more + self.before[self.suggestion.end :]


def accepted(place: Place, trigger: Trigger, finish: Finish, texts: list[str]) -> list[Accepted]:
    language, text, offset = place
    snapshot = Snapshot("file:///a", 1, language, text, offset, trigger)
    asked = plan(snapshot, OPTIONS)
    if isinstance(asked, Refusal):
        return []
    shown = shape_all([Candidate(answer, 8, -float(rank), finish) for rank, answer in enumerate(texts)], asked)
    return [] if isinstance(shown, Refusal) else [Accepted(language, text, snapshot, one) for one in shown]


def parses(text: str, language: str) -> bool:
    if language == "python":
        try:
            compile(text, "", "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        except SyntaxError:
            return False
        return True
    source = parsed(text, LANGUAGES[language])
    assert source is not None
    return errors(source) == 0


BEGINNINGS = (*(" pass", ": pass", " x", " x: pass", "x"), *(";", " x;", " {}", " x {}", " x() {}", "\n}", "\n};"))
OPERANDS = ("", " x", "x", " x: x")


def check_parses(one: Accepted) -> None:
    """By key the document parses; unasked, a single line may leave its end to the user."""
    if parses(one.after, one.language):
        return
    assert one.snapshot.trigger is Trigger.AUTOMATIC, one.after
    assert "\n" not in one.new.strip() or one.new.rstrip().endswith((":", "{")), one.after
    closers = ("", ")", "]", "])", "}", "))", '"', '")', "'", "')", '"))', "\n})")
    assert any(
        parses(one.continued(text), one.language)
        for closer in closers
        for end in ("", *BEGINNINGS)
        for operand in OPERANDS
        for text in (operand + closer + end, end + closer)
    ), one.after


def check_words(one: Accepted) -> None:
    rest = one.before[one.suggestion.end : one.suggestion.end + 1]
    assert not re.fullmatch(r"\w\w", one.new[-1:] + rest), one.after


def check_indentation(one: Accepted, unit: str) -> None:
    """Each new line is at a whole number of the file's levels, and one deeper than the head above it."""
    head = one.typed + one.new.split("\n", 1)[0]
    above = one.before[: one.suggestion.start].rstrip().rsplit("\n", 1)[-1]
    lines = [line for line in (above, head, *one.new.split("\n")[1:]) if line.strip()]
    for upper, line in pairwise(lines):
        lead = line[: len(line) - len(line.lstrip())]
        assert lead == unit * (len(lead) // len(unit)), one.after
        if upper.rstrip().endswith((":", "{")) and (upper is not above or not one.typed.strip()):
            outer = upper[: len(upper) - len(upper.lstrip())]
            assert lead in (outer + unit, outer), one.after
            assert lead != outer or line.strip().startswith("}"), one.after


def check_rounds(one: Accepted) -> None:
    """No group of whole blocks comes twice in a row, and no line three times."""
    rows = [line for line in (one.typed + one.new).split("\n") if line.strip()]
    for size in range(1, len(rows)):
        rounds = 3 if size == 1 else 2
        for at in range(len(rows) - rounds * size + 1):
            group = rows[at : at + size]
            depths = [len(line) - len(line.lstrip()) for line in group]
            if size > 1 and depths[0] > min(depths):
                continue  # it begins within a block, whose heads or ends differ
            closers_only = all(not line.strip(" \t)]};,") for line in group)
            again = all(rows[at + n * size : at + (n + 1) * size] == group for n in range(rounds))
            assert closers_only or (size > 1 and len(set(group)) == 1) or not again, one.after


def check_blocks(one: Accepted) -> None:
    """All lines below are in the blocks in which they were, and in no new one."""
    if not parses(one.after, one.language):
        return
    line = one.before.count("\n", 0, one.snapshot.offset)
    moved = one.after.count("\n") - one.before.count("\n")
    find = parents if one.language == "python" else braces
    was, now = find(one.before), find(one.after)
    for number, around in was.items():
        if number > line + 1:
            expected = tuple(outer + moved if outer > line + 1 else outer for outer in around)
            assert now.get(number + moved) == expected, one.after


def parents(text: str) -> dict[int, tuple[int, ...]]:
    """The lines of the statements around each statement of a Python program, by its line; both are counted from 1."""
    found: dict[int, tuple[int, ...]] = {}

    def visit(node: ast.AST, around: tuple[int, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                found.setdefault(child.lineno, around)
                visit(child, (*around, child.lineno))

    visit(ast.parse(text), ())
    return found


def braces(text: str) -> dict[int, tuple[int, ...]]:
    """The lines of the braces that are open at the start of each line that is not blank."""
    found: dict[int, tuple[int, ...]] = {}
    stack: list[int] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            found[number] = tuple(stack)
        for character in re.sub(r"\"[^\"]*\"|'[^']*'", "", line):
            if character == "{":
                stack.append(number)
            elif character == "}" and stack:
                stack.pop()
    return found


def check(place: Place, trigger: Trigger, finish: Finish, texts: list[str]) -> int:
    """Check all that is shown; return its number."""
    language, text, _ = place
    assume(parses(text, language))
    shown = accepted(place, trigger, finish, texts)
    leads = [line[: len(line) - len(line.lstrip())] for line in text.split("\n") if line[:1] in (" ", "\t")]
    for one in shown:
        check_parses(one)
        check_words(one)
        check_indentation(one, min(leads, key=len))
        check_rounds(one)
        check_blocks(one)
    return len(shown)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    place = draw(places())
    language, text, offset = place
    texts = draw(st.lists(answers(language, text[offset:]), min_size=1, max_size=3))
    finish: Finish = draw(st.sampled_from(["stop", "length"]))
    return place, draw(st.sampled_from(Trigger)), finish, texts


@given(requests())
@settings(max_examples=150, derandomize=True)
def test_every_suggestion_leaves_the_document_whole(
    request: Request,
) -> None:
    check(*request)


@pytest.mark.slow
@given(requests())
@settings(max_examples=1500, derandomize=True)
def test_every_suggestion_leaves_the_document_whole_in_many_examples(
    request: Request,
) -> None:
    check(*request)
