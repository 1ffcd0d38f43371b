"""The line evaluation, with scripted models."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.evaluation import lines
from codegen_lsp.evaluation.documents import SourceDocument, find_documents
from codegen_lsp.evaluation.lines import LineAnswer, LineCase, cases_of
from codegen_lsp.evaluation.places import CursorPlace, draw
from codegen_lsp.inference.rpc.messages import GenerateParams
from tests.completion.options import options as make_options

from .conftest import SOURCE, Scripted


def place_at(document: SourceDocument, before: str, kind: str = "mid-line") -> CursorPlace:
    return CursorPlace(kind, document, document.text.index(before) + len(before))  # type: ignore[arg-type]


def answered(document: SourceDocument, before: str, text: str | None, kind: str = "mid-line") -> LineAnswer:
    return LineAnswer(LineCase(place_at(document, before, kind), below=False), text)


def rest_of_line(params: GenerateParams) -> str:
    """A model that knows the file by heart."""
    assert SOURCE.count(params.prefix) == 1 or len(params.prefix) < 40
    return SOURCE.removeprefix(params.prefix)


@pytest.mark.parametrize(
    ("text", "right", "saved"),
    [
        ("os.listdir(path)):", True, 17),
        ("os.listdir(path)):  ", True, 17),
        ("os.listdir(path))", False, 16),
        (" os.listdir(path)):", False, 0),
        ("", False, 0),
        (None, False, 0),
    ],
)
def test_right_is_exactly_right(document: SourceDocument, text: str | None, right: bool, saved: int) -> None:
    answer = answered(document, "for name in sorted(", text)
    assert (answer.right, answer.saved) == (right, saved)


def test_a_right_answer_of_one_character_saves_nothing(document: SourceDocument) -> None:
    assert answered(document, "for folder in folders(sys.argv[1])", ":").saved == 0


@pytest.mark.parametrize(
    ("text", "right"),
    [("tdir(path)):", True), ("tdir", True), ("tdir.x", True), ("tdirs(", False), ("", False), (None, False)],
)
def test_the_word_is_judged_apart_from_what_follows(document: SourceDocument, text: str | None, right: bool) -> None:
    assert answered(document, "os.lis", text, "mid-word").word_right == right


def test_similarity_of_nothing_is_none(document: SourceDocument) -> None:
    assert answered(document, "os.lis", None).similarity == 0.0
    assert answered(document, "os.lis", "tdir(path)):").similarity == 1.0


async def test_a_model_that_knows_the_file_is_always_right(document: SourceDocument) -> None:
    cases = cases_of(draw([document], 6, seed=0))
    model = Scripted(rest_of_line)
    answers = [answer async for answer in lines.ask_model(cases, model)]
    assert [answer.case for answer in answers] == cases
    for figures in lines.figures_of(answers):
        assert figures.exact is not None
        assert (figures.exact.value, figures.exact.cases) == (1.0, 6)
        assert figures.similarity is not None
        assert figures.similarity.value == 1.0
        assert (figures.word is not None) == (figures.kind == "mid-word")
        assert figures.keystrokes is not None
        assert 0.5 < figures.keystrokes.value < 1.0


async def test_the_model_sees_what_is_below_only_where_it_should(document: SourceDocument) -> None:
    place = place_at(document, "found.app")
    without, below = [Scripted(lambda params: "") for _ in range(2)]
    [_ async for _ in lines.ask_model([LineCase(place, False)], without)]
    [_ async for _ in lines.ask_model([LineCase(place, True)], below)]
    assert without.asked[0].prefix == below.asked[0].prefix
    assert below.asked[0].prefix.endswith("found.app")
    assert without.asked[0].suffix == ""
    assert below.asked[0].suffix.startswith("\n    return found\n")
    assert "noted" not in below.asked[0].prefix + below.asked[0].suffix


async def test_figures_are_kept_apart_by_kind_and_text_below(document: SourceDocument) -> None:
    cases = cases_of(draw([document], 4, seed=0))
    model = Scripted(lambda params: rest_of_line(params) if params.suffix else "?")
    answers = [answer async for answer in lines.ask_model(cases, model)]
    for figures in lines.figures_of(answers):
        assert figures.exact is not None
        assert figures.exact.value == (1.0 if figures.below else 0.0)


async def test_what_an_editor_shows_goes_through_its_rules(document: SourceDocument) -> None:
    cases = [LineCase(place_at(document, "for name in sorted("), below=True)]
    options = make_options(infill=True)

    async def shown(text: str) -> str | None:
        model = Scripted(lambda params: text)
        (answer,) = [answer async for answer in lines.ask_editor(cases, model, lambda language: options)]
        return answer.text

    assert await shown("os.listdir(path)):") == "os.listdir(path)):"
    assert await shown("os.listdir(path)):\n    pass") == "os.listdir(path)):"
    assert await shown("") is None
    assert await shown("# a comment") is None


async def test_refused_places_count_as_not_shown(document: SourceDocument) -> None:
    cases = [LineCase(place_at(document, "for name in sorted("), below=False)]
    model = Scripted(lambda params: pytest.fail("asked"))
    off = make_options(enabled=False)
    answers = [answer async for answer in lines.ask_editor(cases, model, lambda language: off)]
    figures = next(f for f in lines.figures_of(answers) if f.kind == "mid-line" and not f.below)
    assert figures.shown is not None
    assert figures.shown.value == 0.0
    assert figures.right_of_shown is None
    assert figures.exact is not None
    assert figures.exact.value == 0.0


def test_text_is_cut_at_whole_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    before = lines.from_line_start(text, 50)
    assert text.endswith(before)
    assert before.startswith("line ")
    assert len(before) <= 50
    after = lines.to_line_end("\n" + text, 50)
    assert ("\n" + text).startswith(after + "\n")
    assert len(after) <= 50
    assert lines.from_line_start("x" * 100, 50) == "x" * 50
    assert lines.from_line_start("short", 50) == lines.to_line_end("short", 50) == "short"


def test_other_files_are_found_by_their_paths_in_the_package(tmp_path: Path) -> None:
    """Absolute paths have no workspace root, where looking for an imported module would not end."""
    (tmp_path / "helper.py").write_text("def assist(): ...\n")
    (tmp_path / "main.py").write_text("import helper\n")
    found = find_documents([tmp_path], None)
    packages = lines.packages_of(found)
    assert set(packages[str(tmp_path)]) == {"helper.py", "main.py"}
    document = next(one for one in found if one.path.endswith("main.py"))
    snapshot = Snapshot("file:///0", 0, "python", document.text, len(document.text))
    assert "assist" in (lines.context_of(snapshot, document, packages).modules["helper"] or ())
