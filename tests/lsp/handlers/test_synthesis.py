"""Programs in several turns over the protocol, with a scripted model and the real sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from codegen_lsp.inference.rpc.messages import GenerateParams
from tests.lsp.conftest import URI, Editor

TEXT = "# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x.\nsum(x)\n"
ANSWERS = {"Sum x.": ["sum(x)"], "Double it. `x = [1]` → `[1, 1]`": ["x + 1", "x * 2"], "Set x to [5].": ["x = [5]"]}
DOCUMENT = {"textDocument": {"uri": URI}}


pytestmark = pytest.mark.usefixtures("sandbox")


def answer(params: GenerateParams) -> list[str]:
    return ANSWERS[params.prefix.rstrip("\n").rpartition("\n\n")[2].removeprefix("# ").replace("\n# ", "\n")]


def applied(text: str, edits: list[dict[str, Any]]) -> str:
    """The text with edits, whose columns are those of ASCII."""
    lines = text.split("\n")
    starts = [sum(len(line) + 1 for line in lines[:number]) for number in range(len(lines))]

    def offset(position: dict[str, int]) -> int:
        return starts[position["line"]] + position["character"]

    for edit in sorted(edits, key=lambda one: offset(one["range"]["start"]), reverse=True):
        start, end = offset(edit["range"]["start"]), offset(edit["range"]["end"])
        text = text[:start] + edit["newText"] + text[end:]
    return text


async def test_turns_are_listed_with_their_lines(ready: Editor) -> None:
    ready.open(TEXT)
    found = await ready.request("codegen-lsp/synthesis/turns", DOCUMENT)
    assert [turn["request"] for turn in found["turns"]] == ["Set x to [1, 2].", "Sum x."]
    assert [turn["range"]["start"]["line"] for turn in found["turns"]] == [0, 3]
    assert found["turns"][1]["code"] == "sum(x)"


async def test_a_turn_is_proposed_at_the_end(ready: Editor) -> None:
    ready.model.answer = answer
    ready.open(TEXT)
    params = {**DOCUMENT, "request": "Double it. `x = [1]` → `[1, 1]`"}
    found = await ready.request("codegen-lsp/synthesis/propose", params)
    assert [one["kind"] for one in found["proposals"]] == ["right", "failed"]
    assert found["questions"] == []
    assert found["version"] == 1
    text = applied(TEXT, found["proposals"][0]["edits"])
    assert text == TEXT + "\n# Double it. `x = [1]` → `[1, 1]`\nx * 2\n#> [1, 2, 1, 2]\n"


async def test_later_turns_are_written_anew(ready: Editor) -> None:
    ready.model.answer = answer
    ready.open(TEXT)
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Set x to [5].", "turn": 0})
    assert applied(TEXT, found["proposals"][0]["edits"]) == "# Set x to [5].\nx = [5]\n\n# Sum x.\nsum(x)\n#> 5\n"
    params = {**DOCUMENT, "request": "Set x to [5].", "turn": 1, "insert": True}
    found = await ready.request("codegen-lsp/synthesis/propose", params)
    assert applied(TEXT, found["proposals"][0]["edits"]).endswith("x = [5]\n\n# Sum x.\nsum(x)\n#> 5\n")


async def test_what_a_request_leaves_open_is_asked(ready: Editor) -> None:
    ready.model.answer = lambda params: ["1"]
    ready.open(TEXT)
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Return the sum of `y`."})
    assert [(one["kind"], one["name"]) for one in found["questions"]] == [("undefined", "y"), ("example", "")]


async def test_a_program_is_run_and_states_what_it_did(ready: Editor) -> None:
    ready.open(TEXT + "\n# Fail.\n1 / 0\n")
    found = await ready.request("codegen-lsp/synthesis/run", DOCUMENT)
    assert found["kind"] == "failed"
    text = applied(TEXT + "\n# Fail.\n1 / 0\n", found["edits"])
    assert text == TEXT + "#> 3\n\n# Fail.\n1 / 0\n#> ZeroDivisionError: division by zero (line 1)\n"


async def test_line_ends_stay_as_they_are(ready: Editor) -> None:
    text = TEXT.replace("\n", "\r\n")
    ready.open(text)
    found = await ready.request("codegen-lsp/synthesis/run", DOCUMENT)
    assert [edit["newText"] for edit in found["edits"]] == ["#> 3\r\n"]


async def refusal(editor: Editor, method: str, params: dict[str, Any]) -> str:
    answered = await editor.answer(editor.begin(f"codegen-lsp/synthesis/{method}", params))
    return str(answered["error"]["message"])


async def test_what_can_not_be_a_session_is_refused(ready: Editor) -> None:
    assert "not open" in await refusal(ready, "run", DOCUMENT)
    ready.open("x", language="rust")
    assert "Python file" in await refusal(ready, "turns", DOCUMENT)
    other = "file:///project/.env.py"
    ready.open("", uri=other)
    for params in ({"request": "x", "turn": 3}, {"request": "x", "turn": -1}, {"request": 7}, {}):
        assert await refusal(ready, "propose", {"textDocument": {"uri": other}, **params})
