"""Who may connect to a server on a socket: those who know its token.

A port on the loopback interface is open to every user and every process of the machine, and to each web page that the
user's browser shows, so the address alone admits nobody. A client gives the token in `initializationOptions.token` of
its first message, or, over WebSocket, in the URL or the header `Authorization`.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from attrs import frozen
from lsprotocol import types

from codegen_lsp.access import TokenError, is_token, read_secrets

TOKEN_BYTES = 32
"""Random bytes of a token that this program makes."""
FIRST_MESSAGE_BYTES = 2**20
"""Size limit of a message of a client that is not known yet."""
FIRST_MESSAGE_TIMEOUT = 10.0
"""Seconds that such a client has for it."""
OPTION = "token"
"""Field of `initializationOptions` with the token."""


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
    tokens = read_secrets(path)
    if len(tokens) > 1:
        raise TokenError(f"{path} holds more than one token.", f"Delete {path}: it is made again, with a new token.")
    return tokens[0]


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


def token_of_request(path: str, authorization: str | None) -> str | None:
    """Return the token in the URL or the header `Authorization` of a WebSocket client."""
    if authorization is not None and authorization.startswith("Bearer "):
        return authorization.removeprefix("Bearer ").strip()
    return next(iter(parse_qs(urlsplit(path).query).get(OPTION, [])), None)


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
