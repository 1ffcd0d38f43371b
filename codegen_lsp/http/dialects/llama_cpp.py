"""llama.cpp's server, as its clients llama.vim and llama.vscode ask it.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import Call, ServerContext, json_answer
from codegen_lsp.http.fields import Fields
from codegen_lsp.http.problems import RequestProblem
from codegen_lsp.http.requests import Completed, CompletedText, CompletionRequest, ExtraText

MAX_CANDIDATES = 16
MAX_TOKENS = 4096


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of this dialect."""
    return [
        context.route("GET", "/health", health, problem_body),
        context.route("GET", "/v1/health", health, problem_body),
        context.route("POST", "/infill", infill, problem_body),
    ]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem as llama.cpp reports it."""
    return {"error": {"code": problem.status, "message": problem.message, "type": problem.kind}}


async def health(call: Call) -> Response:
    """Answer that the model is ready."""
    if call.service.state.phase not in ("ready", "busy"):
        raise RequestProblem(503, "unavailable_error", "Loading model")
    return json_answer({"status": "ok"})


async def infill(call: Call) -> Response:
    """Complete code at a cursor."""
    request = infill_request(call.fields)
    if request.max_tokens == 0:
        await call.service.warm(request)
        return json_answer({"content": ""})
    completed = await call.service.complete(request)
    texts = completed.texts or (CompletedText("", "end"),)
    bodies = [completion_body(text, completed, call) for text in texts]
    return json_answer(bodies if request.candidates > 1 else bodies[0])


def infill_request(fields: Fields) -> CompletionRequest:
    """Return the request of a body of `/infill`. Raises: RequestProblem."""
    return CompletionRequest(
        prefix=fields.text("input_prefix") + fields.text("prompt"),
        suffix=fields.text("input_suffix"),
        extra=tuple(ExtraText(one.text("text"), one.text("filename")) for one in fields.tables("input_extra")),
        infill=True,
        candidates=fields.whole("n_cmpl", 1, 1, MAX_CANDIDATES),
        max_tokens=_max_tokens(fields),
        stop=tuple(fields.texts("stop")),
    )


def completion_body(text: CompletedText, completed: Completed, call: Call) -> dict[str, Any]:
    """Return the body of one answer."""
    return {"content": text.text, "stop": True, "model": completed.model.name}


def _max_tokens(fields: Fields) -> int | None:
    limit = fields.whole("n_predict", -1, -1, MAX_TOKENS)
    return None if limit < 0 else limit
