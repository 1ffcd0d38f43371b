"""The HTTP application: the routes of all dialects over one completion service, and what every request goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from codegen_lsp.access import read_secrets
from codegen_lsp.http import openapi, page_routes, remote_model, session_routes
from codegen_lsp.http.answers import Call, Handler, ProblemForm, ServerContext, problem_answer
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.dialects import llama_cpp, ollama, openai, tabby
from codegen_lsp.http.guard import Guard
from codegen_lsp.http.metrics import RequestMetrics, ServerMetrics
from codegen_lsp.http.problems import RequestProblem

Dialect = Callable[[ServerContext], Sequence[BaseRoute]]
DIALECTS: tuple[Dialect, ...] = (
    tabby.routes,
    llama_cpp.routes,
    openai.routes,
    ollama.routes,
    page_routes.routes,
    session_routes.routes,
    remote_model.routes,
    openapi.routes,
)
"""Each returns the routes of one dialect. Of equal paths the first one answers: `/v1/health` is that of Tabby, which
has the field of llama.cpp's."""


def create_app(service: CompletionService, config: HttpConfig, *, guarded: bool = True) -> Starlette:
    """Return the application. The caller starts and closes the service.

    With `guarded` false, the caller admits requests by a `Guard` of its own, as a cluster's front does.

    Raises: TokenError, and OSError when the file with the keys can't be read.
    """
    context = ServerContext(service, config)
    metrics = service.metrics
    keys = read_secrets(config.key_file) if config.key_file is not None else []
    routes = [route for dialect in DIALECTS for route in dialect(context)]
    routes.append(context.route("GET", "/metrics", _metrics_handler(metrics), llama_cpp.problem_body))
    paths = frozenset(route.path for route in routes if isinstance(route, Route))

    def form_of(path: str) -> ProblemForm:
        return context.forms.get(path, llama_cpp.problem_body)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        problem = RequestProblem(error.status_code, "not_found_error", error.detail)
        answer = problem_answer(problem, form_of(request.url.path))
        answer.headers.update(error.headers or {})
        return answer

    middleware = [Middleware(RequestMetrics, metrics=metrics, paths=paths)]
    if guarded:
        middleware.append(Middleware(Guard, config=config, keys=keys, form_of=form_of))
    if config.allowed_origins:
        cors = {
            "allow_origins": config.allowed_origins,
            "allow_methods": ["GET", "POST"],
            "allow_headers": ["Authorization", "Content-Type", "X-Api-Key"],
        }
        middleware.append(Middleware(CORSMiddleware, **cors))  # type: ignore[arg-type]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: unknown})


def _metrics_handler(metrics: ServerMetrics) -> Handler:
    async def handle(call: Call) -> Response:
        """Return the measurements in the text format of Prometheus."""
        body, media_type = metrics.exposition(call.request.headers.get("accept", ""))
        return Response(body, media_type=media_type)

    return handle
