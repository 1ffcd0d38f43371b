"""The endpoints by which a language server uses this server's model (its setting `remote.url`).

The messages are those between a language server and its worker (`inference.rpc.messages`), as JSON in the envelope of
`inference.rpc.remote`. Planning, shaping and caching are done by the language server; only the model is here. A client
that disconnects cancels its request in the worker.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import cattrs
from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.errors import ModelError, SupersededError, WorkerError
from codegen_lsp.http.answers import Call, ServerContext, json_answer
from codegen_lsp.http.fields import well_formed
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.inference.rpc import connection, remote
from codegen_lsp.inference.rpc.connection import RequestFailure
from codegen_lsp.inference.rpc.messages import GenerateParams, ScoredText, ScoreParams, WarmParams
from codegen_lsp.version import __version__

P = TypeVar("P")
Work = Callable[[Call, str, Any], Awaitable[object]]
"""Answers a request: from the call, the name of the client and the parameters to the value of the reply."""

MAX_CANDIDATES = 16
MAX_TOKENS = 4096
MAX_SCORED_TEXTS = 256
MAX_RELATED_TEXTS = 64
MAX_RELATED_CHARACTERS = 200_000
"""Of all related texts together. A language server of this version sends 24,000."""
MAX_STOP_STRINGS = 64


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of the endpoints."""
    instance = secrets.token_hex(8)

    def route(method: str, params_type: type[P] | None, work: Work) -> BaseRoute:
        async def handle(call: Call) -> Response:
            envelope = call.fields.values
            if failure := remote.version_failure(envelope.get("protocol"), envelope.get("version")):
                return json_answer(connection.failure_reply(failure), 409)
            params = None if params_type is None else _structured(envelope.get("params"), params_type)
            reply = await _reply(work(call, call.fields.text("client")[: remote.MAX_CLIENT_CHARACTERS], params))
            return json_answer({"instance": instance} | reply)

        return context.route("POST", f"{remote.PATH}/{method}", handle, problem_body)

    async def handshake(call: Call, client: str, params: None) -> object:
        return remote.RemoteHandshake(__version__, instance, call.service.model)

    return [
        route(remote.HANDSHAKE, None, handshake),
        route(remote.GENERATE, GenerateParams, _generate),
        route(remote.WARM, WarmParams, _warm),
        route(remote.SCORE, ScoreParams, _score),
    ]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem that is not a reply."""
    return {"error": {"message": problem.message, "type": problem.kind}}


async def _generate(call: Call, client: str, params: GenerateParams) -> object:
    return await call.service.generate(_allowed(params, client))


async def _warm(call: Call, client: str, params: WarmParams) -> object:
    prefix, suffix = well_formed(params.prefix), well_formed(params.suffix)
    await call.service.client.warm(WarmParams(_key(client, params.document), prefix, suffix))
    return 0


async def _score(call: Call, client: str, params: ScoreParams) -> object:
    if not 0 < len(params.texts) <= MAX_SCORED_TEXTS or not all(one.text for one in params.texts):
        raise invalid(f"`texts` must be 1 to {MAX_SCORED_TEXTS} texts, none of them empty.")
    texts = [ScoredText(well_formed(one.before), well_formed(one.text)) for one in params.texts]
    return await call.service.client.score(ScoreParams(_key(client, params.document), texts, _user(client)))


async def _reply(work: Awaitable[object]) -> dict[str, Any]:
    """Return the reply with the value of some work, or with its failure."""
    try:
        return connection.value_reply(await work)
    except SupersededError as error:
        return connection.failure_reply(RequestFailure("superseded", error.message))
    except ModelError as error:
        return connection.failure_reply(RequestFailure("model", error.message, error.advice))
    except WorkerError as error:
        return connection.failure_reply(RequestFailure("unloaded", error.message, error.advice))


def _structured(raw: object, params_type: type[P]) -> P:
    """Return the parameters in a body. Raises: RequestProblem."""
    try:
        return cattrs.structure(raw, params_type)
    except Exception as error:  # cattrs raises groups of many kinds
        raise invalid(f"`params` is not a {params_type.__name__}.") from error


def _allowed(params: GenerateParams, client: str) -> GenerateParams:
    """Return a request within the limits of this server, which names no index of a workspace here.

    Raises: RequestProblem.
    """
    stop = params.stop
    numbers = (params.temperature, params.top_p, stop.threshold)
    if not all(math.isfinite(number) for number in numbers):
        raise invalid("A number is not finite.")
    if not (0 <= params.temperature <= 100 and 0 < params.top_p <= 1):
        raise invalid("`temperature` must be from 0 to 100, and `top_p` above 0 and at most 1.")
    if not 1 <= params.candidates <= MAX_CANDIDATES:
        raise invalid(f"`candidates` must be from 1 to {MAX_CANDIDATES}.")
    if not 1 <= stop.max_tokens <= MAX_TOKENS or stop.max_lines < 1:
        raise invalid(f"`stop` must allow from 1 to {MAX_TOKENS} tokens, and a line.")
    if len(stop.strings) > MAX_STOP_STRINGS or len(stop.openers) > MAX_STOP_STRINGS or "" in stop.strings:
        raise invalid(f"`stop` must have at most {MAX_STOP_STRINGS} strings, none of them empty.")
    related = [*params.related, *params.snippets]
    if len(related) > MAX_RELATED_TEXTS or sum(map(len, related)) > MAX_RELATED_CHARACTERS:
        raise invalid(f"`related` must have at most {MAX_RELATED_CHARACTERS} characters.")
    if params.top_k < 0:
        raise invalid("`top_k` must not be negative.")
    if params.seed is not None and not 0 <= params.seed < 2**63:
        raise invalid("`seed` must be a whole number below 2 to the power of 63.")
    return attrs.evolve(
        params,
        document=_key(client, params.document),
        prefix=well_formed(params.prefix),
        suffix=well_formed(params.suffix),
        stop=attrs.evolve(stop, strings=[well_formed(text) for text in stop.strings]),
        workspace="",
        excluded_files=[],
        related=[well_formed(text) for text in related],
        snippets=[],
        files=None,
        deadline_seconds=None,
        top_logprobs=None,
        stream="",
        user=_user(client),
    )


def _user(client: str) -> str:
    return f"remote {well_formed(client)}"


def _key(client: str, document: str) -> str:
    """Return the key of a client's document in the worker, which no other client's is equal to."""
    return f"remote {well_formed(client)} {well_formed(document[: remote.MAX_CLIENT_CHARACTERS])}"
