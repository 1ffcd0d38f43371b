"""Sessions as notebooks."""

from __future__ import annotations

import json

import pytest

from codegen_lsp.synthesis.dialogue import parse
from codegen_lsp.synthesis.notebook import notebook_of
from codegen_lsp.synthesis.running import TurnResult

TEXT = """\
import math

# Set x. <script>alert(1)</script>
x = 1
#> 1

# Draw it.
draw(x)

# Fail.
1 / 0

# Do nothing.
"""
RESULTS = {
    1: TurnResult("drawn\n", "'a'", "", {"turn-2-figure-1.png": b"\x89PNG", "turn-2.csv": b"a"}),
    2: TurnResult(error="ZeroDivisionError: division by zero (line 1)"),
}


def test_cells_are_the_steps_with_their_code_and_outputs() -> None:
    cells = notebook_of(parse(TEXT), RESULTS)["cells"]
    assert [cell["source"] for cell in cells] == [
        *("import math", "Set x. <script>alert(1)</script>", "x = 1"),
        *("Draw it.", "draw(x)", "Fail.", "1 / 0", "Do nothing.", ""),
    ]
    assert cells[2]["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "1\n"}]
    kinds = [output["output_type"] for output in cells[4]["outputs"]]
    assert kinds == ["stream", "display_data", "execute_result"]
    assert cells[4]["outputs"][1]["data"]["image/png"] == "iVBORw=="
    assert cells[6]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert cells[8]["execution_count"] is None


@pytest.mark.parametrize("text", [TEXT, "", "x = 1\n", "# Ask.\n"])
def test_notebooks_are_valid(text: str) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    notebook = nbformat.reads(json.dumps(notebook_of(parse(text), RESULTS)), as_version=4)
    nbformat.validate(notebook)
