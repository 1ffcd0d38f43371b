"""From a snapshot to suggestions: what was typed through, else what the model says. Knows no protocol.

One straight way, once per request, with an `Outcome` at its end that says what there is to show or which rule spoke
against it, so that `codegen-lsp/explain` has nothing to find out anew.
"""

from __future__ import annotations

import time
from typing import Literal, Protocol

from attrs import evolve, frozen

from codegen_lsp.completion.languages import DEFAULT_LANGUAGES, EVERY_LANGUAGE
from codegen_lsp.completion.planning import plan
from codegen_lsp.completion.policy import Options
from codegen_lsp.completion.reuse import SuggestionCache
from codegen_lsp.completion.shaping import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion, Trigger
from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.client import SupersededError
from codegen_lsp.inference.messages import (
    GenerateParams,
    GenerateResult,
    GenerationStats,
    ModelDescription,
    WarmParams,
)
from codegen_lsp.settings import Settings

SUFFIX_SHARE = 0.2
"""Share of the prompt for text after the cursor, where the model's context is too small for all that the settings
allow."""

Source = Literal["cache", "model", "none"]


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
    """Where the suggestions came from; `none` when the model was not asked."""
    refusal: Refusal | None = None
    """Why there is no suggestion."""
    stats: GenerationStats | None = None
    seconds: float = 0.0
    """From the arrival of the request to its answer."""


def refused(rule: str, reason: str) -> Outcome:
    """An outcome without suggestions that the model had no part in."""
    return Outcome([], "none", Refusal(rule, reason))


class Completer:
    """Makes suggestions and remembers them while they are typed through."""

    def __init__(self) -> None:
        self._cache = SuggestionCache()
        self._last_prefix: dict[str, str] = {}

    def forget(self) -> None:
        """Forget all suggestions: another model, or other settings."""
        self._cache.clear()
        self._last_prefix.clear()

    def typed_through(self, snapshot: Snapshot, options: Options) -> Outcome | None:
        """What is left of a suggestion whose beginning was typed; costs no model."""
        started = time.perf_counter()
        found = self._cache.find(snapshot, options)
        return Outcome(found, "cache", seconds=time.perf_counter() - started) if found else None

    async def suggest(self, snapshot: Snapshot, options: Options, model: Model, *, top_p: float = 0.95) -> Outcome:
        """Ask the model. Errors a user can act on become refusals; cancelling ends the generation."""
        started = time.perf_counter()
        planned = plan(snapshot, options)
        if isinstance(planned, Refusal):
            return Outcome([], "none", planned)
        params = GenerateParams(
            document=snapshot.uri,
            prefix=planned.prefix,
            suffix=planned.suffix,
            stop=planned.stop,
            candidates=planned.candidates,
            temperature=planned.temperature,
            top_p=top_p,
        )
        try:
            result = await model.generate(params)
        except SupersededError as error:
            return refused("superseded", str(error))
        except CodegenError as error:
            return refused("no_model", str(error))
        self._last_prefix[snapshot.uri] = planned.prefix
        shaped = shape_all(result.candidates, planned)
        outcome = Outcome([], "model", stats=result.stats, seconds=time.perf_counter() - started)
        if isinstance(shaped, Refusal):
            return evolve(outcome, refusal=shaped)
        self._cache.keep(snapshot, shaped, options)
        return evolve(outcome, suggestions=shaped)

    async def warm(self, snapshot: Snapshot, options: Options, model: Model) -> bool:
        """Let the model read the text up to the cursor ahead. False when it has done so already or must not."""
        planned = plan(evolve(snapshot, trigger=Trigger.INVOKED), options)
        if isinstance(planned, Refusal) or not planned.prefix or self._last_prefix.get(snapshot.uri) == planned.prefix:
            return False
        self._last_prefix[snapshot.uri] = planned.prefix
        await model.warm(WarmParams(snapshot.uri, planned.prefix, planned.suffix))
        return True

    def close(self, uri: str) -> None:
        """Forget a document that was closed."""
        self._last_prefix.pop(uri, None)


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
        suffix = min(suffix, max(0, int(room * SUFFIX_SHARE)))
        prefix = min(prefix, max(1, room - suffix))
    return Options(
        enabled=settings.enabled,
        languages=frozenset(on),
        prefix_characters=prefix,
        suffix_characters=suffix,
        infill=model is not None and model.infill,
        candidates=settings.candidates,
        block_lines=settings.max_lines if block else 1,
        block_tokens=settings.max_tokens if block else settings.line_tokens,
        line_tokens=settings.line_tokens,
        temperature=settings.temperature,
        threshold=settings.threshold,
        without=frozenset(settings.without),
    )
