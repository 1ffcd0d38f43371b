"""The processes of a soak test, and the actions performed on them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from attrs import define, field

from codegen_lsp.benchmarks.memory import sources
from codegen_lsp.benchmarks.soak.connection import PATIENCE, CountingConnection, new_environment
from codegen_lsp.benchmarks.soak.documents import EditedDocument
from codegen_lsp.benchmarks.soak.faults import (
    FullDisk,
    TcpServer,
    vanish_from_tcp,
    vanish_from_window,
    vanish_from_worker,
)
from codegen_lsp.benchmarks.soak.levels import LOG, Levels, left_behind, level_of, marked_processes, tracebacks
from codegen_lsp.benchmarks.soak.malformed import malformed
from codegen_lsp.benchmarks.soak.schedule import Action

DOCUMENTS = 6
LANGUAGES = ("python", "python", "python", "javascript", "go", "rust")
TEXT = 4_000
"""Characters of a document in the beginning."""
MAX_OPEN = 50
"""Requests that may be open before the next one is sent."""
DELAY_ACTIONS = 3
"""Actions after which a request is cancelled, at most."""
WAIT_FOR_WORKER = 0.25
"""Share of the requests before which a worker that was killed is waited for: a start takes longer than many edits."""
PAUSE_SECONDS = 3.0
"""Time until a paused worker continues, before it counts as hung."""
FILL_PLACES = 12
"""Completions that fill the worker's cache before a reading."""
FILL_TEXT = 15_000
"""Characters of the documents they are made in."""
IDLE_CPU_SECONDS = 0.05
"""Processor time in a second below which a process counts as idle."""
EXIT_SECONDS = 30.0
"""Time in which the worker exits after its last server."""
SETTINGS: dict[str, Any] = {
    "line_tokens": 8,
    "max_tokens": 8,
    "candidates": 2,
    "threshold": 0,
    "languages": {"*": True},
    "cache": {"memory_mb": 64},
}


@define
class ServersUnderTest:
    """A run in progress."""

    folder: Path
    mark: str
    settings: dict[str, Any]
    choose: random.Random
    server: CountingConnection = field(factory=CountingConnection)
    tcp: TcpServer = field(factory=TcpServer)
    faults: list[str] = field(factory=list)
    done: Counter[str] = field(factory=Counter)
    """Actions that are no messages of the connection."""
    documents: list[EditedDocument] = field(factory=list)
    environment: dict[str, str] = field(factory=dict)
    started: float = field(factory=time.monotonic)
    interrupted: bool = False
    """True once the user wants the report of what was done so far."""
    _gone: int = 0
    """Worker that was killed or stopped last."""
    _delayed: list[tuple[int, str]] = field(factory=list)
    """Requests to be cancelled: the number of actions until then, and the id."""
    _actions: int = 0
    _filled: int = 0
    _background: set[asyncio.Task[None]] = field(factory=set)

    async def start(self) -> None:
        """Start the servers, open the documents, wait for the model. Raises: ReplayError, ModelError."""
        self.environment = new_environment(str(self.folder), self.mark)
        for name in ("tmp", "run", "state", "cache", "data", "config", "project"):
            (self.folder / name).mkdir(mode=0o700)
        texts = sources(FILL_TEXT, 2 * DOCUMENTS)
        for number, text in enumerate(texts):
            (self.folder / "project" / f"module_{number}.py").write_text(text[:FILL_TEXT], encoding="utf-8")
        for number, language in enumerate(LANGUAGES):
            uri = (self.folder / "project" / f"edited_{number}.py").as_uri()
            self.documents.append(EditedDocument(uri, language, texts[number][:TEXT]))
        await self.server.start(self.environment)
        await self.tcp.start(self.environment)
        project = self.folder / "project"
        await self.server.ask(
            "initialize",
            "initialize",
            {
                "processId": os.getpid(),
                "rootUri": None,
                "capabilities": {"textDocument": {"inlineCompletion": {}}},
                "initializationOptions": self.settings | self._log("error"),
                "workspaceFolders": [{"uri": project.as_uri(), "name": "project"}],
            },
        )
        self.server.notify("initialized", "initialized", {})
        for document in self.documents:
            self.server.notify("open", "textDocument/didOpen", document.opened())
        await self.until_ready()

    def _log(self, level: str) -> dict[str, Any]:
        return {"log": {"level": level, "file": str(self.folder / "state" / LOG)}}

    async def until_ready(self) -> int:
        """Wait for a worker that is ready and was not killed; return its process. Raises: ReplayError."""
        while True:
            state = self.server.status
            if state.get("state") in ("ready", "busy") and state["workerPid"] not in (self._gone, None):
                return int(state["workerPid"])
            if state.get("state") == "error":
                # It died too often, as it does here.
                self.server.status = {}
                self.done["restart by hand"] += 1
                command = {"command": "codegen-lsp.restartWorker", "arguments": []}
                await self.server.ask("restart", "workspace/executeCommand", command)
                continue
            seen = self.server.status
            await self.server.until(lambda seen=seen: self.server.status is not seen, "have a model")

    async def perform(self, action: Action) -> None:
        """Perform one action. Raises: ReplayError when the server does not go on."""
        self._actions += 1
        self._cancel_due()
        match action:
            case Action.EDIT:
                document = self.choose.choice(self.documents)
                self.server.notify("edit", "textDocument/didChange", document.edit(self.choose))
            case Action.REQUEST | Action.CANCEL:
                await self._complete(cancelled=action is Action.CANCEL)
            case Action.ASK:
                self._ask()
            case Action.REOPEN | Action.LOSE:
                self._reopen(lost=action is Action.LOSE)
            case Action.KILL | Action.STOP | Action.PAUSE:
                await self._signal(action)
            case Action.FILL_DISK | Action.FREE_DISK:
                self._disk(full=action is Action.FILL_DISK)
            case Action.VANISH:
                await self._vanish()
            case Action.WINDOW:
                self.later(self._window(random.Random(self.choose.random())))  # noqa: S311 - not for secrets
            case Action.MALFORMED:
                raise AssertionError("sent by `malformed`")
        if self._actions % 8 == 0:
            await self.server.drain()

    async def malformed(self, number: int) -> None:
        """Send so many malformed messages at once."""
        self._actions += 1
        messages = []
        for _ in range(number):
            id = self.server.next_id()
            messages.append((id, malformed(id, self.choose)))
        self.server.send_malformed(messages)
        await self.server.drain()

    async def compare(self) -> None:
        """Compare all documents with the server's. Raises: ReplayError."""
        for document in self.documents:
            params = {"textDocument": {"uri": document.uri}}
            answer = await self.server.ask("explain", "codegen-lsp/explain", params)
            state = answer["result"]["document"]
            if state is None or (state["version"], state["sha256"]) != (document.version, document.digest):
                self.faults.append(
                    f"The text of {document.uri} differs from the editor's at version {document.version}."
                )
                self.server.notify("close", "textDocument/didClose", {"textDocument": {"uri": document.uri}})
                self.server.notify("open", "textDocument/didOpen", document.opened())

    async def settle(self) -> None:
        """Let everything end that was begun: delayed cancels, pauses, requests. Raises: ReplayError."""
        self._cancel_due(at_once=True)
        if self._background:
            await asyncio.gather(*self._background)
        await self.server.until_answered()

    async def reading(self, at: str) -> Levels:
        """Fill the worker's cache and read the levels of all processes. Raises: ReplayError."""
        await self.settle()
        filled, worker = 0, 0
        while filled < FILL_PLACES:
            if (ready := await self.until_ready()) != worker:
                filled, worker = 0, ready  # it died meanwhile, and another one is to be filled
            document = self._fill_document()
            name = {"textDocument": {"uri": document.uri}}
            line = document.units.count("\n") * (1 + filled // DOCUMENTS) // (2 + filled // DOCUMENTS)
            self.server.notify("open", "textDocument/didOpen", document.opened())
            where = name | {"position": {"line": line, "character": 0}}
            await self.server.ask(
                "completion", "textDocument/inlineCompletion", where | {"context": {"triggerKind": 1}}
            )
            self.server.notify("close", "textDocument/didClose", name)
            filled += 1
        await self.server.ask("explain", "codegen-lsp/explain", {})
        await _idle(worker)
        processes = {"server": self.server.pid, "worker": worker, "server on TCP": self.tcp.pid}
        return Levels(at, time.monotonic() - self.started, {name: level_of(pid) for name, pid in processes.items()})

    async def end(self) -> None:
        """End the servers; note what is wrong or left behind."""
        if self.tcp.ended:
            self.faults.append("The server on TCP ended by itself.")
        code = await self.server.end()
        if code != 0:
            self.faults.append(f"The server had the exit code {code}; None: it had to be killed.")
        if not await self.tcp.end():
            self.faults.append("The server on TCP did not end at SIGTERM.")
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline and any(marked_processes(self.mark)):  # noqa: ASYNC110 - no child
            await asyncio.sleep(0.1)
        self.faults += left_behind(self.folder, self.mark)
        for process in marked_processes(self.mark):
            with contextlib.suppress(psutil.Error):
                process.kill()
        server = self.server
        lost = Counter(server.open.values())
        self.faults += [f"{number} requests were not answered: {kind}." for kind, number in lost.items()]
        if server.null_answered != server.null_expected:
            self.faults.append(
                f"{server.null_expected} messages without a valid id have {server.null_answered} answers."
            )
        self.faults += [f"An answer belongs to no open request: {answer}" for answer in server.unexpected]
        self.faults += [f"A message was shown to the user: {message}" for message in server.shown]
        self.faults += tracebacks(self.folder / "state" / LOG)
        internal = [kind for kind in server.answered if kind.endswith("error -32603")]
        self.faults += [f"{server.answered[kind]} internal errors: {kind}." for kind in internal]

    def _cancel_due(self, *, at_once: bool = False) -> None:
        """Cancel the requests whose time has come, or all."""
        for due, id in list(self._delayed):
            if at_once or self._actions >= due:
                self._delayed.remove((due, id))
                self.server.notify("cancel", "$/cancelRequest", {"id": id})

    async def _complete(self, *, cancelled: bool) -> None:
        if len(self.server.open) > MAX_OPEN:
            await self.server.drain()
            await self.server.until(lambda: len(self.server.open) <= MAX_OPEN, "answer its requests")
        if not cancelled and self.choose.random() < WAIT_FOR_WORKER:
            await self.until_ready()
        document = self.choose.choice(self.documents)
        where = {"textDocument": {"uri": document.uri}, "position": document.position(self.choose)}
        context = {"context": {"triggerKind": self.choose.choice((1, 2))}}
        kind = "completion to be cancelled" if cancelled else "completion"
        id = self.server.request(kind, "textDocument/inlineCompletion", where | context)
        if not cancelled:
            return
        if self.choose.random() < 0.5:
            self.server.notify("cancel", "$/cancelRequest", {"id": id})
        else:
            self._delayed.append((self._actions + self.choose.randint(1, DELAY_ACTIONS), id))

    def _ask(self) -> None:
        document = self.choose.choice(self.documents)
        name = {"textDocument": {"uri": document.uri}}
        if self.choose.random() < 0.5:
            self.server.request("explain", "codegen-lsp/explain", name)
            return
        ends = {"start": document.position(self.choose), "end": document.position(self.choose)}
        self.server.request(
            "code action", "textDocument/codeAction", name | {"range": ends, "context": {"diagnostics": []}}
        )

    def _reopen(self, *, lost: bool) -> None:
        document = self.choose.choice(self.documents)
        name = {"textDocument": {"uri": document.uri}}
        if lost:
            change = {"textDocument": {"uri": document.uri, "version": "x"}, "contentChanges": [{"range": 1}]}
            self.server.notify("malformed change", "textDocument/didChange", change)
            where = name | {"position": document.position(self.choose), "context": {"triggerKind": 1}}
            self.server.request("completion after a malformed change", "textDocument/inlineCompletion", where)
        self.server.notify("close", "textDocument/didClose", name)
        if self.choose.random() < 0.3:
            where = name | {"position": {"line": 0, "character": 0}, "context": {"triggerKind": 1}}
            self.server.request("completion in a closed document", "textDocument/inlineCompletion", where)
        document.version = self.choose.randint(0, 9)
        self.server.notify("open", "textDocument/didOpen", document.opened())

    async def _signal(self, action: Action) -> None:
        pid = await self.until_ready()
        if action is Action.PAUSE:
            if _send_signal(pid, signal.SIGSTOP):
                asyncio.get_running_loop().call_later(PAUSE_SECONDS, self.go_on, pid)
                self.done["pause of the worker"] += 1
            return
        if _send_signal(pid, signal.SIGKILL if action is Action.KILL else signal.SIGSTOP):
            self.done["kill of the worker" if action is Action.KILL else "stop of the worker"] += 1
            self._gone = pid
        if action is Action.STOP:
            self.later(self._ask_stopped_worker(pid))

    def go_on(self, pid: int) -> None:
        """Let a paused worker go on, unless it was stopped for good or killed meanwhile."""
        if pid != self._gone:
            _send_signal(pid, signal.SIGCONT)

    async def _ask_stopped_worker(self, pid: int) -> None:
        """Ask for completions until a worker that hangs is noticed: it is watched while a request is open."""
        deadline = time.monotonic() + PATIENCE
        while self.server.status.get("workerPid") == pid and not self.server.ended and not self.interrupted:
            if time.monotonic() > deadline:
                self.faults.append("A worker that hung was not noticed.")
                _send_signal(pid, signal.SIGKILL)
                return
            document = self._fill_document()
            name = {"textDocument": {"uri": document.uri}}
            self.server.notify("open", "textDocument/didOpen", document.opened())
            where = name | {"position": {"line": document.units.count("\n") // 2, "character": 0}}
            await self.server.ask(
                "completion", "textDocument/inlineCompletion", where | {"context": {"triggerKind": 1}}
            )
            self.server.notify("close", "textDocument/didClose", name)

    def _fill_document(self) -> EditedDocument:
        """Return a new document with a module's text, in which the model is asked."""
        path = self.folder / "project" / f"module_{self._filled % (2 * DOCUMENTS)}.py"
        self._filled += 1
        return EditedDocument(f"file:///fill_{self._filled}.py", "python", path.read_text(encoding="utf-8"))

    def _disk(self, *, full: bool) -> None:
        disk = FullDisk(self.folder, self.mark)
        # The log is written while it can't be.
        settings = self.settings | self._log("info" if full else "error")
        self.server.notify("settings", "workspace/didChangeConfiguration", {"settings": {"codegen-lsp": settings}})
        if full:
            disk.fill()
            self.done["full disk" if disk.is_filled else "full disk, by a limit"] += 1
        else:
            disk.free()

    async def _vanish(self) -> None:
        if self.choose.random() < 0.7:
            how = await vanish_from_tcp(self.tcp, self.settings, "value = 1\n" * 20, self.choose)
        else:
            sockets = sorted((self.folder / "run" / "codegen-lsp").glob("*.sock"))
            how = await vanish_from_worker(sockets, self.choose)
        self.done[f"vanishing {how}"] += 1

    async def _window(self, choose: random.Random) -> None:
        how = await vanish_from_window(self.environment, self.settings, choose)
        if how is None:
            self.faults.append("A server did not end after its editor was gone.")
        else:
            self.done[f"vanishing {how}"] += 1

    def later(self, work: Any) -> None:
        """Do something beside the actions."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _idle(pid: int) -> None:
    """Wait until a process computes nothing: a prefetch that runs may take as much memory as the whole cache."""
    deadline = time.monotonic() + PATIENCE
    before, now = -1.0, 0.0
    while now - before > IDLE_CPU_SECONDS and time.monotonic() < deadline:
        before = now
        await asyncio.sleep(1)
        with contextlib.suppress(psutil.NoSuchProcess):
            now = sum(psutil.Process(pid).cpu_times()[:2])


def _send_signal(pid: int, number: signal.Signals) -> bool:
    """Send a signal; return False if the process is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
