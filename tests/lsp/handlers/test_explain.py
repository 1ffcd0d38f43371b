"""Each rule that can speak against a suggestion is named by `codegen-lsp/explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

import codegen_lsp
from codegen_lsp.errors import SupersededError, WorkerError
from codegen_lsp.inference.rpc.messages import OriginParams, OriginResult, TextOrigin
from tests.lsp.conftest import URI, Editor
from tests.played_model import PlayedModel

FUNCTION = "def total(items):\n"


@frozen
class Scene:
    """A document with the cursor in it, and what the model answers there."""

    text: str
    answer: str = "1"
    uri: str = URI
    language: str = "python"
    options: dict[str, Any] | None = None
    certainty: float | None = None
    invoked: bool = False


SCENES = {
    "off": Scene("x = │", options={"enabled": False}),
    "secret_file": Scene("x = │", uri="file:///project/.env"),
    "commit_message": Scene("Fix │", uri="file:///project/COMMIT_EDITMSG", language="gitcommit"),
    "language": Scene("let x = │", uri="file:///project/main.rs", language="rust"),
    "excluded": Scene("x = │", options={"exclude": ["main.py"]}),
    "nothing_before": Scene("│"),
    "long_line": Scene("x = [" + "1, " * 400 + "│"),
    "middle_of_word": Scene("x = │value"),
    "middle_of_line": Scene("x = │ + 1"),
    "finished_statement": Scene("if True:│\n    pass"),
    "no_answer": Scene("x = │", answer=""),
    "empty": Scene("x = │", answer="   "),
    "unlikely": Scene("x = │", options={"threshold": 0.5}, certainty=0.1),
    "already_there": Scene("print(1│)", answer=")"),
    "line_is_complete": Scene("x = 1│", answer="\ny = 2"),
    "block_is_complete": Scene(FUNCTION + "    return 1\n    │", answer="\nprint(1)"),
    "repetition": Scene("x = 1\nx = 1\n│", answer="x = 1"),
    "echo_of_line_above": Scene("x = call(1)\n│", answer="x = call(1)"),
    "echo_of_next_line": Scene("y = 2\n│\nx = 1", answer="x = 1"),
    "comment_only": Scene(FUNCTION + "    x = 1\n    │", answer="# TODO"),
    "does_not_parse": Scene(FUNCTION + "    │\n    return 1", answer="else:"),
    "ends_block_below": Scene(FUNCTION + "    x = 1\n│\n    return x", answer="y = 2"),
    "runs_into_word": Scene("x = ite│ms", answer="rable", invoked=True),
    "undefined_name": Scene("x = │", answer="nowhere_defined"),
}

ELSEWHERE = {
    *("superseded", "no_model", "cancelled", "internal_error", "document_changed", "document_unknown"),
    "cell_magic",
}
"""Not about text; shown below, or in the tests of the requests that end so."""


@pytest.mark.parametrize("rule", SCENES)
async def test_it_is_named(editor: Editor, rule: str) -> None:
    scene = SCENES[rule]
    await editor.initialize(options=scene.options)
    editor.model.answer = lambda params: [scene.answer] if scene.answer else []
    editor.model.certainty = scene.certainty
    before = scene.text[: scene.text.index("│")]
    editor.open(scene.text.replace("│", ""), uri=scene.uri, language=scene.language)
    await editor.settle()
    line, column = before.count("\n"), len(before.rpartition("\n")[2])
    assert await editor.complete(line, column, uri=scene.uri, invoked=scene.invoked) == []
    told = await editor.explain(scene.uri)
    assert told["rule"] == rule
    assert f"`{rule}`" in told["message"]
    assert told["reason"].endswith(".")


async def test_a_failure_of_the_server_is_named(ready: Editor) -> None:
    ready.model.generate_error = RuntimeError("no such thing")
    ready.open("x = ")
    assert await ready.complete(0, 4) == []
    assert (await ready.explain())["rule"] == "internal_error"
    ready.model.generate_error = SupersededError()
    assert await ready.complete(0, 4) == []
    assert (await ready.explain())["rule"] == "superseded"


async def test_the_origin_of_a_suggestion_is_named(ready: Editor) -> None:
    ready.model.answer = lambda params: ["1 + 2 + 3 + 4"]
    ready.model.origin_result = OriginResult(TextOrigin("lib/quokka.py", 12, 9))
    ready.open("x = ")
    assert await ready.complete(0, 4)
    told = await ready.explain()
    assert told["origin"] == {"path": "lib/quokka.py", "line": 12, "tokens": 9, "document": False}
    assert "lib/quokka.py:12" in told["message"]
    assert [params.text for params in ready.model.origins_asked] == ["1 + 2 + 3 + 4"]
    await ready.request("codegen-lsp/explain", {"origin": False})
    assert len(ready.model.origins_asked) == 1
    ready.model.answer = lambda params: []
    assert await ready.complete(0, 3) == []
    assert (await ready.explain())["origin"] is None
    assert len(ready.model.origins_asked) == 1


async def test_a_worker_that_is_down_leaves_the_rest_of_the_explanation(
    ready: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead(model: PlayedModel, params: OriginParams) -> OriginResult:
        raise WorkerError("The worker died.")

    monkeypatch.setattr(PlayedModel, "origin", dead)
    ready.model.answer = lambda params: ["1"]
    ready.open("x = ")
    assert await ready.complete(0, 4)
    told = await ready.explain()
    assert told["origin"] is None
    assert "1 suggestion" in told["message"]


def test_no_rule_is_left_out() -> None:
    package = Path(codegen_lsp.__file__).parent
    code = "".join(
        module.read_text("utf-8")
        for folder in ("completion", "suggest", "lsp")
        for module in (package / folder).rglob("*.py")
    )
    named = set(re.findall(r"""(?:Refusal|refused)\(\s*"(\w+)\"""", code))
    assert len(named) > 25
    assert named <= set(SCENES) | ELSEWHERE
    tests = "".join(module.read_text("utf-8") for module in Path(__file__).parents[1].rglob("test_*.py"))
    assert all(f'"{rule}"' in tests for rule in ELSEWHERE)
