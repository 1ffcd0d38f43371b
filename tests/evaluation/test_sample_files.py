"""Files of programs, as other harnesses write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from codegen_lsp.evaluation import sample_files
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.programs import ProgramSample, SampleLog, SamplingSetup, WrittenProgram
from codegen_lsp.evaluation.sample_files import Problem, read_samples, write_samples

PROBLEMS = [Problem("HumanEval/0", "def f():\n"), Problem("HumanEval/1", "def g():\n")]
WHOLE = WrittenProgram("def f():\n    return 1\n", "    return 1\n")


def rows(*found: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in found)


FILES = {
    "solutions": rows({"task_id": "HumanEval/0", "solution": WHOLE.program}),
    "completions": rows({"task_id": "HumanEval/0", "completion": WHOLE.completion}),
    "lists": json.dumps([[WHOLE.program], []]),
    "log": rows({"benchmark": "humaneval", "model": "m"}, {"task": "HumanEval/0", "program": WHOLE.program}),
}


FILES |= {
    "evalplus": rows({"task_id": "HumanEval/0", "solution": WHOLE.program, "_identifier": "HumanEval/0 (line 1)"}),
    "completion beside null": rows({"task_id": "HumanEval/0", "solution": None, "completion": WHOLE.completion}),
    "with a mark of the byte order": "\ufeff" + rows({"task_id": "HumanEval/0", "solution": WHOLE.program}),
    "windows": rows({"task_id": "HumanEval/0", "solution": WHOLE.program}).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("name", FILES)
def test_each_format_is_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(FILES[name], newline="")
    assert read_samples(path, PROBLEMS) == {"HumanEval/0": [WHOLE]}
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_samples(path, PROBLEMS) == {"HumanEval/0": [WHOLE]}


def test_a_program_may_have_any_character(tmp_path: Path) -> None:
    program = "x = '" + "".join(map(chr, (0, 11, 12, 0x1C, 0x85, 0x2028, 0x2029, 0x1F600))) + "'\n"
    row = json.dumps({"task_id": "HumanEval/0", "solution": program}, ensure_ascii=False)
    (tmp_path / "file").write_text(row + "\n", encoding="utf-8")
    assert read_samples(tmp_path / "file", PROBLEMS)["HumanEval/0"][0].program == program


def test_files_that_are_too_long_are_refused_before_they_fill_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_files, "MAX_BYTES", 1 << 20)
    for name, content in {"plain": b" " * (1 << 21), "gz": gzip.compress(b" " * (1 << 24))}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EvaluationError, match="more than 1 MiB"):
            read_samples(tmp_path / name, PROBLEMS)


def test_the_line_of_an_error_is_named(tmp_path: Path) -> None:
    good = rows({"task_id": "HumanEval/0", "solution": ""})
    for bad, reason in {
        "{": "line 2: ",
        '{"task_id": "HumanEval/0"}': "line 2 has no 'completion'",
        '{"task_id": "HumanEval/7", "solution": ""}': "no problem 'HumanEval/7'",
        '{"task_id": "HumanEval/0", "solution": [1]}': "a program is a string, not list",
        '"a benchmark"': "it is no object",
    }.items():
        (tmp_path / "file").write_text(good + bad)
        with pytest.raises(EvaluationError, match=reason):
            read_samples(tmp_path / "file", PROBLEMS)


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "HumanEval_1"
    folder.mkdir()
    for number in range(11):
        (folder / f"{number}.py").write_text(f"def g():\n    return {number}\n")
    found = read_samples(tmp_path, PROBLEMS)
    assert [draft.completion for draft in found["HumanEval/1"]] == [f"    return {number}\n" for number in range(11)]


def test_files_of_mtpbs_sampler_are_read(tmp_path: Path) -> None:
    path = tmp_path / "1.jsonl"
    inputs = [{"A": 1}, {"A": 2}]
    path.write_text(
        rows(*({"id": "1", "input": one, "gold_output": 1, "completions": f"# {one}"} for one in inputs * 2))
    )
    found = read_samples(path, [Problem("1/0"), Problem("1/1")])
    assert [len(found[id]) for id in ("1/0", "1/1")] == [2, 2]
    assert found["1/1"][0].program == "# {'A': 2}"


@pytest.mark.parametrize("name", ["samples.jsonl", "generations.json", "samples.jsonl.gz", "generations.json.gz"])
def test_what_is_written_is_read_again(name: str, tmp_path: Path) -> None:
    samples = [
        ProgramSample("HumanEval/1", 0, "def g():\n    pass\n", "    pass\n", False),
        ProgramSample("HumanEval/0", 1, "def f():\n    return 2\n", "    return 2\n", True),
        ProgramSample("HumanEval/0", 0, WHOLE.program, WHOLE.completion, True),
    ]
    write_samples(tmp_path / name, samples, [problem.id for problem in PROBLEMS])
    found = read_samples(tmp_path / name, PROBLEMS)
    assert found["HumanEval/0"] == [WHOLE, WrittenProgram("def f():\n    return 2\n", "    return 2\n")]
    assert len(found["HumanEval/1"]) == 1


def test_the_log_of_a_run_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = SampleLog(path, SamplingSetup("humaneval", "m", "", 0.0, 0.95, 0))
    log.add(ProgramSample("HumanEval/0", 0, WHOLE.program, WHOLE.completion, True))
    assert read_samples(path, PROBLEMS) == {"HumanEval/0": [WHOLE]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[[1]]",
        '["a program"]',
        '[{"a": 1}]',
        '"the benchmark"',
        "[" * 100_000,
        json.dumps([[], [], []]),
        rows({"task_id": "HumanEval/9", "solution": ""}),
        rows({"task_id": "HumanEval/0"}),
        rows({"solution": ""}),
        rows(1),
    ],
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    with pytest.raises(EvaluationError):
        read_samples(path, PROBLEMS)


def test_missing_and_undecodable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="There is no"):
        read_samples(tmp_path / "nothing", PROBLEMS)
    (tmp_path / "file").write_bytes(b"\xff")
    with pytest.raises(EvaluationError, match="can't be read"):
        read_samples(tmp_path / "file", PROBLEMS)
    with pytest.raises(EvaluationError, match="no samples"):
        read_samples(tmp_path, PROBLEMS)
    with pytest.raises(EvaluationError, match="can't be written"):
        write_samples(tmp_path / "no" / "folder", [], [])
