"""Tables of completion: source with the cursor in it, the model's answer, and the suggestion that is shown.

`tests/cases.py` has the format. Each table in `cases/` is in one language, which its file name begins with. Sections:

    --- asked                    the user asked by key
    --- infills                  the model takes text after the cursor
    --- selected WORD            the editor's list has WORD selected in place of the word before the cursor
    --- checked                  the source is a whole document: syntax and names of a suggestion are checked in it
    --- model                    the model's answer; several of these are several candidates, the best first
    --- cut                      the same, but the answer reached the token limit
    --- shows                    the text after the cursor of a suggestion; several of these are several suggestions
    --- replacing TEXT           the text after the cursor that the first suggestion replaces
    --- refused RULE             no suggestion, because of this rule
    --- lines N                  the most lines that the model may write
    --- indent N|none            the least indentation of these lines
    --- prompt                   the end of the prompt
    --- suffix                   the text after the cursor that the model gets
"""

from __future__ import annotations

import re
from pathlib import Path

from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Selected, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import Candidate
from tests.cases import Case, Marked, Section, cases_of, parametrized
from tests.completion.options import options as make_options

SECTIONS = (
    *("asked", "infills", "selected", "checked", "model", "cut", "shows", "replacing", "refused"),
    *("lines", "indent", "prompt", "suffix"),
)
TABLES = sorted((Path(__file__).parent / "cases").glob("*.txt"))
CASES = [case for table in TABLES for case in cases_of(table, SECTIONS)]


def snapshot_of(case: Case) -> Snapshot:
    source = Marked.parse(case.source)
    selected = case.one("selected")
    word = re.search(r"\w*$", source.text[: source.start])
    assert word is not None
    return Snapshot(
        uri="file:///project/source",
        version=1,
        language=language_of(case),
        text=source.text,
        offset=source.start,
        trigger=Trigger.INVOKED if case.one("asked") else Trigger.AUTOMATIC,
        selected=Selected(word.start(), source.start, selected.argument) if selected else None,
    )


def language_of(case: Case) -> str:
    return case.path.name.split("-")[0]


def answers_of(case: Case) -> list[Candidate]:
    return [
        Candidate(
            section.text, tokens=8, log_probability=-float(rank), finish="length" if section.name == "cut" else "stop"
        )
        for rank, section in enumerate(case.all("model", "cut"))
    ]


def outcome(case: Case) -> tuple[Plan | Refusal, list[Suggestion] | Refusal]:
    snapshot = snapshot_of(case)
    without = frozenset() if case.one("checked") else frozenset({"correctness"})
    asked = plan(snapshot, make_options(infill=case.one("infills") is not None, ablate=without))
    if isinstance(asked, Refusal):
        return asked, asked
    return asked, shape_all(answers_of(case), asked)


@parametrized(CASES)
def test_case(case: Case) -> None:
    snapshot = snapshot_of(case)
    asked, shown = outcome(case)
    if isinstance(asked, Plan):
        check_plan(case, asked)
        if case.all("lines", "indent", "prompt", "suffix") and not case.all("shows", "refused"):
            return
    if isinstance(shown, Refusal):
        assert shown.reason.endswith(".")
        refused, shows, replaced = [shown.rule], [], []
    else:
        assert isinstance(asked, Plan)
        for suggestion in shown:
            check_form(suggestion, snapshot)
        refused, shows = [], [suggestion.insert[len(asked.cursor.kept) :] for suggestion in shown]
        replaced = [text] if (text := snapshot.text[asked.cursor.end : shown[0].end]) else []
    case.expect("refused", [Section("refused", rule) for rule in refused])
    case.expect("shows", [Section("shows", text=text) for text in shows])
    case.expect("replacing", [Section("replacing", text) for text in replaced])


def check_plan(case: Case, asked: Plan) -> None:
    """Compare with the plan what the case says of it."""
    if case.one("lines"):
        case.expect("lines", [Section("lines", str(asked.stop.max_lines))])
    if case.one("indent"):
        least = asked.stop.min_indent
        case.expect("indent", [Section("indent", "none" if least is None else str(least))])
    if prompt := case.one("prompt"):
        end = asked.prefix[-len(prompt.text) :] if prompt.text else ""
        case.expect("prompt", [Section("prompt", text=end)])
    if case.one("suffix"):
        case.expect("suffix", [Section("suffix", text=asked.suffix)])


def check_form(suggestion: Suggestion, snapshot: Snapshot) -> None:
    """Check what editors rely on in every suggestion."""
    assert snapshot.line_start <= suggestion.start <= snapshot.offset <= suggestion.end <= snapshot.line_end
    assert "\r" not in suggestion.insert
    rest = snapshot.text[suggestion.end : suggestion.end + 1]
    assert not suggestion.insert.endswith("\n")
    assert not suggestion.insert.endswith(" ") or rest.isalnum() or rest == "_"
    if snapshot.selected:
        assert suggestion.start == snapshot.selected.start
        assert suggestion.insert.startswith(snapshot.selected.text)
    else:
        assert suggestion.start == snapshot.line_start
        assert suggestion.insert.startswith(snapshot.text[suggestion.start : snapshot.offset])


def test_there_are_cases_in_every_language_and_refusals_among_them() -> None:
    assert len(CASES) >= 300
    for language in ("python", "c", "cpp", "go", "java", "javascript"):
        some = [case for case in CASES if language_of(case) == language]
        assert len(some) >= 25
        assert sum(bool(case.one("refused")) for case in some) >= 8
