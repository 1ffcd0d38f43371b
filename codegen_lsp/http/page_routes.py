"""The page at `/`: an editor to try the model in a browser, and the requests that it sends.

The page's files are public: they hold nothing of a user, and a browser can't send a key when it opens a page. What it
asks for goes through the same checks as every other request.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

import cattrs
from attrs import evolve, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot
from codegen_lsp.http.answers import Call, ServerContext, json_answer
from codegen_lsp.http.page_workspace import PageWorkspaces
from codegen_lsp.http.problems import RequestProblem
from codegen_lsp.inference.rpc.attribution import AttributionParams
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.options import options_for
from codegen_lsp.trace.html_page import FOLDER as SHARED_FOLDER
from codegen_lsp.version import __version__

FOLDER = Path(__file__).with_name("page")
SCRIPTS = (
    *("script", "elements", "requests", "views", "editor", "examples", "attention_view"),
    *("sessions", "session_store", "session_view"),
)
FILES = {
    "/": ("index.html", "text/html"),
    "/sessions": ("index.html", "text/html"),
    **{f"/page/{name}.js": (f"{name}.js", "text/javascript") for name in SCRIPTS},
    "/page/style.css": ("style.css", "text/css"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The page's files by path, with their media types."""
SHARED_FILES = {
    "/page/attention.js": ("attention.js", "text/javascript"),
    "/page/attention.css": ("attention.css", "text/css"),
}
"""Those that it shares with the page of a trace."""
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
MAX_SUGGESTION = 4_000
"""Characters of a suggestion that is explained."""


@frozen
class _Question:
    """A document with a cursor, and the request to the model that follows from it."""

    snapshot: Snapshot
    planned: Plan
    params: GenerateParams


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of the page."""
    workspaces = PageWorkspaces(context.config.workspaces)

    async def state(call: Call) -> Response:
        """Return what the page shows of the server."""
        current = call.service.state
        folders = []
        if current.model is not None:
            language = call.request.query_params.get("language", "")
            folders = await workspaces.states(call.service.client, call.service.settings, language)
        return json_answer(
            {
                "version": __version__,
                "phase": current.phase,
                "message": current.message,
                "advice": current.advice,
                "model": cattrs.unstructure(current.model),
                "languages": sorted(LANGUAGES),
                "workspaces": folders,
            }
        )

    async def complete(call: Call) -> Response:
        """Complete the document of the page."""
        started = time.perf_counter()
        asked = await _question(call, workspaces)
        if isinstance(asked, Refusal):
            return json_answer({"text": "", "refusal": cattrs.unstructure(asked)})
        workspaces.refresh(call.service.client, call.service.settings, asked.snapshot)
        result = await call.service.generate(evolve(asked.params, user=call.user))
        shaped = await asyncio.to_thread(shape_all, result.candidates, asked.planned)
        body: dict[str, Any] = {"stats": cattrs.unstructure(result.stats), "seconds": time.perf_counter() - started}
        if isinstance(shaped, Refusal):
            return json_answer(body | {"text": "", "refusal": cattrs.unstructure(shaped)})
        first, offset = shaped[0], asked.snapshot.offset
        replaced = asked.snapshot.text[offset : first.end]
        return json_answer(body | {"text": first.insert[offset - first.start :], "replaces": replaced})

    async def explain(call: Call) -> Response:
        """Return the tokens of a suggestion, with their probabilities and sources.

        With the field `attention` also what each layer and head attends to, and the tokens of the prompt.
        """
        asked = await _question(call, workspaces)
        if isinstance(asked, Refusal):
            return json_answer({"tokens": []})
        before, after = asked.snapshot.text[: asked.snapshot.offset], asked.snapshot.text[asked.snapshot.offset :]
        text = call.fields.text("text")[:MAX_SUGGESTION]
        attention = call.fields.flag("attention")
        params = AttributionParams(asked.params, with_lf(text), before, after, prompt=attention, attention=attention)
        result = await call.service.client.attribute(params)
        prompt = [{"text": one.token.text, "line": one.line} for one in result.prompt]
        return json_answer(cattrs.unstructure(evolve(result, prompt=[])) | {"prompt": prompt})

    return [
        *(Route(path, partial(_file, FOLDER / name, media_type), methods=["GET"]) for path, (name, media_type) in
          FILES.items()),
        *(Route(path, partial(_file, SHARED_FOLDER / name, media_type), methods=["GET"])
          for path, (name, media_type) in SHARED_FILES.items()),
        context.route("GET", "/page/state", state, problem_body),
        context.route("POST", "/page/complete", complete, problem_body),
        context.route("POST", "/page/explain", explain, problem_body),
    ]  # fmt: skip


def problem_body(problem: RequestProblem) -> object:
    """Return a problem as the page reads it."""
    return {"error": {"message": problem.message, "type": problem.kind}}


async def _file(path: Path, media_type: str, request: Request) -> Response:
    content = await asyncio.to_thread(path.read_bytes)
    return Response(content, media_type=media_type, headers=HEADERS)


async def _question(call: Call, workspaces: PageWorkspaces) -> _Question | Refusal:
    """Return the document of a request and the request to the model. Raises: RequestProblem, WorkerError."""
    fields, service = call.fields, call.service
    model, language = service.model, fields.text("language")
    before, after = with_lf(fields.text("before")), with_lf(fields.text("after"))
    if language not in LANGUAGES:
        language = next(iter(model.languages), "python")
    folder = workspaces.folder(fields.whole("workspace", -1, -1, 1_000))
    snapshot = Snapshot(workspaces.uri(folder, language), 0, language, before + after, len(before))
    options = options_for(service.settings, language, model)
    planned = await asyncio.to_thread(plan, snapshot, options)
    if isinstance(planned, Refusal):
        return planned
    indexed = workspaces.indexed(snapshot)
    params = GenerateParams(
        document=f"page {fields.text('session')[:64]}",
        prefix=planned.prefix,
        suffix=planned.suffix,
        stop=planned.stop,
        candidates=1,
        temperature=planned.temperature,
        top_p=planned.top_p,
        workspace=indexed.key if indexed else "",
        excluded_files=[indexed.file] if indexed else [],
        related=list(planned.rest_of_document),
    )
    return _Question(snapshot, planned, params)
