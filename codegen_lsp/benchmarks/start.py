"""Start-up time of the language server and its worker by part, and their memory, with the real processes.

Each round starts the server as an editor does, opens a document at once, and asks for a suggestion when the model is
ready; then it starts a worker alone and asks it once. The messages that they send mark the parts. How long the
interpreter and the imports take is measured in processes of their own, in the same rounds. A last process of each kind
attributes the imports to packages: the profiler slows them down, so only its proportions count.

The parts are differences of medians: in a round disturbed by other programs, single differences mean little.
"""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.benchmarks.lsp_client import EditorClient, position_at
from codegen_lsp.benchmarks.memory import PREFIX, SIXTEEN, memory_mb, sources
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.client.launch import worker_environment
from codegen_lsp.inference.rpc.messages import GenerateParams, LoadParams, LoadProgress
from codegen_lsp.temporary_folder import TemporaryFolder

SERVER_IMPORTS = "import gc; gc.disable(); import codegen_lsp.cli.__main__, codegen_lsp.lsp.serve"
"""As `cli.stdio_server` imports them."""
WORKER_IMPORTS = "import codegen_lsp.inference.worker.process"
SERVER_PARTS = ("interpreter", "imports", "initialize answered", "first document", "model ready", "first suggestion")
WORKER_PARTS = ("interpreter", "imports", "listening", "tokenizer", "weights", "speed measured", "first answer")
LOADING = (0.1, 0.3, 0.9, 1.0)
"""Shares of the progress at which `load_model` reads the tokenizer, opens the engine, measures it, and is done."""
TYPED = "\n\nimport o"
"""End of the document: the beginning of a line, which has a continuation."""
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
"""A line of `-X importtime`: microseconds without nested imports, and the module."""
OWN_FOLDERS = 2
"""Parts of a module's name that name its package, in this project."""


@frozen
class ProcessStart:
    """The start of one kind of process. Times are seconds, memory is MiB."""

    parts: dict[str, float]
    """The time that each part takes, in the order in which they happen."""
    whole: float
    """From the start of the process to the end of the last part; the median."""
    slowest: float
    imports: dict[str, float]
    """The time of the imports by package, most first, without nested imports of other packages."""
    memory_mb: float
    """Proportional set size after the last part; the median."""


@frozen
class StartTimes:
    """The starts of a number of servers and workers."""

    server: ProcessStart
    worker: ProcessStart
    """Started by itself: its times are not those of the server's worker, which starts later."""
    pair_mb: float
    """Memory of a server and its worker together."""
    rounds: int


def measure_start(build: Path, threads: int, rounds: int) -> StartTimes:
    """Start servers and workers. Raises: ModelError, WorkerError and ReplayError."""
    text = sources(PREFIX, 1)[0][:PREFIX].rpartition("\n")[0] + TYPED
    servers, workers, memories = [], [], []
    for _ in range(rounds):
        marks, memory = asyncio.run(server_round(build, text, threads))
        servers.append([process_seconds("pass"), process_seconds(SERVER_IMPORTS), *marks])
        memories.append(memory)
        marks, alone = asyncio.run(worker_round(build, text, threads))
        workers.append([process_seconds("pass"), process_seconds(WORKER_IMPORTS), *marks, alone])
    server = summary(SERVER_PARTS, servers, SERVER_IMPORTS, [memory[0] for memory in memories])
    worker = summary(WORKER_PARTS, [one[:-1] for one in workers], WORKER_IMPORTS, [one[-1] for one in workers])
    return StartTimes(server, worker, statistics.median(map(sum, memories)), rounds)


async def server_round(build: Path, text: str, threads: int) -> tuple[list[float], tuple[float, float]]:
    """Start a server; return the seconds from its start to the end of each part, and the memory of both processes."""
    settings = {"model": str(build), "threads": threads, "metrics": False, "worker": {"shared": False}}
    editor = EditorClient()
    with TemporaryFolder() as folder:
        uri = (folder / "document.py").as_uri()
        document = {"textDocument": {"uri": uri}}
        marks = []
        started = time.perf_counter()
        try:
            await editor.launch(dict(os.environ))
            await editor.initialize(settings, [])
            marks.append(time.perf_counter() - started)
            opened = {"uri": uri, "languageId": "python", "version": 1, "text": text}
            editor.tell("textDocument/didOpen", {"textDocument": opened})
            await editor.ask("codegen-lsp/explain", document)
            marks.append(time.perf_counter() - started)
            await editor.until_ready()
            marks.append(time.perf_counter() - started)
            context = {"position": position_at(text, len(text)), "context": {"triggerKind": 2}}
            await editor.ask("textDocument/inlineCompletion", document | context)
            marks.append(time.perf_counter() - started)
            server, worker = editor.processes
            return marks, (memory_mb(server), memory_mb(worker))
        finally:
            await editor.end()


async def worker_round(build: Path, text: str, threads: int) -> tuple[list[float], float]:
    """Start a worker; return the seconds from its start to the end of each part, and its memory."""
    marks: dict[float, float] = {}
    client = InferenceClient(on_progress=lambda progress: _mark(marks, progress, started))
    started = time.perf_counter()
    try:
        await client.load(LoadParams(str(build), threads=threads))
        await client.generate(GenerateParams("a", text, stop=SIXTEEN))
        answered = time.perf_counter() - started
        assert client.state.pid is not None
        return [*(marks[share] for share in LOADING), answered], memory_mb(client.state.pid)
    finally:
        await client.close()


def _mark(marks: dict[float, float], progress: LoadProgress, started: float) -> None:
    marks.setdefault(progress.fraction, time.perf_counter() - started)


def process_seconds(program: str) -> float:
    """Return the seconds from starting an interpreter to the end of a program, the interpreter's own end left out."""
    started = time.perf_counter()
    command = [sys.executable, "-P", "-X", "utf8", "-c", f"{program}; import os; os._exit(0)"]
    subprocess.run(command, env=worker_environment(), check=True)
    return time.perf_counter() - started


def imports_by_package(program: str) -> dict[str, int]:
    """Return the microseconds that a program's imports take under the profiler, by package."""
    command = [sys.executable, "-P", "-X", "utf8", "-X", "importtime", "-c", program]
    result = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, check=True)
    found: Counter[str] = Counter()
    for microseconds, module in IMPORT.findall(result.stderr):
        names = module.split(".")
        found[".".join(names[: OWN_FOLDERS if names[0] == "codegen_lsp" else 1])] += int(microseconds)
    return dict(found.most_common())


def summary(
    names: Sequence[str], rounds: Sequence[Sequence[float]], program: str, memory: Sequence[float]
) -> ProcessStart:
    """Return the medians of rounds, each with the seconds from the start to the end of each part."""
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    parts = {name: end - begin for name, begin, end in zip(names, [0.0, *medians], medians, strict=False)}
    profiled = imports_by_package(program)
    scale = parts["imports"] / sum(profiled.values())
    return ProcessStart(
        parts=parts,
        whole=medians[-1],
        slowest=max(times[-1] for times in rounds),
        imports={package: share * scale for package, share in profiled.items()},
        memory_mb=statistics.median(memory),
    )
