"""Where the log goes and what it contains, as the settings say.

The path of a log file may come from settings that the user did not write, so a file is only appended to if it is new or
a log of this program. Logging never stops the server: a standard error stream that nobody reads, or a full disk, costs
records and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import stat
import threading
from pathlib import Path

from codegen_lsp.log_format import LogFormatter
from codegen_lsp.settings import SECTION, LogSettings

QUEUE_RECORDS = 1_000
"""Records that wait for a reader of the standard error stream; further ones are dropped and counted."""
CLOSE_TIMEOUT = 1.0
"""Seconds for writing what is queued when the handler is closed."""
_STDERR = 2
_OWN_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.-]+: ")
"""Beginning of a log file of this program."""


class LogFileError(Exception):
    """A file can't be the log file."""


def configure_logging(settings: LogSettings) -> list[str]:
    """Configure the root logger. Returns problems of the settings, as sentences for the user."""
    problems: list[str] = []
    handler: logging.Handler | None = None
    if settings.file:
        try:
            handler = LogFileHandler(open_log(Path(settings.file).expanduser()))
        except (OSError, RuntimeError, LogFileError) as error:
            problems.append(f"`{SECTION}.log.file` can't be written ({error}); the standard error stream is used.")
    handler = handler or StderrHandler()
    handler.setFormatter(LogFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if type(old) in (LogFileHandler, StderrHandler, logging.StreamHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    # pygls logs the text of documents at its info level; websockets logs tokens at its debug level.
    logging.getLogger("pygls").setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    logging.getLogger("websockets").setLevel(max(level, logging.INFO))
    return problems


def open_log(path: Path) -> int:
    """Return a descriptor that appends to a log file, which is made for the user alone if it is missing.

    Raises: LogFileError if the path is a link, no regular file, another user's, or a file with something else in it;
    OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    # Not to follow a link, nor to wait for the other end of a named pipe.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise LogFileError(f"{path} is a link")
    descriptor = os.open(path, flags, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise LogFileError(f"{path} is not a regular file")
        if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
            raise LogFileError(f"{path} belongs to another user")
        if found.st_size and not _OWN_LINE.match(os.read(descriptor, 200)):
            raise LogFileError(f"{path} exists and is not a log of this program")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class LogFileHandler(logging.Handler):
    """Appends records to a file, each with one write."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record. A record that can't be written, as on a full disk, is lost; the first loss is reported."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, _line(self, record))
            self._failed = False
        except OSError as error:
            if not self._failed:
                self._failed = True
                _write_without_waiting(f"The log can't be written, records are lost: {error}\n".encode())
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        super().close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StderrHandler(logging.Handler):
    """Writes records to the standard error stream in a thread, which alone waits when nobody reads the stream."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: queue.Queue[bytes | None] = queue.Queue(QUEUE_RECORDS)
        self._thread: threading.Thread | None = None
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; drop it if too many wait."""
        try:
            line = _line(self, record)
        except Exception:
            self.handleError(record)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
            self._thread.start()
        if self._dropped:
            line = b"%d records were dropped, since nobody read them.\n" % self._dropped + line
        try:
            self._queue.put_nowait(line)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what is queued, for at most `CLOSE_TIMEOUT` seconds."""
        super().close()
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(None)
                self._thread.join(CLOSE_TIMEOUT)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            # Without a reader the records are lost; the server goes on.
            with contextlib.suppress(OSError):
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(_STDERR, rest) :]


def _line(handler: logging.Handler, record: logging.LogRecord) -> bytes:
    return (handler.format(record) + "\n").encode("utf-8", "backslashreplace")


def _write_without_waiting(data: bytes) -> None:
    """Write to the standard error stream from a thread of its own, since nobody may read it."""

    def write() -> None:
        with contextlib.suppress(OSError):
            os.write(_STDERR, data)

    threading.Thread(target=write, daemon=True).start()
