"""The figures of a replay, as numbers, as text and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import cattrs
from attrs import frozen

from codegen_lsp.benchmarks.replay_records import Replay, ReplayRequest
from codegen_lsp.benchmarks.typist import CHARACTERS_A_MINUTE
from codegen_lsp.evaluation.figures import Figure, mean, ratio, share


@frozen
class ResponseTimes:
    """Milliseconds from request to answer."""

    p50: float
    p95: float
    p99: float
    requests: int


@frozen
class ReplayFigures:
    """The figures of one replay."""

    files: int
    characters: int
    minutes: float
    """Minutes of typing with the gaps that were drawn."""
    requests: int
    model: ResponseTimes | None
    """Of requests to the model."""
    cache: ResponseTimes | None
    """Of requests that were answered from the cache."""
    answered: ResponseTimes | None
    """Of all requests that were answered."""
    overtaken: Figure | None
    """Share of requests that a newer key cancelled; the times exclude them."""
    from_cache: Figure | None
    """Share of the answered requests that came from the cache."""
    through_from_cache: Figure | None
    """The same, of requests made while a right suggestion was typed through."""
    next_from_cache: Figure | None
    """The same, of requests right after accepting, or after the Enter that followed."""
    next_p50: float | None
    """Median of their times, in milliseconds."""
    shown: Figure | None
    """Share of requests with a suggestion."""
    right: Figure | None
    """Share of suggestions, each counted once, that were right when they appeared, whole or in their first line."""
    accepted: Figure | None
    """Share of suggestions, each counted once, that were accepted, whole or in part."""
    accepted_characters: Figure | None
    """Share of the characters that came from suggestions."""
    keystrokes_saved: Figure | None
    """Share of the keys needed without suggestions that were saved."""
    read_tokens: Figure | None
    """Tokens of the prompt that a request to the model had to prefill."""
    refusals: dict[str, int]
    """Requests without a suggestion, by rule."""
    wasted_tokens: float | None
    """Share of the generated tokens that were never shown."""
    tokens_per_character: float
    """Tokens generated for each character of the files."""
    cpu_seconds_per_minute: float
    """Processor seconds of server and worker for a minute of typing."""
    cpu_share: float
    """Share of one core, at 200 characters a minute."""
    server_mb: float
    worker_mb: float
    index_seconds: float | None
    """Time of the longest comparison of a workspace with its index; None where none ended during the replay."""


def figures_of(replay: Replay) -> ReplayFigures:
    """Return the figures; None where there were no cases."""
    typed = replay.typed
    requests = [request for file in typed for request in file.requests]
    answered = [request for request in requests if request.milliseconds is not None]
    new = [request for request in answered if request.new]
    after = [request for request in answered if request.after_accepting]
    following = times_of(after)
    asked = [request for request in answered if request.source in ("model", "flight")]
    characters = sum(file.characters for file in typed)
    minutes = sum(file.seconds for file in typed) / 60
    cpu = replay.cost.server_cpu_seconds + replay.cost.worker_cpu_seconds
    return ReplayFigures(
        files=len(typed),
        characters=characters,
        minutes=minutes,
        requests=len(requests),
        model=times_of(asked),
        cache=times_of([request for request in answered if request.source == "cache"]),
        answered=times_of(answered),
        overtaken=share([request.milliseconds is None for request in requests]),
        from_cache=share([request.source == "cache" for request in answered]),
        through_from_cache=share([request.source == "cache" for request in answered if request.through]),
        next_from_cache=share([request.source == "cache" for request in after]),
        next_p50=following.p50 if following else None,
        shown=share([request.shown for request in requests]),
        right=share([request.right for request in new]),
        accepted=share([request.accepted for request in new]),
        accepted_characters=ratio([file.gained for file in typed], [file.characters for file in typed]),
        keystrokes_saved=ratio(
            [file.keys_without - file.keys for file in typed], [file.keys_without for file in typed]
        ),
        read_tokens=mean([request.prompt_tokens - request.cached_tokens for request in asked]),
        refusals=dict(Counter(request.rule for request in answered if request.rule).most_common()),
        wasted_tokens=1 - replay.shown_tokens / replay.generated_tokens if replay.generated_tokens else None,
        tokens_per_character=replay.generated_tokens / characters,
        cpu_seconds_per_minute=cpu / minutes,
        cpu_share=cpu / (characters / CHARACTERS_A_MINUTE * 60),
        server_mb=replay.cost.server_mb,
        worker_mb=replay.cost.worker_mb,
        index_seconds=replay.index_seconds,
    )


def times_of(requests: Sequence[ReplayRequest]) -> ResponseTimes | None:
    """Return percentiles by the nearest rank; None without requests."""
    times = sorted(request.milliseconds for request in requests if request.milliseconds is not None)
    if not times:
        return None

    def percentile(share: float) -> float:
        return times[max(0, math.ceil(share * len(times)) - 1)]

    return ResponseTimes(percentile(0.50), percentile(0.95), percentile(0.99), len(times))


def as_json(replay: Replay) -> str:
    """Return the figures, and those of each file, as JSON."""
    body: dict[str, Any] = cattrs.unstructure(figures_of(replay))
    body |= {"build": replay.model, "real_time": replay.real_time}
    kept = ("package", "path", "characters", "keys", "keys_without", "seconds", "accepted", "gained")
    body["by_file"] = [{name: getattr(file, name) for name in kept} for file in replay.typed]
    return json.dumps(body, indent=2)


def time_cells(times: ResponseTimes) -> tuple[str, str, str, str]:
    """Return the percentiles in milliseconds and the number of requests, as text."""
    return f"{times.p50:.1f}", f"{times.p95:.1f}", f"{times.p99:.1f}", str(times.requests)


def figure_rows(figures: ReplayFigures) -> list[tuple[str, str]]:
    """Return a label and the text of each figure but the times."""
    wasted = "" if figures.wasted_tokens is None else f"{figures.wasted_tokens:.1%}"
    refusals = ", ".join(f"{rule} {count}" for rule, count in figures.refusals.items())
    return [
        ("requests overtaken by a key", percent(figures.overtaken)),
        ("answered from the cache", percent(figures.from_cache)),
        ("the same, while typing through a right suggestion", percent(figures.through_from_cache)),
        ("the same, right after accepting", percent(figures.next_from_cache)),
        ("p50 right after accepting", "" if figures.next_p50 is None else f"{figures.next_p50:.1f} ms"),
        ("requests with a suggestion", percent(figures.shown)),
        ("suggestions right when they came", percent(figures.right)),
        ("suggestions accepted, whole or in part", percent(figures.accepted)),
        ("characters that came from suggestions", percent(figures.accepted_characters)),
        ("keystrokes saved", percent(figures.keystrokes_saved)),
        ("tokens read anew by a request to the model", _number(figures.read_tokens)),
        ("generated tokens never shown", wasted),
        ("generated tokens for each character", f"{figures.tokens_per_character:.2f}"),
        ("CPU seconds for a minute of typing", f"{figures.cpu_seconds_per_minute:.1f}"),
        ("CPU at 200 characters a minute, of one core", f"{figures.cpu_share:.0%}"),
        ("memory of server and worker", f"{figures.server_mb:.0f} + {figures.worker_mb:.0f} MiB"),
        ("workspace indexed", "" if figures.index_seconds is None else f"in {figures.index_seconds:.1f} s"),
        ("without a suggestion, by rule", refusals),
    ]


def _number(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def percent(figure: Figure | None) -> str:
    """Return a share with its interval as text."""
    if figure is None:
        return ""
    return f"{figure.value * 100:.1f} % ({figure.low * 100:.0f} to {figure.high * 100:.0f})"
