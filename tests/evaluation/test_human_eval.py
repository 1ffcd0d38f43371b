"""HumanEval, with scripted models."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from codegen_lsp.evaluation import human_eval
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.human_eval import FilledLine, Function, Line
from codegen_lsp.sandbox.sandbox import Verdict

from .conftest import Scripted

ADD = Function(
    "Test/0",
    'def add(a, b):\n    """The sum."""\n',
    "add",
    "    return a + b\n",
    "def check(candidate):\n    assert candidate(1, 2) == 3\n",
)
EVERY = int(os.environ.get("BENCHMARK_EVERY", "41"))
"""Every which problem is judged; 1 judges all of them."""
LINE = Line("Test/0/L0", "def add(a, b):\n", "    return c\n", "    c = a + b\n")


@pytest.mark.usefixtures("sandbox")
async def test_functions_are_judged_by_their_tests() -> None:
    model = Scripted(lambda params: "    return a + b\n")
    draft = await human_eval.write_function(ADD, model)
    assert draft.program == ADD.prompt + draft.completion
    assert human_eval.judge(ADD, draft.program).kind == "passed"
    assert human_eval.judge(ADD, ADD.prompt + "    return a - b\n").kind == "failed"
    assert human_eval.judge(ADD, ADD.prompt + "    while True: pass\n").kind == "timeout"
    assert model.asked[0].stop.strings == ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
    assert model.asked[0].temperature == 0.0


async def test_samples_have_seeds_of_their_own() -> None:
    model = Scripted(lambda params: "    return a + b\n")
    for number in range(3):
        await human_eval.write_function(ADD, model, temperature=0.5, seed=7, number=number)
    assert [params.seed for params in model.asked] == [7, 8, 9]


async def test_lines_are_filled_in_as_in_an_editor() -> None:
    model = Scripted(lambda params: "\n    c = a + b  \n    d")
    (filled,) = [one async for one in human_eval.fill_lines([LINE], model)]
    assert model.asked[0].prefix == LINE.prompt
    assert model.asked[0].suffix == "\n    return c\n"
    assert filled.right
    figure = human_eval.exact_match([filled, FilledLine(LINE, "c = a + b")])
    assert figure is not None
    assert (figure.value, figure.cases) == (0.5, 2)


def test_some_problems_are_the_same_for_a_seed() -> None:
    assert human_eval.some(range(100), 0, 1) == list(range(100))
    assert human_eval.some(range(100), 500, 1) == list(range(100))
    chosen = human_eval.some(range(100), 10, 1)
    assert chosen == human_eval.some(range(100), 10, 1) == sorted(chosen)
    assert chosen != human_eval.some(range(100), 10, 2)


@pytest.mark.usefixtures("sandbox")
def test_canonical_solutions_pass(data: Path) -> None:
    functions = human_eval.read_functions(data)
    assert len(functions) == 164
    for function in functions[::EVERY]:
        right = human_eval.judge(function, function.prompt + function.canonical_solution)
        assert right == Verdict("passed"), function.task_id
        wrong = human_eval.judge(function, function.prompt + "    return 'wrong'\n")
        assert wrong.kind == "failed", function.task_id


def test_infilling_lines_of_the_benchmark(data: Path) -> None:
    lines = human_eval.read_lines(data)
    assert len(lines) == 1033
    assert all(line.canonical_solution.strip() and line.canonical_solution.count("\n") == 1 for line in lines)


def test_files_are_read_with_and_without_compression(tmp_path: Path) -> None:
    row = {name: getattr(LINE, name) for name in ("task_id", "prompt", "suffix", "canonical_solution")}
    text = json.dumps(row | {"test": "ignored"}) + "\n"
    (tmp_path / "plain.jsonl").write_text(text)
    (tmp_path / human_eval.SINGLE_LINES).write_bytes(gzip.compress(text.encode()))
    assert human_eval.read_lines(tmp_path / "plain.jsonl") == human_eval.read_lines(tmp_path) == [LINE]


@pytest.mark.parametrize("content", [b"{", b"\x1f\x8b\x08\x00", b'{"task_id": "x"}\n', b"\xff\xfe"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(EvaluationError):
        human_eval.read_lines(tmp_path / "x.jsonl")


def test_a_missing_file_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="https://github"):
        human_eval.read_functions(tmp_path)
