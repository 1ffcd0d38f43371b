"""The server on stdio, and the life of a connection; `sockets` has the server for clients that connect.

On stdio there is one connection, to the editor that started the process, and the process ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable

from codegen_lsp.inference.rpc.framing import read_messages
from codegen_lsp.inference.rpc.stdio import StdinThread, StdoutThread
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.lsp.server import CodegenServer, create_server
from codegen_lsp.lsp.transports import claim_stdio
from codegen_lsp.settings import LogSettings

logger = logging.getLogger(__name__)

MakeServer = Callable[[], CodegenServer]


def serve_stdio(make_server: MakeServer = create_server) -> int:
    """Serve the editor that started this process; return the exit code."""
    configure_logging(LogSettings())
    stdin, stdout = claim_stdio()

    async def run() -> int:
        server = make_server()
        server.session.watches_editor = True
        stop_at_signals(lambda number: server.session.stop(128 + number))
        writer = StdoutThread(stdout)
        server.protocol.set_writer(writer)
        code = await serve_messages(server, read_messages(StdinThread(stdin).reader))
        writer.close()
        return code

    return asyncio.run(run())


async def serve_messages(server: CodegenServer, messages: AsyncIterator[bytes | str]) -> int:
    """Handle messages until `exit` or the end of the input, then end the worker; return the exit code."""
    reading = asyncio.create_task(_receive_all(server, messages))
    stopped = asyncio.create_task(server.session.stopped.wait())
    try:
        await asyncio.wait({reading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if reading.done() and (error := reading.exception()) is not None:
            logger.info("The connection ended: %s", error)
    finally:
        for task in (reading, stopped):
            task.cancel()
        server.session.stop(server.protocol.exit_code)
        await server.session.close()
    assert server.session.exit_code is not None
    return server.session.exit_code


async def _receive_all(server: CodegenServer, messages: AsyncIterator[bytes | str]) -> None:
    async for body in messages:
        server.protocol.receive(body)
        # Each handler starts, and takes its snapshot, before the next message changes the document.
        await asyncio.sleep(0)


def stop_at_signals(stop: Callable[[int], object]) -> None:
    """Call a function with the number of a SIGINT or SIGTERM that arrives."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The event loop of Windows has no signal handlers; the process ends there.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop, int(number))
