"""Memory of editor windows and their worker, with the real processes.

Memory is the proportional set size (PSS): pages that several processes map count in part for each, so that the sum over
processes is the memory in use. Systems that don't report it give the unique set size instead.

- *Windows*: servers with the same settings, one after the other, each with documents in which something is completed.
  The documents of the first are enough to fill the worker's cache, so that the second adds the cost of a window and not
  that of its documents.
- *Completions*: a worker's memory during many completions over many documents, visited in random order with a few
  requests each.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import psutil
from attrs import frozen

from codegen_lsp.benchmarks.engines import build_of_shape
from codegen_lsp.benchmarks.lsp_client import EditorClient
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import read_info, write_info
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import GenerateParams, LoadParams, StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

FIRST, SECOND = 6, 3
"""Documents in each window. The cache holds two prompts of full length unless told otherwise."""
PLACES = (0.5, 0.8)
"""Positions of the completions in each document, as shares of its lines."""
SETTLE_SECONDS = 2.0
"""Seconds after which the prefetch has ended and nothing runs."""
SIXTEEN = StopRules(max_tokens=16, max_lines=1)
VISIT = 10
"""Requests in a document before another is visited."""
PREFIX = 3_000
"""Characters before the cursor."""
MARKS = 10
"""Number of memory readings."""
LONG = 20_000
"""Characters of a document, more than a window's prompt is cut from."""


@frozen
class WindowMemory:
    """Memory of windows in MiB: the maximum over the readings after each of their documents."""

    build: str
    weights: float
    """`model.bin`."""
    one: float
    """The first window: its server and the worker."""
    two: float
    """Both windows: their servers and all workers."""
    second_server: float
    workers: int

    @property
    def added(self) -> float:
        """The memory that the second window adds."""
        return self.two - self.one


@frozen
class MemoryLevel:
    """A worker's memory after a number of completions."""

    completions: int
    mb: float


@frozen
class MemoryUse:
    """The memory of windows on a build of a shape and on the embedded model, and of a worker as it completes."""

    shared: list[WindowMemory]
    private: list[WindowMemory]
    """The same builds, each window with its own worker."""
    levels: list[MemoryLevel]


def measure_memory(
    embedded: Path, shape: str, completions: int, documents: int, threads: int, report: ProgressReport
) -> MemoryUse:
    """Open windows on a build of the shape and on the embedded model, then complete with the latter.

    Raises: ModelError, WorkerError and ReplayError.
    """
    texts = sources(LONG, max(documents, FIRST + SECOND))
    found = MemoryUse([], [], [])
    with TemporaryFolder() as folder:
        report(f"Writing a build of the shape {shape}", 0.0)
        builds = [write_shape(shape, embedded, folder), embedded]
        for number, build in enumerate(builds):
            for place, (shared, kept) in enumerate(((True, found.shared), (False, found.private))):
                report(f"Two windows, {'one worker' if shared else 'two workers'}", 0.1 + 0.2 * number + 0.1 * place)
                opened = texts[: FIRST + SECOND]
                kept.append(asyncio.run(window_memory(build, opened, threads, shared=shared)))
    if completions:
        report(f"{completions} completions", 0.5)
        found.levels.extend(asyncio.run(worker_levels(embedded, texts[:documents], completions, threads)))
    return found


def plain_values(use: MemoryUse) -> dict[str, object]:
    """Return the memory as plain values, with what the second window adds and its share of the weights."""

    def values(found: WindowMemory) -> dict[str, object]:
        return attrs.asdict(found) | {"added": found.added, "added_share": found.added / found.weights}

    return {
        "shared": [values(found) for found in use.shared],
        "private": [values(found) for found in use.private],
        "completions": [attrs.asdict(level) for level in use.levels],
    }


def memory_mb(process: psutil.Process | int) -> float:
    """Return the proportional set size of a process or its id, in MiB; the unique set size where there is no other."""
    found = (psutil.Process(process) if isinstance(process, int) else process).memory_full_info()
    return float(getattr(found, "pss", 0) or found.uss) / 2**20


def write_shape(shape: str, embedded: Path, folder: Path) -> Path:
    """Write a build of a shape with random weights and a real tokenizer, to tokenize documents; return its folder.

    The folder of an existing build is returned as it is. Raises: ModelError.
    """
    build = build_of_shape(shape, folder)
    if build == folder:
        words, info = read_info(embedded), read_info(folder)
        (folder / "tokenizer.json").write_bytes((embedded / "tokenizer.json").read_bytes())
        write_info(folder, attrs.evolve(info, vocabulary_size=words.vocabulary_size, end_of_text=words.end_of_text))
    return build


async def window_memory(build: Path, texts: Sequence[str], threads: int, *, shared: bool) -> WindowMemory:
    """Open two windows on a build, with a worker for both or for each. Raises: ReplayError.

    `texts` are source code, `FIRST` of them for the first window, the others for the second.
    """
    settings = {"model": str(build), "threads": threads, "metrics": False, "threshold": 0, "candidates": 1}
    settings |= {"languages": {"*": True}, "worker": {"shared": shared}}
    with _apart() as environment, TemporaryFolder() as folder:
        editors = [EditorClient(), EditorClient()]
        try:
            await editors[0].start(settings, environment, [])
            one = [_total(editors[:1]) async for _ in _use(editors[0], folder, texts[:FIRST])]
            await editors[1].start(settings, environment, [])
            two = [_total(editors) async for _ in _use(editors[1], folder, texts[FIRST:])]
            return WindowMemory(
                read_info(build).name,
                (build / "model.bin").stat().st_size / 2**20,
                max(one),
                max(two),
                memory_mb(editors[1].processes[0]),
                len({editor.status["workerPid"] for editor in editors}),
            )
        finally:
            for editor in editors:
                await editor.end()


async def _use(editor: EditorClient, folder: Path, texts: Sequence[str]) -> AsyncIterator[None]:
    """Complete in documents; yield after each, when the server is idle."""
    for number, text in enumerate(texts):
        uri = (folder / f"{id(editor)}-{number}.py").as_uri()
        item = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        editor.tell("textDocument/didOpen", {"textDocument": item})
        lines = text.split("\n")
        for place in PLACES:
            at = next(n for n in range(int(place * len(lines)), 0, -1) if lines[n].strip())
            position = {"line": at, "character": len(lines[at])}
            params = {"textDocument": {"uri": uri}, "position": position, "context": {"triggerKind": 1}}
            await editor.ask("textDocument/inlineCompletion", params)
        await asyncio.sleep(SETTLE_SECONDS)
        yield


def _total(editors: Sequence[EditorClient]) -> float:
    """Return the memory of all servers and workers, each worker counted once."""
    processes = {process.pid: process for editor in editors for process in editor.processes}
    return sum(memory_mb(process) for process in processes.values())


async def worker_levels(
    build: Path, texts: Sequence[str], completions: int, threads: int, cache_memory_mb: int | None = None
) -> list[MemoryLevel]:
    """Return a worker's memory at each tenth of `completions` in documents. Raises: ModelError and WorkerError."""
    dice = random.Random(0)  # noqa: S311 - any documents and places will do
    client = InferenceClient()
    found: list[MemoryLevel] = []
    try:
        await client.load(LoadParams(str(build), threads=threads, cache_memory_mb=cache_memory_mb))
        worker = psutil.Process(client.state.pid)
        done = 0
        while done < completions:
            document = dice.randrange(len(texts))
            text = texts[document]
            at = dice.randrange(len(text) // 4, len(text) - 100)
            for step in range(VISIT):
                end = at + 4 * step
                prefix, suffix = text[max(0, end - PREFIX) : end], text[end : end + 500]
                await client.generate(GenerateParams(str(document), prefix, suffix, SIXTEEN, related=[text[:20_000]]))
                done += 1
                if done % max(1, completions // MARKS) == 0:
                    found.append(MemoryLevel(done, memory_mb(worker)))
                if done == completions:
                    break
    finally:
        await client.close()
    return found


def sources(least: int, count: int) -> list[str]:
    """Return `count` modules of the standard library with at least `least` characters. Raises: ModelError."""
    folder = Path(os.__file__).parent
    found = []
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) >= least:
            found.append(text[:60_000])
        if len(found) == count:
            return found
    raise ModelError(f"{folder} has only {len(found)} modules of {least} characters.", "Ask for fewer documents.")


@contextmanager
def _apart() -> Iterator[dict[str, str]]:
    """Yield an environment in which servers share no worker with other windows."""
    with TemporaryFolder("cl-") as folder:
        yield {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
