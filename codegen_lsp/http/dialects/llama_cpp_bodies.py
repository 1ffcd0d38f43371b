"""Bodies of llama.cpp's dialect: what its server writes for a completion, a part of one, and its own state.

Names and shapes are those of `tools/server` of llama.cpp in 2026: README.md, and `to_json` of its task results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from codegen_lsp.http.requests import Completed, CompletedText, CompletionRequest, Piece, TokenPiece
from codegen_lsp.inference.rpc.messages import GenerationStats, ModelDescription

MOST_SEED = 2**32 - 1
"""Stands for a random seed."""


def completion_body(
    request: CompletionRequest, completed: Completed, text: CompletedText, index: int, *, with_tokens: bool
) -> dict[str, Any]:
    """Return the body of one whole answer."""
    stats, model = completed.stats, completed.model
    evaluated = completed.prompt_tokens
    body = {
        "index": index,
        "content": text.text,
        "tokens": [piece.id for piece in text.pieces] if with_tokens else [],
        "id_slot": 0,
        "stop": True,
        "model": model.name,
        "tokens_predicted": text.tokens,
        "tokens_evaluated": evaluated,
        "generation_settings": generation_settings(request, model),
        "prompt": request.prefix,
        "has_new_line": "\n" in text.text,
        "truncated": evaluated + text.tokens >= model.context_length,
        "stop_type": _stop_type(request, text),
        "stopping_word": text.stopped_by if text.stopped_by in request.stop else "",
        "tokens_cached": stats.cached_tokens if stats else 0,
        "timings": timings(stats, text.tokens),
    }
    if request.top_logprobs:
        body["completion_probabilities"] = [probability(piece) for piece in text.pieces]
    if completed.refusal is not None:
        body["refusal"] = {"rule": completed.refusal.rule, "reason": completed.refusal.reason}
    return body


def part_body(request: CompletionRequest, piece: Piece, predicted: int) -> dict[str, Any]:
    """Return the body of a part of a streamed answer, of which `predicted` tokens are written with it."""
    body = {
        "index": piece.candidate,
        "content": piece.text,
        "tokens": [token.id for token in piece.tokens],
        "stop": False,
        "id_slot": 0,
        "tokens_predicted": predicted,
        "tokens_evaluated": 0,
    }
    if request.top_logprobs:
        body["completion_probabilities"] = [probability(token) for token in piece.tokens]
    return body


def generation_settings(request: CompletionRequest, model: ModelDescription) -> dict[str, Any]:
    """Return the settings that were in force; samplers that this server lacks are turned off."""
    return {
        "n_ctx": model.context_length,
        "model": model.name,
        "n_predict": -1 if request.max_tokens is None else request.max_tokens,
        "max_tokens": -1 if request.max_tokens is None else request.max_tokens,
        "seed": MOST_SEED if request.seed is None else request.seed,
        "temperature": request.temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": 0.0,
        "typical_p": 1.0,
        "repeat_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "mirostat": 0,
        "stop": list(request.stop),
        "n_indent": request.min_indent or 0,
        "n_probs": request.top_logprobs or 0,
        "n_keep": 0,
        "ignore_eos": False,
        "stream": False,
        "grammar": "",
        "samplers": ["top_k", "top_p", "temperature"] if request.temperature else [],
        "lora": [],
    }


def timings(stats: GenerationStats | None, predicted: int) -> dict[str, int | float]:
    """Return the times of an answer with `predicted` tokens."""
    if stats is None:
        stats = GenerationStats(0, 0, 0, 0.0, 0.0, 0.0)
    computed = stats.prompt_tokens - stats.cached_tokens
    prompt_ms = stats.first_token_seconds * 1e3
    predicted_ms = max(stats.total_seconds - stats.first_token_seconds, 0.0) * 1e3
    body: dict[str, int | float] = {
        "cache_n": stats.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / max(computed, 1),
        "prompt_per_second": computed / max(prompt_ms / 1e3, 1e-9),
        "predicted_n": predicted,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / max(predicted, 1),
        "predicted_per_second": predicted / max(predicted_ms / 1e3, 1e-9),
    }
    if stats.drafted_tokens:
        body |= {"draft_n": stats.drafted_tokens, "draft_n_accepted": stats.accepted_tokens}
    return body


def probability(piece: TokenPiece) -> dict[str, Any]:
    """Return an item of `completion_probabilities`."""
    return {
        "id": piece.id,
        "token": piece.data.decode("utf-8", "replace"),
        "bytes": list(piece.data),
        "logprob": piece.log_probability,
        "top_logprobs": [
            {"id": one.id, "token": one.text, "bytes": list(one.data), "logprob": one.log_probability}
            for one in piece.alternatives
        ],
    }


def chosen_fields(body: Mapping[str, Any], paths: Sequence[str] | None) -> dict[str, Any]:
    """Return the fields that `response_fields` names, each under its whole path; missing ones are left out."""
    if paths is None:
        return dict(body)
    chosen: dict[str, Any] = {}
    for path in paths:
        value: Any = body
        for name in path.split("/"):
            value = value.get(name, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING:
            chosen[path] = value
    return chosen


_MISSING = object()


def _stop_type(request: CompletionRequest, text: CompletedText) -> str:
    """Return why the text ended. A rule of an editor's request ends it where the model's answer is complete."""
    if text.finish == "stop":
        return "word" if text.stopped_by and text.stopped_by in request.stop else "eos" if request.infill else "limit"
    return "eos" if text.finish == "end" else "limit"


def model_entry(model: ModelDescription, created: int) -> dict[str, Any]:
    """Return a model as `/v1/models` lists it."""
    return {
        "id": model.name,
        "aliases": [model.name],
        "tags": [],
        "object": "model",
        "created": created,
        "owned_by": "codegen-lsp",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "meta": {"n_ctx": model.context_length, "n_ctx_train": model.context_length, "n_params": model.parameters},
    }


def slot_body(number: int, model: ModelDescription, *, busy: bool) -> dict[str, Any]:
    """Return an item of `/slots`."""
    return {
        "id": number,
        "id_task": number if busy else -1,
        "n_ctx": model.context_length,
        "speculative": model.ngrams,
        "is_processing": busy,
        "params": generation_settings(CompletionRequest(prefix=""), model),
        "next_token": {"has_next_token": busy, "has_new_line": False, "n_remain": -1, "n_decoded": 0},
    }
