"""Tabby's dialect, as its clients for editors speak it: completion of segments, health, events.

https://tabby.tabbyml.com/api, and clients/tabby-openapi of its repository

`/v1/completions` is OpenAI's path as well; a request with `segments` is Tabby's.
"""

from __future__ import annotations

import os
import platform
import uuid

from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import Call, ServerContext, check_health, json_answer
from codegen_lsp.http.fields import Fields
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.requests import CompletedText, CompletionRequest, ExtraText
from codegen_lsp.version import __version__

TABBY_VERSION = "v0.32.0"
"""Version of Tabby whose interface this is: clients choose by it what they ask."""
SNIPPETS = ("declarations", "relevant_snippets_from_changed_files", "relevant_snippets_from_recently_opened_files")


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of this dialect, but for the one that it shares with OpenAI's."""
    handlers = [
        ("GET", "/v1/health", health),
        ("POST", "/v1/health", health),
        ("POST", "/v1/events", events),
        ("GET", "/v1beta/server_setting", server_setting),
    ]
    return [context.route(method, path, handler, problem_body) for method, path, handler in handlers]


def problem_body(problem: RequestProblem) -> object:
    """Return a problem. Tabby has no form of its own for one, and its clients read the status."""
    return {"error": {"code": problem.status, "message": problem.message, "type": problem.kind}}


async def health(call: Call) -> Response:
    """Answer that the model is ready, for Tabby's clients and those of llama.cpp.

    The path needs no key, so the machine is described on a loopback address only.
    """
    check_health(call)
    model, known = call.service.model, call.config.is_loopback
    return json_answer(
        {
            "status": "ok",
            "model": model.name if known else None,
            "device": model.device,
            "arch": platform.machine() if known else "",
            "cpu_info": platform.processor() if known else "",
            "cpu_count": (os.cpu_count() or 1) if known else 0,
            "cuda_devices": [],
            "version": {
                "build_date": "",
                "build_timestamp": "",
                "git_sha": f"codegen-lsp {__version__}" if known else "",
                "git_describe": TABBY_VERSION,
            },
        }
    )


async def completions(call: Call) -> Response:
    """Complete code at a cursor."""
    fields = call.fields
    if (mode := fields.text("mode", "standard")) != "standard":
        raise RequestProblem(501, "not_supported_error", f"The mode {mode!r} is not supported by this model.")
    completed = await call.service.complete(segments_request(fields, call.user))
    texts = completed.texts or (CompletedText("", "end"),)
    choices = [{"index": index, "text": text.text} for index, text in enumerate(texts)]
    return json_answer({"id": f"cmpl-{uuid.uuid4()}", "choices": choices, "mode": "standard"})


def segments_request(fields: Fields, user: str) -> CompletionRequest:
    """Return the request of a body with segments. Raises: RequestProblem."""
    segments = fields.table("segments")
    if "prefix" not in segments:
        raise invalid("`segments.prefix` is required.")
    extra = [ExtraText(one.text("body"), one.text("filepath")) for name in SNIPPETS for one in segments.tables(name)]
    return CompletionRequest(
        prefix=segments.text("prefix"),
        suffix=segments.text("suffix"),
        extra=tuple(extra),
        filename=segments.text("filepath"),
        language=fields.text("language"),
        infill=True,
        temperature=fields.number("temperature", 0.0, 0.0, 2.0),
        seed=fields.whole("seed", 0, 0, 2**63 - 1) if "seed" in fields else None,
        user=user,
    )


async def events(call: Call) -> Response:
    """Take the report of a completion that was shown, accepted or dismissed; it is kept nowhere."""
    call.fields.text("type")
    call.fields.text("completion_id")
    call.fields.whole("choice_index", 0, 0, 2**31)
    return Response(status_code=200)


async def server_setting(call: Call) -> Response:
    """Ask clients for no telemetry."""
    return json_answer({"disable_client_side_telemetry": True})
