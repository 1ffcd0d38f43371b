"""The server on stdio, and the life of a connection; `sockets` has the server for clients that connect.

On stdio there is one connection, to the editor that started the process, and the process ends with it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from codegen_lsp.inference.rpc.framing import read_messages
from codegen_lsp.inference.rpc.stdio import StdinThread, StdoutThread
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.lsp.server import CodegenServer, create_server
from codegen_lsp.lsp.transports import claim_stdio
from codegen_lsp.lsp.watchdog import end_process_later, guarded_event_loop
from codegen_lsp.settings import LogSettings

logger = logging.getLogger(__name__)

MakeServer = Callable[[], CodegenServer]


def serve_stdio(make_server: MakeServer = create_server) -> int:
    """Serve the editor that started this process; return the exit code.

    Call it in the main thread, and `watchdog.end_process` afterwards: threads may still run.
    """
    configure_logging(LogSettings())
    stdin, stdout = claim_stdio()

    async def run() -> int:
        server = make_server()
        server.session.watches_editor = True
        stop_at_signals(lambda number: server.session.stop(128 + number))
        writer = StdoutThread(stdout, lambda: server.session.stop(1))
        server.protocol.set_writer(writer)
        stdin_thread = StdinThread(stdin, end_process_later)
        async with guarded_event_loop():
            code = await serve_messages(server, read_messages(stdin_thread.reader))
        writer.close()
        return code

    return run_to_end(run())


def run_to_end(main: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine and return its result. Unlike `asyncio.run`, it does not wait for threads."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop.run_until_complete(main)


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
    """Call a function with the number of a SIGINT or SIGTERM that arrives, and end the process soon after.

    Call it in the main thread, inside the event loop.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: int, frame: object) -> None:
        # Not by the event loop, which may stand still.
        end_process_later()
        loop.call_soon_threadsafe(stop, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
