"""The workspace's index as an editor sees it: real files, the real server and worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.inference.engines.native.ngram_segment import library
from tests.end_to_end.conftest import ANSWER_TIMEOUT, Client

pytestmark = pytest.mark.skipif(library() is None, reason="ngram_index.c was not compiled here")

CALL = "    registry.enlist_marsupial(burrow, eager=True)\n"
OPEN = "def visit(registry, burrow):\n    registry.enlist_"


COLUMN = len("    registry.enlist_")


async def origin_in(client: Client, uri: str) -> dict[str, Any]:
    """Ask for suggestions in the second line, each time in a new text, until one has an origin in the workspace."""
    version = 1
    async with asyncio.timeout(ANSWER_TIMEOUT):
        while True:
            await asyncio.sleep(1.0)  # the pause in which the server brings the index up to date
            version += 1
            client.type(uri, version, 0, len("def visit(registry, burrow):"), "#")
            await client.complete(uri, 1, COLUMN, invoked=True)
            told = await client.explain(uri)
            if told["origin"] and not told["origin"]["document"]:
                return told


async def test_explain_names_file_and_line(client: Client, embedded_build: Path, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "quokka.py").write_text("import os\n\n\ndef restock(registry, burrow):\n" + CALL)
    (tmp_path / "main.py").write_text(OPEN)
    uri = (tmp_path / "main.py").as_uri()
    await client.start(embedded_build, options={"engine": "native"}, folders=[tmp_path])
    client.open(uri, OPEN)
    told = await origin_in(client, uri)
    assert (told["origin"]["path"], told["origin"]["line"]) == ("lib/quokka.py", 5)
    assert "lib/quokka.py:5" in told["message"]
