"""Reading files of a workspace that nobody vouches for.

A name in a repository may be a link to a device or a pipe, whose end never comes. Only regular files are opened, and no
more is read than was asked for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotRegularError(OSError):
    """A path is no regular file."""


class TooLargeError(OSError):
    """A file is larger than it may be."""


def read_regular(path: Path, max_bytes: int, *, follow_links: bool = True) -> bytes:
    """Return the content of a regular file of at most `max_bytes`. Raises: NotRegularError, TooLargeError, OSError."""
    # Before the file is opened as well: to open a device may have effects.
    _check(path, path.stat() if follow_links else path.lstat(), max_bytes)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    if not follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        _check(path, os.fstat(file.fileno()), max_bytes)
        pieces = []
        left = max_bytes + 1
        while left > 0 and (piece := file.read(left)):
            pieces.append(piece)
            left -= len(piece)
    if left <= 0:
        raise TooLargeError(f"{path} is larger than {max_bytes} bytes")
    return b"".join(pieces)


def _check(path: Path, found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotRegularError(f"{path} is not a regular file")
    if found.st_size > max_bytes:
        raise TooLargeError(f"{path} is larger than {max_bytes} bytes")
