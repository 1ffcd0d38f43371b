"""Start a worker process: its command line, its environment, and the tail of its standard error.

`PrivateWorker` serves one language server over its standard streams. Its counterpart for several servers is
`shared_worker.SharedWorker`; `WorkerProcess` is the interface of both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from typing import Protocol

from codegen_lsp import python_path
from codegen_lsp.errors import WorkerError
from codegen_lsp.inference import heap

logger = logging.getLogger(__name__)

STDERR_LINES = 100
"""Lines of the worker's standard error kept for the message when it dies."""

WAIT_POLICY, SPIN_COUNT = "passive", "300"
"""OpenMP threads wait for each other asleep. GNU OpenMP spins 300 times first, a few microseconds' worth, which
gains half of what unlimited spinning gains on an idle machine. When other programs need the cores, unlimited spinning
makes each product last several times as long (`docs/lab.md`)."""


SECRET_VARIABLES = ("CODEGEN_LSP_REMOTE_KEY",)
"""Variables that are of no use to a worker."""


class WorkerProcess(Protocol):
    """Streams to a worker, and what is known of its process."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pid: int | None
    """None until known: a shared worker tells it in the handshake."""
    stderr_tail: deque[str]
    """The last lines of its standard error, as far as they were read."""

    @property
    def is_child(self) -> bool:
        """True if this process started the worker."""
        ...

    def read_stderr(self) -> None:
        """Read new lines of its standard error, unless that happens by itself."""
        ...

    async def exit_code(self) -> int | None:
        """Return the exit code after the end of the stream; None when it can't be known."""
        ...

    def kill(self) -> None:
        """Kill the process."""
        ...


class PrivateWorker:
    """A worker that serves this process alone, and exits when its standard input ends."""

    is_child = True

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.reader, self.writer = process.stdout, process.stdin
        self.pid: int | None = process.pid
        self.stderr_tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._process = process
        self._reading = asyncio.ensure_future(self._read_stderr())

    def read_stderr(self) -> None:
        """Do nothing: a task reads the lines as they arrive."""

    async def exit_code(self) -> int:
        """Wait until the process has exited and its standard error is read; return the exit code."""
        code = await self._process.wait()
        await self._reading
        return code

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _read_stderr(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than the reader's limit
                continue
            if not line:
                return
            note_line(self.stderr_tail, line)


async def start_private_worker() -> PrivateWorker:
    """Start a worker for this process alone. Raises WorkerError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *worker_command(), env=worker_environment(), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        raise start_error(error) from error
    return PrivateWorker(process)


def worker_command() -> list[str]:
    """Return the command line of a worker. With `-P`, modules in its working directory are not imported."""
    return [sys.executable, "-P", "-X", "utf8", "-m", "codegen_lsp.inference.worker"]


def environment_without_secrets() -> dict[str, str]:
    """Return this process's environment without credentials."""
    environment = python_path.environment()
    for name in SECRET_VARIABLES:
        environment.pop(name, None)
    return environment


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: this process's, tuned. Variables that the user set take precedence."""
    environment = environment_without_secrets()
    environment.setdefault("GLIBC_TUNABLES", heap.TUNABLES)
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = WAIT_POLICY
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy starts one for each core, and needs it for traces only
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def note_line(tail: deque[str], line: bytes) -> None:
    """Keep and log a line of a worker's standard error."""
    text = line.decode("utf-8", "replace").rstrip()
    tail.append(text)
    logger.info("worker: %s", text)


def start_error(error: OSError) -> WorkerError:
    """Return the error for a process that can't be started."""
    return WorkerError(f"The inference worker can't be started: {error}.", "Reinstall codegen-lsp.")
