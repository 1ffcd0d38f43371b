"""JSON-RPC with one client of the worker, a language server, and that client's open requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import cattrs
from pygls.server import JsonRPCServer

from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    OriginParams,
    ScoreParams,
    WarmParams,
)
from codegen_lsp.inference.worker.service import InferenceService, NotLoadedError, OnLoadProgress

logger = logging.getLogger(__name__)

P = TypeVar("P")

MAX_REQUESTS = 256
"""Open requests of one client. A server has at most one for each document, and a few for a refactoring."""


class ClientProtocol(rpc.WorkerProtocol):
    """JSON-RPC with a client that is not trusted."""

    def handle_message(self, message: Any) -> None:
        """Handle a message. Raises FramingError when too many requests are open."""
        if len(self._request_futures) > MAX_REQUESTS:
            raise FramingError("too many requests")
        super().handle_message(message)


class ClientConnection(JsonRPCServer):
    """JSON-RPC with one client, by whose name the service knows it."""

    def __init__(
        self,
        service: InferenceService,
        name: str,
        load: Callable[[LoadParams, OnLoadProgress], Awaitable[object]],
    ) -> None:
        super().__init__(ClientProtocol, rpc.converter)
        self.name = name
        self.feature(rpc.LOAD)(handler(LoadParams, lambda params: load(params, self.report)))
        self.feature(rpc.GENERATE)(handler(GenerateParams, lambda params: service.generate(name, params)))
        self.feature(rpc.WARM)(handler(WarmParams, lambda params: service.warm(name, params)))
        self.feature(rpc.SCORE)(handler(ScoreParams, lambda params: service.score(name, params)))
        self.feature(rpc.INDEX_STATE)(handler(IndexStateParams, service.index_state))
        self.feature(rpc.INDEX_UPDATE)(handler(IndexUpdate, service.update_index))
        self.feature(rpc.ORIGIN)(handler(OriginParams, service.origin))
        self.feature(rpc.MEASURE)(handler(None, lambda _: service.measure(name)))

    def report(self, progress: LoadProgress) -> None:
        """Notify the client of the progress of loading."""
        self.protocol.notify(rpc.PROGRESS, cattrs.unstructure(progress))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log an error that pygls reports."""
        logger.error("%s: %s", source, error)

    async def cancel_all(self) -> None:
        """Cancel all open requests and wait until they have ended."""
        futures: list[Any] = list(self.protocol._request_futures.values())
        requests = [future for future in futures if asyncio.isfuture(future)]
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


def handler(params_type: type[P] | None, method: Callable[[Any], Awaitable[object]]) -> Any:
    """Return a JSON-RPC handler that structures its parameters and answers with a value or a failure, in every case."""

    async def handle(raw: Any) -> dict[str, Any]:
        try:
            params = None if params_type is None else cattrs.structure(raw, params_type)
            value = await method(params)
        except SupersededError as error:
            return rpc.failure_reply(rpc.RequestFailure("superseded", error.message))
        except NotLoadedError as error:
            return rpc.failure_reply(rpc.RequestFailure("unloaded", error.message, error.advice))
        except CodegenError as error:
            return rpc.failure_reply(rpc.RequestFailure("model", error.message, error.advice))
        except Exception as error:
            logger.exception("A request failed")
            return rpc.failure_reply(rpc.RequestFailure("internal", f"{type(error).__name__}: {error}", "See the log."))
        return rpc.value_reply(value)

    return handle
