"""llama.cpp's server, as its clients llama.vim, llama.vscode and others ask it.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md

`/infill` is an editor's request, `/completion` continues a text. What changes the meaning of an answer and is not here
(grammars, adapters, images) is refused; samplers that are not here are turned off, which `generation_settings` shows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from attrs import evolve, frozen
from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import (
    Call,
    ServerContext,
    StreamAnswer,
    all_of,
    check_health,
    json_answer,
    server_sent_event,
)
from codegen_lsp.http.dialects import llama_cpp_bodies as bodies
from codegen_lsp.http.fields import Fields, well_formed
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.prompts import with_prompt
from codegen_lsp.http.requests import Completed, CompletedText, CompletionRequest, ExtraText
from codegen_lsp.version import __version__

MAX_CANDIDATES = 16
"""Answers, over all prompts of a request."""
MAX_TOKENS = 4096
MAX_ALTERNATIVES = 100
TEMPERATURE, TOP_K, TOP_P = 0.8, 40, 0.95
"""Of `/completion`, as llama.cpp's server has them."""
NOT_SUPPORTED = ("grammar", "json_schema", "lora", "multimodal_data", "image_data", "logit_bias")


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of this dialect."""
    handlers = [
        ("GET", "/health", health),
        ("GET", "/v1/health", health),
        ("POST", "/infill", infill),
        ("POST", "/completion", completion),
        ("POST", "/completions", completion),
        ("POST", "/tokenize", tokenize),
        ("POST", "/detokenize", detokenize),
        ("GET", "/props", props),
        ("GET", "/slots", slots),
        ("GET", "/models", models),
        ("GET", "/v1/models", models),
    ]
    return [context.route(method, path, handler, problem_body) for method, path, handler in handlers]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem as llama.cpp reports it."""
    return {"error": {"code": problem.status, "message": problem.message, "type": problem.kind}}


@frozen
class AnswerForm:
    """The parts of a request that concern the form of its answer."""

    fields: list[str] | None
    with_tokens: bool
    stream: bool
    several: bool
    """The answer is an array."""


async def health(call: Call) -> Response:
    """Answer that the model is ready."""
    check_health(call)
    return json_answer({"status": "ok"})


async def infill(call: Call) -> Response:
    """Complete code at a cursor."""
    fields = call.fields
    for name in ("input_prefix", "input_suffix"):
        if name not in fields:
            raise invalid(f"`{name}` is required.")
    request = evolve(
        _request(call),
        prefix=fields.text("input_prefix") + fields.text("prompt"),
        suffix=fields.text("input_suffix"),
        infill=True,
        temperature=fields.number("temperature", 0.0, 0.0, 2.0),
        extra=tuple(ExtraText(one.text("text"), one.text("filename")) for one in fields.tables("input_extra")),
    )
    return await _answer(call, [request], several=request.candidates > 1)


async def completion(call: Call) -> Response:
    """Continue a text, or several."""
    if "prompt" not in call.fields:
        raise invalid("`prompt` is required.")
    prompts, several = await _prompts(call)
    request = _request(call)
    if len(prompts) * request.candidates > MAX_CANDIDATES:
        raise invalid(f"`prompt` and `n_cmpl` ask for more than {MAX_CANDIDATES} answers.")
    requests = [_with_prompt(request, prompt, call.fields) for prompt in prompts]
    return await _answer(call, requests, several=several or request.candidates > 1)


async def tokenize(call: Call) -> Response:
    """Return the tokens of a text."""
    with_pieces = call.fields.flag("with_pieces")
    found = await call.service.tokenize(call.fields.text("content"))
    if not with_pieces:
        return json_answer({"tokens": found.ids})
    pieces = ({"id": id, "piece": _piece(bytes(data))} for id, data in zip(found.ids, found.data, strict=True))
    return json_answer({"tokens": list(pieces)})


async def detokenize(call: Call) -> Response:
    """Return the text of tokens."""
    ids = call.fields.values.get("tokens", [])
    if not isinstance(ids, list) or not all(_is_id(id) for id in ids):
        raise invalid("`tokens` must be a list of token ids.")
    return json_answer({"content": await call.service.detokenize(ids)})


async def props(call: Call) -> Response:
    """Return the properties of the server."""
    model = call.service.model
    return json_answer(
        {
            "default_generation_settings": bodies.slot_body(0, model, busy=False),
            "total_slots": model.slots,
            "model_alias": model.name,
            "model_path": model.name,
            "modalities": {"vision": False, "video": False, "audio": False},
            "endpoint_slots": True,
            "endpoint_props": False,
            "chat_template": "",
            "build_info": f"codegen-lsp {__version__}",
            "is_sleeping": False,
        }
    )


async def slots(call: Call) -> Response:
    """Return the slots: requests that are computed together. More requests wait, and have none."""
    model, busy = call.service.model, call.service.open_requests
    if busy >= model.slots and call.request.query_params.get("fail_on_no_slot"):
        raise RequestProblem(503, "unavailable_error", "no slot available")
    return json_answer([bodies.slot_body(number, model, busy=number < busy) for number in range(model.slots)])


async def models(call: Call) -> Response:
    """List the loaded model."""
    model = call.service.model
    entry = bodies.model_entry(model, int(time.time() - model.load_seconds))
    return json_answer({"object": "list", "data": [entry]})


async def _answer(call: Call, requests: list[CompletionRequest], *, several: bool) -> Response:
    """Answer requests in the form that the fields ask for."""
    fields = call.fields
    form = AnswerForm(
        fields=fields.texts("response_fields") if "response_fields" in fields else None,
        with_tokens=fields.flag("return_tokens"),
        stream=fields.flag("stream"),
        several=several,
    )
    if requests[0].max_tokens == 0:
        return await _warm(call, requests, form)
    if form.stream:
        if len(requests) > 1:
            raise invalid("Several prompts can't be streamed.")
        return StreamAnswer(_events(call, requests[0], form), problem_body, seconds=call.config.request_seconds)
    answers = await all_of(call.service.complete(request) for request in requests)
    return json_answer(_written(requests, answers, form))


async def _warm(call: Call, requests: list[CompletionRequest], form: AnswerForm) -> Response:
    """Prefill the cache with prompts of which nothing is to be generated."""
    for request in requests:
        await call.service.warm(request)
    nothing = Completed((CompletedText("", "length"),), call.service.model)
    return json_answer(_written(requests, [nothing] * len(requests), form))


def _written(requests: list[CompletionRequest], answers: list[Completed], form: AnswerForm) -> object:
    """Return the bodies of whole answers: an array where several were asked for."""
    found: list[dict[str, Any]] = []
    for request, completed in zip(requests, answers, strict=True):
        for text in completed.texts or (CompletedText("", "end"),):
            body = bodies.completion_body(request, completed, text, len(found), with_tokens=form.with_tokens)
            found.append(bodies.chosen_fields(body, form.fields))
    return found if form.several else found[0]


async def _events(call: Call, request: CompletionRequest, form: AnswerForm) -> AsyncGenerator[bytes]:
    """Yield an answer as server-sent events: its parts, then for each candidate the whole without its text."""
    request = evolve(request, top_logprobs=request.top_logprobs or 0)  # the ids of the tokens are part of each event
    predicted: Counter[int] = Counter()
    whole: list[CompletedText] = []
    async for piece in call.service.stream(request):
        predicted[piece.candidate] += len(piece.tokens)
        if piece.text or piece.tokens:
            yield server_sent_event(bodies.part_body(request, piece, predicted[piece.candidate]))
        if piece.finished is not None:
            whole.append(piece.finished)
        if piece.completed is not None:
            for index, text in enumerate(whole or [CompletedText("", "end")]):
                body = bodies.completion_body(request, piece.completed, text, index, with_tokens=False)
                body.pop("completion_probabilities", None)
                yield server_sent_event(bodies.chosen_fields(body | {"content": ""}, form.fields))


def _request(call: Call) -> CompletionRequest:
    """Return the fields that `/infill` and `/completion` share, without a prompt. Raises: RequestProblem."""
    fields = call.fields
    for name in NOT_SUPPORTED:
        if fields.values.get(name):
            raise RequestProblem(501, "not_supported_error", f"`{name}` is not supported by this server.")
    limit = fields.whole("n_predict", fields.whole("max_tokens", -1, -1, MAX_TOKENS), -1, MAX_TOKENS)
    deadline = fields.number("t_max_predict_ms", 0.0, 0.0, 1e9)
    seed = fields.whole("seed", -1, -1, 2**63)
    probabilities = fields.whole("n_probs", 0, 0, MAX_ALTERNATIVES)
    return CompletionRequest(
        prefix="",
        candidates=fields.count("n_cmpl", fields.count("n", 1, MAX_CANDIDATES), MAX_CANDIDATES),
        max_tokens=None if limit < 0 else limit,
        stop=tuple(word for word in fields.texts("stop") if word),
        min_indent=fields.whole("n_indent", 0, 0, 1000) or None,
        temperature=fields.number("temperature", TEMPERATURE, 0.0, 2.0),
        top_k=max(0, fields.whole("top_k", TOP_K, -1, 1_000_000)),
        top_p=fields.number("top_p", TOP_P, 0.0, 1.0),
        seed=None if seed < 0 or seed == bodies.MOST_SEED else seed,
        top_logprobs=probabilities if probabilities or fields.flag("return_tokens") else None,
        deadline_seconds=deadline / 1e3 if deadline else None,
        user=call.user,
    )


def _with_prompt(request: CompletionRequest, prompt: str, fields: Fields) -> CompletionRequest:
    """Return the request with a prompt; one with the marks of a model that infills is an editor's, which is greedy."""
    request = with_prompt(request, prompt)
    return evolve(request, temperature=fields.number("temperature", 0.0, 0.0, 2.0)) if request.infill else request


async def _prompts(call: Call) -> tuple[list[str], bool]:
    """Return the prompts, and whether they came as several. Raises: RequestProblem.

    A prompt is a string, or a list of token ids and strings.
    """
    value = call.fields.values["prompt"]
    several = isinstance(value, list) and not any(_is_id(item) for item in value)
    items = value if several else [value]
    if not items or len(items) > MAX_CANDIDATES:
        raise invalid(f"`prompt` must be a string, or 1 to {MAX_CANDIDATES} of them.")
    return [await _prompt(call, item) for item in items], several


async def _prompt(call: Call, value: Any) -> str:
    if isinstance(value, dict):
        if value.get("multimodal_data"):
            raise RequestProblem(501, "not_supported_error", "`multimodal_data` is not supported by this server.")
        value = value.get("prompt_string")
    if isinstance(value, str):
        return well_formed(value)
    if not isinstance(value, list) or not all(isinstance(part, str) or _is_id(part) for part in value):
        raise invalid("`prompt` must be a string, or a list of token ids and strings.")
    if all(_is_id(part) for part in value):
        return await call.service.detokenize(value)
    parts = [well_formed(part) if isinstance(part, str) else await call.service.detokenize([part]) for part in value]
    return "".join(parts)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _piece(data: bytes) -> str | list[int]:
    """Return the text of a token, or its bytes where they are part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return list(data)
