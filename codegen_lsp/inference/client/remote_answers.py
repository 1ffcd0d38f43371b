"""The answers of a server that runs the model: each is checked before it is used.

Whoever answers at the address may be another program, another version, or broken. So what arrives must have the form
and the limits of what was asked, and is refused otherwise.
"""

from __future__ import annotations

import json
import math
from typing import Any, Generic, NoReturn, TypeVar

import cattrs
from attrs import frozen

from codegen_lsp.errors import CodegenError, ModelError, WorkerError
from codegen_lsp.inference.client.http_connections import HttpAnswer, RemoteError
from codegen_lsp.inference.client.remote_server import RemoteServer
from codegen_lsp.inference.rpc.connection import RequestFailure, result_of
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    ModelDescription,
    ScoreParams,
    ScoreResult,
)
from codegen_lsp.inference.rpc.remote import RemoteHandshake

T = TypeVar("T")

MAX_TEXT_CHARACTERS = 100_000
"""Length of a candidate's text."""
MAX_NAME_CHARACTERS = 100
"""Length of names that are shown to the user."""


class _AnswerError(ValueError):
    """An answer does not have the form of what was asked for."""


@frozen
class RemoteReply(Generic[T]):
    """The value of a reply, and the process that it comes from."""

    value: T
    instance: str


def read_reply(server: RemoteServer, answer: HttpAnswer, result_type: type[T]) -> RemoteReply[T]:
    """Return the value of a reply.

    Raises RemoteError when the server can't or won't answer, or in another form; SupersededError and ModelError when it
    answers with such a failure.
    """
    if answer.status == 409:
        failure = _failure_in(answer.body)
        if failure is not None and failure.kind == "version":
            raise RemoteError(f"{server.name} has another version ({failure.message.rstrip('.')})", failure.advice)
    if answer.status != 200:
        raise _refusal(server, answer)
    try:
        reply = _json(answer.body)
        return RemoteReply(result_of(reply, result_type), str(reply.get("instance"))[:MAX_NAME_CHARACTERS])
    except WorkerError as error:
        raise RemoteError(f"{server.name} can't run its model ({error.message.rstrip('.')})", error.advice) from None
    except CodegenError:
        raise
    except Exception as error:  # cattrs raises groups of many kinds
        raise _unlike(server) from error


def checked(server: RemoteServer, result: T, params: object) -> T:
    """Return a result whose values are within the limits of the request. Raises RemoteError."""
    try:
        match result:
            case GenerateResult():
                assert isinstance(params, GenerateParams)
                _check_candidates(result, params)
            case ScoreResult():
                assert isinstance(params, ScoreParams)
                _check(len(result.scores) == len(params.texts))
                _check(all(math.isfinite(score.log_probability) for score in result.scores))
            case RemoteHandshake():
                _check_model(result.model)
                _check(_is_name(result.version))
    except _AnswerError as error:
        raise _unlike(server) from error
    return result


def _check_candidates(result: GenerateResult, params: GenerateParams) -> None:
    _check(len(result.candidates) <= params.candidates)
    for candidate in result.candidates:
        _check(len(candidate.text) <= MAX_TEXT_CHARACTERS and _is_text(candidate.text))
        _check(math.isfinite(candidate.log_probability) and candidate.tokens >= 0)
        ends = [end for end, _ in candidate.steps]
        _check(ends == sorted(ends) and all(0 <= end <= len(candidate.text) for end in ends))
        _check(all(math.isfinite(logarithm) for _, logarithm in candidate.steps))
    stats = result.stats
    _check(min(stats.prompt_tokens, stats.cached_tokens, stats.generated_tokens) >= 0)


def _check_model(model: ModelDescription) -> None:
    _check(all(_is_name(name) for name in (model.name, model.family, model.engine, model.device, model.compute_type)))
    _check(all(_is_name(name) for name in model.languages) and len(model.languages) <= 1_000)
    _check(16 <= model.context_length <= 10_000_000)
    _check(math.isfinite(model.characters_per_token) and 0.1 <= model.characters_per_token <= 100)
    rate = model.prefill_tokens_per_second
    _check(rate is None or (math.isfinite(rate) and rate > 0))


def _check(holds: bool) -> None:
    if not holds:
        raise _AnswerError


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable()


def _is_text(text: str) -> bool:
    """Return whether a text has no lone surrogates, which JSON can express and no document can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _json(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body. Raises ValueError and RecursionError."""
    value = json.loads(body, parse_constant=_no_constant)
    if not isinstance(value, dict):
        raise _AnswerError
    return value


def _no_constant(name: str) -> NoReturn:
    raise _AnswerError(name)


def _failure_in(body: bytes) -> RequestFailure | None:
    try:
        failure = cattrs.structure(_json(body)["failure"], RequestFailure)
    except Exception:
        return None
    return failure if _is_name(failure.message[:MAX_NAME_CHARACTERS]) and len(failure.message) < 1_000 else None


def _unlike(server: RemoteServer) -> RemoteError:
    return RemoteError(
        f"{server.name} does not answer like a server of codegen-lsp", "Check the address in `remote.url`."
    )


def _refusal(server: RemoteServer, answer: HttpAnswer) -> CodegenError:
    """Return the error for an HTTP status."""
    status, name = answer.status, server.name
    if status in (401, 403):
        lacks = "does not know the key" if server.key else "needs a key"
        return RemoteError(
            f"{name} {lacks} (HTTP {status})", "Check `remote.key_file`, or the variable CODEGEN_LSP_REMOTE_KEY."
        )
    if 300 <= status < 400:
        return RemoteError(f"{name} redirects to another address (HTTP {status}), which is not followed")
    if status in (404, 405, 501):
        return RemoteError(
            f"{name} does not offer its model to language servers (HTTP {status})",
            "Check the address, and that `codegen-lsp serve --http` runs there in the same version.",
        )
    if status in (400, 413, 422):
        return ModelError(f"{name} refuses the request (HTTP {status}).")
    if status in (429, 503):
        return RemoteError(f"{name} is too busy (HTTP {status})")
    return RemoteError(f"{name} fails (HTTP {status})")
