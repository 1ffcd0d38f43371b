"""One worker for all language servers of a user that run the same build in the same way.

Every editor window starts a server. A worker for each would hold the weights in memory as many times as there are
windows, so servers meet at an endpoint (`rpc.endpoint`) that is named after a digest of everything they must agree on.
The first server starts the worker and hands it a socket that is already listening, so later ones can connect at once
and wait until it is up. The worker exits with its last client. It does not depend on the server that started it: it is
a session of its own, shares no pipe with that server, and its standard error is a file, which each server reads.

Where there are no Unix sockets, or the folder can't be trusted, `SharingError` says so, and each server starts a worker
of its own (`launch`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import attrs

from codegen_lsp.inference.client import launch
from codegen_lsp.inference.client.launch import STDERR_LINES, note_line, start_error
from codegen_lsp.inference.rpc.endpoint import Endpoint, SharingError, endpoint_of, is_same_user, locked, remove_socket
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.version import __version__

BACKLOG = 64
"""Connections that may be pending until the worker is up."""
EXIT_TIMEOUT = 2.0
"""Seconds between the end of a worker's socket and the end of its process."""
LOG_BYTES = 64 * 1024
"""Read at most, at once, of a worker's log."""
PACKAGE = Path(__file__).parents[2]
VARIABLES = ("PYTHONHOME", "PYTHONPATH")
PREFIXES = (
    "CODEGEN_LSP_",
    "CT2_",
    "CUDA_",
    "GLIBC_",
    "GOMP_",
    "KMP_",
    "LD_",
    "MALLOC_",
    "MKL_",
    "OMP_",
    "OPENBLAS_",
    "TORCH_",
)
"""Environment variables that change which code a worker runs, or how."""


def endpoint_for(params: LoadParams) -> Endpoint:
    """Return the endpoint of the servers that run this build in this way. Raises SharingError."""
    return endpoint_of(digest_of(params))


def digest_of(params: LoadParams) -> str:
    """Return a digest of what must be equal for servers to share a worker: code, interpreter, build, parameters."""
    params = resolved(params)
    environment = launch.worker_environment()
    facts = [
        __version__,
        _stamps(program_files()),
        launch.worker_command(),
        attrs.asdict(params),
        _stamps(_files(Path(params.build))),
        sorted(item for item in environment.items() if item[0] in VARIABLES or item[0].startswith(PREFIXES)),
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def resolved(params: LoadParams) -> LoadParams:
    """Return the parameters with an absolute path of the build, equal for servers in all working directories."""
    return attrs.evolve(params, build=str(Path(params.build).resolve()))


def program_files() -> Iterator[Path]:
    """Yield the paths of the files that a worker runs: `inference` with its native libraries, and what it imports.

    `inference` imports no other package of this project, only modules beside it (tests/test_import_rules.py).
    """
    yield from PACKAGE.glob("*.py")
    yield from _files(PACKAGE / "inference")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the paths of all files below a folder, but for compiled bytecode."""
    for parent, folders, names in os.walk(folder):
        if "__pycache__" in folders:
            folders.remove("__pycache__")
        yield from (Path(parent, name) for name in names)


def _stamps(paths: Iterator[Path]) -> list[tuple[str, int, int]]:
    """Return path, size in bytes and time of change in nanoseconds of each file that exists, in order of the path."""
    stamps = []
    for path in sorted(paths):
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps.append((str(path), status.st_size, status.st_mtime_ns))
    return stamps


class _Child:
    """A worker that this process started.

    Not started by asyncio, which would kill it at the end of this process. A thread waits for its end, so that it does
    not stay as a zombie.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.exit_code: Future[int] = Future()
        threading.Thread(target=self._wait, name="worker exit", daemon=True).start()

    def _wait(self) -> None:
        self.exit_code.set_result(self.process.wait())


class SharedWorker:
    """A connection to a worker that other servers may be connected to."""

    def __init__(
        self,
        endpoint: Endpoint,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        child: _Child | None,
    ) -> None:
        self.reader, self.writer = reader, writer
        self.pid: int | None = child.process.pid if child else None
        self.stderr_tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._child = child
        self._incomplete = b""
        # Opened now, since the server that starts the next worker replaces the file.
        self._log = os.open(endpoint.log, os.O_RDONLY | os.O_CLOEXEC)
        self._read = max(0, os.fstat(self._log).st_size - LOG_BYTES)

    def __del__(self) -> None:
        self._close_log()

    @property
    def is_child(self) -> bool:
        """True if this process started the worker."""
        return self._child is not None

    def read_stderr(self) -> None:
        """Read the lines that were added to the log."""
        if self._log < 0:
            return
        size = os.fstat(self._log).st_size
        if size < self._read:  # the worker truncated it
            self._read, self._incomplete = 0, b""
        if size == self._read:
            return
        data = os.pread(self._log, min(size - self._read, LOG_BYTES), self._read)
        self._read += len(data)
        *lines, self._incomplete = (self._incomplete + data).split(b"\n")
        for line in lines:
            note_line(self.stderr_tail, line)

    async def exit_code(self) -> int | None:
        """Return the exit code if this process started the worker and it has exited within `EXIT_TIMEOUT`.

        Call it after the end of the stream: the log is read to its end and closed.
        """
        code = None
        if self._child is not None:
            exited = asyncio.shield(asyncio.wrap_future(self._child.exit_code))
            with contextlib.suppress(TimeoutError):
                code = await asyncio.wait_for(exited, EXIT_TIMEOUT)
        self.read_stderr()
        # Not left to the garbage collector: a server outlives many workers, and this object is in a cycle.
        self._close_log()
        return code

    def kill(self) -> None:
        """Kill the worker, for all servers that are connected."""
        if self._child is not None:
            self._child.process.kill()
        elif self.pid is not None and not self.reader.at_eof():  # else another process may have its pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _close_log(self) -> None:
        log, self._log = self._log, -1
        if log >= 0:
            os.close(log)


async def join_or_start(endpoint: Endpoint) -> SharedWorker:
    """Connect to the endpoint's worker; start one if there is none. Raises SharingError and WorkerError."""
    async with locked(endpoint):
        child = None
        connection = await _connect(endpoint)
        if connection is None:
            child = _start(endpoint)
            connection = await _connect(endpoint)
        try:
            if connection is None or not is_same_user(connection[1].get_extra_info("socket")):
                raise SharingError(
                    f"No worker of this user listens on {endpoint.socket}.", f"Remove {endpoint.socket}."
                )
            return SharedWorker(endpoint, *connection, child)
        except BaseException as error:
            if connection is not None:
                connection[1].close()
            if isinstance(error, OSError):
                raise SharingError(f"{endpoint.log} can't be read: {error.strerror or error}.") from error
            raise


def inode_of(endpoint: Endpoint) -> int:
    """Return the inode of the endpoint's socket; 0 if there is none."""
    try:
        return endpoint.socket.lstat().st_ino
    except OSError:
        return 0


async def retire(endpoint: Endpoint, inode: int) -> None:
    """Remove the worker whose socket has this inode from the endpoint. Raises SharingError.

    Connected servers keep it; servers that connect later get a new one.
    """
    async with locked(endpoint):
        remove_socket(endpoint, inode)


async def _connect(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Return a connection, or None when no process listens. Raises SharingError."""
    try:
        return await asyncio.open_unix_connection(endpoint.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise SharingError(f"{endpoint.socket} can't be connected to: {error.strerror or error}.") from error


def _start(endpoint: Endpoint) -> _Child:
    """Start a worker that listens on the socket. Raises SharingError and WorkerError."""
    try:
        _remove_stale_sockets(endpoint.folder)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            endpoint.socket.unlink(missing_ok=True)
            endpoint.log.unlink(missing_ok=True)
            listening.bind(str(endpoint.socket))
            listening.listen(BACKLOG)
            log = os.open(endpoint.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                return _Child(_popen(endpoint, listening.fileno(), log))
            finally:
                os.close(log)
    except OSError as error:
        raise SharingError(f"No socket can be made in {endpoint.folder}: {error.strerror or error}.") from error


def _popen(endpoint: Endpoint, listening: int, log: int) -> subprocess.Popen[bytes]:
    arguments = ["--listen", str(listening), "--folder", str(endpoint.folder), "--digest", endpoint.digest]
    environment = launch.worker_environment()
    try:
        return subprocess.Popen(
            [*launch.worker_command(), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",  # so that the worker keeps no folder from being removed
            pass_fds=[listening],
            start_new_session=True,
        )
    except OSError as error:
        raise start_error(error) from error


def _remove_stale_sockets(folder: Path) -> None:
    """Remove sockets and logs of workers that were killed."""
    for path in folder.glob("*.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
                path.with_suffix(".log").unlink(missing_ok=True)
            except OSError:
                continue
