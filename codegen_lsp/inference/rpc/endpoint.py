"""The endpoint of a shared worker: a Unix socket, a log and a lock in a folder that only its user can enter.

The name of socket and log is a digest of everything that must be equal for servers to share a worker
(`client.shared_worker.digest_of`), so servers that differ never meet. The lock is held while a socket is made or
removed, which makes sure that only one worker is started for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from attrs import frozen

from codegen_lsp.errors import CodegenError

MAX_PATH_BYTES = 103
"""Length limit of a socket's path: 107 bytes on Linux, 103 on macOS and the BSDs."""
LOCK_TIMEOUT = 10.0
"""Seconds. The lock is held while a process is started, not while a model is loaded."""
LOCK_POLL_INTERVAL = 0.01
"""Seconds."""
LOCK_MODE = 0o600


class SharingError(CodegenError):
    """A worker can't be shared."""


class NoSocketsError(SharingError):
    """This system has no Unix sockets."""


@frozen
class Endpoint:
    """Meeting point of the servers with one digest and their worker."""

    folder: Path
    digest: str

    @property
    def socket(self) -> Path:
        """Path of the socket that the worker listens on."""
        return self.folder / f"{self.digest}.sock"

    @property
    def log(self) -> Path:
        """Path of the file that is the worker's standard error."""
        return self.folder / f"{self.digest}.log"

    @property
    def lock(self) -> Path:
        """Path of the lock. One for the whole folder, so that lock files don't accumulate."""
        return self.folder / "lock"


def endpoint_of(digest: str) -> Endpoint:
    """Return the endpoint for a digest. Raises SharingError when there can be none on this system."""
    endpoint = Endpoint(private_folder(), digest)
    if len(os.fsencode(endpoint.socket)) > MAX_PATH_BYTES:
        raise SharingError(
            f"The path {endpoint.socket} is too long for a socket.", "Set XDG_RUNTIME_DIR to a shorter one."
        )
    return endpoint


def private_folder() -> Path:
    """Return the folder of this user's endpoints, and make it if it is missing.

    Raises SharingError when the folder belongs to another user or is accessible to others, NoSocketsError on a system
    without Unix sockets.
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
    advice = f"Remove {folder}, or make it a folder of yours that no other user can enter."
    if not stat.S_ISDIR(found.st_mode):
        raise SharingError(f"{folder} is not a folder.", advice)
    if found.st_uid != os.geteuid():
        raise SharingError(f"{folder} belongs to another user.", advice)
    if found.st_mode & 0o077:
        raise SharingError(f"{folder} is open to other users.", advice)
    return folder


@contextlib.asynccontextmanager
async def locked(endpoint: Endpoint) -> AsyncIterator[None]:
    """Hold the lock of the endpoint's folder. Raises SharingError when it can't be had within `LOCK_TIMEOUT`."""
    from filelock import AsyncFileLock, Timeout

    lock = AsyncFileLock(
        endpoint.lock, LOCK_TIMEOUT, LOCK_MODE, poll_interval=LOCK_POLL_INTERVAL, run_in_executor=False
    )
    try:
        await lock.acquire()
    except Timeout:
        raise SharingError(f"Another process holds {endpoint.lock} and does not release it.") from None
    except OSError as error:
        raise SharingError(f"{endpoint.lock} can't be locked: {error.strerror or error}.") from error
    try:
        yield
    finally:
        await lock.release()


def remove_socket(endpoint: Endpoint, inode: int) -> None:
    """Remove socket and log of the worker whose socket has this inode. The caller must hold the lock."""
    with contextlib.suppress(FileNotFoundError):
        if endpoint.socket.lstat().st_ino == inode:
            endpoint.socket.unlink()
            endpoint.log.unlink()


def remove_socket_unless_locked(endpoint: Endpoint, inode: int) -> None:
    """Remove socket and log of a worker that is about to exit, unless another process holds the lock.

    Files that stay are removed by the next server that starts a worker.
    """
    from filelock import FileLock, Timeout

    with contextlib.suppress(OSError, Timeout), FileLock(endpoint.lock, mode=LOCK_MODE, blocking=False):
        remove_socket(endpoint, inode)


def is_same_user(connection: socket.socket) -> bool:
    """Return whether the peer's process belongs to this user.

    True where the system does not tell (other than Linux): there, the permissions of the folder have to do.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return bool(uid == os.geteuid())
