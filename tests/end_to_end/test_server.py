"""End to end with a real model: an editor opens a real file, types, cancels, and meets failures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcRequestCancelled

from tests.end_to_end.conftest import OBSERVED, SERVE, Client

URI = "file:///project/decoder.py"
BEGINNING = "def read_lines(path):\n    with open(path) as file:\n        "


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def generations(folder: Path) -> list[dict[str, Any]]:
    log = folder / "generations"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


async def test_open_type_and_get_an_item(client: Client, embedded_build: Path, source: str) -> None:
    await client.start(embedded_build)
    client.open(URI, source)
    lines = source.split("\n")
    last = len(lines) - 1
    typed = "\n\ndef add(a, b):\n    return a +"
    items: list[types.InlineCompletionItem] = []
    for at, character in enumerate(typed):
        before = typed[:at]
        line, column = last + before.count("\n"), len(before) - before.rfind("\n") - 1 if "\n" in before else 0
        client.type(URI, at + 2, line, column if before else len(lines[-1]), character)
    await client.status("ready")
    column = len("    return a +")
    items = await client.complete(URI, last + 3, column, invoked=True)
    explanation = await client.explain(URI)
    assert items, explanation["message"]
    assert 1 <= len(items) <= 3
    assert len({item.insert_text for item in items}) == len(items)
    for item in items:
        assert isinstance(item.insert_text, str)
        assert item.insert_text.startswith("    return a +")
        assert item.range == types.Range(types.Position(last + 3, 0), types.Position(last + 3, column))
    assert explanation["source"] == "model"
    assert explanation["stats"]["promptTokens"] > 500
    # Typing the beginning of a suggestion returns the rest from the cache.
    rest = items[0].insert_text[column:]
    client.type(URI, len(typed) + 2, last + 3, column, rest[0])
    (item, *_) = await client.complete(URI, last + 3, column + 1)
    assert item.insert_text == items[0].insert_text
    assert (await client.explain(URI))["source"] == "cache"
    assert client.shown == []
    states = [status["state"] for status in client.statuses]
    assert states[:3] == ["starting", "loading", "ready"]
    kinds = [value.kind for reports in client.progress_reports.values() for value in reports]
    assert (kinds[0], kinds[-1]) == ("begin", "end")


async def test_the_same_text_brings_the_same_item_with_a_warm_cache(client: Client, embedded_build: Path) -> None:
    await client.start(embedded_build, options={"warm": False})
    await client.status("ready")
    client.open(URI, BEGINNING)
    first = await client.complete(URI, 2, 8, invoked=True)
    client.open("file:///other.py", BEGINNING)
    assert [item.insert_text for item in await client.complete("file:///other.py", 2, 8, invoked=True)] == [
        item.insert_text for item in first
    ]


async def test_cancelling_ends_the_generation_within_one_token(
    client: Client, embedded_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    await client.start(embedded_build, OBSERVED, {"max_tokens": 1000}, OBSERVED=str(tmp_path))
    await client.status("ready")
    client.open(URI, BEGINNING)
    request = client.request(URI, 2, 8)
    await client.until((tmp_path / "first-token").exists)
    client.cancel(request)
    with pytest.raises(JsonRpcRequestCancelled):
        await request
    (generation,) = await client.until(lambda: generations(tmp_path))
    assert generation["cancelled"]
    assert generation["before"] < generation["limit"]
    assert generation["after"] <= 1
    (tmp_path / "slow").unlink()
    await client.complete(URI, 2, 8)
    assert (await client.explain(URI))["source"] == "model"


async def test_a_newer_request_ends_the_older_within_one_token(
    client: Client, embedded_build: Path, tmp_path: Path
) -> None:
    (tmp_path / "slow").touch()
    await client.start(embedded_build, OBSERVED, {"max_tokens": 1000}, OBSERVED=str(tmp_path))
    await client.status("ready")
    client.open(URI, BEGINNING)
    older = client.request(URI, 2, 8)
    await client.until((tmp_path / "first-token").exists)
    newer = client.request(URI, 2, 8, invoked=True)
    assert list((await older).items) == []
    (tmp_path / "slow").unlink()
    await newer
    generation = generations(tmp_path)[0]
    assert generation["cancelled"]
    assert generation["after"] <= 1


async def test_a_worker_killed_in_the_middle_of_a_request(client: Client, embedded_build: Path, tmp_path: Path) -> None:
    (tmp_path / "slow").touch()
    await client.start(embedded_build, OBSERVED, {"max_tokens": 1000}, OBSERVED=str(tmp_path))
    worker = (await client.status("ready"))["workerPid"]
    client.open(URI, BEGINNING)
    request = client.request(URI, 2, 8)
    await client.until((tmp_path / "first-token").exists)
    before = len(client.statuses)
    os.kill(worker, signal.SIGKILL)
    assert list((await request).items) == []
    status = await client.status("starting", "error", after=before)
    assert "signal 9" in status["message"]
    assert status["advice"]
    (tmp_path / "slow").unlink()
    await client.status("ready", after=before)
    await client.complete(URI, 2, 8, invoked=True)
    explanation = await client.explain(URI)
    assert explanation["source"] == "model", explanation["message"]
    assert explanation["stats"]["generatedTokens"] > 0
    assert explanation["status"]["workerPid"] != worker
    assert client.shown == []


async def test_a_worker_killed_while_idle(client: Client, embedded_build: Path) -> None:
    await client.start(embedded_build)
    worker = (await client.status("ready"))["workerPid"]
    before = len(client.statuses)
    os.kill(worker, signal.SIGKILL)
    await client.status("starting", after=before)
    again = await client.status("ready", after=before)
    assert again["workerPid"] != worker
    client.open(URI, BEGINNING)
    await client.complete(URI, 2, 8, invoked=True)
    assert (await client.explain(URI))["source"] == "model"


async def test_ordinary_use_logs_nothing(client: Client, embedded_build: Path, tmp_path: Path) -> None:
    """Requests superseded by typing are ordinary use."""
    log = tmp_path / "log"
    await client.start(embedded_build, options={"log": {"file": str(log)}})
    await client.status("ready")
    client.open(URI, BEGINNING)
    for version in range(2, 12):
        client.type(URI, version, 2, 6 + version, "a")
        older = client.request(URI, 2, 7 + version, invoked=True)
        await asyncio.sleep(0.02)
        if version % 2:
            client.cancel(older)
            older.add_done_callback(lambda done: done.exception())
    await client.complete(URI, 2, 18, invoked=True)
    await client.shutdown_session()
    assert log.read_text() == ""


@pytest.mark.parametrize("entry", ["__main__", "app"])
@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--stdio"]])
async def test_as_an_editor_starts_it(client: Client, embedded_build: Path, entry: str, arguments: list[str]) -> None:
    await client.launch(sys.executable, "-c", f"from codegen_lsp.cli.{entry} import main; main()", *arguments)
    await client.initialize(embedded_build)
    await client.status("ready")
    client.open(URI, BEGINNING)
    await client.complete(URI, 2, 8, invoked=True)
    assert (await client.explain(URI))["source"] == "model"


async def test_restarting_by_command(client: Client, embedded_build: Path) -> None:
    await client.start(embedded_build)
    worker = (await client.status("ready"))["workerPid"]
    params = types.ExecuteCommandParams("codegen-lsp.restartWorker")
    await asyncio.wait_for(client.workspace_execute_command_async(params), 60)
    assert not alive(worker)
    client.open(URI, BEGINNING)
    await client.complete(URI, 2, 8, invoked=True)
    assert (await client.explain(URI))["source"] == "model"


@pytest.mark.parametrize("generating", [False, True])
async def test_no_worker_outlives_a_killed_server(
    client: Client, embedded_build: Path, tmp_path: Path, generating: bool
) -> None:
    (tmp_path / "slow").touch()
    await client.start(embedded_build, OBSERVED, {"max_tokens": 1000}, OBSERVED=str(tmp_path))
    worker = (await client.status("ready"))["workerPid"]
    client.open(URI, BEGINNING)
    if generating:
        client.request(URI, 2, 8).add_done_callback(lambda done: done.exception())
        await client.until((tmp_path / "first-token").exists)
    os.kill(client.pid, signal.SIGKILL)
    assert client._server is not None
    await client._server.wait()
    await client.until(lambda: not alive(worker))


async def test_no_worker_outlives_a_server_that_ends_properly(client: Client, embedded_build: Path) -> None:
    await client.start(embedded_build)
    worker = (await client.status("ready"))["workerPid"]
    await client.shutdown_session()
    assert client._server is not None
    assert client._server.returncode == 0
    await client.until(lambda: not alive(worker))


async def test_malformed_messages_between_good_ones(client: Client, embedded_build: Path) -> None:
    await client.start(embedded_build)
    client.open(URI, BEGINNING)
    await client.status("ready")
    completion = {"jsonrpc": "2.0", "method": "textDocument/inlineCompletion"}
    bad: list[tuple[Any, int]] = [
        (completion | {"id": "m1"}, -32602),
        (completion | {"id": "m2", "params": {}}, -32602),
        (completion | {"id": "m3", "params": {"textDocument": {"uri": URI}, "position": {"line": -1}}}, -32602),
        (completion | {"id": "m4", "params": [1, 2]}, -32602),
        ({"jsonrpc": "2.0", "id": "m5", "method": "no/such"}, -32601),
        ({"jsonrpc": "2.0", "id": "m6", "method": 5}, -32600),
        ({"jsonrpc": "2.0", "id": "m7"}, -32600),
        ({"id": "m8", "method": "shutdown"}, -32600),
        ({"jsonrpc": "2.0", "id": "m9", "method": "workspace/executeCommand", "params": {"command": "x"}}, -32602),
        ({"jsonrpc": "2.0", "id": "m10", "method": "initialize", "params": {"capabilities": {}}}, -32600),
    ]
    for message, _ in bad:
        client.send_raw(json.dumps(message).encode())
        client.send_raw(b'{"jsonrpc": "2.0", "method": "textDocument/didChange", "params": {"textDocument": 5}}')
        client.send_raw(b"{" * 20)
        client.send_raw(b'{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": "m99"}}')
    await client.complete(URI, 2, 8, invoked=True)
    answers = {message["id"]: message for message in client.received if "error" in message}
    for message, code in bad:
        assert answers[message["id"]]["error"]["code"] == code
    assert len([message for message in client.received if message.get("id", 0) is None]) == len(bad)
    assert (await client.explain(URI))["source"] == "model"
    assert client.shown == []


async def test_without_any_network(client: Client, embedded_build: Path, without_network: list[str]) -> None:
    await client.launch(*without_network, sys.executable, "-c", SERVE)
    await client.initialize(embedded_build)
    await client.status("ready")
    client.open(URI, BEGINNING)
    await client.complete(URI, 2, 8, invoked=True)
    assert (await client.explain(URI))["source"] == "model"
