"""Connections of the HTTP server: uvicorn's protocol, with limits on their number and on the time that clients take.

uvicorn limits the time between two requests of a connection only. Without a limit on a request, connections on which
nothing or little is sent could be kept open until no more are accepted; without one on an answer, those of clients that
don't read it. It counts connections when they send a request, not when they are made.

Answers are sent at once (TCP_NODELAY). asyncio sets that only for sockets whose protocol is named, which uvicorn's are
not: the body, written after the headers, waits for the client's delayed acknowledgement, 40 ms on Linux.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_class(
    request_seconds: float, *, answer_seconds: float = 60.0, max_connections: int = 1024
) -> type[asyncio.Protocol]:
    """Return a protocol whose connections end when a request takes longer than `request_seconds` to arrive whole.

    They end, too, when the client reads nothing of an answer for `answer_seconds`. Those above `max_connections` are
    answered with status 503.
    """

    class TimedProtocol(H11Protocol):
        _arrival: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            _send_at_once(transport)
            self._start()
            if len(self.connections) > max_connections:
                self._refuse(503, "unavailable_error", "The server has too many connections. Try again soon.")

        def send_400_response(self, msg: str) -> None:
            """Report that what the client sent is not HTTP, unless an answer is being written, which then ends."""
            self._refuse(400, "invalid_request_error", "This is no valid HTTP request.")

        def _refuse(self, status: int, kind: str, message: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                body = json.dumps({"error": {"code": status, "message": message, "type": kind}}).encode()
                headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
                response = h11.Response(status_code=status, headers=[*headers, ("Connection", "close")])
                for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
            cycle: Any = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True  # its handler may not have begun, and must not answer any more
                cycle.message_event.set()
            self.transport.close()
            self._watch_reading()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._reading is None:
                self._watch_reading()

        def _watch_reading(self, before: int | None = None) -> None:
            """End the connection when no byte of what is to be sent leaves within the time."""
            self._reading = None
            waiting = self.transport.get_write_buffer_size()
            if waiting and waiting == before:
                self.transport.abort()
            elif waiting:
                loop = asyncio.get_running_loop()
                self._reading = loop.call_later(answer_seconds, self._watch_reading, waiting)

        def data_received(self, data: bytes) -> None:
            self._start()
            super().data_received(data)
            self._stop_if_arrived()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._stop_if_arrived()
            if self._reading is None:
                self._watch_reading()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None
            super().connection_lost(exc)

        def _start(self) -> None:
            if self._arrival is None:
                self._arrival = asyncio.get_running_loop().call_later(request_seconds, self.transport.abort)

        def _stop_if_arrived(self) -> None:
            """Stop the time while a request is answered, and between two requests."""
            cycle: Any = self.cycle
            if cycle is not None and not cycle.more_body:
                self._stop()

        def _stop(self) -> None:
            if self._arrival is not None:
                self._arrival.cancel()
                self._arrival = None

    return TimedProtocol


def _send_at_once(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
