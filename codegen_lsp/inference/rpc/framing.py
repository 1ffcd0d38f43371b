"""Content-Length framing of JSON-RPC messages, as in the base protocol of the Language Server Protocol.

Two kinds of peers are read. The editor that started the server is read leniently: header names in any case, bare LF as
line end, and after malformed input the reader resynchronizes at the next header. A peer on a socket, a client of the
server or a server of the worker, is read strictly: anything malformed means that it is something else, such as a web
browser that was made to send a form, and ends the connection before a message is taken from it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from typing import Protocol

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 256 * 2**20
"""Size limit of one message. Editors send documents of up to 50 MB, in which JSON may escape each character."""
MAX_HEADERS = 8
"""Header lines of one message in strict mode."""
MAX_SKIPPED_BYTES = 2**30
"""A message that claims to be longer is not skipped: its length is wrong, and would swallow what follows."""
_SKIP_BYTES = 64 * 1024

_HEADER = re.compile(rb"content-(?:length:[ \t]*(\d{1,10})[ \t]*|type:[^\r\n]{0,200})\r\n", re.IGNORECASE)
"""A whole line. The base protocol has these two headers."""
# Found at the end of a line, not as a whole line: after a message whose length was too small, the next header follows
# the rest of the body without a line break.
_LENGTH = re.compile(rb"content-length:[ \t]*(\d{1,18})[ \t]*\r?\n\Z", re.IGNORECASE)


class ByteReader(Protocol):
    """A stream of bytes, such as an asyncio.StreamReader."""

    async def readline(self) -> bytes:
        """Read up to and with the next line feed, or to the end. Raises: ValueError for a line that is too long."""
        ...

    async def readexactly(self, n: int) -> bytes:
        """Read this number of bytes. Raises: EOFError when the stream ends before."""
        ...


class FramingError(Exception):
    """The peer sent something that is not a message."""


async def read_messages(
    reader: ByteReader, *, strict: bool = False, first_limit: int = MAX_MESSAGE_BYTES
) -> AsyncIterator[bytes]:
    """Yield the body of each message until the stream ends.

    Malformed input is logged and skipped; a message above the size limit, which is `first_limit` for the first one, is
    yielded as an empty body, so that it can be answered with an error. With `strict`, both raise FramingError instead.
    """
    length: int | None = None
    headers = 0
    limit = min(first_limit, MAX_MESSAGE_BYTES)
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the limit of an asyncio.StreamReader
            _reject("a header line is too long", strict)
            continue
        if not line:
            return
        if strict:
            headers += 1
            found = _HEADER.fullmatch(line)
            if headers > MAX_HEADERS or (line != b"\r\n" and not found):
                raise FramingError("malformed header")
        else:
            found = _LENGTH.search(line)
        if found and found[1]:
            length = int(found[1])
        if line.strip():
            continue
        if length is None:
            _reject("a message has no Content-Length", strict)
            continue
        try:
            if length > limit:
                _reject(f"a message of {length} bytes exceeds the limit of {limit}", strict)
                if length <= MAX_SKIPPED_BYTES:
                    await _skip(reader, length)
                yield b""
            else:
                yield await reader.readexactly(length)
        except EOFError:
            logger.warning("The stream ended inside a message of %d bytes", length)
            return
        length, headers, limit = None, 0, MAX_MESSAGE_BYTES


def _reject(reason: str, strict: bool) -> None:
    if strict:
        raise FramingError(reason)
    logger.warning("Skipped malformed input: %s", reason)


async def _skip(reader: ByteReader, length: int) -> None:
    while length:
        length -= len(await reader.readexactly(min(length, _SKIP_BYTES)))
