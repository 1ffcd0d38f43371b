"""JSON-RPC with one client of the worker, a language server, and that client's open requests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import cattrs

from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc import connection as rpc
from codegen_lsp.inference.rpc.attribution import AttributionParams
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    OriginParams,
    ScoreParams,
    StreamedText,
    WarmParams,
)
from codegen_lsp.inference.rpc.peer import ByteWriter, Handler, JsonRpcPeer
from codegen_lsp.inference.rpc.token_messages import DetokenizeParams, TokenizeParams
from codegen_lsp.inference.worker.service import InferenceService, NotLoadedError, OnLoadProgress

logger = logging.getLogger(__name__)

P = TypeVar("P")


class ClientConnection:
    """JSON-RPC with one client, by whose name the service knows it."""

    def __init__(
        self,
        service: InferenceService,
        name: str,
        writer: ByteWriter,
        load: Callable[[LoadParams, OnLoadProgress], Awaitable[object]],
    ) -> None:
        self.name = name
        self.peer = JsonRpcPeer(writer, max_requests=rpc.MAX_REQUESTS)
        self.peer.requests |= {
            rpc.LOAD: handler(LoadParams, lambda params: load(params, self.report)),
            rpc.GENERATE: handler(
                GenerateParams, lambda params: service.generate(name, params, self.stream if params.stream else None)
            ),
            rpc.WARM: handler(WarmParams, lambda params: service.warm(name, params)),
            rpc.SCORE: handler(ScoreParams, lambda params: service.score(name, params)),
            rpc.INDEX_STATE: handler(IndexStateParams, service.index_state),
            rpc.INDEX_UPDATE: handler(IndexUpdate, service.update_index),
            rpc.ORIGIN: handler(OriginParams, service.origin),
            rpc.TOKENIZE: handler(TokenizeParams, service.tokenize),
            rpc.DETOKENIZE: handler(DetokenizeParams, service.detokenize),
            rpc.ATTRIBUTE: handler(AttributionParams, lambda params: service.attribute(name, params)),
            rpc.PING: handler(None, _pong),
            rpc.MEASURE: handler(None, lambda _: service.measure(name)),
        }

    def stream(self, text: StreamedText) -> None:
        """Notify the client of the next part of a text."""
        self.peer.notify(rpc.TEXT, cattrs.unstructure(text))

    def report(self, progress: LoadProgress) -> None:
        """Notify the client of the progress of loading."""
        self.peer.notify(rpc.PROGRESS, cattrs.unstructure(progress))


async def _pong(params: None) -> bool:
    """Answer at once: the event loop turns."""
    return True


def handler(params_type: type[P] | None, method: Callable[[Any], Awaitable[object]]) -> Handler:
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
