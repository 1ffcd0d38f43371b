"""The inference worker: a process that owns the model.

It is apart from the language server so that the server answers at once whatever the model does, and lives on when the
model takes too much memory and is killed. It speaks JSON-RPC on its standard input and output, and ends when its input
does, so that no worker outlives its server, however that ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import cattrs
from pygls.server import JsonRPCServer

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference import wire
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engine import Control
from codegen_lsp.inference.engines import open_engine
from codegen_lsp.inference.generation import TextModel, mixes, parameters_of
from codegen_lsp.inference.messages import (
    GenerateParams,
    LoadParams,
    LoadProgress,
    ModelDescription,
    ScoreParams,
    WarmParams,
)
from codegen_lsp.inference.process import release_memory
from codegen_lsp.inference.scheduler import Replaced, Scheduler
from codegen_lsp.inference.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

P = TypeVar("P")
LOG_VARIABLE = "CODEGEN_LSP_LOG"
"""Environment variable with the level of what the worker writes to its standard error stream."""
BACKGROUND_KEY = "warm"
IDLE_SECONDS = 0.3
"""Quiet time after which the last prompt is prepared for the next: longer than the gaps of steady typing."""


class Worker(JsonRPCServer):
    """One model and the requests for it."""

    def __init__(self) -> None:
        super().__init__(wire.WorkerProtocol, wire.converter)
        self.model: TextModel | None = None
        self._scheduler: Scheduler | None = None
        self._idle: asyncio.Task[None] | None = None
        self._latest: GenerateParams | None = None

    @property
    def scheduler(self) -> Scheduler:
        """Made on first use, inside the event loop."""
        if self._scheduler is None:
            self._scheduler = Scheduler()
        return self._scheduler

    async def load(self, params: LoadParams) -> ModelDescription:
        """Load a build, freeing the one before it."""
        loop = asyncio.get_running_loop()
        self._latest = None

        def progress(message: str, fraction: float) -> None:
            body = cattrs.unstructure(LoadProgress(message, fraction))
            loop.call_soon_threadsafe(self.protocol.notify, wire.PROGRESS, body)

        def work(control: Control, _: float) -> tuple[TextModel, ModelDescription]:
            if self.model is not None:
                self.model.engine.close()
                self.model = None
            return load_model(params, progress)

        self.model, description = await self.scheduler.run("load", work)
        return description

    async def generate(self, params: GenerateParams) -> object:
        """Continue a text, then prepare for the next one when it stays quiet."""
        model = self._loaded()
        if self._idle is not None:
            self._idle.cancel()
        if not params.background:
            self._latest = params
        try:
            return await self.scheduler.run(
                f"generate {params.document}",
                lambda control, waited: model.generate(params, control, waited),
                background=params.background,
            )
        finally:
            self._prepare_for_next()

    async def warm(self, params: WarmParams) -> int:
        """Prepare for a text, in the background."""
        model = self._loaded()
        return await self.scheduler.run(
            BACKGROUND_KEY, lambda control, _: model.warm(params.prefix, params.suffix, control), background=True
        )

    async def score(self, params: ScoreParams) -> object:
        """How likely texts are."""
        model = self._loaded()
        return await self.scheduler.run(
            f"score {params.document}", lambda control, _: model.score(params.texts, control)
        )

    async def measure(self, params: None) -> object:
        """Measure the model's speed."""
        model = self._loaded()
        return await self.scheduler.run("measure", lambda control, _: model.measure(control))

    def _prepare_for_next(self) -> None:
        """Warm the last text that somebody waited for, once it stays quiet."""
        if self._idle is not None:
            self._idle.cancel()
        if self._latest is not None:
            self._idle = asyncio.ensure_future(self._warm_when_quiet(self._latest))

    async def _warm_when_quiet(self, params: GenerateParams) -> None:
        try:
            await asyncio.sleep(IDLE_SECONDS)
            await self.warm(WarmParams(params.document, params.prefix, params.suffix))
        except Replaced:
            pass
        except CodegenError:
            logger.warning("Preparing the next prompt failed", exc_info=True)

    def _loaded(self) -> TextModel:
        if self.model is None:
            raise NotLoadedError
        return self.model

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log what pygls could not handle."""
        logger.error("%s: %s", source, error)

    def shutdown(self) -> None:
        """End the process at once, in the middle of a computation too: nothing here needs saving."""
        sys.stderr.flush()
        os._exit(0)


MIXING = ("incremental",)
"""Engines that can mix n-grams in."""


class NotLoadedError(CodegenError):
    """A request came before a model was loaded."""

    def __init__(self) -> None:
        super().__init__("No model is loaded.", "Wait for it, or choose one with the setting `model`.")


def load_model(params: LoadParams, progress: Callable[[str, float], None]) -> tuple[TextModel, ModelDescription]:
    """Read a build and open its engine. Raises ModelError."""
    started = time.perf_counter()
    directory = Path(params.build)
    info = read_info(directory)
    progress(f"Reading the tokenizer of {info.name}", 0.1)
    tokenizer = Tokenizer.from_build(directory, info)
    progress(f"Loading {info.name}", 0.3)
    engine = open_engine(params, directory, info, tokenizer)
    release_memory()
    model = TextModel(info, tokenizer, engine, document_cache=mixes(info, params.document_cache))
    progress(f"Measuring {info.name}", 0.9)
    rate = model.prefill_rate()
    progress(f"{info.name} is ready", 1.0)
    return model, ModelDescription(
        name=info.name,
        family=info.family,
        engine=engine.name,
        device=engine.device,
        compute_type=engine.compute_type,
        threads=engine.threads,
        context_length=info.context_length,
        infill=info.infill != "none",
        languages=list(info.languages),
        characters_per_token=model.characters_per_token,
        load_seconds=time.perf_counter() - started,
        prefill_tokens_per_second=rate,
        document_cache=model.document_cache and engine.name in MIXING,
        parameters=parameters_of(info),
    )


def handler(params_type: type[P] | None, method: Callable[[Any], Awaitable[object]]) -> Any:
    """A JSON-RPC handler that structures its parameters and answers with a value or a failure, whatever happens."""

    async def handle(raw: Any) -> dict[str, Any]:
        try:
            params = None if params_type is None else cattrs.structure(raw, params_type)
            value = await method(params)
        except Replaced:
            return wire.refusal(wire.Failure("replaced", "A newer request took this one's place."))
        except NotLoadedError as error:
            return wire.refusal(wire.Failure("unloaded", error.message, error.advice))
        except CodegenError as error:
            return wire.refusal(wire.Failure("model", error.message, error.advice))
        except Exception as error:
            logger.exception("A request failed")
            return wire.refusal(wire.Failure("internal", f"{type(error).__name__}: {error}", "See the log."))
        return wire.reply(value)

    return handle


def create_worker() -> Worker:
    """A worker with its message handlers."""
    worker = Worker()
    worker.feature(wire.LOAD)(handler(LoadParams, worker.load))
    worker.feature(wire.GENERATE)(handler(GenerateParams, worker.generate))
    worker.feature(wire.WARM)(handler(WarmParams, worker.warm))
    worker.feature(wire.SCORE)(handler(ScoreParams, worker.score))
    worker.feature(wire.MEASURE)(handler(None, worker.measure))
    return worker


def claim_stdout() -> BinaryIO:
    """The standard output for messages alone; whatever else is printed goes to the standard error."""
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return messages


def main() -> None:
    """Serve until the input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("codegen_lsp").setLevel(os.environ.get(LOG_VARIABLE, "warning").upper())
    create_worker().start_io(stdin=sys.stdin.buffer, stdout=claim_stdout())


if __name__ == "__main__":
    main()
