"""The report of a benchmark of programs."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import evolve

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.figures import share
from codegen_lsp.evaluation.human_eval import Function
from codegen_lsp.evaluation.mtpb import Conversation
from codegen_lsp.evaluation.program_measurements import HumanEval, Mtpb
from codegen_lsp.evaluation.program_page import page, save_page
from codegen_lsp.evaluation.programs import ProgramSample
from codegen_lsp.evaluation.published import PublishedFigure
from codegen_lsp.evaluation.turn_comparison import compare_turns

FUNCTIONS = [Function(f"T/{number}", "", "f", "", "") for number in range(200)]
SAMPLES = [
    ProgramSample(one.task_id, 0, "x = '<script>'", "", number % 4 == 0, "" if number % 4 == 0 else "<b>: \ud800")
    for number, one in enumerate(FUNCTIONS)
]


def test_the_page_shows_the_figures_beside_the_published_ones(tmp_path: Path) -> None:
    benchmark = HumanEval(FUNCTIONS)
    figures = benchmark.figures(SAMPLES, "codegen-2B-mono")
    assert [one.agrees for one in figures.published] == [True]
    save_page(tmp_path / "x.html", benchmark, "codegen-2B-mono", figures, SAMPLES)
    text = (tmp_path / "x.html").read_text("utf-8")
    assert "25.0%" in text
    assert "pass@1: published 23.70%" in text
    assert "within the interval" in text
    assert "<script" not in text
    assert "http" not in text
    assert text.count("<details>") == 60
    assert "<h2>150 fail, of which the first 30 are shown</h2>" in text
    assert "200 programs for 200 problems." in text
    ElementTree.fromstring(
        text.removeprefix("<!doctype html>")
        .replace('<meta charset="utf-8">', "")
        .replace('<meta name="viewport" content="width=device-width, initial-scale=1">', "")
    )


def test_a_page_without_programs_is_a_page() -> None:
    benchmark = HumanEval([])
    assert "0 programs" in page(benchmark, "m", benchmark.figures([], "m"), [])


def test_a_figure_outside_of_the_interval_is_named() -> None:
    measured = share([True] * 5 + [False] * 95)
    assert measured is not None
    assert "outside the interval" in PublishedFigure("pass@1", 0.5, measured, "somebody").sentence


def test_a_page_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    benchmark = HumanEval([])
    with pytest.raises(EvaluationError, match="can't be written"):
        save_page(tmp_path, benchmark, "m", benchmark.figures([], "m"), [])


def test_turns_are_compared_on_the_same_problems(tmp_path: Path) -> None:
    conversations = [Conversation(f"{n}/{i}", "n", "c", ["p"] * (3 + n % 2), 1) for n in range(1, 5) for i in range(2)]
    multi = [ProgramSample(one.id, 0, "", "", one.id != "1/0") for one in conversations]
    single = [ProgramSample(one.id, 0, "", "", one.id == "2/0") for one in conversations[:6]]
    benchmark = Mtpb(conversations)
    rates = compare_turns(multi, single, benchmark.turns_of)
    assert [(one.name, one.multi.cases) for one in rates] == [("all", 3), ("3 turns", 1), ("4 turns", 2)]
    assert rates[0].multi.value == pytest.approx(2.5 / 3)
    assert rates[0].single.value == pytest.approx(0.5 / 3)
    assert rates[0].gain.value == pytest.approx(2 / 3)
    assert rates[0].gain.low <= 2 / 3 <= rates[0].gain.high
    assert compare_turns(multi, [], benchmark.turns_of) == []
    figures = evolve(benchmark.figures(multi, "m"), turns=rates)
    text = page(benchmark, "m", figures, multi)
    assert "3 turns, all at once" in text
    assert "+66.7" in text
    assert "No published figures of this model are known." in text
    assert "8 programs for 8 tests." in text
    assert "each square is a test." in text
    assert "<h2>7 pass</h2>" in text
    assert "<h2>1 fail</h2>" in text
