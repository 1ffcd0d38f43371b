"""The native engine: an int8 or 4-bit build on the CPU, with keys and values kept from request to request.

A prompt is run from the point where it leaves the longest cached sequence. It runs in chunks, and can be interrupted
before each layer of a chunk and each token; the cache that an interrupted request leaves is used by the next one.
Logits are available at each step, so tokens that are not allowed are masked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.constraint import Constraint, TokenIndex, allowed_ids
from codegen_lsp.inference.engines.base import (
    CancellationToken,
    EngineConfig,
    Generation,
    OnAttention,
    OnLogits,
    OnToken,
    SamplingParams,
    Steps,
    T,
    check_ids,
)
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.engines.native.arrays import Floats
from codegen_lsp.inference.engines.native.attention import attention_weights
from codegen_lsp.inference.engines.native.batch import DecodeBatch, RowShare
from codegen_lsp.inference.engines.native.continuous_batch import ContinuousBatch, Room, Turn, perform
from codegen_lsp.inference.engines.native.forward import Chunk, ForwardPass
from codegen_lsp.inference.engines.native.kv_cache import CachedSequence, Ids, SequencePool
from codegen_lsp.inference.engines.native.model_file import CONVERT_AGAIN
from codegen_lsp.inference.engines.native.ngrams import GAP, NgramMatcher
from codegen_lsp.inference.engines.native.speculative import DraftLength
from codegen_lsp.inference.engines.native.weights import ModelWeights, read_weights
from codegen_lsp.inference.engines.steps import run_alone
from codegen_lsp.inference.sampling import log_sum
from codegen_lsp.inference.tokenizer import Tokenizer

COMPUTE_TYPES = ("auto", "int8", "int8_float32")
LAYER_SECONDS = 0.06
"""Target time of one layer of a chunk: a cancelled request delays the next one by no more than this."""
SCORED_AT_ONCE = 128
"""Tokens whose logits are in memory together: 26 MB with a vocabulary of 51,200."""
SHORTEST_CHUNK, LONGEST_CHUNK = 32, 256
"""In shorter chunks a token takes a third more time; in longer ones it takes no less (`docs/lab.md`)."""
CHUNK_STEP = 16
INITIAL_RATE = 500e9
"""Operations per second, two to each weight, assumed before the first chunk was measured: those of two cores."""


class NativeEngine:
    """One model on the CPU.

    Raises: ModelError when the build can't be read, or is of a kind that this engine can't compute.
    """

    name = "native"
    device = "cpu"
    mixes_ngrams = True
    slots = 8
    most_slots = 64
    note = ""

    def __init__(self, directory: Path, info: BuildInfo, tokenizer: Tokenizer, config: EngineConfig) -> None:
        check_support(config)
        self.threads = config.threads
        self._forward_pass = open_forward_pass(read_weights(directory), config.threads)
        weights = self._forward_pass.weights
        check_description(directory, info, weights)
        self.compute_type = "int4" if weights.has_four_bits else "int8"
        self._pool = SequencePool(
            self._forward_pass.new_cache, weights.token_bytes, config.cache_bytes, info.context_length
        )
        self._chunks = ChunkLength(weights.step_weights / self._forward_pass.layers)
        self._tokens = TokenIndex(tokenizer.all_bytes)
        self._special = tokenizer.special_ids
        self._draft_length = DraftLength()
        self._share = RowShare()
        self._vocab_size = info.vocabulary_size
        self._rows = weights.padded_vocab_size

    # The contract

    def generate(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Generation:
        """See `Engine.generate`."""
        return self.run(self.generating(prompt, sampling, cancellation, on_token), cancellation)

    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """See `Engine.warm`."""
        return self.run(self.warming(prompt, cancellation), cancellation)

    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """See `Engine.score`."""
        return self.run(self.scoring(ids, cancellation), cancellation)

    def generating(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Steps[Generation]:
        """See `Engine.generating`."""
        cancellation.check()
        check_ids(prompt, self._rows)
        started = time.perf_counter()
        ids = np.asarray(prompt, dtype=np.int64)
        spare = sampling.max_tokens * sampling.candidates
        yield Room(len(prompt) + spare)
        if sampling.reuse:
            taken = self._taken(lambda: self._pool.take(ids, spare))
        else:
            taken = self._taken_once(len(prompt) + spare)
        with taken as sequence:
            logits, computed = sequence.recall(len(prompt)), 0
            if logits is None:
                logits, computed = yield from self._prefill(sequence, ids, reuse=sampling.reuse)
            batch = DecodeBatch(
                sequence,
                self._constraint(sampling),
                sampling,
                cancellation,
                on_token,
                self._ngrams(sequence, ids, sampling),
                self._draft_length,
                self._share,
            )
            completions = yield from batch.run(logits)
        return Generation(
            completions=completions,
            cached_tokens=len(prompt) - computed,
            computed_tokens=computed,
            first_token_seconds=(batch.first_token_at or time.perf_counter()) - started,
            generated_tokens=batch.generated,
            drafted_tokens=batch.drafted,
            accepted_tokens=batch.accepted,
        )

    def warming(self, prompt: list[int], cancellation: CancellationToken) -> Steps[int]:
        """See `Engine.warming`."""
        check_ids(prompt, self._rows)
        ids = np.asarray(prompt, dtype=np.int64)
        if not self._pool.fits(len(prompt)):
            return self._pool.shared(ids)
        yield Room(len(prompt))
        with self._taken(lambda: self._pool.take(ids, 0)) as sequence:
            if sequence.recall(len(prompt)) is None:
                yield from self._prefill(sequence, ids)
        return len(prompt)

    def scoring(self, ids: list[int], cancellation: CancellationToken) -> Steps[list[float]]:
        """See `Engine.scoring`. Does not touch the cached sequences."""
        scores: list[float] = []
        yield from self._scoring(ids, lambda row, id, norm: scores.append(float(row[id]) - norm))
        return scores

    def run(self, steps: Steps[T], cancellation: CancellationToken) -> T:
        """See `Engine.run`."""
        return run_alone(steps, lambda demand: perform(self._forward_pass, demand, cancellation))

    def batch(self) -> ContinuousBatch:
        """See `Engine.batch`."""
        return ContinuousBatch(self._forward_pass, self._pool, self._share)

    def reading_logits(self, ids: list[int], take: OnLogits, on_attention: OnAttention | None = None) -> Steps[None]:
        """See `ReadsLogits.reading_logits`."""
        yield from self._scoring(ids, take, on_attention)

    def cache_bytes(self) -> int:
        """See `Engine.cache_bytes`."""
        return self._pool.bytes

    def close(self) -> None:
        """See `Engine.close`."""
        self._pool.clear()

    # For benchmarks and `mixing_fit`

    def score_with_confidence(self, ids: list[int], cancellation: CancellationToken) -> list[tuple[float, float]]:
        """Return what `score` does, and beside each score the largest log-probability of any token there."""
        scores: list[tuple[float, float]] = []
        steps = self._scoring(
            ids, lambda row, id, norm: scores.append((float(row[id]) - norm, float(row.max()) - norm))
        )
        self.run(steps, cancellation)
        return scores

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a prompt that are run at once, by the times measured so far."""
        return self._chunks.tokens

    def forget_dropped(self) -> None:
        """Forget the texts that were cut off, which drafts may repeat."""
        self._pool.forget_dropped()

    # Private

    @contextmanager
    def _taken(self, take: Callable[[], CachedSequence]) -> Iterator[CachedSequence]:
        """Take a sequence and give it back at the end. Raises: ModelError for the errors of numpy and torch."""
        try:
            sequence = take()
            try:
                yield sequence
            finally:
                self._pool.give_back(sequence)
        except (RuntimeError, MemoryError) as error:
            raise failure(error) from error

    @contextmanager
    def _taken_once(self, tokens: int) -> Iterator[CachedSequence]:
        """Take an empty sequence, and drop it at the end. Raises: as `_taken`."""
        with self._taken(lambda: self._pool.take_empty(tokens)) as sequence:
            try:
                yield sequence
            finally:
                self._pool.drop(sequence)

    def _prefill(self, sequence: CachedSequence, prompt: Ids, *, reuse: bool = True) -> Steps[tuple[Floats, int]]:
        """Run the tokens of the prompt that the sequence lacks, and that none has, if others are used.

        Return the logits after the prompt, (padded vocabulary size,), which the sequence keeps, and the number of
        tokens that were run.
        """
        sequence.cut(len(prompt) - 1)
        logits: Floats | None = None
        computed = 0
        while logits is None:
            yield Turn(len(prompt) - len(sequence.ids))
            if reuse:
                self._pool.adopt(sequence, prompt[:-1])
            at = len(sequence.ids)
            ids: list[int] = prompt[at : at + (self._chunks.tokens if reuse else LONGEST_CHUNK)].tolist()
            chunk = sequence.chunk(ids, logits=at + len(ids) == len(prompt))
            try:
                logits = yield chunk
            except BaseException:
                sequence.interrupted = chunk
                raise
            sequence.append(ids)
            computed += len(ids)
            self._chunks.record(len(ids), chunk.seconds / self._forward_pass.layers)
        after: Floats = logits[-1]
        sequence.remember(after)
        return after, computed

    def _scoring(self, ids: list[int], take: OnLogits, on_attention: OnAttention | None = None) -> Steps[None]:
        """Call `take` with the logits before each id but the first, the id, and the normaliser of the logits."""
        kv_heads = self._forward_pass.weights.kv_heads

        def on_layer(layer: int, entered: Floats) -> None:
            if on_attention is not None:
                queries = self._forward_pass.queries(layer, entered, at)
                on_attention(
                    layer, at, attention_weights(queries, sequence.cache[layer, :kv_heads, : at + len(entered)])
                )

        yield Room(len(ids))
        with self._taken(lambda: self._pool.take_empty(len(ids))) as sequence:
            for at in range(0, len(ids) - 1, SCORED_AT_ONCE):
                chunk = ids[at : at + SCORED_AT_ONCE]
                watcher = None if on_attention is None else on_layer
                logits = yield Chunk(chunk, sequence.cache, at, every=True, on_layer=watcher)
                for row, id in zip(logits, ids[at + 1 : at + 1 + len(chunk)], strict=False):
                    take(row, id, log_sum(row))

    def _constraint(self, sampling: SamplingParams) -> Constraint:
        padded_size = self._forward_pass.padded_vocab_size
        allowed = allowed_ids(padded_size, self._vocab_size, self._special, sampling.end_tokens)
        return Constraint(self._tokens, allowed, sampling.end_tokens, sampling.forced)

    def _ngrams(self, sequence: CachedSequence, prompt: Ids, sampling: SamplingParams) -> NgramMatcher:
        text = np.where(np.isin(prompt, list(self._special)), GAP, prompt)
        dropped = [ids.tolist() for ids in sequence.dropped] if sampling.drafts else []
        return NgramMatcher(text.tolist(), sampling.related, dropped)


class ChunkLength:
    """Number of tokens of a prompt that are run at once: a layer should take `LAYER_SECONDS`, by the measured rate."""

    def __init__(self, layer_weights: float) -> None:
        self._rate = INITIAL_RATE / (2 * layer_weights)
        """Tokens per second in one layer."""

    @property
    def tokens(self) -> int:
        """Length of the next chunk."""
        length = int(self._rate * LAYER_SECONDS) // CHUNK_STEP * CHUNK_STEP
        return min(max(length, SHORTEST_CHUNK), LONGEST_CHUNK)

    def record(self, tokens: int, seconds: float) -> None:
        """Learn from the time of one layer of a chunk. Short chunks are ignored: they say nothing about long ones."""
        if tokens >= SHORTEST_CHUNK:
            self._rate = 0.7 * self._rate + 0.3 * tokens / max(seconds, 1e-6)


def open_forward_pass(weights: ModelWeights, threads: int) -> ForwardPass:
    """Return the fastest implementation that runs this model here: the C library, else torch, which is loaded for it.

    Raises: ModelError when there is none, or not enough memory.
    """
    library = c_forward.library()
    if library is not None and c_forward.suits(weights):
        return c_forward.CForwardPass(weights, library, threads)
    try:
        from codegen_lsp.inference.engines.native.torch_forward import open_torch
    except ImportError as error:
        lacking = "this processor" if library is None else "models of this shape"
        raise OtherEngineError(
            f"The native engine has no compiled library for {lacking}, and can't use torch instead: {error}.",
            "Install torch with `pip install 'codegen-lsp[convert]'`, or set `engine` to `ct2`.",
        ) from error
    return open_torch(weights, threads)


def check_support(config: EngineConfig) -> None:
    """Raise OtherEngineError when the engine does not run on the device or with the compute type."""
    if config.device not in ("auto", "cpu"):
        raise OtherEngineError(
            f"The native engine does not run on {config.device}.", "Set `device` to `auto`, or `engine` to `ct2`."
        )
    if config.compute_type not in COMPUTE_TYPES:
        raise OtherEngineError(
            f"The native engine does not compute in {config.compute_type!r}.",
            f"Set `compute_type` to one of: {', '.join(COMPUTE_TYPES)}; or `engine` to `ct2`.",
        )


def check_description(directory: Path, info: BuildInfo, weights: ModelWeights) -> None:
    """Raise ModelError unless the weights are those that the build's description promises."""
    found = (len(weights.layers), weights.heads, weights.width)
    described = {info.weights.group} if info.weights is not None and info.bits != 8 else set()
    if (
        found != (info.layers, info.heads, info.width)
        or info.vocabulary_size > weights.padded_vocab_size
        or weights.groups != described
    ):
        raise ModelError(f"The weights in {directory} are not those of its description.", CONVERT_AGAIN)


def failure(error: RuntimeError | MemoryError) -> ModelError:
    """Return the error to report for one of numpy or torch; torch raises RuntimeError when memory is lacking."""
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return ModelError("There is not enough memory.", "Lower `cache.memory_mb`, or choose a smaller model.")
    return ModelError(f"torch failed: {error}.", "Restart the worker; see the log if it goes on.")
