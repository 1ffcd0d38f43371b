"""Whatever arrives: each request with an id gets one answer, the server goes on, and the user is shown nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen_lsp.errors import ModelError
from tests.lsp.conftest import URI, Editor

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR, NOT_INITIALIZED, CANCELLED, FAILED = -32603, -32002, -32800, -32803

COMPLETION = "textDocument/inlineCompletion"
GOOD = {
    "textDocument": {"uri": URI},
    "position": {"line": 0, "character": 0},
    "context": {"triggerKind": 2},
}


async def assert_alive(editor: Editor) -> None:
    """The server answers, and nothing was shown."""
    assert (await editor.explain())["status"]["state"] in ("ready", "busy")
    assert editor.notifications("window/showMessage") == []
    assert not any(message.get("method") == "window/showMessageRequest" for message in editor.sent)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"jsonrpc": "2.0", "id": 1, "method": ',
        b"\xff\xfe{}",
        b'{"jsonrpc": "2.0", "method": "\xe9"}',
        b"[" * 200_000,
        b'{"id": ' * 200_000,
    ],
)
async def test_invalid_json_is_answered_without_an_id(ready: Editor, body: bytes) -> None:
    ready.send_raw(body)
    answer = await ready.answer(None)
    assert answer["error"]["code"] == PARSE_ERROR
    await assert_alive(ready)


@pytest.mark.parametrize(
    "message",
    [
        [],
        [{"jsonrpc": "2.0", "id": 7, "method": "shutdown"}],
        5,
        None,
        "shutdown",
        {"jsonrpc": "2.0", "id": None, "method": COMPLETION, "params": GOOD},
        {"jsonrpc": "2.0", "id": {"a": 1}, "method": COMPLETION, "params": GOOD},
        {"jsonrpc": "2.0", "id": True, "method": COMPLETION, "params": GOOD},
    ],
)
async def test_a_message_without_a_usable_id_is_answered_without_one(ready: Editor, message: Any) -> None:
    ready.send_raw(json.dumps(message).encode())
    answer = await ready.answer(None)
    assert answer["error"]["code"] == INVALID_REQUEST
    await assert_alive(ready)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": COMPLETION, "params": GOOD, "jsonrpc": "1.0"}, INVALID_REQUEST),
        ({"method": COMPLETION, "params": GOOD, "jsonrpc": None}, INVALID_REQUEST),
        ({"method": 5}, INVALID_REQUEST),
        ({"method": None}, INVALID_REQUEST),
        ({}, INVALID_REQUEST),
        ({"params": {}}, INVALID_REQUEST),
        ({"method": "textDocument/hover", "params": {}}, METHOD_NOT_FOUND),
        ({"method": "$/nothing"}, METHOD_NOT_FOUND),
        ({"method": ""}, METHOD_NOT_FOUND),
        # a notification's method with an id, and the other way round, are not what they say
        ({"method": "textDocument/didOpen", "params": {}}, METHOD_NOT_FOUND),
        ({"method": "exit"}, METHOD_NOT_FOUND),
        ({"method": "$/cancelRequest", "params": {"id": 1}}, METHOD_NOT_FOUND),
        ({"method": "initialize", "params": {"capabilities": {}}}, INVALID_REQUEST),
    ],
)
async def test_a_request_that_is_none(ready: Editor, message: dict[str, Any], code: int) -> None:
    ready.send({"id": 99} | message)
    answer = await ready.answer(99)
    assert answer["error"]["code"] == code
    await assert_alive(ready)


@pytest.mark.parametrize("number", [0, -5, 2**60, "x", "", "äöü", 1.5])
async def test_ids_come_back_as_they_are(ready: Editor, number: Any) -> None:
    ready.send({"id": number, "method": "nothing"})
    assert (await ready.answer(number))["error"]["code"] == METHOD_NOT_FOUND


@pytest.mark.parametrize(
    "params",
    [
        "missing",
        None,
        5,
        "x",
        [],
        {},
        {"textDocument": {"uri": URI}},
        GOOD | {"position": None},
        GOOD | {"position": {"line": 0}},
        GOOD | {"position": {"line": -1, "character": 0}},
        GOOD | {"position": {"line": "x", "character": 0}},
        GOOD | {"position": {"line": 2**40, "character": 0}},
        GOOD | {"position": {"line": "0", "character": 0}},
        GOOD | {"position": {"line": True, "character": 0}},
        GOOD | {"position": {"line": 0.5, "character": 0}},
        GOOD | {"position": [0, 0]},
        GOOD | {"textDocument": None},
        GOOD | {"textDocument": {"uri": 5}},
        GOOD | {"textDocument": URI},
        GOOD | {"context": None},
        GOOD | {"context": {"triggerKind": 9}},
        GOOD | {"context": {"triggerKind": 2, "selectedCompletionInfo": {"range": 1}}},
    ],
)
async def test_params_that_do_not_fit(ready: Editor, params: Any) -> None:
    ready.open("x = 1\n")
    ready.send({"id": 99, "method": COMPLETION} | ({} if params == "missing" else {"params": params}))
    answer = await ready.answer(99)
    assert answer["error"]["code"] == INVALID_PARAMS
    assert "traceback" not in json.dumps(answer).lower()
    await assert_alive(ready)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("textDocument/didOpen", None),
        ("textDocument/didOpen", {"textDocument": {"uri": URI}}),
        ("textDocument/didOpen", {"textDocument": {"uri": URI, "languageId": "python", "version": "x", "text": 5}}),
        ("textDocument/didChange", {"textDocument": {"uri": URI, "version": 2}, "contentChanges": 5}),
        ("textDocument/didChange", {"textDocument": {"uri": "file:///not/open", "version": 2}, "contentChanges": []}),
        ("textDocument/didClose", {"textDocument": {}}),
        ("textDocument/didClose", {"textDocument": {"uri": "file:///not/open"}}),
        ("workspace/didChangeConfiguration", 5),
        ("$/cancelRequest", {"id": 12345}),
        ("$/cancelRequest", {}),
        ("$/cancelRequest", None),
        *(("$/cancelRequest", {"id": id}) for id in (None, True, [], {}, [1])),
        ("$/setTrace", {"value": "loud"}),
        ("window/workDoneProgress/cancel", {"token": "unknown"}),
        *(("window/workDoneProgress/cancel", {"token": token}) for token in (None, False, [], {}, [1])),
        ("notebookDocument/didOpen", {}),
        ("textDocument/inlineCompletion", GOOD),
        ("shutdown", None),
        ("no/such/thing", {"a": 1}),
    ],
)
async def test_a_notification_that_is_wrong_is_answered_by_nothing(
    ready: Editor, method: str, params: Any, caplog: Any
) -> None:
    before = len(ready.sent)
    ready.notify(method, params)
    await ready.settle()
    assert [message for message in ready.sent[before:] if message.get("method") != "codegen-lsp/status"] == []
    assert [record for record in caplog.records if record.exc_info] == []
    await assert_alive(ready)


async def test_the_word_jsonrpc_inside_of_params_is_just_a_word(ready: Editor) -> None:
    arguments = [{"jsonrpc": "2.0", "id": 5, "method": "shutdown", "suggestion": 1}]
    assert (
        await ready.request("workspace/executeCommand", {"command": "codegen-lsp.accepted", "arguments": arguments})
        is None
    )
    await assert_alive(ready)


@pytest.mark.parametrize(
    "response",
    [
        {"id": 1, "result": None},
        {"id": "nobody", "result": {}},
        {"id": None, "error": {"code": 1, "message": "x"}},
        {"id": [], "result": 1},
        {"id": "nobody", "error": "wrong"},
    ],
)
async def test_a_response_to_nothing_is_ignored(ready: Editor, response: dict[str, Any]) -> None:
    before = len(ready.sent)
    ready.send(response)
    await ready.settle()
    assert ready.sent[before:] == []
    await assert_alive(ready)


async def test_an_id_in_use_is_refused_and_the_first_request_goes_on(editor: Editor) -> None:
    editor.server.protocol.set_writer(editor, include_headers=False)
    await editor.initialize()
    editor.open("x = 1\n")
    editor.model.gate.clear()
    first = editor.begin_completion(0, 5)
    await editor.settle()
    editor.send({"id": first, "method": COMPLETION, "params": GOOD})
    assert (await editor.answer(first))["error"]["code"] == INVALID_REQUEST
    editor.sent = [message for message in editor.sent if message.get("id") != first]
    editor.model.gate.set()
    assert "result" in await editor.answer(first)


async def test_before_initialize_requests_are_refused_and_notifications_dropped(editor: Editor) -> None:
    editor.open("x = 1\n")
    assert (await editor.refusal(COMPLETION, GOOD))["code"] == NOT_INITIALIZED
    assert (await editor.refusal("shutdown"))["code"] == NOT_INITIALIZED
    await editor.initialize()
    assert editor.server.session.documents.get(URI) is None


async def test_after_shutdown_requests_are_refused(ready: Editor) -> None:
    ready.open("x = 1\n")
    ready.model.gate.clear()
    running = ready.begin_completion(0, 5)
    await ready.settle()
    assert await ready.request("shutdown") is None
    assert "error" in await ready.answer(running) or (await ready.answer(running))["result"]["items"] == []
    assert (await ready.refusal(COMPLETION, GOOD))["code"] == INVALID_REQUEST
    assert (await ready.refusal("shutdown"))["code"] == INVALID_REQUEST
    ready.notify("exit")
    assert ready.server.session.exit_code == 0


async def test_exit_without_shutdown_is_a_failure(ready: Editor) -> None:
    ready.notify("exit")
    assert ready.server.session.exit_code == 1


@pytest.mark.parametrize("params", [None, 5, [], {}, {"capabilities": 5}, {"capabilities": None}])
async def test_initialize_without_capabilities_is_refused_and_may_be_repeated(editor: Editor, params: Any) -> None:
    assert (await editor.refusal("initialize", params))["code"] == INVALID_PARAMS
    assert "capabilities" in await editor.initialize()


@pytest.mark.parametrize(
    "capabilities",
    [
        # Lua's empty table
        [],
        {"workspace": []},
        # newer than lsprotocol
        {"textDocument": {"synchronization": {"didSave": "sometimes"}, "inlineCompletion": {}}},
        {"general": {"positionEncodings": ["utf-8"], "regularExpressions": 7}},
        {"workspace": {"workspaceEdit": {"failureHandling": "pray"}, "configuration": True}},
    ],
)
async def test_unknown_parts_of_initialize_do_not_end_completion(editor: Editor, capabilities: Any) -> None:
    params = {"processId": "x", "rootUri": 5, "capabilities": capabilities, "initializationOptions": {"candidates": 2}}
    result = await editor.request("initialize", params)
    assert result["capabilities"]["inlineCompletionProvider"] == {}
    editor.notify("initialized", {})
    await editor.wait_for(lambda message: message.get("params", {}).get("state") == "ready")
    assert editor.server.session.settings.candidates == 2
    if "general" in capabilities:
        assert result["capabilities"]["positionEncoding"] == "utf-8"


async def test_a_bug_in_a_handler_is_answered_without_a_stack_trace(ready: Editor, caplog: Any) -> None:
    ready.server.session.suggestions.accepted = lambda number: 1 / 0  # type: ignore[method-assign,return-value,assignment]
    params = {"command": "codegen-lsp.accepted", "arguments": [{"suggestion": 1}]}
    error = await ready.refusal("workspace/executeCommand", params)
    assert error["code"] == INTERNAL_ERROR
    assert "division" not in json.dumps(error)
    assert "ZeroDivisionError" in caplog.text
    await assert_alive(ready)


async def test_a_bug_in_completion_is_an_empty_list_since_an_error_would_be_shown(ready: Editor, caplog: Any) -> None:
    ready.open("x = 1\n")
    ready.model.generate_error = RuntimeError("bug")
    assert await ready.complete(0, 5) == []
    assert (await ready.explain())["rule"] == "internal_error"
    assert "RuntimeError: bug" in caplog.text
    await assert_alive(ready)


async def test_a_bug_in_a_notification_is_logged(ready: Editor, caplog: Any) -> None:
    ready.server.session.documents.pop = lambda uri: 1 / 0  # type: ignore[method-assign,return-value,assignment]
    ready.notify("textDocument/didClose", {"textDocument": {"uri": URI}})
    await ready.settle()
    assert "ZeroDivisionError" in caplog.text
    await assert_alive(ready)


async def test_an_expected_failure_of_a_command_says_what_to_do(ready: Editor) -> None:
    ready.model.broken["other"] = ModelError("It is damaged.", "Pull it again.")
    params = {"command": "codegen-lsp.switchModel", "arguments": ["other"]}
    error = await ready.refusal("workspace/executeCommand", params)
    assert error == {"code": FAILED, "message": "It is damaged. Pull it again."}


async def test_an_edit_that_can_not_be_read_makes_the_document_unknown_until_it_is_known_again(ready: Editor) -> None:
    ready.open("x = 1\n")
    ready.model.answer = lambda params: ["2"]
    assert len(await ready.complete(0, 5)) == 1
    ready.change(2, {"range": {"start": {"line": 0, "character": "?"}}, "text": "y"})
    assert await ready.complete(0, 5) == []
    assert (await ready.explain())["rule"] == "document_unknown"
    ready.change(3, {"text": "x = 1\n"})
    assert len(await ready.complete(0, 5)) == 1
    await assert_alive(ready)


async def test_a_huge_document(ready: Editor) -> None:
    text = "value = compute(value)  # 😀\n" * 400_000
    ready.open(text)
    ready.type(2, 399_999, 0, "z")
    assert await ready.complete(399_999, 0) == []
    state = (await ready.explain(URI))["document"]
    assert state["characters"] == len(text) + 1


async def test_messages_are_taken_in_order(ready: Editor) -> None:
    """A request is about the text as it was when it came, even if the next message is there already."""
    ready.open("a = 1\n")
    ready.model.answer = lambda params: ["2"]
    number = ready.begin_completion(0, 5)
    await asyncio.sleep(0)
    ready.type(2, 0, 0, "b")
    assert (await ready.answer(number))["result"]["items"] == []
    assert ready.model.generated[0].prefix == "a = 1"


KEYS = st.sampled_from(
    ["textDocument", "uri", "position", "line", "character", "context", "triggerKind", "range", "start", "end", "text",
     "version", "languageId", "contentChanges", "command", "arguments", "id", "jsonrpc", "method", "settings", "token"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
METHODS = st.sampled_from(
    [COMPLETION, "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose", "codegen-lsp/explain",
     "workspace/executeCommand", "workspace/didChangeConfiguration", "$/cancelRequest", "$/setTrace", "x", "initialize"]
)  # fmt: skip
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={"method": METHODS | JSON, "params": JSON, "id": st.integers(10_000, 10_005) | JSON, "result": JSON},
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(MESSAGES, max_size=8))
def test_any_messages_at_all(messages: list[dict[str, Any]]) -> None:
    async def run() -> None:
        editor = Editor()
        await editor.initialize()
        editor.open("x = 1\n")
        for message in messages:
            editor.send_raw(json.dumps(message).encode())
            await asyncio.sleep(0)
        await editor.settle()
        await editor.wait_for(lambda _: not editor.server.protocol._running)
        requests = [m for m in messages if "method" in m and _usable(m.get("id"))]
        answers = [m for m in editor.sent if "method" not in m and m.get("id") is not None]
        for number in {json.dumps(m["id"]) for m in requests}:
            asked = [m for m in requests if json.dumps(m["id"]) == number]
            assert len([m for m in answers if json.dumps(m["id"]) == number]) >= len(asked)
        warned = [m for m in editor.notifications("window/showMessage") if "Settings" not in m["message"]]
        assert warned == []
        assert (await editor.answer(editor.begin("codegen-lsp/explain", {})))["result"]
        await editor.server.session.close()

    asyncio.run(run())


def _usable(number: Any) -> bool:
    return isinstance(number, int | float | str) and not isinstance(number, bool)


async def test_the_server_of_a_connection_that_ended_is_freed() -> None:
    """A server on a socket has one for each client, however many there were."""
    editor = Editor()
    await editor.initialize()
    await editor.request("codegen-lsp/explain", {})
    await editor.server.session.close()
    server, protocol = weakref.ref(editor.server), weakref.ref(editor.server.protocol)
    del editor
    await asyncio.sleep(0)  # callbacks of futures that are done hold it until then
    gc.collect()
    assert (server(), protocol()) == (None, None)
