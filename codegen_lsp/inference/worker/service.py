"""The worker's service: one loaded model, and the requests for it.

Knows clients by name only; `client_connection` and `server` connect them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    ModelDescription,
    OriginParams,
    OriginResult,
    ScoreParams,
    StreamedText,
    WarmParams,
)
from codegen_lsp.inference.rpc.token_messages import (
    DetokenizedText,
    DetokenizeParams,
    TokenizedText,
    TokenizeParams,
)
from codegen_lsp.inference.text_model import OnText, TextModel
from codegen_lsp.inference.worker.scheduler import Scheduler

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.3
"""Pause after which the KV cache is prefilled with the last prompt: longer than the pauses of steady typing."""

OnLoadProgress = Callable[[LoadProgress], None]


class NotLoadedError(CodegenError):
    """A request came before a model was loaded."""

    def __init__(self) -> None:
        super().__init__("No model is loaded.", "Wait for it, or choose one with the setting `model`.")


class OtherBuildError(CodegenError):
    """A client wants another build, or another way of running it, than this worker has."""

    def __init__(self) -> None:
        super().__init__("The worker runs another build.", "Restart the worker.")


class InferenceService:
    """One model and the requests for it. Made inside the event loop."""

    def __init__(self) -> None:
        self.model: TextModel | None = None
        self._scheduler = Scheduler()
        self._prefill: asyncio.Task[None] | None = None
        self._latest: tuple[str, GenerateParams] | None = None
        """The last foreground request of an editor, and its client."""
        self._loaded_as: LoadParams | None = None
        self._loading: asyncio.Task[ModelDescription] | None = None
        self._progress_listeners: set[OnLoadProgress] = set()

    async def load(self, params: LoadParams, on_progress: OnLoadProgress) -> ModelDescription:
        """Load a build, after freeing the previous one. Raises ModelError."""
        loop = asyncio.get_running_loop()
        self._latest = None

        def progress(message: str, fraction: float) -> None:
            loop.call_soon_threadsafe(on_progress, LoadProgress(message, fraction))

        def work(cancellation: CancellationToken, _: float) -> tuple[TextModel, ModelDescription]:
            if self.model is not None:
                self.model.close()
                self.model = None
            loaded = load_model(params, progress)
            made, described = loaded
            self._scheduler.use(made.engine.batch(), described.slots)
            return loaded

        self.model, description = await self._scheduler.run("load", work, alone=True)
        return description

    async def load_once(self, params: LoadParams, on_progress: OnLoadProgress) -> ModelDescription:
        """Load a build unless another client has loaded it. Raises ModelError and OtherBuildError."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loaded_as = params
            self._loading = asyncio.ensure_future(self.load(params, self._report_to_all))
        if params != self._loaded_as:
            raise OtherBuildError
        self._progress_listeners.add(on_progress)
        try:
            # Shielded: other clients may wait for it, too.
            return await asyncio.shield(self._loading)
        finally:
            self._progress_listeners.discard(on_progress)

    async def generate(self, client: str, params: GenerateParams, on_text: OnText | None = None) -> object:
        """Continue a text; `on_text` gets its parts. Raises NotLoadedError, SupersededError and ModelError."""
        model = self._loaded()
        post = None if on_text is None else _posted(on_text)
        self._cancel_prefill()
        if not params.background and not params.user:
            self._latest = client, params
        try:
            return await self._scheduler.run(
                f"generate {params.document}",
                lambda cancellation, waited: model.generating(params, cancellation, waited, post),
                background=params.background,
                owner=client,
                user=params.user,
            )
        finally:
            self._prefill_when_idle()

    async def warm(self, client: str, params: WarmParams) -> int:
        """Prefill the KV cache with a text in the background. Raises what `generate` raises."""
        model = self._loaded()
        return await self._scheduler.run(
            "warm",
            lambda cancellation, _: model.warming(params, cancellation),
            background=True,
            owner=client,
        )

    async def score(self, client: str, params: ScoreParams) -> object:
        """Return the log-likelihood of texts. Raises what `generate` raises."""
        model = self._loaded()
        return await self._scheduler.run(
            f"score {params.document}",
            lambda cancellation, _: model.scoring(params.texts, cancellation),
            owner=client,
            user=params.user,
        )

    async def measure(self, client: str) -> object:
        """Measure the model's speed. Raises what `generate` raises."""
        model = self._loaded()
        return await self._scheduler.run(
            "measure", lambda cancellation, _: model.measure(cancellation), owner=client, alone=True
        )

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """Return which files of a workspace are indexed. Raises NotLoadedError."""
        indexes = self._loaded().workspaces
        if indexes is None:
            return IndexState(available=False)
        return await asyncio.to_thread(indexes.state, params.workspace, kept=params.kept, first=params.first)

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """Queue files of a workspace to be indexed. Raises NotLoadedError."""
        indexes = self._loaded().workspaces
        if indexes is None:
            return IndexState(available=False)
        indexes.update(params)
        return IndexState(pending=indexes.pending(params.workspace))

    async def origin(self, params: OriginParams) -> OriginResult:
        """Return where a suggestion comes from. Raises NotLoadedError."""
        return await asyncio.to_thread(self._loaded().origin, params)

    async def tokenize(self, params: TokenizeParams) -> TokenizedText:
        """Return the tokens of a text. Raises NotLoadedError."""
        tokenizer = self._loaded().tokenizer
        ids = await asyncio.to_thread(tokenizer.encode, params.text)
        return TokenizedText(ids, [list(tokenizer.token_bytes(id)) for id in ids])

    async def detokenize(self, params: DetokenizeParams) -> DetokenizedText:
        """Return the text of tokens. Raises NotLoadedError."""
        return DetokenizedText(self._loaded().tokenizer.decode(params.ids))

    async def attribute(self, client: str, params: AttributionParams) -> AttributionResult:
        """Return the probability and the sources of each token of a suggestion. Raises what `generate` raises.

        It is background work: any other request supersedes it.
        """
        model = self._loaded()
        result = await self._scheduler.run(
            f"attribute {params.request.document}",
            lambda cancellation, _: model.attribute(params, cancellation),
            background=True,
            owner=client,
        )
        return await asyncio.to_thread(model.placed, params, result)

    def forget(self, client: str) -> None:
        """Drop the state of a client that has disconnected. Its requests must have ended."""
        self._scheduler.forget(client)
        if self._latest is not None and self._latest[0] == client:
            self._latest = None
            self._cancel_prefill()

    def _report_to_all(self, progress: LoadProgress) -> None:
        for listener in list(self._progress_listeners):
            listener(progress)

    def _prefill_when_idle(self) -> None:
        """Schedule prefilling the KV cache with the prompt of the last foreground request."""
        self._cancel_prefill()
        if self._latest is not None:
            self._prefill = asyncio.ensure_future(self._prefill_after_pause(*self._latest))

    async def _prefill_after_pause(self, client: str, params: GenerateParams) -> None:
        try:
            await asyncio.sleep(IDLE_SECONDS)
            await self.warm(client, WarmParams(params.document, params.prefix, params.suffix, params.files))
        except SupersededError:
            pass
        except CodegenError:
            logger.warning("Prefilling the cache for the next prompt failed", exc_info=True)

    def _cancel_prefill(self) -> None:
        if self._prefill is not None:
            self._prefill.cancel()

    def _loaded(self) -> TextModel:
        if self.model is None:
            raise NotLoadedError
        return self.model


def _posted(on_text: OnText) -> OnText:
    """Return a function for the computing thread that calls `on_text` in the event loop."""
    loop = asyncio.get_running_loop()

    def post(text: StreamedText) -> None:
        loop.call_soon_threadsafe(on_text, text)

    return post
