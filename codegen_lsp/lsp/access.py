"""Who may connect to a server on a socket: those who know its token.

A port on the loopback interface is open to every user and every process of the machine, and to each web page that the
user's browser shows, so the address alone admits nobody. A client gives the token in `initializationOptions.token` of
its first message, or, over WebSocket, in the URL or the header `Authorization`.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import secrets
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attrs import frozen
from lsprotocol import types

from codegen_lsp.errors import CodegenError

TOKEN_BYTES = 32
"""Random bytes of a token that this program makes."""
MIN_TOKEN_CHARACTERS = 16
"""Length of the shortest token that a file may hold."""
MAX_TOKEN_CHARACTERS = 1_000
FIRST_MESSAGE_BYTES = 2**20
"""Size limit of a message of a client that is not known yet."""
FIRST_MESSAGE_TIMEOUT = 10.0
"""Seconds that such a client has for it."""
OPTION = "token"
"""Field of `initializationOptions` with the token."""


class TokenError(CodegenError):
    """A file can't hold the token."""


@frozen
class ClientRefusedError(Exception):
    """A client did not show the token. `answer` is the JSON-RPC message that tells it so, or None."""

    reason: str
    answer: dict[str, Any] | None = None


def new_token() -> str:
    """Return a random token that can stand in a URL."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_of_file(path: Path) -> str:
    """Return the token in a file, which is made with a new one, for this user alone, if it is missing.

    Raises: TokenError if the file can't be read or made, if others can read it, or if it holds no token.
    """
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        except FileExistsError:
            return read_token(path)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            token = new_token()
            file.write(token + "\n")
        return token
    except OSError as error:
        raise TokenError(f"The token file {path} can't be used: {error.strerror or error}.") from error


def read_token(path: Path) -> str:
    """Return the token in a file. Raises: TokenError if others can read it or it holds no token; OSError."""
    advice = f"Delete {path}: it is made again, with a new token."
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), encoding="ascii", errors="replace") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise TokenError(f"{path} is not a regular file.", "Name another file.")
        if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise TokenError(f"{path} can be read or changed by other users.", f"Run `chmod 600 {path}`, or delete it.")
        token = file.read(MAX_TOKEN_CHARACTERS + 2).strip()
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable():
        raise TokenError(f"{path} holds no token of {MIN_TOKEN_CHARACTERS} characters or more.", advice)
    return token


async def first_message(messages: AsyncIterator[bytes], token: str) -> bytes:
    """Return the first message, an `initialize` with the token, without the token.

    Raises: ClientRefusedError; FramingError.
    """
    try:
        async with asyncio.timeout(FIRST_MESSAGE_TIMEOUT):
            body = await anext(messages)
    except StopAsyncIteration:
        raise ClientRefusedError("it sent nothing") from None
    except TimeoutError:
        raise ClientRefusedError("it sent nothing in time") from None
    try:
        message = json.loads(body)
        method = message["method"]
        options = message["params"]["initializationOptions"]
        given = options.pop(OPTION)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise ClientRefusedError("its first message has no token", _refusal(body)) from None
    if method != types.INITIALIZE or not is_token(given, token):
        raise ClientRefusedError("its first message has a wrong token", _refusal(body))
    return json.dumps(message).encode()


def is_token(given: object, token: str) -> bool:
    """Return whether a client gave the token; takes the same time for every wrong one."""
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def token_of_request(path: str, authorization: str | None) -> str | None:
    """Return the token in the URL or the header `Authorization` of a WebSocket client."""
    if authorization is not None and authorization.startswith("Bearer "):
        return authorization.removeprefix("Bearer ").strip()
    return next(iter(parse_qs(urlsplit(path).query).get(OPTION, [])), None)


def is_own_host(header: str | None, host: str) -> bool:
    """Return whether the header `Host` names this server: by an address, `localhost`, or the name it listens on.

    A page whose name was made to lead to this machine (DNS rebinding) sends that name.
    """
    if header is None:
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


def _refusal(body: bytes) -> dict[str, Any] | None:
    """Return the answer to a request without the token; None if it is no request."""
    try:
        message = json.loads(body)
        msg_id = message["id"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if not isinstance(msg_id, int | str):
        return None
    text = f"This server admits clients that give its token in `initializationOptions.{OPTION}` of `initialize`."
    error = {"code": int(types.LSPErrorCodes.RequestFailed), "message": text}
    return {"jsonrpc": "2.0", "id": msg_id, "error": error}
