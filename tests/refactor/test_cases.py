"""Tables of refactorings: source with a selection, the menu there, and the result of one refactoring.

`tests/cases.py` has the format. Sections:

    --- menu KIND, KIND          the refactorings that apply at the selection, or `none`
    --- language ID              LSP language identifier, Python by default
    --- infill no                the model does not take text after the place
    --- call TEXT | TEXT         the model's candidates of one call; another section for the next call
    --- candidate                a candidate of several lines, of the call above
    --- likes TEXT | TEXT        texts that contain one of these are likely
    --- do KIND                  the refactoring that is performed
    --- becomes                  the whole text after the best result
    --- labels TEXT | TEXT       the labels of all results, best first
    --- rejected CHECK, CHECK    the checks that results failed
    --- refused RULE             no result, because of this rule; the reason below, where it is tested
"""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.refactor.dispatch import menu
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import kind_named
from tests.cases import Case, Section, cases_of, parametrized
from tests.refactor.conftest import ScriptedModel, source

SECTIONS = (
    *("menu", "language", "infill", "call", "candidate", "likes"),
    *("do", "becomes", "labels", "rejected", "refused"),
)
TABLES = sorted((Path(__file__).parent / "cases").glob("*.txt"))
CASES = [case for table in TABLES for case in cases_of(table, SECTIONS)]


def source_of(case: Case) -> SelectedSource:
    language = case.one("language")
    return source(case.source + "\n", language.argument if language else "python")


def model_of(case: Case) -> ScriptedModel:
    calls: list[list[str]] = []
    for section in case.all("call", "candidate"):
        if section.name == "call":
            calls.append(section.argument.split(" | ") if section.argument else [])
        else:
            calls[-1].append(section.text)
    likes = case.one("likes")
    return ScriptedModel(calls, likes.argument.split(" | ") if likes else [])


@parametrized(CASES)
async def test_case(case: Case) -> None:
    selected = source_of(case)
    if case.one("menu"):
        names = [entry.kind.name for entry in menu(selected)]
        case.expect("menu", [Section("menu", ", ".join(names) or "none")])
    performed = case.one("do")
    if performed is None:
        assert case.one("menu")
        return
    kind = kind_named(performed.argument)
    assert kind is not None
    assistant = model_of(case).assistant(infill=case.one("infill") is None)
    try:
        outcome = await perform(kind, selected, assistant, lambda step, share: None)
    except RefactorError as error:
        refused = case.one("refused")
        shown = str(error) if refused is None or refused.text else ""
        case.expect("refused", [Section("refused", error.rule, shown)])
        case.expect("becomes", [])
        return
    text = outcome.offers[0].text
    assert text.endswith("\n")
    case.expect("becomes", [Section("becomes", text=text.removesuffix("\n"))])
    case.expect("refused", [])
    if case.one("labels"):
        case.expect("labels", [Section("labels", " | ".join(offer.label for offer in outcome.offers))])
    if case.one("rejected"):
        case.expect("rejected", [Section("rejected", ", ".join(one.rule for one in outcome.rejected))])


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 150
