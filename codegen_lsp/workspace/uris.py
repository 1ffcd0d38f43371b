"""File URIs as editors write them, and the paths that they stand for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_DRIVE = re.compile(r"/[A-Za-z]:")


def path_of(uri: str) -> str | None:
    """Return the path of a `file:` URI with the system's separators; None for any other URI.

    Drive letters become lower case, as VS Code writes them; a host becomes a UNC path.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file":
        return None
    path, host = unquote(parts.path), unquote(parts.netloc)
    if host and path:
        path = f"//{host}{path}"
    elif _DRIVE.match(path):
        path = path[1].lower() + path[2:]
    return path.replace("/", "\\") if os.name == "nt" else path


def uri_of(path: Path) -> str:
    """Return the `file:` URI of an absolute path, whatever the bytes of its name."""
    text = path.as_posix()
    if re.match(r"[A-Za-z]:", text):
        return f"file:///{text[0].lower()}:{quote(os.fsencode(text[2:]))}"
    return ("file:" if text.startswith("//") else "file://") + quote(os.fsencode(text))
