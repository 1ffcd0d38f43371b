"""JSON-RPC between server and worker: pygls' classes, with the message bodies of `messages`.

Expected failures travel as results instead of JSON-RPC errors, so that both ends keep their type: a reply is an object
with either `value` or `failure`. Both ends read strictly, and anything that is not a message ends the connection.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import cattrs
from attrs import frozen
from pygls.protocol import JsonRPCNotification, JsonRPCProtocol, JsonRPCRequestMessage, JsonRPCResponseMessage
from pygls.protocol.json_rpc import MsgId

from codegen_lsp.inference.rpc.framing import FramingError, read_messages

if TYPE_CHECKING:
    from pygls.io_ import AsyncReader

HANDSHAKE = "handshake"
LOAD = "load"
GENERATE = "generate"
WARM = "warm"
SCORE = "score"
MEASURE = "measure"
INDEX_STATE = "index/state"
INDEX_UPDATE = "index/update"
ORIGIN = "index/origin"
PROGRESS = "progress"
CLIENTS = "clients"
CANCEL = "$/cancelRequest"

FailureKind = Literal["model", "superseded", "unloaded", "internal"]


@frozen
class RequestFailure:
    """Why a request has no value."""

    kind: FailureKind
    message: str
    advice: str = ""


@frozen
class CancelId:
    """Body of a cancel notification, as pygls reads it."""

    id: MsgId


@frozen
class ErrorBody:
    """Body of a JSON-RPC error, as pygls reads it."""

    code: int
    message: str
    data: object = None


@frozen
class ErrorReply:
    """A JSON-RPC error: pygls' answer to a request that was cancelled."""

    id: MsgId
    jsonrpc: str
    error: ErrorBody


class WorkerProtocol(JsonRPCProtocol):
    """JSON-RPC whose bodies stay plain dictionaries until a handler structures them."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """Return a message as an object. Called for nested objects too, which stay dictionaries."""
        if "jsonrpc" in data and "id" in data and "error" in data:
            error = data["error"]
            return ErrorReply(data["id"], data["jsonrpc"], ErrorBody(error["code"], error["message"]))
        return super().structure_message(data)


def converter() -> cattrs.Converter:
    """Return the converter with which pygls structures envelopes."""
    result = cattrs.Converter()

    def notification(raw: dict[str, Any], _: Any) -> JsonRPCNotification:
        params = raw.get("params")
        if raw["method"] == CANCEL:
            params = CancelId(params["id"] if params else "")
        return JsonRPCNotification(raw["method"], raw["jsonrpc"], params)

    result.register_structure_hook(JsonRPCNotification, notification)
    result.register_structure_hook(
        JsonRPCRequestMessage,
        lambda raw, _: JsonRPCRequestMessage(raw["id"], raw["method"], raw["jsonrpc"], raw.get("params")),
    )
    result.register_structure_hook(
        JsonRPCResponseMessage, lambda raw, _: JsonRPCResponseMessage(raw["id"], raw["jsonrpc"], raw.get("result"))
    )
    return result


def value_reply(value: object) -> dict[str, Any]:
    """Return the body of a reply with a value."""
    return {"value": cattrs.unstructure(value)}


def failure_reply(failure: RequestFailure) -> dict[str, Any]:
    """Return the body of a reply with a failure."""
    return {"failure": cattrs.unstructure(failure)}


async def receive(reader: AsyncReader, protocol: JsonRPCProtocol) -> None:
    """Hand messages to the protocol until the stream ends.

    Raises FramingError for anything that is not a JSON-RPC message, and OSError when the stream breaks.
    """
    async for body in read_messages(reader, strict=True):
        try:
            message = json.loads(body, object_hook=protocol.structure_message)
            protocol.handle_message(message)
        except FramingError:
            raise
        except Exception as error:
            raise FramingError(f"a body is not a JSON-RPC message ({type(error).__name__})") from error
