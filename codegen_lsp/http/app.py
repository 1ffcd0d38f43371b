"""The HTTP application: the routes of all dialects over one completion service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from codegen_lsp.http import remote_model
from codegen_lsp.http.answers import ServerContext
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.dialects import llama_cpp

Dialect = Callable[[ServerContext], Sequence[BaseRoute]]
DIALECTS: tuple[Dialect, ...] = (llama_cpp.routes, remote_model.routes)
"""Each returns the routes of one dialect."""


def create_app(service: CompletionService, config: HttpConfig) -> Starlette:
    """Return the application. The caller starts and closes the service."""
    context = ServerContext(service, config)
    return Starlette(routes=[route for dialect in DIALECTS for route in dialect(context)])
