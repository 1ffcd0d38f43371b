"""What every engine does: continue a list of token ids.

An engine knows ids and the bytes they stand for, nothing else. Text, stop rules and infill formats are `generation`'s
matter; which request runs when is `scheduler`'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import field, frozen

OnToken = Callable[[int, int, float], bool]
"""Called with (candidate, token id, log-probability in nats) for each token chosen; True ends the candidate."""


class Cancelled(Exception):  # noqa: N818 - no error: the caller asked for it
    """Generation ended because its `CancellationToken` was cancelled."""


class CancellationToken:
    """Lets another thread end a generation: it stops within one token of `cancel`."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask for the end."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the end was asked for."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled when the end was asked for."""
        if self.cancelled:
            raise Cancelled


@frozen(kw_only=True)
class EngineConfig:
    """How an engine is to run a model."""

    device: str
    """`auto`, `cpu` or `cuda`."""
    compute_type: str
    """A CTranslate2 compute type, or `auto`."""
    threads: int
    cache_bytes: int
    """Limit for the memory of cached prefixes, in bytes."""


@frozen
class SamplingParams:
    """How to continue a prompt."""

    max_tokens: int
    end_tokens: frozenset[int]
    """Any of these ends a candidate; it is reported to `on_token` and left out of the result."""
    forced: bytes = b""
    """Bytes which every candidate must begin with (or, being unfinished, be a beginning of)."""
    candidates: int = 1
    temperature: float = 0.0
    """0: greedy; further candidates then differ in the first token beyond the forced bytes, most likely first."""
    top_p: float = 1.0
    seed: int | None = None
    ngrams: bool = False
    """Whether the n-grams of the prompt and of `related` are mixed into the model's probabilities, and so into the
    log-probabilities that are reported (see `ngrams`). An engine may not be able to."""
    related: Sequence[Sequence[int]] = ()
    """Other texts that the answer may repeat something of, as ids."""
    drafts: bool = True
    """Whether several tokens may be guessed and checked in one step. Changes no answer."""


@frozen
class Completion:
    """One candidate: its tokens without the end token, and the log-probability of each in nats."""

    tokens: list[int]
    log_probabilities: list[float]
    ended: bool
    """Whether the model chose an end token."""


@frozen
class Generation:
    """What `Engine.generate` gives."""

    completions: list[Completion]
    cached_tokens: int
    """Prompt tokens whose keys and values came from the cache."""
    computed_tokens: int
    """Prompt tokens that were run through the model, repeated runs counted each time."""
    first_token_seconds: float
    generated_tokens: int = field(default=0)
    """Tokens decoded, for all candidates, those given up included."""
    drafted_tokens: int = 0
    """Tokens guessed ahead and run."""
    accepted_tokens: int = 0
    """Those of them that were right."""


class Engine(Protocol):
    """Continues token ids with one model. Not thread-safe: one call at a time."""

    name: str
    device: str
    compute_type: str
    threads: int
    mixes_ngrams: bool
    """Whether the engine honours `SamplingParams.ngrams`."""

    def generate(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Generation:
        """Continue the prompt (at least one id). Raises Cancelled, and ModelError when the runtime fails."""

    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """Prepare for prompts that begin with most of this one; gives the number of tokens cached for it."""

    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """Log-probability in nats of each id but the first, given those before it. At least two ids, at most the
        context's length. Raises Cancelled, and ModelError when the runtime fails."""

    def cache_bytes(self) -> int:
        """Memory that cached prefixes take, in bytes."""

    def close(self) -> None:
        """Free the model."""
