"""Completion as a person reads it: source with the cursor in it, what the model answers, what is shown.

Each file in `cases/` holds cases in one language, which its name begins with. A case is

    === what it is about
    source, with │ for the cursor
    --- asked                    the user asked by key
    --- infills                  the model takes text after the cursor
    --- selected WORD            the editor's list has WORD selected in place of the word before the cursor
    --- model                    the model's answer; several of these are several candidates, the best first
    --- cut                      the same, but the answer ran into the token limit
    --- shows                    what stands after the cursor then; several of these are several suggestions
    --- replacing TEXT           what is replaced after the cursor by the suggestion before
    --- refused RULE             nothing is shown, because of this rule
    --- checked                  the source is a whole document, in which what is shown must be correct
    --- lines N                  how many lines the model is allowed
    --- indent N|none            the least indentation the model is allowed
    --- prompt                   the end of the prompt
    --- suffix                   the text after the cursor that is given to the model

Text sections begin on the next line. In all of them → stands for a tab, ␍ for a carriage return, · for a space at a
line's end. The blank line before the next case does not count.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import field, frozen

from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.policy import Options
from codegen_lsp.completion.shaping import shape_all
from codegen_lsp.completion.snapshot import Refusal, Selected, Snapshot, Suggestion, Trigger
from codegen_lsp.inference.rpc.messages import Candidate

CASES = Path(__file__).parent / "cases"


@frozen
class Section:
    name: str
    argument: str
    text: str


@frozen
class Case:
    title: str
    language: str
    source: str
    sections: list[Section] = field(factory=list)

    def all(self, *names: str) -> list[Section]:
        return [section for section in self.sections if section.name in names]

    def one(self, name: str) -> Section | None:
        found = self.all(name)
        assert len(found) <= 1, f"{name} stands {len(found)} times in {self.title!r}"
        return found[0] if found else None


KNOWN = {
    *("asked", "infills", "selected", "model", "cut", "shows", "replacing", "refused", "lines", "indent"),
    *("checked", "prompt", "suffix"),
}


def cases_of(path: Path) -> list[Case]:
    language = path.name.split("-")[0]
    blocks = re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [parse(block, language) for block in blocks[1:]]


def parse(block: str, language: str) -> Case:
    title, _, body = block.partition("\n")
    source, *rest = re.split(r"^--- ", body, flags=re.MULTILINE)
    sections = [section_of(text, last=number == len(rest)) for number, text in enumerate(rest, 1)]
    return Case(title.strip(), language, real(source), sections)


def section_of(text: str, *, last: bool) -> Section:
    head, _, body = text.partition("\n")
    name, _, argument = head.partition(" ")
    assert name in KNOWN, f"no section is called {name!r}"
    return Section(name, real(argument), real(body.removesuffix("\n") if last else body))


def real(text: str) -> str:
    return text.removesuffix("\n").replace("→", "\t").replace("␍", "\r").replace("·", " ")


def snapshot_of(case: Case) -> Snapshot:
    assert case.source.count("│") == 1, f"{case.title!r} needs exactly one cursor"
    offset = case.source.index("│")
    text = case.source.replace("│", "")
    selected = case.one("selected")
    word = re.search(r"\w*$", text[:offset])
    assert word is not None
    return Snapshot(
        uri="file:///project/source",
        version=1,
        language=case.language,
        text=text,
        offset=offset,
        trigger=Trigger.INVOKED if case.one("asked") else Trigger.AUTOMATIC,
        selected=Selected(word.start(), offset, selected.argument) if selected else None,
    )


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
    asked = plan(snapshot, Options(infill=case.one("infills") is not None, without=without))
    if isinstance(asked, Refusal):
        return asked, asked
    return asked, shape_all(answers_of(case), asked)


EVERY_CASE = [
    pytest.param(case, id=f"{path.stem}: {case.title}")
    for path in sorted(CASES.glob("*.txt"))
    for case in cases_of(path)
]


@pytest.mark.parametrize("case", EVERY_CASE)
def test_case(case: Case) -> None:
    snapshot = snapshot_of(case)
    asked, shown = outcome(case)
    if refused := case.one("refused"):
        assert isinstance(shown, Refusal), f"shown: {shown}"
        assert shown.rule == refused.argument
        assert shown.reason.endswith(".")
        return
    assert isinstance(asked, Plan), f"not asked: {asked}"
    check_plan(case, asked)
    expected = [section.text for section in case.all("shows")]
    if not expected:
        assert case.all("lines", "indent", "prompt", "suffix"), "the case expects nothing"
        return
    assert not isinstance(shown, Refusal), f"refused: {shown}"
    for suggestion in shown:
        check_form(suggestion, snapshot)
    assert [suggestion.insert[len(asked.cursor.kept) :] for suggestion in shown] == expected
    replacing = case.one("replacing")
    assert snapshot.text[asked.cursor.end : shown[0].end] == (replacing.argument if replacing else "")


def check_plan(case: Case, asked: Plan) -> None:
    if lines := case.one("lines"):
        assert asked.stop.max_lines == int(lines.argument)
    if indent := case.one("indent"):
        assert asked.stop.min_indent == (None if indent.argument == "none" else int(indent.argument))
    if prompt := case.one("prompt"):
        assert asked.prefix.endswith(prompt.text)
    if suffix := case.one("suffix"):
        assert asked.suffix == suffix.text


def check_form(suggestion: Suggestion, snapshot: Snapshot) -> None:
    """What editors rely on, whatever is suggested."""
    assert snapshot.line_start <= suggestion.start <= snapshot.offset <= suggestion.end <= snapshot.line_end
    assert "\r" not in suggestion.insert
    assert not suggestion.insert.endswith((" ", "\n"))
    if snapshot.selected:
        assert suggestion.start == snapshot.selected.start
        assert suggestion.insert.startswith(snapshot.selected.text)
    else:
        assert suggestion.start == snapshot.line_start
        assert suggestion.insert.startswith(snapshot.text[suggestion.start : snapshot.offset])


def test_there_are_cases_in_every_language_and_refusals_among_them() -> None:
    cases = [parameters.values[0] for parameters in EVERY_CASE]
    assert len(cases) >= 300
    for language in ("python", "c", "cpp", "go", "java", "javascript"):
        some = [case for case in cases if case.language == language]
        assert len(some) >= 25
        assert sum(bool(case.one("refused")) for case in some) >= 8
