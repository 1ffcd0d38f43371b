"""Ollama's dialect: generate, chat, and what clients ask before: models, their templates, the version.

https://github.com/ollama/ollama/blob/main/docs/api.md

Answers are streams of lines of JSON unless `stream` is false. Any name is accepted for the model, which stays loaded,
whatever `keep_alive` says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve
from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import Call, ServerContext, StreamAnswer, compact_json, json_answer
from codegen_lsp.http.dialects.openai import conversation
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.prompts import with_prompt
from codegen_lsp.http.requests import Completed, CompletedText, CompletionRequest, FinishReason, TokenPiece
from codegen_lsp.inference.rpc.messages import ModelDescription

OLLAMA_VERSION = "0.12.11"
"""Version of Ollama whose interface this is: clients refuse older ones than they know."""
TEMPERATURE, TOP_K, TOP_P = 0.8, 40, 0.9
"""Of a continuation, as Ollama has them. An editor's request is greedy."""
DEFAULT_TOKENS = 256
"""Of a continuation without `num_predict`. Ollama has no limit, but a small model has no end."""
MAX_TOKENS = 4096
MAX_ALTERNATIVES = 20
TEMPLATE = "{{ .Prompt }}{{ if .Suffix }}{{ .Suffix }}{{ end }}"
"""Clients look for `.Suffix` in it, to find out whether the model infills."""
BYTES_OF_PARAMETER = {"float32": 4, "float16": 2, "bfloat16": 2}
"""By the compute type; 1 for those of int8."""
FINISH: dict[FinishReason, str] = {"stop": "stop", "end": "stop", "length": "length"}

Part = Callable[[str], dict[str, Any]]
"""Returns the field of a body that has the text of an answer."""


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of this dialect."""
    handlers = [
        ("POST", "/api/generate", generate),
        ("POST", "/api/chat", chat),
        ("GET", "/api/tags", tags),
        ("POST", "/api/show", show),
        ("GET", "/api/version", version),
        ("GET", "/api/ps", running),
    ]
    return [context.route(method, path, handler, problem_body) for method, path, handler in handlers]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem as Ollama reports it."""
    return {"error": problem.message}


async def generate(call: Call) -> Response:
    """Continue a prompt, or complete code at a cursor."""
    fields = call.fields
    for name in ("images", "format", "context", "think"):
        if fields.values.get(name):
            raise invalid(f"`{name}` is not supported by this model.")
    prompt, suffix = fields.text("prompt"), fields.text("suffix")
    if not prompt and not suffix:
        return json_answer(_head(call) | {"response": "", "done": True, "done_reason": "load"})
    request = with_prompt(_request(call), prompt, suffix or None)
    return await _answer(call, request, lambda text: {"response": text})


async def chat(call: Call) -> Response:
    """Continue a conversation, as a program."""
    fields = call.fields
    for name in ("tools", "format", "think"):
        if fields.values.get(name):
            raise invalid(f"`{name}` is not supported by this model.")

    def part(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}

    messages = fields.tables("messages")
    if not messages:
        return json_answer(_head(call) | part("") | {"done": True, "done_reason": "load"})
    return await _answer(call, conversation(call, _request(call), messages), part)


async def tags(call: Call) -> Response:
    """List the loaded model."""
    return json_answer({"models": [_model_body(call.service.model)]})


async def running(call: Call) -> Response:
    """List the loaded model as the running one."""
    model = call.service.model
    body = _model_body(model)
    del body["modified_at"]
    later = _timestamp(datetime.now(UTC) + timedelta(days=365))
    rest = {"expires_at": later, "size_vram": 0 if model.device == "cpu" else _size(model)}
    return json_answer({"models": [body | rest | {"context_length": model.context_length}]})


async def show(call: Call) -> Response:
    """Describe the loaded model, whatever the name."""
    model = call.service.model
    return json_answer(
        {
            "modelfile": f"FROM {model.name}\nTEMPLATE {TEMPLATE}\n",
            "parameters": "",
            "template": TEMPLATE,
            "details": _details(model),
            "model_info": {
                "general.architecture": model.family,
                "general.parameter_count": model.parameters or 0,
                f"{model.family}.context_length": model.context_length,
            },
            "capabilities": ["completion", "insert"],
            "modified_at": _loaded_at(model),
        }
    )


async def version(call: Call) -> Response:
    """Return the version of Ollama that this is like."""
    return json_answer({"version": OLLAMA_VERSION})


def _request(call: Call) -> CompletionRequest:
    """Return the fields that the requests share, without a prompt. Raises: RequestProblem."""
    fields, options = call.fields, call.fields.table("options")
    limit = options.whole("num_predict", -1, -2, MAX_TOKENS)
    with_tokens = fields.flag("logprobs")
    return CompletionRequest(
        prefix="",
        max_tokens=limit if limit > 0 else None,
        stop=tuple(word for word in options.texts("stop") if word),
        top_k=max(0, options.whole("top_k", TOP_K, -1, 1_000_000)),
        top_p=options.number("top_p", TOP_P, 0.0, 1.0),
        seed=abs(options.whole("seed", 0, -(2**63), 2**63 - 1)) if "seed" in options else None,
        top_logprobs=fields.whole("top_logprobs", 0, 0, MAX_ALTERNATIVES) if with_tokens else None,
        user=call.user,
    )


async def _answer(call: Call, request: CompletionRequest, part: Part) -> Response:
    """Answer a request, in lines or as one body."""
    options = call.fields.table("options")
    temperature = options.number("temperature", 0.0 if request.infill else TEMPERATURE, 0.0, 2.0)
    limit = DEFAULT_TOKENS if request.max_tokens is None and not request.infill else request.max_tokens
    request = evolve(request, temperature=temperature, max_tokens=limit)
    if call.fields.flag("stream", True):
        return StreamAnswer(
            _lines(call, request, part),
            problem_body,
            seconds=call.config.request_seconds,
            media_type="application/x-ndjson",
            problem_chunk=_line,
        )
    start = time.monotonic()
    completed = await call.service.complete(request)
    text = completed.texts[0] if completed.texts else CompletedText("", "end")
    logprobs = _logprobs(text.pieces) if request.top_logprobs is not None else {}
    return json_answer(_head(call) | part(text.text) | logprobs | _end(completed, text, time.monotonic() - start))


async def _lines(call: Call, request: CompletionRequest, part: Part) -> AsyncGenerator[bytes]:
    """Yield the lines of an answer; the last one has the times."""
    start = time.monotonic()
    async for piece in call.service.stream(request):
        if piece.text or piece.tokens:
            logprobs = _logprobs(piece.tokens) if request.top_logprobs is not None else {}
            yield _line(_head(call) | part(piece.text) | {"done": False} | logprobs)
        if piece.completed is not None:
            text = piece.finished or CompletedText("", "end")
            yield _line(_head(call) | part("") | _end(piece.completed, text, time.monotonic() - start))


def _line(value: object) -> bytes:
    return compact_json(value) + b"\n"


def _head(call: Call) -> dict[str, Any]:
    name = call.fields.text("model") or call.service.model.name
    return {"model": name, "created_at": _timestamp(datetime.now(UTC))}


def _end(completed: Completed, text: CompletedText, seconds: float) -> dict[str, Any]:
    """Return the fields of the end of an answer: its reason, numbers of tokens, and times in nanoseconds."""
    stats = completed.stats
    first = stats.first_token_seconds if stats else 0.0
    rest = max(stats.total_seconds - first, 0.0) if stats else 0.0
    body: dict[str, Any] = {
        "done": True,
        "done_reason": FINISH[text.finish],
        "total_duration": int(seconds * 1e9),
        "load_duration": 0,
        "prompt_eval_count": completed.prompt_tokens,
        "prompt_eval_duration": int(first * 1e9),
        "eval_count": text.tokens,
        "eval_duration": int(rest * 1e9),
    }
    if completed.refusal is not None:
        body["refusal"] = {"rule": completed.refusal.rule, "reason": completed.refusal.reason}
    return body


def _logprobs(tokens: tuple[TokenPiece, ...]) -> dict[str, Any]:
    found = [
        _logprob(token.data, token.log_probability)
        | {"top_logprobs": [_logprob(one.data, one.log_probability) for one in token.alternatives]}
        for token in tokens
    ]
    return {"logprobs": found} if found else {}


def _logprob(data: bytes, log_probability: float) -> dict[str, Any]:
    return {"token": data.decode("utf-8", "replace"), "logprob": log_probability, "bytes": list(data)}


def _model_body(model: ModelDescription) -> dict[str, Any]:
    name = f"{model.name}:latest"
    return {
        "name": name,
        "model": name,
        "modified_at": _loaded_at(model),
        "size": _size(model),
        "digest": hashlib.sha256(f"{model.name} {model.compute_type}".encode()).hexdigest(),
        "details": _details(model),
    }


def _details(model: ModelDescription) -> dict[str, Any]:
    millions = (model.parameters or 0) / 1e6
    return {
        "parent_model": "",
        "format": "ctranslate2",
        "family": model.family,
        "families": [model.family],
        "parameter_size": f"{millions / 1e3:.1f}B" if millions >= 1e3 else f"{millions:.0f}M",
        "quantization_level": model.compute_type,
    }


def _size(model: ModelDescription) -> int:
    """Return the approximate size of the weights in bytes."""
    return (model.parameters or 0) * BYTES_OF_PARAMETER.get(model.compute_type, 1)


def _loaded_at(model: ModelDescription) -> str:
    return _timestamp(datetime.now(UTC) - timedelta(seconds=model.load_seconds))


def _timestamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
