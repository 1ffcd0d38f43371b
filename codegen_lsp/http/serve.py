"""The process of the HTTP server: uvicorn, the worker, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from codegen_lsp.access import TokenError
from codegen_lsp.checkpoints.store import find
from codegen_lsp.errors import AddressError, CodegenError
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService, server_load_params
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.connections import protocol_class
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import LoadParams, ModelDescription
from codegen_lsp.settings import Settings

logger = logging.getLogger(__name__)

CLOSE_SECONDS = 5
"""Time for the answers that are being written when the server is told to end."""


def serve_http(config: HttpConfig, settings: Settings) -> int:
    """Serve HTTP until a signal; return the exit code. Raises: ModelError, AddressError, TokenError."""
    config.check_exposure()
    build = find(settings.model)
    return asyncio.run(_serve(config, settings, server_load_params(settings, build.path)))


class HttpServer(uvicorn.Server):
    """uvicorn's server, for which a signal is the normal end: it is not raised again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server at SIGINT and SIGTERM, within the block."""
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


async def _serve(config: HttpConfig, settings: Settings, load: LoadParams) -> int:
    service = CompletionService(settings, load, InferenceClient(unattended=True))
    try:
        app = create_app(service, config)
    except OSError as error:
        raise TokenError(f"The file {config.key_file} can't be used: {error.strerror or error}.") from error
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a warning for each malformed request would fill logs
    server = HttpServer(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.port,
            http=protocol_class(
                config.request_arrival_seconds,
                answer_seconds=config.answer_reading_seconds,
                max_connections=config.max_connections,
            ),
            timeout_keep_alive=config.keep_alive_seconds,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # any local program could say that it is another client
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
    )
    listening = listen(server.config)
    host, port = listening.getsockname()[:2]
    print(f"Listening on http://{host}:{port}", file=sys.stderr, flush=True)  # noqa: T201
    loading = asyncio.ensure_future(service.start())
    loading.add_done_callback(_report)
    try:
        await server.serve([listening])
    finally:
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError, CodegenError):
            await loading
        await service.close()
    return 0


def listen(config: uvicorn.Config) -> socket.socket:
    """Return a socket that listens on the address of a configuration. Raises: AddressError."""
    try:
        listening = config.bind_socket()
    except SystemExit:
        raise AddressError(f"{config.host}:{config.port} can't be listened on.", "Choose another port.") from None
    # asyncio sets this for sockets of the protocol TCP alone, and uvicorn makes one of the default protocol. Without
    # it, the body of an answer waits until the client has acknowledged the headers, which takes 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.listen(config.backlog)  # requests that come now wait until uvicorn takes them
    return listening


def _report(loading: asyncio.Future[ModelDescription]) -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        logger.error("The model could not be loaded: %s", error)
