"""The soak test: a short run, and that it notices what it is for."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from lsprotocol import types

from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.benchmarks.soak import connection
from codegen_lsp.benchmarks.soak.connection import CountingConnection
from codegen_lsp.benchmarks.soak.documents import EditedDocument
from codegen_lsp.benchmarks.soak.levels import Levels, ProcessLevel, growth, left_behind, tracebacks
from codegen_lsp.benchmarks.soak.malformed import KINDS, malformed
from codegen_lsp.benchmarks.soak.perform import ServersUnderTest
from codegen_lsp.benchmarks.soak.run import soak
from codegen_lsp.benchmarks.soak.schedule import Action, Counts, actions, rounds_of, share
from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.jsonrpc import make_converter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the soak test runs on Linux only")

SHORT = Counts(edits=300, cancels=30, kills=2, malformed=3_000, stops=1, disks=1, vanishing=10, windows=1)
DEAF = (
    "from codegen_lsp.lsp.jsonrpc import CodegenProtocol; from codegen_lsp.cli.stdio_server import serve_on_stdio; "
    "whole = CodegenProtocol._send_response; "
    "CodegenProtocol._send_response = lambda self, id, *a, **k: id == 'r2' or whole(self, id, *a, **k); "
    "serve_on_stdio()"
)
"""A server that does not answer the second request."""


@pytest.mark.slow
async def test_a_short_run(embedded_build: Path) -> None:
    reports: list[str] = []
    found = await soak(SHORT, 3, {"model": str(embedded_build)}, None, 0, lambda text, share: reports.append(text))
    assert found.faults == []
    assert found.sent["edit"] == SHORT.edits
    assert found.sent["completion to be cancelled"] == found.sent["cancel"] == SHORT.cancels
    assert found.sent["kill of the worker"] == SHORT.kills
    assert found.sent["stop of the worker"] == SHORT.stops
    assert found.sent.get("full disk, by a limit", 0) + found.sent.get("full disk", 0) == SHORT.disks
    assert sum(found.sent[kind] for kind, _ in KINDS) == SHORT.malformed
    assert sum(number for kind, number in found.sent.items() if kind.startswith("vanishing")) == 11
    assert found.answered["completion: items"] > 0
    assert [levels.at for levels in found.levels] == ["start", "middle", "end"]
    assert reports


async def test_a_worker_that_is_paused_and_then_stopped_stays_stopped(tmp_path: Path) -> None:
    run = ServersUnderTest(tmp_path, "mark", {}, random.Random(0))
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    try:
        run.server.status = {"state": "ready", "workerPid": worker.pid}
        await run.perform(Action.PAUSE)
        await run.perform(Action.STOP)
        run.interrupted = True
        run.go_on(worker.pid)
        while psutil.Process(worker.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert run.done == {"pause of the worker": 1, "stop of the worker": 1}
    finally:
        worker.kill()
        await worker.wait()


def test_the_same_seed_gives_the_same_actions_and_messages() -> None:
    def drawn(seed: int) -> object:
        choose = random.Random(seed)
        document = EditedDocument("file:///a.py", "python", "x = 1\n" * 50)
        order = list(actions(SHORT, 500, choose))
        return order, [document.edit(choose) for _ in range(50)], [malformed(str(at), choose) for at in range(50)]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    "counts", [SHORT, Counts(), Counts(2, 0, 0, 0, 0, 0, 0, 0), Counts(1_003, 7, 3, 999, 1, 5, 1, 1)]
)
def test_the_rounds_of_a_run_add_up_to_its_counts(counts: Counts) -> None:
    rounds = rounds_of(counts)
    done = [action for at in range(rounds) for action in actions(share(counts, at, rounds), 10**9, random.Random(at))]
    for action, number in (
        (Action.EDIT, counts.edits),
        (Action.CANCEL, counts.cancels),
        (Action.KILL, counts.kills),
        (Action.STOP, counts.stops),
        (Action.VANISH, counts.vanishing),
        (Action.WINDOW, counts.windows),
        (Action.FILL_DISK, counts.disks),
        (Action.FREE_DISK, counts.disks),
    ):
        assert done.count(action) == number
    full = [action is Action.FILL_DISK for action in done if action in (Action.FILL_DISK, Action.FREE_DISK)]
    assert full == [at % 2 == 0 for at in range(2 * counts.disks)]


def test_edits_change_the_text_as_in_the_server() -> None:
    choose, structure = random.Random(5), make_converter().structure
    document = EditedDocument("file:///a.py", "python", "def f(a):\r\n\treturn 'é😀'\n" * 20)
    server = TextDocument(document.uri, "python", 1, document.text)
    for _ in range(2_000):
        params = structure(document.edit(choose), types.DidChangeTextDocumentParams)
        server = server.changed(params.content_changes, params.text_document.version)
        assert (server.text, server.version) == (document.text, document.version)
    assert len(server.text) > 1_000
    assert "😀" in server.text


async def test_a_request_without_an_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "COMMAND", (sys.executable, "-c", DEAF))
    server = CountingConnection()
    await server.start(dict(os.environ))
    await server.ask("initialize", "initialize", {"processId": None, "rootUri": None, "capabilities": {}})
    server.request("explain", "codegen-lsp/explain", {})
    await server.ask("explain", "codegen-lsp/explain", {})
    monkeypatch.setattr(connection, "PATIENCE", 0.1)
    with pytest.raises(ReplayError, match="did not answer all requests"):
        await server.until_answered()
    assert list(server.open.values()) == ["explain"]
    monkeypatch.undo()
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ReplayError, match="It ended with -9"):
        await server.until_answered()
    await server.end()


def test_what_is_left_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = secrets.token_hex(8)
    for name in ("tmp", "run", "state", "cache"):
        (tmp_path / name).mkdir()
    for kept in ("run/lock", "state/metrics.sqlite", "state/soak.log", "cache/a.ngrams"):
        (tmp_path / kept).touch()
    assert left_behind(tmp_path, mark) == []
    for left in ("tmp/x", "run/a.log", "cache/a.ngrams7.new"):
        (tmp_path / left).touch()
    with socket.socket(socket.AF_UNIX) as bound:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        bound.bind("run/a.sock")
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={**os.environ, "SOAK": mark}
    )
    try:
        running, *files = left_behind(tmp_path, mark)
        assert running.startswith(f"The process {process.pid} still runs: ")
        assert files == [
            "The file tmp/x is left.",
            "The file run/a.log is left.",
            "The socket run/a.sock is left.",
            "The file cache/a.ngrams7.new is left.",
        ]
    finally:
        process.communicate(b"\n")


def test_growth_is_noticed() -> None:
    def levels(memory: float, descriptors: int) -> Levels:
        return Levels("", 0, {"server": ProcessLevel(memory, descriptors, 1)})

    assert growth(levels(50, 9), levels(60, 10)) == []
    assert growth(levels(50, 9), levels(90, 9)) == ["The memory of the server grew from 50 to 90 MiB."]
    assert growth(levels(50, 9), levels(50, 90)) == ["The server had 9 open descriptors, and has 90."]


def test_tracebacks_in_the_log_are_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    block = "2026-01-01 ERROR x: failed\n  | Traceback (most recent call last):\n  |   File x\n  | KeyError: 1\n"
    log.write_text("2026-01-01 ERROR x: died\n" + block * 2)
    assert tracebacks(log) == ["The log has 2 tracebacks: KeyError: 1"]
    assert tracebacks(tmp_path / "none") == []
