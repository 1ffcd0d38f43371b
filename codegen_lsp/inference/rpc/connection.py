"""The methods of the connection between server and worker (`peer`), whose bodies are in `messages`, and their replies.

Expected failures travel as results instead of JSON-RPC errors, so that both ends keep their type: a reply is an object
with either `value` or `failure`.
"""

from __future__ import annotations

from typing import Any, Literal

import cattrs
from attrs import frozen

HANDSHAKE = "handshake"
LOAD = "load"
GENERATE = "generate"
WARM = "warm"
SCORE = "score"
MEASURE = "measure"
INDEX_STATE = "index/state"
INDEX_UPDATE = "index/update"
ORIGIN = "index/origin"
PING = "ping"
TEXT = "text"
PROGRESS = "progress"
CLIENTS = "clients"

FailureKind = Literal["model", "superseded", "unloaded", "internal"]


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
