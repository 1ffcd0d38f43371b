"""Run a build for an evaluation: the worker that answers, and the results with the model that gave them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import cattrs
from attrs import evolve, frozen

from codegen_lsp.checkpoints.store import InstalledBuild, find
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import LoadParams, ModelDescription
from codegen_lsp.progress import ProgressReport
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.options import load_params

T = TypeVar("T")


@frozen
class Runtime:
    """A build to evaluate, and how it is run."""

    build: InstalledBuild
    device: str = "auto"
    threads: int = 0
    engine: str = "auto"
    ngrams: str = "auto"

    @property
    def weights(self) -> str:
        """SHA-256 of the build's weights; empty where the build does not record it."""
        weights = self.build.info.files.get("model.bin")
        return weights.sha256 if weights else ""

    def load_params(self) -> LoadParams:
        """Return the parameters that load the build into a private worker without a cache of prompts."""
        settings = Settings(
            model=str(self.build.path),
            engine=self.engine,
            device=self.device,
            threads=self.threads,
            ngrams=self.ngrams,
        )
        return evolve(load_params(settings, self.build.path), cache_memory_mb=0, shared=False)


@frozen
class Measurement:
    """The figures of one evaluation, and the model that they are of."""

    model: ModelDescription
    weights: str
    """SHA-256 of the build's weights."""
    interrupted: bool
    """True if the user ended it before all cases were done."""
    figures: Any
    """By name; see the functions of `measurements`."""


def open_runtime(model: str, device: str, threads: int, engine: str) -> Runtime:
    """Return the runtime of an installed model, or of the build in a folder. Raises: ModelError."""
    return Runtime(find(model), device, threads, engine)


def as_json(measurement: Measurement) -> str:
    """Return a measurement as JSON: shares are numbers from 0 to 1, each with its interval and number of cases."""
    return json.dumps(cattrs.unstructure(measurement), indent=2)


@asynccontextmanager
async def running(
    runtime: Runtime, *, cache_memory_mb: int | None = 0, at_once: int = 0
) -> AsyncIterator[tuple[InferenceClient, ModelDescription]]:
    """Load the build into a worker that ends with the block.

    Prompts are not cached by default, since few resemble each other; None gives the cache the size that it has in an
    editor, or that of `at_once` prompts of the full context if that is more and a quarter of the memory suffices.
    Raises: ModelError and WorkerError.
    """
    client = InferenceClient()
    try:
        params = evolve(runtime.load_params(), cache_memory_mb=cache_memory_mb, cached_prompts=at_once)
        yield client, await client.load(params)
    finally:
        await client.close()


async def gather(answers: AsyncIterator[T], report: ProgressReport, *, total: int, before: int = 0) -> list[T]:
    """Return all answers, or those there are when the user interrupts; `before` of the `total` are done already."""
    found: list[T] = []
    try:
        async for answer in answers:
            found.append(answer)
            report(f"{before + len(found)} of {total}", (before + len(found)) / total)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    return found
