"""Access to a socket: files with secrets, their comparison, and the names of this machine.

Shared by the language server on a socket (`lsp.access`) and the HTTP server (`http.guard`).
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from codegen_lsp.errors import CodegenError

MIN_TOKEN_CHARACTERS = 16
"""Length of the shortest token or key that a file may hold."""
MAX_TOKEN_CHARACTERS = 1_000
MAX_FILE_CHARACTERS = 1_000_000
_HOST = re.compile(r"[^/?#@\\]*")


class TokenError(CodegenError):
    """A file can't hold the token."""


def read_secrets(path: Path) -> list[str]:
    """Return the tokens in a file, one on each line; blank lines and those that begin with `#` are left out.

    Raises: TokenError if others can read the file or a line is no token; OSError.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), encoding="ascii", errors="replace") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise TokenError(f"{path} is not a regular file.", "Name another file.")
        if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise TokenError(f"{path} can be read or changed by other users.", f"Run `chmod 600 {path}`, or delete it.")
        lines = [line.strip() for line in file.read(MAX_FILE_CHARACTERS).split("\n")]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens or not all(map(_is_strong, tokens)):
        raise TokenError(
            f"{path} holds no token of {MIN_TOKEN_CHARACTERS} characters or more.",
            f"Make one: `openssl rand -hex 32 > {path}`.",
        )
    return tokens


def is_token(given: object, token: str) -> bool:
    """Return whether a client gave the token; takes the same time for every wrong one."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def is_own_host(header: str | None, host: str) -> bool:
    """Return whether the header `Host` names this server: by an address, `localhost`, or the name it listens on.

    A page whose name was made to lead to this machine (DNS rebinding) sends that name.
    """
    if header is None:
        return False
    if not _HOST.fullmatch(header):  # a user's name or a path, which a URL has, and `Host` has not
        return False
    try:
        name = urlsplit(f"//{header}").hostname
        if name is None:
            return False
        if name in ("localhost", host.lower()):
            return True
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Return whether only processes of this machine can reach an address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_strong(token: str) -> bool:
    length_suits = MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS
    return length_suits and token.isascii() and token.isprintable()
