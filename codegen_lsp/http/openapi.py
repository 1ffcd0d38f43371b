"""The description of the HTTP server in OpenAPI 3.1, and a page that shows it without anything from the network.

It is written from the routes themselves: a path that is served is described, by the docstring of its handler. The
fields of bodies are listed for llama.cpp's dialect, as far as they have an effect here; the other dialects follow the
documentation of their servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from starlette.responses import HTMLResponse, Response

from codegen_lsp.http.answers import Call, DescribedRoute, ServerContext, json_answer
from codegen_lsp.http.guard import PUBLIC_PATHS
from codegen_lsp.http.problems import RequestProblem
from codegen_lsp.version import __version__

PATHS = ("/openapi.json", "/docs")

_PROMPT = {"prompt": "string or list"}
_SAMPLING = {
    "n_predict": "integer",
    "n_cmpl": "integer",
    "stop": "array",
    "temperature": "number",
    "top_k": "integer",
    "top_p": "number",
    "seed": "integer",
    "n_probs": "integer",
    "n_indent": "integer",
    "t_max_predict_ms": "number",
    "return_tokens": "boolean",
    "response_fields": "array",
    "stream": "boolean",
}
BODY_FIELDS: dict[str, dict[str, str]] = {
    "/infill": {
        "input_prefix": "string",
        "input_suffix": "string",
        "prompt": "string",
        "input_extra": "array",
        **_SAMPLING,
    },
    "/completion": {**_PROMPT, **_SAMPLING},
    "/completions": {**_PROMPT, **_SAMPLING},
    "/tokenize": {"content": "string", "with_pieces": "boolean"},
    "/detokenize": {"tokens": "array"},
}
"""Types of the fields of llama.cpp's dialect, by path; other dialects follow the documentation of their servers."""


def description(routes: Iterable[DescribedRoute], *, needs_key: bool) -> dict[str, Any]:
    """Return the OpenAPI document of routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, needs_key=needs_key)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "codegen-lsp",
            "version": __version__,
            "summary": "Code completion in the dialects of existing servers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def routes(context: ServerContext) -> list[Any]:
    """Return the routes of the description. It describes all that the context has when it is asked for."""

    async def document(call: Call) -> Response:
        """Return this description, in OpenAPI 3.1."""
        return json_answer(description(context.described, needs_key=call.config.key_file is not None))

    async def page(call: Call) -> Response:
        """Show this description as a page."""
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(_html(context.described), headers=headers)

    return [
        context.route("GET", path, handler, _problem_body)
        for path, handler in zip(PATHS, (document, page), strict=True)
    ]


def _problem_body(problem: RequestProblem) -> object:
    return {"error": {"code": problem.status, "message": problem.message, "type": problem.kind}}


def _operation(route: DescribedRoute, *, needs_key: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.dialect],
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('.', '_')}",
        "responses": {
            "200": {"description": "The answer."},
            "default": {"description": "A problem, in the form of the dialect.", "content": _json_object()},
        },
    }
    if route.method == "POST":
        operation["requestBody"] = {"content": _json_object(BODY_FIELDS.get(route.path, {})), "required": True}
    if needs_key and route.path not in PUBLIC_PATHS:
        operation["security"] = [{"key": []}]
    return operation


def _json_object(fields: dict[str, str] | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    if fields:
        properties = {name: {"type": kind} for name, kind in fields.items() if kind != "string or list"}
        mixed = {name: {"type": ["string", "array"]} for name, kind in fields.items() if kind == "string or list"}
        schema["properties"] = mixed | properties
    return {"application/json": {"schema": schema}}


def _html(described: Sequence[DescribedRoute]) -> str:
    """Return a page that lists the routes by dialect."""
    sections = []
    for dialect in dict.fromkeys(route.dialect for route in described):
        rows = "".join(map(_row, (route for route in described if route.dialect == dialect)))
        sections.append(f"<h2>{escape(dialect)}</h2><table>{rows}</table>")
    style = "body{font-family:sans-serif;max-width:60em;margin:2em auto}td{padding:.3em 1em .3em 0;vertical-align:top}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>codegen-lsp</title><style>{style}</style>"
        f"<h1>codegen-lsp {escape(__version__)}</h1>"
        f'<p>For programs: <a href="{PATHS[0]}">{PATHS[0]}</a>, in OpenAPI 3.1.</p>{"".join(sections)}</html>'
    )


def _row(route: DescribedRoute) -> str:
    fields = ", ".join(f"<code>{escape(name)}</code>" for name in BODY_FIELDS.get(route.path, {}))
    path = f"<td><code>{route.method}</code></td><td><code>{escape(route.path)}</code></td>"
    return f"<tr>{path}<td>{escape(route.summary)}{f'<br>{fields}' if fields else ''}</td></tr>"
