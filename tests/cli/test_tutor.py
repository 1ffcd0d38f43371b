"""The tutor in the terminal, with lines from standard input."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from attrs import evolve
from rich.console import Console

from codegen_lsp.cli.tutor_screen import TutorScreen
from codegen_lsp.synthesis.running import LIMITS, TurnRunner
from codegen_lsp.synthesis.synthesizer import Synthesizer
from tests.synthesis.conftest import ScriptedTurns

PROBLEM = """import math

# Set x to 2.
x = 2

# Double it as `y`. `x = 3` → `6`

# Print `y`.
print(y)
"""


async def learn(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *lines: str,
    text: str = PROBLEM,
    number: int | None = None,
    width: int = 100,
) -> str:
    (folder / "problem.py").write_text(text)
    (folder / "second.py").write_text("# Print 1. `a = 0` → `1`\n1\n")
    model = ScriptedTurns(lambda params: ["y = 2 * x"])
    synthesizer = Synthesizer(model, TurnRunner(evolve(LIMITS, seconds=3.0)))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    printed = io.StringIO()
    await TutorScreen(Console(file=printed, width=width), synthesizer, folder).run(number)
    return printed.getvalue()


@pytest.mark.usefixtures("sandbox")
async def test_a_problem_is_solved_with_hints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    printed = await learn(
        monkeypatch,
        tmp_path,
        *(
            "x = 2",
            "",
            "y = x + 1",
            "",
            "/hint",
            "/hint",
            "y = x * 2",
            "",
            "print(y)",
            "",
            "more",
            "",
            f"/save {tmp_path / 'out'}",
        ),
    )
    assert "1. Set x to 2." in printed
    assert "Not yet: x = 3 → 6, but it gives 4" in printed
    lines = [line.rstrip() for line in printed.split("\n")]
    assert lines.index("y") < lines.index("y =")
    assert "Right." in printed
    assert "yours" in printed
    assert "a solution" in printed
    assert "y = 2 * x" in printed
    assert "Solved." in printed
    assert "y = x * 2" in (tmp_path / "out").read_text()


@pytest.mark.usefixtures("sandbox")
async def test_steps_are_skipped_and_other_problems_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    printed = await learn(
        monkeypatch, tmp_path, *("/skip", "/next 2", "while True: pass", "", "/next 9", "/what", "/quit", "/help")
    )
    assert "x = 2" in printed
    assert "second, 1 step\n" in printed
    assert "ran for more than 3 s" in printed
    assert "no problem 9" in printed
    assert "/what is not possible" in printed
    assert "Alt-Enter" not in printed


@pytest.mark.usefixtures("sandbox")
async def test_both_programs_stand_side_by_side_where_they_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = f"# Make a list, as {'long ' * 12}as this line.\nx = [1]\n"
    rows = (await learn(monkeypatch, tmp_path, "x = [2 - 1]", "", text=text)).split("\n")
    assert [row for row in rows if "x = [2 - 1]" in row and "x = [1]" in row]
    rows = (await learn(monkeypatch, tmp_path, "x = [2 - 1]", "", text=text, width=50)).split("\n")
    assert [row for row in rows if "x = [2 - 1]" in row and "x = [1]" not in row]


@pytest.mark.usefixtures("sandbox")
async def test_a_problems_own_tests_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import json

    row = {
        "task_id": "HumanEval/0",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(f):\n    assert f(3) == 6, 'f(3)'\n",
    }
    (tmp_path / "HumanEval.jsonl").write_text(json.dumps(row) + "\n")
    written = ("/hint", "/hint", "def f(x):", "    return x", "", "def f(x): return 2 * x", "")
    printed = await learn(monkeypatch, tmp_path, *written, number=3)
    lines = [line.rstrip() for line in printed.split("\n")]
    first, second = lines.index("    return"), lines.index("    return 2")
    assert lines[first - 1] == lines[second - 1] == "def f(x):"
    assert "Not yet: The tests of the problem fail: AssertionError: f(3)" in printed
    assert "Solved." in printed
