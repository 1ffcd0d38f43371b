"""What holds for every document and every answer, tried on text that looks like code but need not be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from codegen_lsp.completion.correctness import is_beginning
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.shaping.pipeline import RULES, shape_all
from codegen_lsp.completion.snapshot import Refusal, Selected, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import Candidate
from codegen_lsp.source.brackets import is_rest_of_closers, scan
from codegen_lsp.source.languages import LANGUAGES
from tests.completion.options import options as make_options

INFILLING = Path(__file__).parents[3] / "shared" / "data" / "HumanEval-SingleLineInfilling.jsonl.gz"

WORDS = [
    *("x", "foo", "count", "return x", "if x:", "if (x) {", "def f(a):", "for x in y:", "else:", "class A:", "pass"),
    *("x = 1;", "// c", "# c", "/* c", "*/", "case 1:", "héllo", "😀", "e\u0301", "\f", "\u2028", "\x00", "\ufffd"),
    *("(", ")", "[", "]", "{", "}", '"', "'", '"""', "`", ",", ";", ":", ".", " = ", " ", "\\"),
    *("\n", "\n", "\n    ", "\n        ", "\n  ", "\n\t", "\n\n", "\r\n", "\r", "\t", "    "),
]
code = st.lists(st.sampled_from(WORDS), max_size=25).map("".join)
languages = st.sampled_from(["python", "c", "cpp", "go", "java", "javascript", "ruby", "unheard-of"])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    before, after = draw(code), draw(code)
    text, offset = before + after, len(before)
    if draw(st.booleans()):
        text = text.replace("\n", "\r\n")
        offset = len(before.replace("\n", "\r\n"))
    snapshot = Snapshot(
        "file:///project/source", 1, draw(languages), text, offset, draw(st.sampled_from(Trigger)), None
    )
    if not draw(st.booleans()):
        return snapshot
    start = draw(st.integers(snapshot.line_start, offset))
    end = draw(st.integers(offset, snapshot.line_end))
    return Snapshot(
        snapshot.uri,
        snapshot.version,
        snapshot.language,
        text,
        offset,
        snapshot.trigger,
        Selected(start, end, draw(st.sampled_from(["foo", "count(", "héllo", ""]))),
    )


def candidates(texts: list[str]) -> list[Candidate]:
    return [Candidate(text, 1, -float(rank), "length" if rank % 2 else "stop") for rank, text in enumerate(texts)]


EVERYTHING = make_options(languages=frozenset({"*"}), infill=True)
FRAGMENTS = evolve(EVERYTHING, ablate=frozenset({"correctness"}))
"""For documents whose names nothing defines."""


def shown(snapshot: Snapshot, texts: list[str], options: Options = EVERYTHING) -> list[Suggestion]:
    asked = plan(snapshot, options)
    if isinstance(asked, Refusal):
        return []
    result = shape_all(candidates(texts), asked)
    return [] if isinstance(result, Refusal) else result


@given(snapshots(), st.lists(code, min_size=1, max_size=4))
def test_every_suggestion_has_the_form_that_editors_need(snapshot: Snapshot, texts: list[str]) -> None:
    found = shown(snapshot, texts)
    assert len(found) <= (3 if snapshot.trigger is Trigger.INVOKED else 1)
    assert len({(suggestion.end, suggestion.insert) for suggestion in found}) == len(found)
    for suggestion in found:
        assert snapshot.line_start <= suggestion.start <= snapshot.offset <= suggestion.end <= snapshot.line_end
        assert "\r" not in suggestion.insert
        kept = snapshot.selected.text if snapshot.selected else snapshot.text[suggestion.start : snapshot.offset]
        assert suggestion.insert.startswith(kept)
        assert suggestion.insert[len(kept) :].strip()
        if snapshot.selected:
            assert (suggestion.start, suggestion.end >= snapshot.selected.end) == (snapshot.selected.start, True)
        else:
            assert suggestion.start == snapshot.line_start


@given(snapshots(), code)
def test_what_is_replaced_are_closers(snapshot: Snapshot, text: str) -> None:
    for suggestion in shown(snapshot, [text]):
        end = snapshot.selected.end if snapshot.selected else snapshot.offset
        assert is_rest_of_closers(snapshot.text[end : suggestion.end])


BRACKETED = ["x", "foo", " ", ",", "(", ")", "[", "]", "()", "[]", ".", "{", "}", "{}"]
bracketed = st.lists(st.sampled_from(BRACKETED), max_size=14).map("".join)
several_lines = st.lists(st.sampled_from([*BRACKETED, ";", "\n", "\n    ", "\n}", "\n})"]), max_size=14).map("".join)
six = st.sampled_from(["python", "c", "cpp", "go", "java", "javascript"])


def closers_too_many(text: str) -> int:
    """How many brackets close nothing."""
    stack: list[str] = []
    extra = 0
    for character in text:
        if character in "([{":
            stack.append(character)
        elif character in ")]}":
            opener = {")": "(", "]": "[", "}": "{"}[character]
            if opener not in stack:
                extra += 1
                continue
            while stack.pop() != opener:  # what is open within is left open
                pass
    return extra


rests = st.sampled_from(["", ")", "]", "}", "))", "])", ")]", "})", ")}", "):", ");", "),", "});", "})()"])
belows = st.sampled_from(["", "}\n", "    }\n}\n", "});\n", "]\n"])


@given(bracketed, rests, belows, several_lines, six)
@example("print(", ")", "", "x)", "python")
@example("foo(bar(", "))", "", "x)", "python")
@example("(a", ")", "", " + 1) * (b", "python")
@example("foo(function() {", "})", "", "\n    x\n}", "javascript")
@example("{", "", "}\n", "}", "python")
@example("if (x) {", "", "}\n", "\n    x\n}", "c")
@example("", "", "", "{\n}\n}", "c")
@example("{", "", "", "\n    )", "python")
@example("{{x", "", "    }\n}\n", "}", "python")
def test_no_closer_is_doubled(before: str, rest: str, below: str, text: str, language: str) -> None:
    """Accepting never leaves more brackets that close nothing than there were, on the line and below."""
    assume(not scan(before, LANGUAGES[language]).unmatched)
    snapshot = Snapshot("file:///a", 1, language, f"x = {before}{rest}\n{below}", 4 + len(before))
    for suggestion in shown(snapshot, [text], FRAGMENTS):
        accepted = suggestion.insert + snapshot.text[suggestion.end :]
        assert closers_too_many(accepted) <= closers_too_many(snapshot.text), accepted


balanced = st.recursive(
    st.sampled_from(["x", "foo", "a, b", "x + y"]),
    lambda inner: st.tuples(inner, st.sampled_from(["()", "[]"]), inner).map(
        lambda parts: f"{parts[0]}{parts[1][0]}{parts[2]}{parts[1][1]}"
    ),
    max_leaves=4,
)
half_open = st.lists(st.tuples(balanced, st.sampled_from("([")).map("".join), min_size=1, max_size=3).map("".join)


@given(half_open, balanced, st.integers(0, 3))
def test_brackets_that_an_editor_closed_stay_balanced(before: str, text: str, written: int) -> None:
    """However many of the closers the answer writes itself, all is closed exactly once in the end."""
    closers = "".join({"(": ")", "[": "]"}[character] for character in reversed(open_brackets(before)))
    snapshot = Snapshot("file:///a.py", 1, "python", f"x = {before}{closers}\n", 4 + len(before))
    (suggestion,) = shown(snapshot, [text + closers[:written]], FRAGMENTS)
    assert suggestion.insert + snapshot.text[suggestion.end :] == f"x = {before}{text}{closers}\n"


def open_brackets(text: str) -> str:
    stack = ""
    for character in text:
        if character in "([":
            stack += character
        elif character in ")]" and stack:
            stack = stack[:-1]
    return stack


STATEMENTS = [
    *("x = 1", "y = [x for x in (1, 2)]", 'print("a", x)', "import os", "x += len('é')", "def f(a, b=2):", "class A:"),
    *("if x:", "for y in (1, 2):", "else:", "try:", "except ValueError as y:", "while x:", "return x", '"""text"""'),
    *("# comment", "with open('a') as y:", "y = {", "}", "pass", "@property"),
]
PIECES = [*STATEMENTS, "x", "y", "(", ")", "[", "]", "{", "}", ":", ",", '"', "'", " ", "=", ".", "\n", "\n    ",
          "\n        ", "else", "lambda x: x", "not", "in"]  # fmt: skip


answers = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Lines that are Python so far, with indentation that may or may not fit."""
    lines: list[str] = ["x = y = 1"]
    for statement in draw(st.lists(st.sampled_from(STATEMENTS), max_size=8)):
        depths = [d for d in range(4) if is_beginning("\n".join([*lines, "    " * d + statement]))]
        if depths:
            lines.append("    " * draw(st.sampled_from(depths)) + statement)
    return "\n".join(lines) + "\n"


@given(programs(), st.integers(0, 3), answers, st.data())
def test_python_that_was_in_order_stays_so(above: str, depth: int, answer: str, data: st.DataObject) -> None:
    """Whatever the model answers, a program can begin with what is above, the line, and what is shown."""
    typed = "    " * depth + data.draw(st.sampled_from(["", "x = ", "print(", "if x", "for x in ", "import "]))
    assume(not typed.strip() or is_beginning(above + typed + "x"))
    below = data.draw(st.sampled_from(["", "\nx = 2\n", "\n    pass\n"]))
    after = data.draw(st.sampled_from(["", ")"])) if typed.endswith("(") else ""
    snapshot = Snapshot("file:///a.py", 1, "python", above + typed + after + below, len(above + typed))
    for suggestion in shown(snapshot, [answer]):
        accepted = snapshot.text[: suggestion.start] + suggestion.insert
        rest = snapshot.text[suggestion.end : snapshot.line_end]
        assert is_beginning(accepted + rest)


@given(programs(), programs(), st.integers(0, 3), answers, st.data())
@example("def f():\n    x = 1\n", "    return x\n", 0, "y = 1", None)
@example("class A:\n    def f(self):\n        pass\n", "    def g(self):\n        pass\n", 0, "x = 1", None)
@example("if x:\n    y = 1\n", "    y = 2\n", 1, "y = 3\n\nx = 1", None)
@example("x = 1\ndef f(a):\n", "", 1, "@property", None)
@example("x = 1\ndef f(a):\n", "# comment\n    x = 1\n", 2, "x = 1", None)
@example("x = 1\ndef f(a):\n# comment\n", "    x = 1\n", 2, "x = 1", None)
@example("x = 1\ndef f(a):\n", "    x = 1\n", 2, "x = 1{", None)
def test_indentation_that_parsed_stays_so(
    above: str, below: str, depth: int, answer: str, data: st.DataObject | None
) -> None:
    """On a blank line of a document that is Python as a whole, nothing is shown after which an indentation is wrong."""
    if data is not None:
        program = above + "".join(f"{line}\n" for line in below.split("\n")[1:] if line)
        lines = program.splitlines(keepends=True)
        at = data.draw(st.integers(1, len(lines)))
        above, below = "".join(lines[:at]), "".join(lines[at:])
    assume(indentation_error(above + below) is None)
    assume(not scan(above, LANGUAGES["python"]).open)
    typed = "    " * depth
    snapshot = Snapshot("file:///a.py", 1, "python", above + typed + "\n" + below, len(above + typed))
    assume(indentation_error(snapshot.text) is None)
    for suggestion in shown(snapshot, [answer]):
        accepted = snapshot.text[: suggestion.start] + suggestion.insert + snapshot.text[suggestion.end :]
        assert indentation_error(accepted) is None, accepted


def indentation_error(text: str) -> str | None:
    """What is wrong with the indentation of a program, but for a block that is still to be written, or what a decorator
    decorates."""
    try:
        compile(text, "", "exec", dont_inherit=True)
    except IndentationError as error:
        return None if error.msg.startswith(("expected an indented block", "unexpected unindent")) else error.msg
    except SyntaxError:
        return None
    return None


@given(snapshots(), code)
def test_shaping_is_the_same_twice(snapshot: Snapshot, text: str) -> None:
    assert shown(snapshot, [text]) == shown(snapshot, [text])


def test_every_rule_says_what_it_does() -> None:
    for rule in RULES:
        assert rule.__doc__
        assert rule.__doc__.split("\n")[0].endswith(".")


@pytest.mark.skipif(not INFILLING.exists(), reason=f"no {INFILLING.name} in a data folder beside the checkout")
def test_the_right_line_of_a_human_author_is_shown_as_it_is() -> None:
    """If the model answers with what a person wrote, that is what is shown (comments that nobody began excepted)."""
    with gzip.open(INFILLING, "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines]
    spoiled = [problem["task_id"] for problem in problems if spoils(problem)]
    assert len(problems) > 1000
    assert spoiled == []


def spoils(problem: dict[str, str]) -> bool:
    truth = problem["canonical_solution"].rstrip("\n")
    typed = truth[: len(truth) - len(truth.lstrip())]
    text = problem["prompt"] + typed + "\n" + problem["suffix"]
    snapshot = Snapshot("file:///a.py", 1, "python", text, len(problem["prompt"] + typed))
    asked = plan(snapshot, make_options())
    assert isinstance(asked, Plan), asked
    result = shape_all(candidates([truth[len(typed) :]]), asked)
    if isinstance(result, Refusal):
        return not (result.rule == "comment_only" and truth.lstrip().startswith("#"))
    return result[0].insert != truth.rstrip() or result[0].end != snapshot.offset
