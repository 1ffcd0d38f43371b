"""A client that sends whatever it is told to, and reads the answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

from attrs import frozen

from tests.http.fuzz.attacks import Attack

ANSWER_SECONDS = 300.0
"""Time after which an answer counts as missing; far above every limit of the server."""
BUGS = (500, 502)


@frozen
class Answers:
    """What came back on one connection."""

    statuses: tuple[int, ...] = ()
    problem: str = ""
    """Why this is wrong; empty if it is right."""


async def answers_to(attack: Attack, host: str, port: int) -> Answers:
    """Send an attack and return the answers."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await _exchange(attack, host, port)
    except TimeoutError:
        return Answers(problem="not answered")


async def _exchange(attack: Attack, host: str, port: int) -> Answers:
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    statuses: list[int] = []
    reset = False
    try:
        try:
            for part in attack.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.02 if attack.slow else 0)
            if attack.half_close:
                writer.write_eof()
            if attack.leave == "after sending":
                return Answers()
        except (ConnectionError, OSError):
            reset = True  # the answer may have come before
        while True:
            try:
                answer = await _answer(reader)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                reset = isinstance(error, ConnectionError)
                if reset or attack.half_close:
                    break
                return Answers(tuple(statuses), f"a broken answer: {type(error).__name__}")
            if answer is None:
                break
            status, body, is_json = answer
            if status == 100:
                continue
            statuses.append(status)
            if attack.leave == "at the first byte":
                return Answers(tuple(statuses))
            if (problem := _wrong(attack, status, body, is_json)) != "":
                return Answers(tuple(statuses), problem)
        if not statuses and not attack.may_close:
            return Answers(problem="closed without an answer" + (", by a reset" if reset else ""))
        return Answers(tuple(statuses))
    finally:
        if attack.leave != "never":
            _reset(writer)
        writer.close()
        with contextlib.suppress(ConnectionError, OSError):
            await writer.wait_closed()


def _wrong(attack: Attack, status: int, body: bytes, is_json: bool) -> str:
    if status in BUGS:
        return f"status {status}: {body[:300]!r}"
    if attack.refused and status < 400:
        return f"accepted with {status}"
    if status >= 400 and body:
        value = json.loads(body) if is_json else None
        if not isinstance(value, dict) or not ({"error", "detail", "failure"} & value.keys()):
            return f"status {status} in no dialect's form: {body[:300]!r}"
    return ""


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool] | None:
    """Return status and body of an answer, and whether it is JSON; None at the end."""
    line = await reader.readline()
    if not line:
        return None
    status, headers = int(line.split(b" ")[1]), {}
    while (header := (await reader.readline()).strip()) != b"":
        name, _, value = header.partition(b":")
        headers[name.lower()] = value.strip()
    is_json = headers.get(b"content-type", b"").startswith(b"application/json")
    if status == 100:
        return status, b"", is_json
    if headers.get(b"transfer-encoding") == b"chunked":
        parts = []
        while size := int((await reader.readline()).strip() or b"0", 16):
            parts.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return status, b"".join(parts), is_json
    if b"content-length" not in headers:
        return status, await reader.read(), is_json
    return status, await _body(reader, int(headers[b"content-length"])), is_json


async def _body(reader: asyncio.StreamReader, length: int) -> bytes:
    """Return a body; one that is announced and not sent, as for HEAD, is empty."""
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """Leave without the usual end of a connection."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
