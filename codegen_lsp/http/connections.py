"""Connections of the HTTP server: uvicorn's protocol, with a limit on the time in which a request must arrive.

uvicorn limits the time between two requests of a connection only. Without a limit on a request, connections on which
nothing or little is sent could be kept open until no more are accepted.

Answers are sent at once (TCP_NODELAY). asyncio sets that only for sockets whose protocol is named, which uvicorn's are
not: the body, written after the headers, waits for the client's delayed acknowledgement, 40 ms on Linux.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_class(request_seconds: float) -> type[asyncio.Protocol]:
    """Return a protocol whose connections end when a request takes longer than this to arrive whole."""

    class TimedProtocol(H11Protocol):
        _arrival: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            _send_at_once(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            self._start()
            super().data_received(data)
            self._stop_if_arrived()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._stop_if_arrived()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
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
