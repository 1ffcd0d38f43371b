"""A keystroke's way from `textDocument/inlineCompletion` to tokens and back enters each module of the way once.

The way is the table in `docs/architecture.md`. Modules outside of it are leaves: values, text functions, state.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.inference.client import launch, worker_connection
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.lsp.server import create_server
from tests.end_to_end.hops import HopRecorder
from tests.lsp.conftest import Editor
from tests.suggest.conftest import HOUR, let_no_time_pass

ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"
TIMEOUT_SECONDS = 120.0

CODE = "def add(first, second):\n    return first + "


def documented_hops() -> list[str]:
    """Return the rows of the table: `package.module:function`."""
    rows = re.findall(r"^\| \d+ \| `([\w/]+)\.py` \| `([\w.]+)`", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    return [f"{path.replace('/', '.')}:{function}" for path, function in rows]


BESIDE_THE_WAY = {"lsp.jsonrpc:CodegenProtocol.get_message_type"}
"""Entered when the server notifies the editor of its status, while the model computes."""


class RealEditor(Editor):
    """An editor whose server has the real client, worker and model."""

    def __init__(self, build: Path) -> None:
        super().__init__()
        self.server = create_server(InferenceClient, lambda name: build)
        self.server.protocol.set_writer(self, include_headers=False)
        let_no_time_pass(self.server.session.suggestions)


@pytest.fixture
def hops_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the worker writes its hops."""
    program = Path(__file__).with_name("followed_worker.py")
    monkeypatch.setattr(launch, "worker_command", lambda: [sys.executable, "-X", "utf8", str(program)])
    monkeypatch.setattr(worker_connection, "PING_INTERVAL", HOUR)  # pings are beside the way
    monkeypatch.setenv("FOLLOWED", str(tmp_path / "hops"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path / "hops"


async def complete(editor: RealEditor) -> list[dict[str, Any]]:
    await editor.initialize(options={"worker": {"shared": False}, "engine": "native", "warm": False})
    await editor.wait_for(lambda message: message.get("params", {}).get("state") == "ready")
    editor.open(CODE)
    await editor.settle()
    recorder = HopRecorder()
    recorder.start()
    try:
        items = await editor.complete(1, len(CODE.splitlines()[1]), invoked=True)
    finally:
        recorder.stop()
    editor.hops = recorder.hops  # type: ignore[attr-defined]
    return items


async def test_each_module_of_the_way_is_entered_once(embedded_build: Path, hops_file: Path) -> None:
    way = documented_hops()
    assert len(way) > 8
    editor = RealEditor(embedded_build)
    try:
        items = await complete(editor)
    finally:
        await editor.server.session.close()
    assert items
    in_server: list[str] = editor.hops  # type: ignore[attr-defined]
    in_worker = hops_file.read_text().splitlines()
    modules = {hop.partition(":")[0] for hop in way}
    to_model = in_server.index("inference.client.client:InferenceClient.generate") + 1
    entered = [*in_server[:to_model], *in_worker, *in_server[to_model:]]
    assert [hop for hop in entered if hop.partition(":")[0] in modules and hop not in BESIDE_THE_WAY] == way
