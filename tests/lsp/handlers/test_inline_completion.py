"""Inline completion as editors see it: which text on which range, how many, and what becomes of older requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from attrs import evolve

from codegen_lsp.completion.snapshot import Trigger
from codegen_lsp.errors import SupersededError, WorkerError
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.lsp.serve import serve_messages
from codegen_lsp.settings import Settings
from codegen_lsp.suggest import inflight
from codegen_lsp.suggest.options import options_for
from tests.lsp.conftest import URI, Editor, text_of
from tests.played_model import describe
from tests.suggest.conftest import HOUR

CODE = "def add(a, b):\n    retu"


def span(line: int, start: int, end: int) -> dict[str, Any]:
    return {"start": {"line": line, "character": start}, "end": {"line": line, "character": end}}


async def test_an_item_replaces_the_line_up_to_the_cursor_and_begins_with_it(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    ready.open(CODE)
    (item,) = await ready.complete(1, 8)
    assert item["insertText"] == "    return a + b"
    assert item["range"] == span(1, 0, 8)
    assert item["command"]["command"] == "codegen-lsp.accepted"
    assert ready.model.generated[0].prefix == CODE
    assert ready.model.generated[0].document == URI


async def test_automatic_gets_one_item_and_invoked_gets_several_different_ones(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b", "rn a - b", "rn a + b", "rn b"][: params.candidates + 1]
    ready.open(CODE)
    assert len(await ready.complete(1, 8)) == 1
    assert ready.model.generated[-1].candidates == 1
    items = text_of(await ready.complete(1, 8, invoked=True))
    assert ready.model.generated[-1].candidates == 3
    assert items == ["    return a + b", "    return a - b", "    return b"]


async def test_candidates_is_a_setting(editor: Editor) -> None:
    await editor.initialize(options={"candidates": 2})
    editor.model.answer = lambda params: ["rn 1", "rn 2", "rn 3"]
    editor.open(CODE)
    assert len(await editor.complete(1, 8, invoked=True)) == 2


async def test_nothing_is_an_empty_list_and_never_null(ready: Editor) -> None:
    ready.open(CODE)
    assert await ready.request(
        "textDocument/inlineCompletion",
        {"textDocument": {"uri": URI}, "position": {"line": 1, "character": 8}, "context": {"triggerKind": 2}},
    ) == {"items": []}


async def test_carriage_returns_never_come_out(ready: Editor) -> None:
    ready.model.answer = lambda params: ["\r\n    a = 1\r\n    return a"]
    ready.open("x = 0\r\n\r\ndef f():\r\ny = 1\r\n")
    (item,) = await ready.complete(2, 8)
    assert "\r" not in item["insertText"]
    assert "\n" in item["insertText"]
    assert "\r" not in ready.model.generated[0].prefix


@pytest.mark.parametrize(("encoding", "column"), [(None, 12), ("utf-16", 12), ("utf-8", 14), ("utf-32", 11)])
async def test_columns_are_those_agreed_on(editor: Editor, encoding: str | None, column: int) -> None:
    capabilities = {"general": {"positionEncodings": [encoding]}} if encoding else {}
    result = await editor.initialize(capabilities)
    assert result["capabilities"]["positionEncoding"] == (encoding or "utf-16")
    editor.model.answer = lambda params: ["* 2"]
    editor.open("# 😀\nface = '😀' +")
    (item,) = await editor.complete(1, column, invoked=True)
    assert item["range"] == span(1, 0, column)
    assert item["insertText"] == "face = '😀' * 2"
    assert editor.model.generated[0].prefix.endswith("face = '😀' ")


async def test_closers_that_the_editor_typed_are_replaced(ready: Editor) -> None:
    ready.model.answer = lambda params: ["'hello')"]
    ready.open("print()")
    (item,) = await ready.complete(0, 6)
    assert item["insertText"] == "print('hello')"
    assert item["range"] == span(0, 0, 7)


async def test_the_entry_selected_in_the_editors_own_list_is_continued(ready: Editor) -> None:
    ready.model.answer = lambda params: ["('a', 'b')"]
    ready.open("import os\nos.path.jo")
    selected = {"range": span(1, 8, 10), "text": "join"}
    (item,) = await ready.complete(1, 10, selected=selected)
    assert ready.model.generated[0].prefix == "import os\nos.path.join"
    assert item["range"] == span(1, 8, 10)
    assert item["insertText"] == "join('a', 'b')"


async def test_typing_through_a_suggestion_does_not_ask_the_model(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    ready.open(CODE)
    await ready.complete(1, 8)
    for at, character in enumerate("rn a"):
        ready.type(at + 2, 1, 8 + at, character)
        (item,) = await ready.complete(1, 9 + at)
        assert item["insertText"] == "    return a + b"
        assert item["range"] == span(1, 0, 9 + at)
        assert (await ready.explain())["source"] == "cache"
    assert len([params for params in ready.model.generated if not params.background]) == 1


async def test_a_newer_request_of_a_document_ends_the_older(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.model.gate.clear()
    ready.open(CODE)
    first = ready.begin_completion(1, 8)
    await ready.settle()
    second = ready.begin_completion(1, 8, invoked=True)
    assert (await ready.answer(first))["result"] == {"items": []}
    assert [params.candidates for params in ready.model.cancelled] == [1]
    ready.model.gate.set()
    assert len((await ready.answer(second))["result"]["items"]) == 1


async def test_a_newer_request_answered_from_the_cache_ends_the_older_too(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    await ready.complete(1, 8)
    ready.model.gate.clear()
    first = ready.begin_completion(0, 14, invoked=True)
    await ready.settle()
    assert len(await ready.complete(1, 8)) == 1
    assert (await ready.answer(first))["result"] == {"items": []}
    await ready.until(lambda: len(ready.model.cancelled) == 1)


async def test_requests_of_different_documents_run_side_by_side(ready: Editor) -> None:
    other = "file:///project/other.py"
    ready.model.answer = lambda params: ["rn a"]
    ready.model.gate.clear()
    ready.open(CODE)
    ready.open(CODE, uri=other)
    first, second = ready.begin_completion(1, 8), ready.begin_completion(1, 8, uri=other)
    await ready.settle()
    ready.model.gate.set()
    assert len((await ready.answer(first))["result"]["items"]) == 1
    assert len((await ready.answer(second))["result"]["items"]) == 1
    assert ready.model.cancelled == []


async def test_cancelling_is_answered_as_cancelled_while_the_generation_goes_on(
    ready: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is cancelled later (`test_inflight`)."""
    monkeypatch.setattr(inflight, "GRACE", HOUR)
    ready.model.gate.clear()
    ready.open(CODE)
    number = ready.begin_completion(1, 8)
    await ready.settle()
    ready.notify("$/cancelRequest", {"id": number})
    assert (await ready.answer(number))["error"]["code"] == -32800
    assert ready.model.cancelled == []  # what is typed next may be what is being written
    assert (await ready.explain())["rule"] == "cancelled"


async def test_cancelling_before_the_handler_ran_and_after_it_ended(ready: Editor) -> None:
    ready.open(CODE)
    number = ready.begin_completion(1, 8)
    ready.notify("$/cancelRequest", {"id": number})
    assert (await ready.answer(number))["error"]["code"] == -32800
    ready.notify("$/cancelRequest", {"id": number})
    assert await ready.complete(1, 8) == []


async def test_an_answer_about_text_that_is_gone_is_not_given(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.model.gate.clear()
    ready.open(CODE)
    number = ready.begin_completion(1, 8)
    await ready.settle()
    ready.type(2, 0, 0, "# ")
    ready.model.gate.set()
    assert (await ready.answer(number))["result"] == {"items": []}
    assert (await ready.explain())["rule"] == "document_changed"


async def test_closing_a_document_ends_its_request(ready: Editor) -> None:
    ready.model.gate.clear()
    ready.open(CODE)
    number = ready.begin_completion(1, 8)
    await ready.settle()
    ready.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    assert (await ready.answer(number))["result"] == {"items": []}
    assert len(ready.model.cancelled) == 1
    assert len(ready.server.session.documents) == 0
    assert (await ready.explain(URI))["rule"] is None


async def test_a_document_that_is_not_open(ready: Editor) -> None:
    assert await ready.complete(0, 0, uri="file:///nowhere.py") == []
    assert ready.model.generated == []


async def test_a_position_that_is_not_there_is_the_nearest_that_is(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    (item,) = await ready.complete(99, 99)
    assert item["range"] == span(1, 0, 8)


@pytest.mark.parametrize(
    ("error", "rule"),
    [(WorkerError("The worker died.", "See the log."), "no_model"), (SupersededError(), "superseded")],
)
async def test_a_failing_worker_is_an_empty_list(ready: Editor, error: Exception, rule: str) -> None:
    ready.model.generate_error = error
    ready.open(CODE)
    assert await ready.complete(1, 8) == []
    explanation = await ready.explain()
    assert explanation["rule"] == rule
    assert str(error) in explanation["reason"]


async def test_a_request_waits_for_the_model_that_is_loading(editor: Editor) -> None:
    editor.model.loading.clear()
    editor.model.answer = lambda params: ["rn a"]
    await editor.initialize()
    editor.open(CODE)
    number = editor.begin_completion(1, 8)
    await editor.settle()
    assert editor.model.generated == []
    editor.model.loading.set()
    assert len((await editor.answer(number))["result"]["items"]) == 1


async def test_a_request_does_not_wait_for_ever(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen_lsp.lsp.models.MODEL_TIMEOUT", 0.01)
    editor.model.loading.clear()
    await editor.initialize()
    editor.open(CODE)
    assert await editor.complete(1, 8) == []
    assert (await editor.explain())["rule"] == "no_model"
    editor.model.loading.set()


@pytest.mark.parametrize(
    ("options", "uri", "language", "rule"),
    [
        ({}, "file:///project/.env", "python", "secret_file"),
        ({}, "file:///home/me/.ssh/id_rsa.py", "python", "secret_file"),
        ({}, "file:///project/.git/COMMIT_EDITMSG", "gitcommit", "commit_message"),
        ({}, "file:///project/main.rs", "rust", "language"),
        ({"languages": {"python": False}}, URI, "python", "language"),
        ({"languages": {"*": True, "rust": False}}, "file:///project/main.rs", "rust", "language"),
        ({"exclude": ["main.py"]}, URI, "python", "excluded"),
        ({"exclude": ["/project/**"]}, URI, "python", "excluded"),
        ({"enabled": False}, URI, "python", "off"),
    ],
)
async def test_where_nothing_is_suggested(editor: Editor, options: Any, uri: str, language: str, rule: str) -> None:
    await editor.initialize(options=options)
    editor.model.answer = lambda params: ["rn a"]
    editor.open(CODE, uri=uri, language=language)
    assert await editor.complete(1, 8, uri=uri, invoked=True) == []
    assert (await editor.explain(uri))["rule"] == rule
    assert editor.model.generated == []
    await asyncio.sleep(0)
    assert editor.model.warmed == []


@pytest.mark.parametrize("languages", [{"rust": True}, {"*": True}, {"*": True, "go": False}])
async def test_a_language_switched_on(editor: Editor, languages: dict[str, bool]) -> None:
    await editor.initialize(options={"languages": languages})
    editor.model.answer = lambda params: ["let a = 1;"]
    editor.open("fn main() {\n    \n}\n", uri="file:///main.rs", language="rust")
    assert len(await editor.complete(1, 4, uri="file:///main.rs")) == 1


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, (10, 160)),
        ({"max_lines": 4, "max_tokens": 50}, (4, 50)),
        ({"multi_line": "never", "line_tokens": 20}, (1, 20)),
    ],
)
async def test_limits_are_settings(editor: Editor, options: Any, limits: tuple[int, int]) -> None:
    await editor.initialize(options=options)
    editor.open("def add(a, b):\n    ")
    await editor.complete(1, 4)
    stop = editor.model.generated[0].stop
    assert (stop.max_lines, stop.max_tokens) == limits


async def test_how_the_model_chooses_is_a_setting(editor: Editor) -> None:
    await editor.initialize(options={"temperature": 0.5, "top_p": 0.8, "prompt": {"prefix_characters": 100}})
    editor.open("value = 1\n" * 100 + "valu")
    await editor.complete(100, 4)
    params: GenerateParams = editor.model.generated[0]
    assert (params.temperature, params.top_p) == (0.5, 0.8)
    assert len(params.prefix) <= 100


async def test_text_after_the_cursor_goes_to_models_that_infill(editor: Editor) -> None:
    await editor.initialize(options={"model": "plain"})
    editor.open("a = 1\n\nb = 2\n")
    await editor.complete(1, 0, invoked=True)
    assert editor.model.generated[-1].suffix == ""
    await editor.request("workspace/executeCommand", {"command": "codegen-lsp.switchModel", "arguments": ["infill"]})
    await editor.complete(1, 0, invoked=True)
    assert "b = 2" in editor.model.generated[-1].suffix


@pytest.mark.parametrize(
    ("infilling", "small", "reads"),
    [("auto", True, False), ("auto", False, True), ("on", True, True), ("off", False, False)],
)
def test_small_models_do_not_infill_by_default(infilling: str, small: bool, reads: bool) -> None:
    model = evolve(describe("infill"), small=small)
    assert options_for(Settings(infilling=infilling), "python", model).infill is reads
    assert not options_for(Settings(infilling=infilling), "python", evolve(model, infill=False)).infill


async def test_explain_reports_the_last_request(ready: Editor) -> None:
    before = await ready.explain()
    assert before["message"].startswith("There was no request")
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    await ready.complete(1, 8)
    after = await ready.explain()
    assert after["source"] == "model"
    assert (after["suggestions"], after["shown"], after["trigger"]) == (1, 1, Trigger.AUTOMATIC.value)
    assert after["position"] == {"line": 1, "character": 8}
    assert after["stats"]["promptTokens"] == 100
    assert after["stats"]["cachedTokens"] == 60
    assert "Line 2, column 9: 1 suggestion from the model" in after["message"]
    assert after["document"]["characters"] == len(CODE)
    ready.open("print(value│)".replace("│", ""), uri="file:///b.py")
    await ready.complete(0, 8, uri="file:///b.py")
    refused = await ready.explain()
    assert refused["uri"] == "file:///b.py"
    assert refused["rule"] == "middle_of_word"
    assert "`middle_of_word`" in refused["message"]
    assert (await ready.explain(URI))["source"] == "model"
    assert (await ready.explain("file:///unknown.py"))["rule"] is None


async def test_a_request_is_about_the_text_as_it_was_though_the_next_change_came_with_it(ready: Editor) -> None:
    ready.open("a = ")
    ready.model.answer = lambda params: ["1"]
    params = {"textDocument": {"uri": URI}, "position": {"line": 0, "character": 4}, "context": {"triggerKind": 2}}
    at = {"line": 0, "character": 0}
    change = {"range": {"start": at, "end": at}, "text": "b = 1\n"}
    burst = [
        {"id": 77, "method": "textDocument/inlineCompletion", "params": params},
        {
            "method": "textDocument/didChange",
            "params": {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [change]},
        },
    ]

    async def messages() -> AsyncIterator[bytes]:
        for message in burst:
            yield json.dumps({"jsonrpc": "2.0"} | message).encode()
        await ready.answer(77)

    await serve_messages(ready.server, messages())
    assert [params.prefix for params in ready.model.generated] == ["a = "]


@pytest.mark.slow
async def test_parsing_a_hostile_document_does_not_keep_other_requests_waiting(ready: Editor) -> None:
    text = "/*\n" * 7_000 + "os.pa"
    ready.open(text)
    completion = ready.begin_completion(7_000, 5, invoked=True)
    explain = ready.begin("codegen-lsp/explain", {})
    await ready.answer(completion)
    answers = [message["id"] for message in ready.sent if "method" not in message and "id" in message]
    assert answers.index(explain) < answers.index(completion)
