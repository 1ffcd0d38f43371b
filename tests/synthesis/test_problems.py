"""Problems for learners."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen_lsp.synthesis.examples import Example
from codegen_lsp.synthesis.problems import ProblemError, read_problems


def test_a_session_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text("import math\n\n# Double x. `x = 2` → `4`\n2 * x\n\n# Print it.\n")
    (problem,) = read_problems(tmp_path)
    assert (problem.name, problem.head.strip()) == ("double", "import math")
    assert [(step.solution, len(step.examples)) for step in problem.steps] == [("2 * x", 1), ("", 0)]


def test_mtpb_and_humaneval_are_problems(tmp_path: Path) -> None:
    row = {"id": "7", "name": "Sum", "prompts": ["Set x to {A}.", "Print x."], "inputs": [{"A": 1}], "outputs": [1]}
    (tmp_path / "mtpb.jsonl").write_text(json.dumps(row) + "\n")
    row = {
        "task_id": "HumanEval/0",
        "prompt": 'def f(x):\n    """Double.\n\n    >>> f(2)\n    4\n    """\n',
        "entry_point": "f",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(f):\n    assert f(3) == 6\n",
    }
    (tmp_path / "HumanEval.jsonl").write_text(json.dumps(row) + "\n")
    mtpb, human_eval = read_problems(tmp_path)
    assert [step.request for step in mtpb.steps] == ["Set x to 1.", "Print x."]
    assert mtpb.steps[1].examples == (Example("", "", "1"),)
    assert mtpb.steps[1].examples[0].text == "this step → 1"
    assert human_eval.steps[0].examples == (Example("", "f(2)", "4"),)
    assert human_eval.steps[0].check.endswith("check(f)")


def test_the_published_problems_are_read(data: Path) -> None:
    assert len(read_problems(data)) == 115 + 164


@pytest.mark.parametrize("content", [b"{", b"[1]\n", b"\xff\xfe", b"\x1f\x8bx", b'{"id": 1}\n', b""])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "mtpb.jsonl").write_bytes(content)
    with pytest.raises(ProblemError):
        read_problems(tmp_path)
    with pytest.raises(ProblemError):
        read_problems(tmp_path / "nothing")
