"""A stream of bytes to a worker process, and what is known of that process: how it ended, what it said last.

There are two kinds: a worker of one's own at the other end of its standard input and output, here, and one that several
servers share, at the other end of a socket, in `sharing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio.subprocess import PIPE, Process
from collections import deque
from typing import Protocol

from codegen_lsp.errors import WorkerError
from codegen_lsp.inference.client import environment as process

logger = logging.getLogger(__name__)

KEPT_LINES = 100
"""Lines of the worker's standard error kept for the message when it dies."""


class Link(Protocol):
    """A worker, as far as it is no matter which kind."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pid: int | None
    """Its process, once known."""
    lines: deque[str]
    """The last lines of its standard error, as far as they were read."""

    @property
    def is_child(self) -> bool:
        """Whether it was started here."""
        ...

    def read_lines(self) -> None:
        """Read what it wrote to its standard error since, as far as that does not happen by itself."""
        ...

    async def exit_code(self) -> int | None:
        """Called at the end of the stream: its exit code, once it has one; None when that can't be known."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


def note_line(lines: deque[str], line: bytes) -> None:
    """Keep and log a line that a worker wrote to its standard error."""
    text = line.decode("utf-8", "replace").rstrip()
    lines.append(text)
    logger.info("worker: %s", text)


class PrivateLink:
    """A worker that serves this process alone, and ends when its standard input does."""

    is_child = True

    def __init__(self, worker: Process) -> None:
        assert worker.stdin is not None
        assert worker.stdout is not None
        self.reader, self.writer = worker.stdout, worker.stdin
        self.pid: int | None = worker.pid
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process = worker
        self._stderr = asyncio.ensure_future(self._read_stderr())

    def read_lines(self) -> None:
        """They are read as they come."""

    async def exit_code(self) -> int:
        """Its exit code, once it has ended and all that it wrote is read."""
        code = await self._process.wait()
        await self._stderr
        return code

    def kill(self) -> None:
        """End it now."""
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
            note_line(self.lines, line)


async def start_private() -> PrivateLink:
    """Start a worker of one's own. Raises WorkerError."""
    try:
        started = await asyncio.create_subprocess_exec(
            *process.worker_command(), env=process.worker_environment(), stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        raise not_started(error) from error
    return PrivateLink(started)


def not_started(error: OSError) -> WorkerError:
    """What to tell when a process can't be started."""
    return WorkerError(f"The inference worker can't be started: {error}.", "Reinstall codegen-lsp.")
