"""The methods of the connection between server and worker (`peer`), whose bodies are in `messages`, and their replies.

Expected failures travel as results instead of JSON-RPC errors, so that both ends keep their type: a reply is an object
with either `value` or `failure`.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import cattrs
from attrs import frozen

from codegen_lsp.errors import ModelError, SupersededError, WorkerError

T = TypeVar("T")

HANDSHAKE = "handshake"
LOAD = "load"
GENERATE = "generate"
WARM = "warm"
SCORE = "score"
MEASURE = "measure"
INDEX_STATE = "index/state"
INDEX_UPDATE = "index/update"
ORIGIN = "index/origin"
TOKENIZE = "tokenize"
DETOKENIZE = "detokenize"
ATTRIBUTE = "attribute"
PING = "ping"
TEXT = "text"
PROGRESS = "progress"
CLIENTS = "clients"

MAX_REQUESTS = 256
"""Open requests of one client, beyond which a worker ends the connection. Clients hold back further ones."""

FailureKind = Literal["model", "superseded", "unloaded", "internal", "version"]


@frozen
class RequestFailure:
    """Why a request has no value."""

    kind: FailureKind
    message: str
    advice: str = ""


def value_reply(value: object) -> dict[str, Any]:
    """Return the body of a reply with a value."""
    return {"value": cattrs.unstructure(value)}


def failure_reply(failure: RequestFailure) -> dict[str, Any]:
    """Return the body of a reply with a failure."""
    return {"failure": cattrs.unstructure(failure)}


def result_of(reply: dict[str, Any], result_type: type[T]) -> T:
    """Return the value of a reply.

    Raises the error that its failure stands for: ModelError, SupersededError or WorkerError.
    """
    if "failure" not in reply:
        return cattrs.structure(reply["value"], result_type)
    failure = cattrs.structure(reply["failure"], RequestFailure)
    if failure.kind == "superseded":
        raise SupersededError
    if failure.kind == "model":
        raise ModelError(failure.message, failure.advice)
    raise WorkerError(failure.message, failure.advice)
