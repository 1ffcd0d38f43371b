"""Programs in several turns over the protocol, with a scripted model and the real sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.sandbox.sandbox import SandboxError
from codegen_lsp.synthesis.running import TurnRunner
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


async def test_the_lines_of_other_turns_are_kept(ready: Editor) -> None:
    """A file that was written by hand is not laid out anew."""
    ready.model.answer = answer
    text = "import os\n\n\n# Set x to [1, 2].\n\nx = [1, 2]\n\n\n# Sum x.\nsum(x)\n#> 4\n\n\n\n# Last.\n1\n"
    ready.open(text)
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Set x to [5]."})
    assert applied(text, found["proposals"][0]["edits"]) == text + "\n# Set x to [5].\nx = [5]\n"
    found = await ready.request("codegen-lsp/synthesis/run", DOCUMENT)
    assert applied(text, found["edits"]) == text.replace("#> 4", "#> 3") + "#> 1\n"


async def test_another_candidate_of_an_earlier_turn_is_taken_by_its_code(ready: Editor) -> None:
    """Only for the first candidate were the later turns written anew; the others have no edits."""
    ready.model.answer = lambda params: ["x = [5]", "x = [6]"] if "Five" in params.prefix[-10:] else ["sum(x)"]
    ready.open(TEXT)
    params = {**DOCUMENT, "request": "Five.", "turn": 0}
    first, second = (await ready.request("codegen-lsp/synthesis/propose", params))["proposals"]
    assert (first["code"], second["code"]) == ("x = [5]", "x = [6]")
    assert applied(TEXT, first["edits"]) == "# Five.\nx = [5]\n\n# Sum x.\nsum(x)\n#> 5\n"
    assert second["edits"] is None
    asked = len(ready.model.generated)
    (taken,) = (await ready.request("codegen-lsp/synthesis/propose", {**params, "code": second["code"]}))["proposals"]
    assert applied(TEXT, taken["edits"]) == "# Five.\nx = [6]\n\n# Sum x.\nsum(x)\n#> 6\n"
    assert all("Sum x." in params.prefix for params in ready.model.generated[asked:])
    (last,) = (await ready.request("codegen-lsp/synthesis/propose", {**params, "turn": 1, "code": "x"}))["proposals"]
    assert applied(TEXT, last["edits"]) == "# Set x to [1, 2].\nx = [1, 2]\n\n# Five.\nx\n#> [1, 2]\n"


async def test_later_turns_stay_when_asked(ready: Editor) -> None:
    """As in a file that was written by hand: only what they did is no longer known."""
    ready.model.answer = answer
    text = TEXT + "#> 3\n"
    ready.open(text)
    params = {**DOCUMENT, "request": "Set x to [5].", "turn": 0, "rewriteLater": False}
    found = await ready.request("codegen-lsp/synthesis/propose", params)
    assert applied(text, found["proposals"][0]["edits"]) == "# Set x to [5].\nx = [5]\n\n# Sum x.\nsum(x)\n"
    found = await ready.request("codegen-lsp/synthesis/propose", {**params, "turn": 1, "insert": True})
    assert applied(text, found["proposals"][0]["edits"]) == (
        "# Set x to [1, 2].\nx = [1, 2]\n\n# Set x to [5].\nx = [5]\n\n# Sum x.\nsum(x)\n"
    )
    assert all("Set x to [5]" in params.prefix[-20:] for params in ready.model.generated)


async def test_an_earlier_turn_is_retried_with_other_candidates(ready: Editor) -> None:
    ready.model.answer = lambda params: ["x = [8]"] if params.seed == 7 else ["sum(x)"]
    ready.open(TEXT)
    params = {**DOCUMENT, "request": "Set x to [1, 2].", "turn": 0, "seed": 7}
    found = await ready.request("codegen-lsp/synthesis/propose", params)
    assert applied(TEXT, found["proposals"][0]["edits"]).startswith("# Set x to [1, 2].\nx = [8]\n\n# Sum x.")


async def test_the_users_code_is_marked_and_run_when_asked(ready: Editor) -> None:
    text = TEXT + "#> 3\n"
    ready.open(text)
    edited = {**DOCUMENT, "turn": 0, "code": "x = [4]\n"}
    found = await ready.request("codegen-lsp/synthesis/edit", edited)
    beginning = "# Set x to [1, 2].\nx = [4]\n#: edited\n\n# Sum x.\nsum(x)\n"
    assert (applied(text, found["edits"]), found["turns"]) == (beginning, [])
    found = await ready.request("codegen-lsp/synthesis/edit", {**edited, "run": True})
    assert applied(text, found["edits"]) == beginning + "#> 4\n"
    assert [one["value"] for one in found["turns"]] == ["", "4"]


async def test_a_turn_is_removed_with_what_depends_on_it(ready: Editor) -> None:
    """The outputs of the turns below it are no longer known."""
    text = TEXT + "#> 3\n"
    ready.open(text)
    found = await ready.request("codegen-lsp/synthesis/edit", {**DOCUMENT, "turn": 0})
    assert applied(text, found["edits"]) == "# Sum x.\nsum(x)\n"
    found = await ready.request("codegen-lsp/synthesis/edit", {**DOCUMENT, "turn": 0, "run": True})
    assert applied(text, found["edits"]).startswith("# Sum x.\nsum(x)\n#> NameError")
    assert found["turns"][0]["explanation"] == "nothing up to here defines x (line 1)"
    assert (await ready.request("codegen-lsp/synthesis/run", DOCUMENT))["turns"][1]["explanation"] == ""


async def test_a_client_can_have_the_questions_first(ready: Editor) -> None:
    ready.model.answer = lambda params: ["1"]
    ready.open(TEXT)
    open_request = {**DOCUMENT, "request": "Return the sum of `y`.", "askFirst": True}
    found = await ready.request("codegen-lsp/synthesis/propose", open_request)
    assert [(one["kind"], one["name"]) for one in found["questions"]] == [("undefined", "y"), ("example", "")]
    assert (found["proposals"], ready.model.generated) == ([], [])
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Show x.", "askFirst": True})
    assert len(found["proposals"]) == 1


async def test_code_that_the_user_typed_is_theirs(ready: Editor) -> None:
    """It is marked by a run, and not written anew when an earlier turn changes."""
    ready.model.answer = answer
    ready.open(TEXT)
    await ready.request("codegen-lsp/synthesis/turns", DOCUMENT)
    typed = TEXT.replace("sum(x)", "sum(x) + 1")
    ready.change(2, {"text": typed})
    found = await ready.request("codegen-lsp/synthesis/turns", DOCUMENT)
    assert [turn["edited"] for turn in found["turns"]] == [False, True]
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Set x to [5].", "turn": 0})
    changed = "# Set x to [5].\nx = [5]\n\n# Sum x.\nsum(x) + 1\n#> 6\n#: edited\n"
    assert applied(typed, found["proposals"][0]["edits"]) == changed
    found = await ready.request("codegen-lsp/synthesis/run", DOCUMENT)
    assert applied(typed, found["edits"]) == TEXT.replace("sum(x)", "sum(x) + 1\n#> 4\n#: edited")
    ready.change(3, {"text": TEXT})
    found = await ready.request("codegen-lsp/synthesis/turns", DOCUMENT)
    assert [turn["edited"] for turn in found["turns"]] == [False, False]


async def test_code_of_the_model_is_not_the_users(ready: Editor) -> None:
    ready.model.answer = lambda params: ["x * 2", "x + x"]
    ready.open(TEXT)
    found = await ready.request("codegen-lsp/synthesis/propose", {**DOCUMENT, "request": "Double it."})
    for version, proposal in enumerate(found["proposals"], start=2):
        ready.change(version, {"text": applied(TEXT, proposal["edits"])})
        (*_, last) = (await ready.request("codegen-lsp/synthesis/turns", DOCUMENT))["turns"]
        assert (last["code"], last["edited"]) == (proposal["code"], False)


async def test_where_nothing_can_be_confined_nothing_runs(ready: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise SandboxError("Programs can't be confined on this system.", "Advice for another command.")

    monkeypatch.setattr(TurnRunner, "run", refuse)
    ready.model.answer = answer
    ready.open(TEXT)
    asked = (("run", {}), ("propose", {"request": "Sum x."}), ("edit", {"turn": 0, "code": "1", "run": True}))
    for method, params in asked:
        said = await refusal(ready, method, {**DOCUMENT, **params})
        assert said.startswith("Programs can't be confined on this system. Use Linux")


async def test_a_stopped_program_is_explained(ready: Editor) -> None:
    ready.open("# Write.\nopen('/etc/x', 'w')\n")
    found = await ready.request("codegen-lsp/synthesis/run", DOCUMENT)
    assert found["turns"][0]["explanation"].startswith("it tried to write outside its own folder")
    assert found["reason"].startswith("it tried to write outside its own folder")


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


async def test_tables_and_verdicts_of_all_turns_are_reported(ready: Editor) -> None:
    rows = "# Rows.\n[{'a': 1, 'b': 2}]\n\n"
    file = "# Save. `x = 2` → `5`\nopen('turn-2-x.csv', 'w').write('a,b\\n1,2\\n') * 0 + 4\n"
    ready.open(rows + file)
    first, second = (await ready.request("codegen-lsp/synthesis/run", DOCUMENT))["turns"]
    assert first["tables"] == [{"name": "", "heads": ["a", "b"], "rows": [["1", "2"]], "dropped": 0}]
    assert (first["kind"], first["reason"]) == ("ran", "")
    assert second["tables"] == [{"name": "turn-2-x.csv", "heads": ["a", "b"], "rows": [["1", "2"]], "dropped": 0}]
    assert [one["name"] for one in second["files"]] == ["turn-2-x.csv"]
    assert (second["kind"], second["reason"]) == ("contradicts", "x = 2 → 5, but it gives 4")


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
    for edited in ({"turn": 0}, {"turn": -1}, {"turn": 0, "code": 7}, {}):
        assert await refusal(ready, "edit", {"textDocument": {"uri": other}, **edited})
