"""Tables of refactorings: source with a selection, the menu there, and what comes of one of the kinds.

A case begins with `=== title`. `menu:` lists the kinds that are offered. `model:` is what the scripted model says to
one call, candidates with ` | ` between them (`model:` again for the next call); `likes:` names words that make a text
likely. After `do: kind` comes the whole text afterwards, or `refused: rule`; `labels:` lists all results, best first.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import define, field

from codegen_lsp.refactor.dispatch import menu
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import kind_named
from tests.refactor.conftest import ScriptedModel, source

CASES = Path(__file__).parent / "cases"


@define
class Case:
    title: str
    before: str = ""
    menu: list[str] | None = None
    model: list[list[str]] = field(factory=list)
    likes: list[str] = field(factory=list)
    infill: bool = True
    language: str = "python"
    kind: str = ""
    after: str | None = None
    refused: str | None = None
    labels: list[str] | None = None
    rejected: list[str] | None = None


def read_cases(text: str) -> list[Case]:
    return [read_case(part) for part in text.split("=== ")[1:]]


def read_case(text: str) -> Case:
    title, _, rest = text.partition("\n")
    case = Case(title)
    target = "before"
    for line in rest.split("\n"):
        name, colon, value = line.partition(": ")
        if line.startswith("-- ") and colon:
            target = read_directive(case, name[3:], value) or target
        elif target == "before":
            case.before += line + "\n"
        elif target == "after":
            case.after = (case.after or "") + line + "\n"
    case.before = case.before.rstrip("\n") + "\n"
    if case.after is not None:
        case.after = case.after.rstrip("\n") + "\n"
    return case


def read_directive(case: Case, name: str, value: str) -> str | None:
    value = value.rstrip()
    if name == "menu":
        case.menu = [] if value == "none" else value.split(", ")
    elif name == "model":
        case.model.append([part.replace("\\n", "\n").replace("\\t", "\t") for part in value.split(" | ")])
    elif name == "likes":
        case.likes += value.split(" | ")
    elif name == "infill":
        case.infill = value == "yes"
    elif name == "language":
        case.language = value
    elif name == "do":
        case.kind = value
        return "after"
    elif name == "refused":
        case.refused = value
        return "end"
    elif name == "labels":
        case.labels = value.split(" | ")
    elif name == "rejected":
        case.rejected = value.split(", ")
    else:
        raise ValueError(name)
    return None


ALL = [case for file in sorted(CASES.glob("*.txt")) for case in read_cases(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("case", ALL, ids=[case.title for case in ALL])
async def test_case(case: Case) -> None:
    place = source(case.before, case.language)
    if case.menu is not None:
        assert [entry.kind.name for entry in menu(place)] == case.menu
    if not case.kind:
        assert case.menu is not None
        return
    kind = kind_named(case.kind)
    assert kind is not None
    model = ScriptedModel(case.model, case.likes)
    doing = perform(kind, place, model.assistant(infill=case.infill), lambda what, share: None)
    if case.refused is not None:
        with pytest.raises(RefactorError) as caught:
            await doing
        assert caught.value.rule == case.refused
        return
    outcome = await doing
    assert outcome.offers[0].text == case.after
    if case.labels is not None:
        assert [offer.label for offer in outcome.offers] == case.labels
    if case.rejected is not None:
        assert [one.rule for one in outcome.rejected] == case.rejected


def test_there_are_enough_cases() -> None:
    assert len(ALL) >= 80
