"""From a snapshot to suggestions: what was typed through, else what the model says. Knows no protocol.

One straight way, once per request, with an `Outcome` at its end that says what there is to show or which rule spoke
against it, so that `codegen-lsp/explain` has nothing to find out anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine
from typing import Any, Literal, Protocol, TypeVar

from attrs import define, evolve, field, frozen

from codegen_lsp.completion.context import WorkspaceContext
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion, Trigger
from codegen_lsp.completion.window import steady_suffix
from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    GenerationStats,
    ModelDescription,
    WarmParams,
)
from codegen_lsp.settings import Settings
from codegen_lsp.source.languages import DEFAULT_LANGUAGES, EVERY_LANGUAGE
from codegen_lsp.suggest.cache import SuggestionCache, typed_since
from codegen_lsp.suggest.debounce import Adoption
from codegen_lsp.suggest.prefetch import next_places

T = TypeVar("T")

SUFFIX_SHARE = 0.2
"""Share of the prompt for text after the cursor, where the model's context is too small for all that the settings
allow."""

COLD_SECONDS = 1.0
"""A prompt of which nothing is cached is no longer than what the model reads in this time."""
LEAST_CHARACTERS = 1_500
"""However slow the model is, it may read so much."""
GRACE = 0.1
"""Seconds that a generation goes on after its request was cancelled. VS Code cancels at a key and asks again 50 ms
later, and what was typed meanwhile is often what is just being written."""

LIKELY = 0.5
"""Mean probability of a token from which on a suggestion is likely enough to be accepted for its continuation to be
made."""

NOTHING_AROUND = WorkspaceContext()

INFILLING_PARAMETERS = 100_000_000
"""Smaller models are not given the text after the cursor unless the user wants it so. The embedded one, of 7 million,
saves no more keys with it; larger ones could not be measured."""

Source = Literal["cache", "flight", "model", "none"]


class Model(Protocol):
    """The part of `InferenceClient` that suggestions need."""

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `InferenceClient.generate`."""
        ...

    async def warm(self, params: WarmParams) -> None:
        """See `InferenceClient.warm`."""
        ...


@frozen
class Outcome:
    """How a request ended."""

    suggestions: list[Suggestion]
    source: Source
    """Where the suggestions came from: typed through, or made ahead (`cache`); a generation for an earlier request that
    was under way (`flight`); the model; `none` when it was not asked."""
    refusal: Refusal | None = None
    """Why there is no suggestion."""
    stats: GenerationStats | None = None
    seconds: float = 0.0
    """From the arrival of the request to its answer."""


def refused(rule: str, reason: str) -> Outcome:
    """An outcome without suggestions that the model had no part in."""
    return Outcome([], "none", Refusal(rule, reason))


@define(eq=False)
class _Flight:
    """A generation under way, and what it was asked for."""

    snapshot: Snapshot
    options: Options
    task: asyncio.Task[tuple[GenerateResult, list[Suggestion] | Refusal]]
    waiting: int = 0
    since: float = field(factory=time.perf_counter)

    async def join(self) -> tuple[GenerateResult, list[Suggestion] | Refusal]:
        """Wait for the answer. The generation is given up when nobody has waited for it for a while."""
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                asyncio.get_running_loop().call_later(GRACE, self._give_up)

    def leads_to(self, snapshot: Snapshot, options: Options) -> bool:
        """Whether its answer may be right for this snapshot, too."""
        if self.task.done() or self.options != options or snapshot.trigger is not self.snapshot.trigger:
            return False
        return typed_since(self.snapshot, snapshot) is not None

    def _give_up(self) -> None:
        if not self.waiting:
            self.task.cancel()


class Completer:
    """Makes suggestions and remembers them while they are typed through."""

    def __init__(self) -> None:
        self._cache = SuggestionCache()
        self._last_prefix: dict[str, str] = {}
        self._last_suffix: dict[str, str] = {}
        self._flights: dict[str, _Flight] = {}
        self._ahead: _Flight | None = None
        self._adoption = Adoption()
        self._prepared: tuple[str, str, Options] | None = None
        """What the last continuation was for: while its suggestion is typed through, that stays the same."""
        self.generated_tokens = 0
        """Tokens of all generations that were not cancelled."""

    def forget(self) -> None:
        """Forget all suggestions: another model, or other settings."""
        self._cache.clear()
        self._last_prefix.clear()
        self._last_suffix.clear()
        for flight in (*self._flights.values(), self._ahead):
            if flight is not None:
                flight.task.cancel()
        self._flights.clear()
        self._ahead = self._prepared = None
        self._adoption = Adoption()

    def typed_through(self, snapshot: Snapshot, options: Options) -> Outcome | None:
        """What is left of a suggestion whose beginning was typed; costs no model."""
        started = time.perf_counter()
        found = self._cache.find(snapshot, options)
        return Outcome(found, "cache", seconds=time.perf_counter() - started) if found else None

    async def suggest(
        self,
        snapshot: Snapshot,
        options: Options,
        model: Model,
        *,
        wait: float = 0.0,
        around: WorkspaceContext = NOTHING_AROUND,
    ) -> Outcome:
        """Ask the model, after waiting some seconds. Errors a user can act on become refusals; cancelling ends the
        generation, unless another request comes at once that its answer may be right for."""
        started = time.perf_counter()
        planned = self._plan(snapshot, options)
        if isinstance(planned, Refusal):
            return Outcome([], "none", planned)
        if outcome := await self._from_flight(snapshot, options, started):
            return outcome
        if wait > 0:
            await asyncio.sleep(wait)
        if older := self._flights.pop(snapshot.uri, None):
            older.task.cancel()
        flight = _Flight(snapshot, options, _quietly(self._generate(snapshot, planned, options, model, around)))
        self._flights[snapshot.uri] = flight
        try:
            result, shaped = await flight.join()
        except SupersededError as error:
            return refused("superseded", str(error))
        except CodegenError as error:
            return refused("no_model", str(error))
        finally:
            if flight.task.done() and self._flights.get(snapshot.uri) is flight:
                del self._flights[snapshot.uri]
        outcome = Outcome([], "model", stats=result.stats, seconds=time.perf_counter() - started)
        if isinstance(shaped, Refusal):
            return evolve(outcome, refusal=shaped)
        return evolve(outcome, suggestions=shaped)

    async def prepare(
        self,
        snapshot: Snapshot,
        suggestion: Suggestion,
        options: Options,
        model: Model,
        *,
        around: WorkspaceContext = NOTHING_AROUND,
    ) -> None:
        """Make the suggestion that follows this one, as though it were accepted, while nobody waits."""
        places = next_places(snapshot, suggestion)
        unlikely = math.exp(suggestion.log_probability) < LIKELY
        if unlikely or "prefetch" in options.ablate or self._prepared == (places[0].uri, places[0].text, options):
            return
        self._prepared = (places[0].uri, places[0].text, options)
        for place in places:
            if self._cache.find(place, options):
                return
            planned = self._plan(place, options)
            if isinstance(planned, Refusal):
                continue
            if self._ahead:
                self._ahead.task.cancel()
            work = self._generate(place, planned, options, model, around, background=True)
            self._ahead = _Flight(place, options, _quietly(work))
            try:
                _, shaped = await self._ahead.join()
            except CodegenError:
                self._prepared = None  # something else was more urgent
                return
            if not isinstance(shaped, Refusal):
                return

    def _plan(self, snapshot: Snapshot, options: Options) -> Plan | Refusal:
        """What to ask, with the text after the cursor as it was last time while it hardly changes."""
        planned = plan(snapshot, options)
        if isinstance(planned, Refusal) or "window" in options.ablate:
            return planned
        suffix = steady_suffix(planned.suffix, self._last_suffix.get(snapshot.uri, ""))
        self._last_suffix[snapshot.uri] = suffix
        return evolve(planned, suffix=suffix)

    async def _from_flight(self, snapshot: Snapshot, options: Options, started: float) -> Outcome | None:
        """The answer of a generation under way, if it begins with what was typed since it was asked for."""
        if "coalescing" in options.ablate:
            return None
        for flight in (self._flights.get(snapshot.uri), self._ahead):
            if flight is None or not flight.leads_to(snapshot, options):
                continue
            patience = self._adoption.patience(time.perf_counter() - flight.since)
            if not patience:
                continue
            with contextlib.suppress(CodegenError, TimeoutError):
                async with asyncio.timeout(patience):
                    result, _ = await flight.join()
                found = self._cache.find(snapshot, options)
                self._adoption = self._adoption.waited_for(bool(found))
                if found:
                    return Outcome(found, "flight", stats=result.stats, seconds=time.perf_counter() - started)
        return None

    async def _generate(
        self,
        snapshot: Snapshot,
        planned: Plan,
        options: Options,
        model: Model,
        around: WorkspaceContext,
        *,
        background: bool = False,
    ) -> tuple[GenerateResult, list[Suggestion] | Refusal]:
        """Ask the model and shape its answer, which is remembered."""
        others = () if "context" in options.ablate else around.snippets
        params = GenerateParams(
            document=snapshot.uri,
            prefix=planned.prefix,
            suffix=planned.suffix,
            stop=planned.stop,
            candidates=planned.candidates,
            temperature=planned.temperature,
            top_p=planned.top_p,
            background=background,
            related=[*planned.rest_of_document, *(other.text for other in others)],
        )
        started = time.perf_counter()
        result = await model.generate(params)
        self.generated_tokens += result.stats.generated_tokens
        if not background:
            self._adoption = self._adoption.answered(time.perf_counter() - started)
            self._last_prefix[snapshot.uri] = planned.prefix
        shaped = shape_all(result.candidates, evolve(planned, modules=around.modules))
        if not isinstance(shaped, Refusal):
            self._cache.keep(snapshot, shaped, options)
        return result, shaped

    async def warm(self, snapshot: Snapshot, options: Options, model: Model) -> bool:
        """Let the model read the text up to the cursor ahead. False when it has done so already or must not."""
        planned = self._plan(evolve(snapshot, trigger=Trigger.INVOKED), options)
        if isinstance(planned, Refusal) or not planned.prefix or self._last_prefix.get(snapshot.uri) == planned.prefix:
            return False
        self._last_prefix[snapshot.uri] = planned.prefix
        await model.warm(WarmParams(snapshot.uri, planned.prefix, planned.suffix))
        return True

    def close(self, uri: str) -> None:
        """Forget a document that was closed."""
        self._last_prefix.pop(uri, None)
        self._last_suffix.pop(uri, None)
        if flight := self._flights.pop(uri, None):
            flight.task.cancel()
        if self._ahead and self._ahead.snapshot.uri == uri:
            self._ahead.task.cancel()

    @property
    def preparing(self) -> bool:
        """Whether the suggestion that may come next is being made."""
        return self._ahead is not None and not self._ahead.task.done()


def _quietly(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose failure is nobody's business when nobody waits for it."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def options_for(settings: Settings, language: str, model: ModelDescription | None) -> Options:
    """What the settings and the model allow in a document of this language."""
    named = {name for name, on in settings.languages.items() if on and name != EVERY_LANGUAGE}
    on = (DEFAULT_LANGUAGES | named) - {name for name, on in settings.languages.items() if not on}
    if settings.languages.get(EVERY_LANGUAGE) and settings.languages.get(language, True):
        on |= {language}
    block = settings.multi_line == "auto"
    prefix, suffix = settings.prompt.prefix_characters, settings.prompt.suffix_characters
    if model is not None:
        room = int((model.context_length - settings.max_tokens) * model.characters_per_token)
        if model.prefill_tokens_per_second is not None:
            in_time = int(COLD_SECONDS * model.prefill_tokens_per_second * model.characters_per_token)
            room = min(room, max(LEAST_CHARACTERS, in_time))
        suffix = min(suffix, max(0, int(room * SUFFIX_SHARE)))
        prefix = min(prefix, max(1, room - suffix))
    return Options(
        enabled=settings.enabled,
        languages=frozenset(on),
        prefix_characters=prefix,
        suffix_characters=suffix,
        infill=model is not None and _infills(settings, model),
        candidates=settings.candidates,
        max_lines=settings.max_lines if block else 1,
        max_tokens=settings.max_tokens if block else settings.line_tokens,
        line_tokens=settings.line_tokens,
        temperature=settings.temperature,
        threshold=settings.threshold,
        top_p=settings.top_p,
        ablate=frozenset(settings.ablate),
    )


def _infills(settings: Settings, model: ModelDescription) -> bool:
    """Whether text after the cursor is part of the prompt."""
    small = model.parameters is not None and model.parameters < INFILLING_PARAMETERS
    wanted = not small if settings.infilling == "auto" else settings.infilling == "on"
    return wanted and model.infill
