"""The front: passes each request to the replica of its document, in an actor of Ray Serve.

Ray Serve's HTTP proxy chooses a replica by the headers of a request alone. The document is known from the body, so a
deployment that loads no model stands before the replicas, and asks them through Ray Serve's consistent hashing.
"""

from __future__ import annotations

from contextlib import suppress

from ray.exceptions import RayActorError, RayError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from codegen_lsp.deploy.forwarding import (
    ClusterFullError,
    ForwardedRequest,
    Forwarder,
    Parts,
    ReplicaLostError,
    problem_form,
)
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.guard import Guard

LOST = (RayActorError, TaskCancelledError, RequestCancelledError, DeploymentUnavailableError)
"""Errors of a request whose replica died, or was ended before it had answered."""


class Front:
    """The deployment that clients reach."""

    def __init__(self, replicas: DeploymentHandle, config: HttpConfig, keys: list[str]) -> None:
        """`keys` are those of which clients must give one; none are needed if it is empty."""
        self._replicas = replicas.options(method_name="answer", stream=True)
        self._app = Guard(Forwarder(self._ask, config), config, keys, problem_form)

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        return _AppAnswer(self._app)

    async def _ask(self, request: ForwardedRequest, key: str) -> Parts:
        """Yield the answer of the replica of a key."""
        answer = self._replicas.options(session_id=key).remote(request)
        try:
            async for part in answer:
                yield part
        except LOST as error:
            raise ReplicaLostError from error
        except BackPressureError as error:
            raise ClusterFullError from error
        finally:
            with suppress(RayError):
                answer.cancel()


class _AppAnswer(Response):
    """An answer that an ASGI application writes."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write the answer."""
        await self._app(scope, receive, send)
