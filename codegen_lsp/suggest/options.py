"""From the settings and the model to the parameters of the layers below."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.completion.options import Options
from codegen_lsp.inference.rpc.messages import LoadParams, ModelDescription
from codegen_lsp.settings import Settings
from codegen_lsp.source.languages import DEFAULT_LANGUAGES, EVERY_LANGUAGE

SUFFIX_SHARE = 0.2
"""Share of the prompt for text after the cursor if the model's context is smaller than the settings allow."""

COLD_PREFILL_SECONDS = 1.0
"""A prompt of which nothing is in the KV cache is at most as long as the model can prefill in this time."""
MIN_PROMPT_CHARACTERS = 1_500
"""Characters of a prompt that are allowed however slow the model is."""


def options_for(settings: Settings, language: str, model: ModelDescription | None) -> Options:
    """Return what the settings and the model allow in a document of this language."""
    named = {name for name, on in settings.languages.items() if on and name != EVERY_LANGUAGE}
    on = (DEFAULT_LANGUAGES | named) - {name for name, on in settings.languages.items() if not on}
    if settings.languages.get(EVERY_LANGUAGE) and settings.languages.get(language, True):
        on |= {language}
    block = settings.multi_line == "auto"
    prefix, suffix = settings.prompt.prefix_characters, settings.prompt.suffix_characters
    related = 0
    if model is not None:
        available = int((model.context_length - settings.max_tokens) * model.characters_per_token)
        if model.prefill_tokens_per_second is not None:
            in_time = int(COLD_PREFILL_SECONDS * model.prefill_tokens_per_second * model.characters_per_token)
            available = min(available, max(MIN_PROMPT_CHARACTERS, in_time))
        suffix = min(suffix, max(0, int(available * SUFFIX_SHARE)))
        prefix = min(prefix, max(1, available - suffix))
        related = _related_characters(settings, model, available - prefix - suffix)
    return Options(
        enabled=settings.enabled,
        languages=frozenset(on),
        prefix_characters=prefix,
        suffix_characters=suffix,
        related_characters=related,
        infill=model is not None and _infills(settings, model),
        candidates=settings.candidates,
        max_lines=settings.max_lines if block else 1,
        max_tokens=settings.max_tokens if block else settings.line_tokens,
        line_tokens=settings.line_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        threshold=settings.threshold,
        ablate=frozenset(settings.ablate),
    )


def load_params(settings: Settings, build: Path) -> LoadParams:
    """Return the parameters with which the worker loads a build."""
    return LoadParams(
        build=str(build),
        engine=settings.engine,
        device=settings.device,
        compute_type=settings.compute_type,
        threads=settings.threads,
        cache_memory_mb=settings.cache.memory_mb or None,
        ngrams="off" if "ngrams" in settings.ablate else settings.ngrams,
        shared=settings.worker.shared,
    )


def _related_characters(settings: Settings, model: ModelDescription, room: int) -> int:
    """Return the limit of other files' text in the prompt; `room` is what the document leaves of the longest prompt."""
    wanted, most = settings.prompt.related_files, settings.prompt.related_characters
    # A server's model would need the names of files, which never leave the machine.
    if not model.takes_files or model.remote or wanted == "off" or "related_files" in settings.ablate:
        return 0
    if wanted == "on":
        return most
    return 0 if model.small else max(0, min(most, room))


def _infills(settings: Settings, model: ModelDescription) -> bool:
    wanted = not model.small if settings.infilling == "auto" else settings.infilling == "on"
    return wanted and model.infill
