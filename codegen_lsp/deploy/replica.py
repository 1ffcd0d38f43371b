"""One replica: the HTTP application over an inference worker of its own, in an actor of Ray Serve."""

from __future__ import annotations

from attrs import evolve
from ray import serve

from codegen_lsp.checkpoints.store import find
from codegen_lsp.deploy.forwarding import ForwardedRequest, Parts, answer_parts
from codegen_lsp.errors import WorkerError
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService, server_load_params
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.settings import Settings


class Replica:
    """A replica of the application. Ray Serve makes it, asks after its health, and ends it.

    It is reached through the front alone, which admits requests.
    """

    async def __init__(self, settings: Settings, config: HttpConfig) -> None:  # type: ignore[misc] # as Ray Serve allows
        """Start a worker and load the model. Raises: ModelError, WorkerError."""
        build = find(settings.model)
        # Two replicas on one machine would share one worker, and the cores that it was given.
        load = evolve(server_load_params(settings, build.path), shared=False)
        self._service = CompletionService(settings, load)
        self._app = create_app(self._service, config, guarded=False)
        self._name = serve.get_replica_context().replica_id.unique_id
        await self._service.start()

    async def answer(self, request: ForwardedRequest) -> Parts:
        """Yield the answer to a request."""
        async for part in answer_parts(self._app, request, self._name):
            yield part

    async def check_health(self) -> None:
        """Raise WorkerError if the worker stays down, so that Ray Serve replaces this replica.

        A worker that died is restarted by its client, which gives up after several deaths within a minute.
        """
        state = self._service.state
        if state.phase == "failed":
            raise WorkerError(state.message, state.advice)

    async def __del__(self) -> None:  # Ray Serve awaits it
        """End the worker."""
        await self._service.close()
