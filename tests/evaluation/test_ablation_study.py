"""Paired differences of the same places with and without a part."""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.evaluation import ablation_study
from codegen_lsp.evaluation.ablation_study import EVERYTHING, OF_THE_MODEL, AblationCase, figures_of, joined
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.evaluation.lines import LineAnswer, LineCase
from codegen_lsp.evaluation.places import CursorPlace
from tests.completion.options import options as make_options

from .conftest import Scripted


def asked(
    document: SourceDocument, with_it: str | None, without: str | None, *parts: str, path: str = "a.py"
) -> AblationCase:
    """One place where `os.listdir(path)):` is to be written."""
    before = "for name in sorted("
    place = CursorPlace("mid-line", evolve(document, path=path), document.text.index(before) + len(before))
    case = LineCase(place, below=False)
    answers = {
        EVERYTHING: LineAnswer(case, with_it, with_it or ""),
        "threshold": LineAnswer(case, without, without or ""),
    }
    return AblationCase(case, frozenset(parts or ("threshold",)), answers)


def test_differences_are_of_the_same_places(document: SourceDocument) -> None:
    right, wrong = "os.listdir(path)):", "nothing("
    (figures,) = figures_of([asked(document, right, wrong), asked(document, right, None, path="b.py")], ["threshold"])
    assert (figures.cases, figures.changed) == (2, 2)
    assert figures.gain is not None
    assert (figures.gain.value, figures.gain.cases) == (17 / 18, 2)
    assert figures.wrong is not None
    assert figures.wrong.value == -0.5
    assert [figure and figure.value for figure in figures.shown] == [1.0, 0.5]
    assert [figure and figure.value for figure in figures.fits] == [1.0, 0.0]


def test_places_that_a_part_does_not_concern_are_left_out(document: SourceDocument) -> None:
    one, other = asked(document, "os", "os"), asked(document, "os", None, "context")
    (figures,) = figures_of([one, other], ["threshold"])
    assert (figures.cases, figures.changed) == (1, 0)
    (figures,) = figures_of([one, other], ["infilling"])
    assert (figures.cases, figures.gain) == (0, None)


def test_the_interval_is_over_files(document: SourceDocument) -> None:
    """Ten places of one file are one observation: nothing can be said about how much it varies."""
    same = [asked(document, "os.listdir(path)):", None) for _ in range(10)]
    (figures,) = figures_of(same, ["threshold"])
    assert figures.gain is not None
    assert figures.gain.low == figures.gain.value == figures.gain.high


async def test_each_place_is_asked_with_everything_and_without_each_part(document: SourceDocument) -> None:
    place = CursorPlace("mid-line", document, document.text.index("os.listdir"))
    model = Scripted(lambda params: "os.listdir(path)):")
    options = make_options(languages=frozenset({"*"}), infill=True)
    cases = [LineCase(place, below) for below in (False, True)]
    packages = {document.package: {document.path: document.text}}
    without = ("infilling", "correctness")
    found = [one async for one in ablation_study.ask_without(cases, model, lambda language: options, packages, without)]
    suffixes = [params.suffix for params in model.asked]
    assert [bool(suffix) for suffix in suffixes] == [False, False, False, True, False, True]
    assert ["infilling" in one.concerned for one in found] == [False, True]
    assert all(set(one.answers) == {EVERYTHING, *without} for one in found)
    assert all(answer.right for one in found for answer in one.answers.values())


def test_the_model_without_the_document_cache_is_asked_apart(document: SourceDocument) -> None:
    one = joined(asked(document, "a", "b"), asked(document, "c", "d"))
    assert one.answers[OF_THE_MODEL].text == "c"
    assert one.answers[EVERYTHING].text == "a"
