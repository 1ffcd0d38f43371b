"""A thousand random edits over several documents, with requests and cancels between them.

The editor's side of each document is a list of UTF-16 units, as in an editor written in JavaScript.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcRequestCancelled

from tests.end_to_end.conftest import Client

EDITS = 1_000
LEVEL_AFTER = 200
"""Edits after which memory is looked at first: by then everything was loaded and used."""
DOCUMENTS = 4
LEVEL_MB = 20
"""What the server may grow by in the other 800 edits, while its caches fill. Keeping one text for each edit takes more
than 300 MB."""
CACHE_MB = 64
WORKER_LEVEL_MB = 2 * CACHE_MB
"""What the worker may grow by: its cache. Keeping what each of the 250 generations computed takes some GB."""
OPTIONS = {"line_tokens": 8, "max_tokens": 8, "cache": {"memory_mb": CACHE_MB}, "log": {"level": "error"}}
PIECES = [
    "x",
    "value = 1\n",
    "    return ",
    "(",
    ")",
    ":\n",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "😀",
    "é",
    "e\u0301",
    "日本",
    "\x0c",
    "\u2028",
]


class Text:
    """A document on the editor's side."""

    def __init__(self, text: str) -> None:
        self.units: list[bytes] = []
        self.units[:] = units(text)
        self.version = 1

    def __str__(self) -> str:
        return b"".join(self.units).decode("utf-16-le", "surrogatepass")

    @property
    def digest(self) -> str:
        return hashlib.sha256(str(self).encode("utf-8", "surrogatepass")).hexdigest()

    def positions(self, places: list[int]) -> list[types.Position]:
        """Return the positions of sorted places."""
        found: list[types.Position] = []
        line = start = at = 0
        for place in places:
            while at < place:
                unit = self.units[at]
                at += 1
                if unit == b"\n\0" or (unit == b"\r\0" and self.units[at : at + 1] != [b"\n\0"]):
                    line, start = line + 1, at
            found.append(types.Position(line, place - start))
        return found

    def place(self, choose: random.Random) -> int:
        """Choose a place for the cursor: not inside a character, nor between CR and LF."""
        at = choose.randint(0, len(self.units))
        while 0 < at < len(self.units) and (self.units[at][1] & 0xFC == 0xDC or self.units[at] == b"\n\0"):
            at -= 1
        return at


def units(text: str) -> Iterator[bytes]:
    encoded = text.encode("utf-16-le", "surrogatepass")
    return (encoded[at : at + 2] for at in range(0, len(encoded), 2))


def edit(text: Text, choose: random.Random) -> types.TextDocumentContentChangeEvent:
    """Change the text; return the change in the protocol's form."""
    text.version += 1
    start = text.place(choose)
    end = start if choose.random() < 0.6 else min(start + choose.randint(0, 60), len(text.units))
    inserted = "".join(choose.choices(PIECES, k=choose.randint(0, 4))) if choose.random() < 0.9 else "x = 1\n" * 20
    positions = text.positions([start, end])
    text.units[start:end] = units(inserted)
    return types.TextDocumentContentChangePartial(types.Range(*positions), inserted)


def resident_mb(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


@pytest.mark.slow
async def test_a_thousand_random_edits(client: Client, embedded_build: Path, source: str) -> None:
    choose = random.Random(20240)
    await client.start(embedded_build, options=OPTIONS)
    worker = (await client.status("ready"))["workerPid"]
    # Large enough that leaked texts show in the server's memory.
    texts = {f"file:///project/{number}.py": Text(source * 7) for number in range(DOCUMENTS)}
    for uri, text in texts.items():
        client.open(uri, str(text))
    requests: list[asyncio.Future[Any]] = []
    cancelled = 0
    levels = 0.0, 0.0
    for number in range(1, EDITS + 1):
        uri = choose.choice(list(texts))
        text = texts[uri]
        client.change(uri, text.version + 1, *(edit(text, choose) for _ in range(1)))
        if choose.random() < 0.4:
            (position,) = text.positions([text.place(choose)])
            request = client.request(uri, position.line, position.character, invoked=choose.random() < 0.5)
            requests.append(request)
            if choose.random() < 0.4:
                await asyncio.sleep(choose.choice([0.0, 0.01]))
                client.cancel(request)
                cancelled += 1
        if choose.random() < 0.02:
            client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri)))
            texts[uri].version = 1
            client.open(uri, str(text))
        if number % 50 == 0:
            await assert_equal(client, texts)
        if number == LEVEL_AFTER:
            levels = resident_mb(client.pid), resident_mb(worker)
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*requests, return_exceptions=True)
    assert len(answers) > 300
    assert sum(isinstance(answer, types.InlineCompletionList) for answer in answers) > 100
    for answer in answers:
        assert isinstance(answer, types.InlineCompletionList | JsonRpcRequestCancelled)
    assert 0 < sum(isinstance(answer, JsonRpcRequestCancelled) for answer in answers) <= cancelled
    await assert_equal(client, texts)
    assert resident_mb(client.pid) - levels[0] < LEVEL_MB
    assert resident_mb(worker) - levels[1] < WORKER_LEVEL_MB
    assert client.shown == []
    assert {status["workerPid"] for status in client.statuses if status["workerPid"]} == {worker}


async def assert_equal(client: Client, texts: dict[str, Text]) -> None:
    """Assert that the server's texts equal the editor's."""
    for uri, text in texts.items():
        state = (await client.explain(uri))["document"]
        assert state["version"] == text.version
        assert state["sha256"] == text.digest
