"""What each turn did."""

from __future__ import annotations

import pytest

from codegen_lsp.synthesis.dialogue import parse
from codegen_lsp.synthesis.running import TurnRunner
from codegen_lsp.synthesis.turn_reports import report_turns, with_outputs

pytestmark = pytest.mark.usefixtures("sandbox")

TEXT = """\
# Set x.
x = [1, 2]

# Sum x. `x = [1, 2]` → `4`
sum(x)

# Print it.
print(x)
"""


async def test_each_turn_is_reported_and_judged_by_its_own_examples() -> None:
    dialogue = parse(TEXT)
    reports = await report_turns(TurnRunner(), dialogue)
    assert [report.kind for report in reports] == ["ran", "contradicts", "ran"]
    assert reports[1].reason == "x = [1, 2] → 4, but it gives 3"
    assert [turn.output for turn in with_outputs(dialogue, reports).turns] == ["", "3", "[1, 2]"]
    later = await report_turns(TurnRunner(), dialogue, 2)
    assert [report.result.output for report in later] == ["[1, 2]\n"]
    assert with_outputs(dialogue, later, 2).turns[2].output == "[1, 2]"
    assert with_outputs(dialogue, later, 2).turns[1].output == ""
    assert await report_turns(TurnRunner(), dialogue, 3) == []


async def test_turns_below_one_that_fails_say_why_they_did_not_run() -> None:
    reports = await report_turns(TurnRunner(), parse("# One.\n1\n\n# Two.\n1 / 0\n\n# Three.\n3\n"))
    assert [report.kind for report in reports] == ["ran", "failed", "failed"]
    assert reports[1].reason == "ZeroDivisionError: division by zero (line 1)"
    assert reports[2].result.error == "turn 2: ZeroDivisionError: division by zero (line 1)"
