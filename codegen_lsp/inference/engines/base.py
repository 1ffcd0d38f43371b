"""Interface of the engines: they continue a list of token ids.

An engine knows token ids and the bytes that they stand for. It knows no text, stop rules and infill formats
(`text_model`), and does not choose which request runs (`worker.scheduler`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from attrs import field, frozen

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL, MixingWeights
from codegen_lsp.inference.engines.native.ngram_index import WorkspaceCounts
from codegen_lsp.inference.sampling import Logits

OnLogits = Callable[[Logits, int, float], None]
"""Called with (logits before an id, the id, log of the sum of the exponentials of the logits)."""
OnAttention = Callable[[int, int, Logits], None]
"""Called with (layer, number of the first token, weights with which this token and the next ones attend to all tokens
up to them: float32, (heads, tokens, all tokens))."""
OnToken = Callable[[int, int, float], bool]
"""Called with (candidate, token id, log-probability in nats) for each token chosen; True ends the candidate."""

OnAlternatives = Callable[[int, list[tuple[int, float]]], None]
"""Called with (candidate, most likely tokens and their log-probabilities in nats) before a token is chosen."""

T = TypeVar("T")
Steps = Generator[object, Any, T]
"""A computation in steps, so that several can run together. It yields what the engine is to run for it, is sent the
result, and returns the result of the computation."""
Settle = Callable[[BaseException | None, Any], None]
"""Takes the error by which a computation ended, or None and its result."""


class Cancelled(Exception):  # noqa: N818 - no error: the caller asked for it
    """Generation ended because its `CancellationToken` was cancelled."""


class CancellationToken:
    """Cancels a generation from another thread, within one token."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Request cancellation. Safe from any thread."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True after `cancel`."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled if cancellation was requested."""
        if self.cancelled:
            raise Cancelled


@frozen(kw_only=True)
class EngineConfig:
    """Device, type of number and resources of an engine."""

    device: str
    """`auto`, `cpu` or `cuda`."""
    compute_type: str
    """A CTranslate2 compute type, or `auto`."""
    threads: int
    cache_bytes: int
    """Limit for the memory of cached prefixes, in bytes."""


@frozen
class SamplingParams:
    """Parameters of one generation."""

    max_tokens: int
    end_tokens: frozenset[int]
    """Each of these ends a candidate. It is reported to `on_token`, and not part of the result."""
    forced: bytes = b""
    """Prefix that the bytes of every candidate must have. A candidate that ends early may be a prefix of it instead."""
    candidates: int = 1
    temperature: float = 0.0
    """0 is greedy: further candidates then differ in the first token beyond the forced bytes, most likely first."""
    top_p: float = 1.0
    top_k: int = 0
    """Sample from this many most likely tokens; 0 for all."""
    seed: int | None = None
    alternatives: int = 0
    """Number of most likely tokens that `on_alternatives` gets."""
    on_alternatives: OnAlternatives | None = None
    """Gets the tokens that might be chosen, for each token but those that a candidate shares with the first one."""
    ngrams: bool = False
    """Mix the n-grams of the prompt and of `related` into the probabilities, and so into the log-probabilities that are
    reported (`native.ngrams`). Ignored by engines without `mixes_ngrams`."""
    related: Sequence[Sequence[int]] = ()
    """Token ids of other texts that the answer may repeat parts of."""
    weights: MixingWeights = SMALL_MODEL
    """Weights of the n-grams against the model."""
    workspace: WorkspaceCounts | None = None
    """Successor counts of the workspace's files, mixed in where `ngrams` is true."""
    drafts: bool = True
    """Allow speculative decoding, which changes no answer."""
    reuse: bool = True
    """Use and extend the cached sequences. Without them, and with chunks of a fixed length, the rounding of the result
    does not depend on other requests."""


@frozen
class Completion:
    """One candidate: its tokens without the end token, and their log-probabilities in nats."""

    tokens: list[int]
    log_probabilities: list[float]
    ended: bool
    """True if the model chose an end token."""


@frozen
class Generation:
    """Result of `Engine.generate`."""

    completions: list[Completion]
    cached_tokens: int
    """Prompt tokens whose keys and values came from the cache."""
    computed_tokens: int
    """Prompt tokens that were run; those that were run again count again."""
    first_token_seconds: float
    generated_tokens: int = field(default=0)
    """Decoded tokens of all candidates, including those that were abandoned."""
    drafted_tokens: int = 0
    """Draft tokens that were run."""
    accepted_tokens: int = 0
    """Draft tokens that were the ones chosen."""


class EngineBatch(Protocol):
    """Computations of one engine that run together. Belongs to one thread."""

    def __len__(self) -> int:
        """Return the number of computations that have not ended."""

    def add(self, steps: Steps[Any], cancellation: CancellationToken, settle: Settle) -> None:
        """Begin a computation. `settle` is called when it has ended, which may be at once."""

    def step(self) -> None:
        """Run each computation a step further. Those that were cancelled end with Cancelled."""


class Engine(Protocol):
    """One model that continues token ids. Not thread-safe: one call at a time."""

    name: str
    device: str
    compute_type: str
    threads: int
    mixes_ngrams: bool
    """True if the engine honours `SamplingParams.ngrams`."""
    slots: int
    """Computations that its batch runs together best."""
    most_slots: int
    """Limit of the same."""
    note: str
    """Why this engine runs the model and the faster one does not; empty where that was not tried."""

    def generate(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Generation:
        """Continue the prompt, of at least one id.

        Raises: Cancelled, and ModelError when the runtime fails.
        """

    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """Cache the state of this prompt, for prompts that begin with most of it. Return the number of cached tokens.

        Raises: Cancelled, and ModelError when the runtime fails.
        """

    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """Return the log-probability in nats of each id but the first, given the ids before it.

        There must be at least two ids, and at most as many as the context is long.

        Raises: Cancelled, and ModelError when the runtime fails.
        """

    def generating(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Steps[Generation]:
        """Return the computation of `generate`."""

    def warming(self, prompt: list[int], cancellation: CancellationToken) -> Steps[int]:
        """Return the computation of `warm`."""

    def scoring(self, ids: list[int], cancellation: CancellationToken) -> Steps[list[float]]:
        """Return the computation of `score`."""

    def run(self, steps: Steps[T], cancellation: CancellationToken) -> T:
        """Run a computation alone and return its result. Raises what it raises."""

    def batch(self) -> EngineBatch:
        """Return an empty batch. One batch of an engine may be in use, and nothing else meanwhile."""

    def cache_bytes(self) -> int:
        """Return the memory of all cached prefixes, in bytes."""

    def close(self) -> None:
        """Free the model."""


@runtime_checkable
class ReadsLogits(Protocol):
    """An engine that can show the logits at each place of a text, and what each layer and head attends to there."""

    def reading_logits(self, ids: list[int], take: OnLogits, on_attention: OnAttention | None = None) -> Steps[None]:
        """Return a computation that calls `take` for each id but the first. It does not touch cached sequences.

        `on_attention` is called for each layer and each part of the text, in the order of the tokens. The array must
        not be kept.
        """


def check_ids(ids: list[int], rows: int) -> None:
    """Raise ModelError unless there are token ids, all of which the model has."""
    if not ids or min(ids) < 0 or max(ids) >= rows:
        raise ModelError("The prompt is empty, or has tokens that the model lacks.", "Pull or convert the model again.")
