"""The replacement of a file, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

READABLE = 0o666
PRIVATE = 0o600


def replace_file(path: Path, content: bytes, mode: int = READABLE) -> None:
    """Give a file new content, or make it, in one step: other processes never see a part of it.

    A file that exists keeps its permissions, a new one has those of `mode` that the umask allows. A link is replaced,
    not what it leads to. When the content can't be written, the file stays as it is, and nothing else is left in its
    folder. Raises: OSError.
    """
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_urlsafe(6)}")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        if path.exists():
            partial.chmod(stat.S_IMODE(path.stat().st_mode))
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
