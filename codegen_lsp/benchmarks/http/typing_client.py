"""A user who types in an editor with llama.vim: a request to `/infill` after each change.

The request is sent after `DEBOUNCE` seconds of silence. At the next key it is given up by closing its connection if it
is not answered; a suggestion on the screen is dropped at the next change. Keys come at their times, however slow the
server is. The request has no limit of time, so that none is answered early.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from attrs import define, field, frozen

from codegen_lsp.benchmarks.keystrokes import ShownSuggestion
from codegen_lsp.benchmarks.typist import TypingSession
from codegen_lsp.inference.client.http_connections import HttpAnswer, HttpConnections, RemoteError
from codegen_lsp.inference.client.remote_server import RemoteServer

DEBOUNCE = 0.05
"""Seconds from a change to the request for it."""
LINES_BEFORE, LINES_AFTER = 256, 64
"""Lines that llama.vim sends."""
FIELDS = ("content", "timings/prompt_n", "timings/prompt_ms", "timings/predicted_n", "timings/predicted_ms")


@frozen
class InfillRecord:
    """One request and its end."""

    seconds: float
    """Until the answer, or until the key that ended the request."""
    cancelled: bool = False
    error: str = ""
    from_model: bool = False
    """False for an answer that a rule gave before the model was asked."""
    text: str = ""
    prompt_tokens: int = 0
    """Tokens of the prompt that were computed."""
    tokens: int = 0
    """Tokens of the answer."""

    @property
    def shown(self) -> bool:
        """True if there is a suggestion."""
        return bool(self.text)


@frozen
class VimSuggestion:
    """The suggestion on the screen: `text[start:cursor]` becomes the text."""

    start: int
    cursor: int
    text: str
    since: float


@define
class TypingClient:
    """One user, in a file of its own."""

    session: TypingSession
    server: RemoteServer
    records: list[InfillRecord] = field(factory=list)
    keys: int = 0
    _connections: HttpConnections = field(init=False)
    _screen: VimSuggestion | None = None

    async def open(self) -> None:
        """Send a first request that is not counted, as for opening a file. Raises: RemoteError."""
        self._connections = HttpConnections(self.server)
        await self._send()

    async def type(self) -> None:
        """Press all keys at their times."""
        until, changed = time.perf_counter(), False
        try:
            while True:
                gap = self.session.gap()
                until += gap
                if changed and gap > DEBOUNCE:
                    await self._ask(until - gap + DEBOUNCE, until)
                await _sleep_until(until)
                key = self.session.press(self._suggestion())
                if key is None:
                    return
                self.keys += 1
                changed = key.edits
                if changed:
                    self._screen = None
        finally:
            self._connections.close()

    async def _ask(self, start: float, until: float) -> None:
        """Send a request at a time, and wait for its answer until another."""
        await _sleep_until(start)
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(until - sent):
                answer = await self._send()
        except TimeoutError:
            self.records.append(InfillRecord(time.perf_counter() - sent, cancelled=True))
            return
        except RemoteError as error:
            self.records.append(InfillRecord(time.perf_counter() - sent, error=error.message))
            return
        answered = time.perf_counter()
        record = record_of(answer, answered - sent)
        self.records.append(record)
        if record.shown:
            text, cursor = self.session.text, self.session.cursor
            self._screen = VimSuggestion(cursor - replaced_blanks(text, cursor), cursor, record.text, answered)

    async def _send(self) -> HttpAnswer:
        body = infill_body(self.session.text, self.session.cursor)
        return await self._connections.post("/infill", json.dumps(body).encode())

    def _suggestion(self) -> ShownSuggestion | None:
        screen = self._screen
        if screen is None or screen.cursor != self.session.cursor:
            return None
        return ShownSuggestion(screen.start, screen.cursor, screen.text, time.perf_counter() - screen.since)


def infill_body(text: str, cursor: int) -> dict[str, Any]:
    """Return llama.vim's request for a cursor, an offset in the text. In a blank line, it asks from column 0 on."""
    cursor -= replaced_blanks(text, cursor)
    *above, before = text[:cursor].split("\n")
    rest, *below = text[cursor:].split("\n")
    return {
        "id_slot": 0,
        "input_prefix": "".join(one + "\n" for one in above[-LINES_BEFORE:]),
        "prompt": before,
        "input_suffix": "".join(one + "\n" for one in (rest if rest.strip() else "", *below[:LINES_AFTER])),
        "input_extra": [],
        "n_predict": 128,
        "stop": [],
        "n_indent": len(before) - len(before.lstrip()),
        "top_k": 40,
        "top_p": 0.90,
        "samplers": ["top_k", "top_p", "infill"],
        "stream": False,
        "cache_prompt": True,
        "response_fields": list(FIELDS),
    }


def replaced_blanks(text: str, cursor: int) -> int:
    """Return the white space before the cursor that a suggestion replaces: all of it in a blank line, else none."""
    before = text[:cursor].rpartition("\n")[2]
    line = before + text[cursor:].partition("\n")[0]
    return 0 if line.strip() else len(before)


def record_of(answer: HttpAnswer, seconds: float) -> InfillRecord:
    """Return the record of an answer."""
    if answer.status != 200:
        return InfillRecord(seconds, error=f"status {answer.status}")
    try:
        content, computed, prompt_ms, tokens = (json.loads(answer.body)[name] for name in FIELDS[:4])
    except (ValueError, KeyError, TypeError):
        return InfillRecord(seconds, error="an answer in another form")
    return InfillRecord(seconds, from_model=prompt_ms > 0, text=content, prompt_tokens=computed, tokens=tokens)


async def _sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))
