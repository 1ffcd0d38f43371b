"""One worker for all servers of a user that run the same build in the same way.

They meet at a Unix socket in a folder that only this user can enter. Its name is a digest of everything that must be
the same for servers to share a worker, so that two that differ never meet. Whoever comes first starts the worker and
hands it the socket, which listens already; so those who come next can connect at once and wait until it is up. A lock
on a file in the folder makes sure that only one is started. The worker leaves with the last that is connected, and
nobody has to know who that is: it is a session of its own, with no pipe to the one that started it, and its standard
error stream is a file, from which each server reads.

Where there are no Unix sockets, or the folder can't be trusted, `SharingError` says so, and each server has a worker of
its own (`links`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from pathlib import Path

import attrs
from attrs import frozen

import codegen_lsp
from codegen_lsp import __version__
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.client import environment as process
from codegen_lsp.inference.client.launch import KEPT_LINES, not_started, note_line
from codegen_lsp.inference.rpc.messages import LoadParams

logger = logging.getLogger(__name__)

LONGEST_PATH = 103
"""Bytes of a socket's path: 107 on Linux, 103 on macOS and the BSDs."""
BACKLOG = 64
"""Servers that may be waiting for the worker to come up."""
LOCK_SECONDS = 10.0
"""The lock is held while a process is started, not while a model is loaded."""
EXIT_SECONDS = 2.0
"""Between the end of a worker's socket and the end of its process."""
KEPT_BYTES = 64 * 1024
"""Of a log that was written before, so much is read."""
VARIABLES = ("PYTHONHOME", "PYTHONPATH")
PREFIXES = ("CODEGEN_LSP_", "CT2_", "CUDA_", "GLIBC_", "GOMP_", "KMP_", "LD_", "MALLOC_", "MKL_", "OMP_", "TORCH_")
"""Environment variables that change which code a worker runs, or how."""


class SharingError(CodegenError):
    """No worker can be shared here, and why."""


class NoSocketsError(SharingError):
    """This system has no Unix sockets."""


@frozen
class Place:
    """Where the servers with this digest meet their worker."""

    folder: Path
    digest: str

    @property
    def socket(self) -> Path:
        """What the worker listens on."""
        return self.folder / f"{self.digest}.sock"

    @property
    def log(self) -> Path:
        """The worker's standard error stream."""
        return self.folder / f"{self.digest}.log"

    @property
    def lock(self) -> Path:
        """Held while a socket is made or removed. One for the folder, so that locks don't gather in it."""
        return self.folder / "lock"


def place_for(params: LoadParams) -> Place:
    """Where to meet the others that run this build in this way. Raises SharingError."""
    place = Place(private_folder(), digest_of(params))
    if len(os.fsencode(place.socket)) > LONGEST_PATH:
        raise SharingError(
            f"The path {place.socket} is too long for a socket.", "Set XDG_RUNTIME_DIR to a shorter one."
        )
    return place


def private_folder() -> Path:
    """The folder that only this user can enter, made if it is missing.

    Raises SharingError where there are no Unix sockets, and for a folder that is another's or open to others.
    """
    if sys.platform == "win32" or not hasattr(socket, "AF_UNIX"):
        raise NoSocketsError("This system has no Unix sockets.")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_absolute():
        folder = Path(runtime) / "codegen-lsp"
    else:
        folder = Path(tempfile.gettempdir()) / f"codegen-lsp-{os.getuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise SharingError(f"{folder} can't be made: {error.strerror or error}.") from error
    advice = f"Remove {folder}, or make it a folder of yours that nobody else can enter."
    if not stat.S_ISDIR(found.st_mode):
        raise SharingError(f"{folder} is no folder.", advice)
    if found.st_uid != os.geteuid():
        raise SharingError(f"{folder} belongs to another user.", advice)
    if found.st_mode & 0o077:
        raise SharingError(f"{folder} is open to other users.", advice)
    return folder


def digest_of(params: LoadParams) -> str:
    """A digest of what must be the same for servers to share a worker: program, interpreter, build, parameters."""
    params = resolved(params)
    environment = process.worker_environment()
    facts = [
        __version__,
        _stamps(Path(codegen_lsp.__file__).parent),
        process.worker_command(),
        attrs.asdict(params),
        _stamps(Path(params.build)),
        sorted(item for item in environment.items() if item[0] in VARIABLES or item[0].startswith(PREFIXES)),
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def resolved(params: LoadParams) -> LoadParams:
    """The parameters as all servers write them, whatever folder they run in."""
    return attrs.evolve(params, build=str(Path(params.build).resolve()))


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    """Path, size and time of change of each file in a folder: another build under the same name is another one."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.rglob("*")):
            if path.suffix != ".pyc" and path.is_file():
                status = path.stat()
                found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


class Child:
    """A worker that this process started.

    asyncio would kill it at the end of this process, so it is not started by asyncio. Its end is waited for in a
    thread, so that no zombie stays.
    """

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self.process = started
        self.exit_code: Future[int] = Future()
        threading.Thread(target=self._wait, name="worker's end", daemon=True).start()

    def _wait(self) -> None:
        self.exit_code.set_result(self.process.wait())


class SharedLink:
    """A connection to a worker that others may be connected to."""

    def __init__(
        self,
        place: Place,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        child: Child | None,
    ) -> None:
        self.reader, self.writer = reader, writer
        self.pid: int | None = child.process.pid if child else None
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._child = child
        self._rest = b""
        # Opened now, since whoever starts the next worker puts another file in this one's place.
        self._log = os.open(place.log, os.O_RDONLY | os.O_CLOEXEC)
        self._read = max(0, os.fstat(self._log).st_size - KEPT_BYTES)

    def __del__(self) -> None:
        os.close(self._log)

    @property
    def is_child(self) -> bool:
        """Whether it was started here."""
        return self._child is not None

    def read_lines(self) -> None:
        """Read what the worker wrote to its log since."""
        size = os.fstat(self._log).st_size
        if size < self._read:  # the worker emptied it
            self._read, self._rest = 0, b""
        if size == self._read:
            return
        data = os.pread(self._log, min(size - self._read, KEPT_BYTES), self._read)
        self._read += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            note_line(self.lines, line)

    async def exit_code(self) -> int | None:
        """The exit code, when the worker was started here and has ended."""
        code = None
        if self._child is not None:
            ended = asyncio.shield(asyncio.wrap_future(self._child.exit_code))
            with contextlib.suppress(TimeoutError):
                code = await asyncio.wait_for(ended, EXIT_SECONDS)
        self.read_lines()
        return code

    def kill(self) -> None:
        """End the worker, for all that are connected."""
        if self._child is not None:
            self._child.process.kill()
        elif self.pid is not None and not self.reader.at_eof():  # else another process may have its number
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


async def open_shared(place: Place) -> SharedLink:
    """Connect to the worker of this place, starting it if there is none. Raises SharingError and WorkerError."""
    async with _locked(place):
        child = None
        connected = await _connect(place)
        if connected is None:
            child = _start(place)
            connected = await _connect(place)
        try:
            if connected is None or not is_ours(connected[1].get_extra_info("socket")):
                raise SharingError(f"Nobody of ours listens on {place.socket}.", f"Remove {place.socket}.")
            return SharedLink(place, *connected, child)
        except BaseException as error:
            if connected is not None:
                connected[1].close()
            if isinstance(error, OSError):
                raise SharingError(f"{place.log} can't be read: {error.strerror or error}.") from error
            raise


async def retire(place: Place, inode: int) -> None:
    """Let nobody connect any more to the worker whose socket has this inode; those who are stay. Raises SharingError.

    So who wants a new worker gets one, and takes nothing from the others.
    """
    async with _locked(place):
        remove_socket(place, inode)


def remove_socket(place: Place, inode: int) -> None:
    """Remove the socket and the log of the worker that listens on this inode. The lock must be held."""
    with contextlib.suppress(FileNotFoundError):
        if place.socket.lstat().st_ino == inode:
            place.socket.unlink()
            place.log.unlink()


def leave(place: Place, inode: int) -> None:
    """Called by a worker that ends: remove its socket, unless somebody else is busy in the folder.

    What stays is removed by whoever next starts a worker.
    """
    with contextlib.suppress(OSError, SharingError), _opened(place) as lock:
        if _lock(lock):
            remove_socket(place, inode)


def is_ours(connection: socket.socket) -> bool:
    """Whether the process at the other end is this user's, where the system tells (Linux); else the folder tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.geteuid())


async def _connect(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A connection; None when nobody listens. Raises SharingError."""
    try:
        return await asyncio.open_unix_connection(place.socket)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except OSError as error:
        raise SharingError(f"{place.socket} can't be connected to: {error.strerror or error}.") from error


def _start(place: Place) -> Child:
    """Start a worker that listens on the socket. Raises SharingError and WorkerError."""
    try:
        _sweep(place.folder)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            place.socket.unlink(missing_ok=True)
            place.log.unlink(missing_ok=True)
            listening.bind(str(place.socket))
            listening.listen(BACKLOG)
            log = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                return Child(_popen(place, listening.fileno(), log))
            finally:
                os.close(log)
    except OSError as error:
        raise SharingError(f"No socket can be made in {place.folder}: {error.strerror or error}.") from error


def _popen(place: Place, listening: int, log: int) -> subprocess.Popen[bytes]:
    arguments = ["--listen", str(listening), "--folder", str(place.folder), "--digest", place.digest]
    environment = process.worker_environment()
    if "PYTHONPATH" in environment:  # it has another working directory, so that it keeps none from being removed
        folders = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(folder).absolute()) for folder in folders)
    try:
        return subprocess.Popen(
            [*process.worker_command(), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=[listening],
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(error) from error


def _sweep(folder: Path) -> None:
    """Remove the sockets of workers that were killed, and their logs."""
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


@contextlib.asynccontextmanager
async def _locked(place: Place) -> AsyncIterator[None]:
    """Hold the folder's lock. Raises SharingError when another holds it for too long."""
    deadline = time.monotonic() + LOCK_SECONDS
    with _opened(place) as lock:
        while not _lock(lock):
            if time.monotonic() > deadline:
                raise SharingError(f"Another process holds {place.lock} and does not let go.")
            await asyncio.sleep(0.01)
        yield


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[int]:
    """The lock file; what is held ends with the block. Raises SharingError."""
    try:
        descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SharingError(f"{place.lock} can't be opened: {error.strerror or error}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock unless another holds it."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
