"""One file typed into the server: its requests, their cancellation, and the suggestion on the screen.

The editor behaves as VS Code: it sends each change, requests a suggestion 50 ms after it, and cancels the request at
the next key.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from attrs import define, evolve, field

from codegen_lsp.benchmarks.keystrokes import Key, ShownSuggestion
from codegen_lsp.benchmarks.lsp_client import EditorClient, offset_at, position_at, range_at
from codegen_lsp.benchmarks.replay_records import ReplayRequest, TypedFile, TypedSpan
from codegen_lsp.benchmarks.typist import TypingSession, keys_without

DEBOUNCE = 0.05
"""Seconds after a change until VS Code requests inline suggestions, unless another change comes first."""
BRISK_ANSWER = 0.05
"""Seconds that an answer is assumed to take at brisk pace; they decide whether a suggestion is noticed."""
OPENING = 1.5
"""Seconds between opening a file and typing in it, in which the server scans the workspace."""


@define
class Screen:
    """The suggestion on the screen, as it would replace `text[start:end]` of the document."""

    start: int
    end: int
    insert: str
    since: float

    def after(self, key: Key, text: str) -> Screen | None:
        """Return the suggestion as it is shown after a key: its rest, if the key wrote its beginning; else None."""
        if not key.edits or key.start < self.start or key.end > self.end:
            return None
        end = self.end + len(key.insert) - (key.end - key.start)
        kept = text[self.start : key.cursor]
        if not self.insert.startswith(kept) or len(kept) >= len(self.insert) or end < key.cursor:
            return None
        return Screen(self.start, end, self.insert, self.since)


@define
class _PendingRequest:
    """A request that is not answered yet."""

    id: str
    future: asyncio.Future[Any]
    sent: float
    request: ReplayRequest
    answered: float = 0.0

    def note(self, done: asyncio.Future[Any]) -> None:
        """Record the time of the answer."""
        self.answered = time.perf_counter()


@define
class TypingRun:
    """One file being typed."""

    editor: EditorClient
    session: TypingSession
    uri: str
    real_time: bool
    token_length: float
    """Mean characters of a token."""
    version: int = 1
    clock: float = 0.0
    """Seconds of typing so far, as a person would have taken."""
    screen: Screen | None = None
    pending: _PendingRequest | None = None
    requests: list[ReplayRequest] = field(factory=list)
    written: list[TypedSpan] = field(factory=list)
    keys: list[Key] = field(factory=list)

    async def run(self) -> TypedFile:
        session, document = self.session, self.session.document
        started = time.perf_counter()
        item = {"uri": self.uri, "languageId": document.language, "version": 1, "text": session.text}
        self.editor.tell("textDocument/didOpen", {"textDocument": item})
        await asyncio.sleep(OPENING)
        changed = through = accepted = False
        while True:
            gap = session.gap()
            if self.real_time:
                await self._wait(gap, changed, ReplayRequest(0.0, None, through=through, after_accepting=accepted))
            else:
                await self._skip(gap, changed, ReplayRequest(0.0, None, through=through, after_accepting=accepted))
            before, progress = session.text, session.progress
            right = self.screen is not None and self._right(self.screen)
            key = session.press(self._suggestion())
            if key is None:
                break
            self._note(key, progress)
            if key.kind.startswith("accept"):
                self._mark_accepted()
            self._send(key, before)
            changed = key.edits
            through = right and key.kind == "type" and self.screen is not None
            accepted = key.kind.startswith("accept") or (accepted and key.insert.startswith("\n"))
        self._cancel()
        self.editor.tell("textDocument/didClose", {"textDocument": {"uri": self.uri}})
        kinds = [key.kind for key in self.keys if key.kind.startswith("accept")]
        return TypedFile(
            document.package,
            document.path,
            sum(end - start for start, end in session.spans),
            len(self.keys),
            keys_without(session),
            self.clock,
            time.perf_counter() - started,
            self.requests,
            self.written,
            {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            sum(key.gained for key in self.keys),
        )

    async def _wait(self, gap: float, changed: bool, request: ReplayRequest) -> None:
        """Let the time until the next key pass, and send a request in it."""
        until = time.perf_counter() + gap
        if changed and gap > DEBOUNCE:
            await asyncio.sleep(DEBOUNCE)
            self.clock += DEBOUNCE
            self._ask(request)
            self.clock -= DEBOUNCE
            pending = self.pending
            assert pending is not None
            await asyncio.wait([pending.future], timeout=max(0.0, until - time.perf_counter()))
            if pending.future.done():
                await self._answer()
        await asyncio.sleep(max(0.0, until - time.perf_counter()))
        self.clock += gap

    async def _skip(self, gap: float, changed: bool, request: ReplayRequest) -> None:
        """Send a request if the time until the next key allows it, and wait only until the server is idle."""
        if not changed or gap <= DEBOUNCE:
            self.clock += gap
            return
        self.clock += DEBOUNCE
        self._ask(request)
        self.clock += BRISK_ANSWER
        await self._answer()
        self.clock += gap - DEBOUNCE - BRISK_ANSWER
        while (await self._explain())["preparing"]:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.005)

    def _ask(self, request: ReplayRequest) -> None:
        params = {
            "textDocument": {"uri": self.uri},
            "position": position_at(self.session.text, self.session.cursor),
            "context": {"triggerKind": 2},
        }
        id, future = self.editor.begin("textDocument/inlineCompletion", params)
        self.pending = _PendingRequest(id, future, time.perf_counter(), evolve(request, at=self.clock))
        future.add_done_callback(self.pending.note)

    async def _answer(self) -> None:
        pending = self.pending
        assert pending is not None
        result = await pending.future
        milliseconds = (pending.answered - pending.sent) * 1e3
        self.pending = None
        why = await self._explain()
        items = result["items"]
        old, self.screen = self.screen, self._shown(items[0]) if items else None
        stats = why["stats"] or {}
        estimate = round(len(self.screen.insert) / self.token_length) if self.screen else 0
        self.requests.append(
            evolve(
                pending.request,
                milliseconds=milliseconds,
                source=why["source"],
                rule=why["rule"],
                shown=self.screen is not None,
                new=self.screen is not None and (old is None or old.since != self.screen.since),
                right=self.screen is not None and self._right(self.screen),
                prompt_tokens=stats.get("promptTokens", 0),
                cached_tokens=stats.get("cachedTokens", 0),
                generated_tokens=stats.get("generatedTokens", estimate),
            )
        )

    async def _explain(self) -> Any:
        return await self.editor.ask("codegen-lsp/explain", {"textDocument": {"uri": self.uri}, "origin": False})

    def _shown(self, item: dict[str, Any]) -> Screen:
        text = self.session.text
        start, end = (offset_at(text, item["range"][side]) for side in ("start", "end"))
        old = self.screen
        same = old is not None and (old.start, old.insert) == (start, item["insertText"])
        return Screen(start, end, item["insertText"], old.since if old and same else self._instant())

    def _suggestion(self) -> ShownSuggestion | None:
        screen = self.screen
        if screen is None:
            return None
        return ShownSuggestion(screen.start, screen.end, screen.insert, self._instant() - screen.since)

    def _instant(self) -> float:
        return time.perf_counter() if self.real_time else self.clock

    def _right(self, screen: Screen) -> bool:
        suggestion = ShownSuggestion(screen.start, screen.end, screen.insert, 0.0)
        first = screen.insert.split("\n")[0]
        return self.session.is_right(suggestion) or self.session.is_right(evolve(suggestion, insert=first))

    def _send(self, key: Key, before: str) -> None:
        if not key.edits:
            self.screen = None
            self._cancel()
            return
        self.version += 1
        change = {"range": range_at(before, key.start, key.end), "text": key.insert}
        document = {"uri": self.uri, "version": self.version}
        self.editor.tell("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
        self._cancel()
        self.screen = self.screen and self.screen.after(key, self.session.text)

    def _cancel(self) -> None:
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        pending.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.editor.tell("$/cancelRequest", {"id": pending.id})
        self.requests.append(pending.request)

    def _mark_accepted(self) -> None:
        """Mark the request that brought the suggestion."""
        for number in reversed(range(len(self.requests))):
            if self.requests[number].new:
                self.requests[number] = evolve(self.requests[number], accepted=True)
                return

    def _note(self, key: Key, before: tuple[int, str]) -> None:
        self.keys.append(key)
        stretch, text = self.session.progress
        if stretch == before[0] and (written := text[len(before[1]) :]):
            self.written.append(TypedSpan(key.kind, stretch, written))
