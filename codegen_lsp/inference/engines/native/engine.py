"""The engine that pays only for what was typed: torch over the int8 build, keys and values kept in place.

A prompt is run from where it leaves what some cached sequence holds. It runs in chunks, and every layer of a chunk and
every token can be the last: a cancelled request leaves a cache that the next one goes on from. Logits are at hand, so
what may not be chosen is masked. Several candidates are one batch: their tokens lie side by side in the cache behind
the prompt, and each sees the prompt and its own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from attrs import define, field
from torch import Tensor

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.constraint import Constraint, TokenIndex, allowed_ids
from codegen_lsp.inference.engines.base import CancellationToken, Completion, Generation, OnToken, SamplingParams
from codegen_lsp.inference.engines.native.c_forward import NativeTransformer, open_transformer
from codegen_lsp.inference.engines.native.kv_cache import CachedSequence, Ids, SequencePool
from codegen_lsp.inference.engines.native.ngrams import GAP, Matches
from codegen_lsp.inference.engines.native.speculative import LENGTHS, DraftLength
from codegen_lsp.inference.engines.native.torch_forward import Transformer
from codegen_lsp.inference.engines.native.weights import read_weights
from codegen_lsp.inference.sampling import Logits, log_sum, ranked, sample
from codegen_lsp.inference.tokenizer import Tokenizer

COMPUTE_TYPES = ("auto", "int8", "int8_float32")
LAYER_SECONDS = 0.06
"""What a chunk of a prompt should take in one layer: a request that was cancelled holds up the next one no longer."""
SCORED_AT_ONCE = 128
"""Tokens whose logits are in memory together: 26 MB with a vocabulary of 51,200."""
SHORTEST_CHUNK, LONGEST_CHUNK = 32, 256
"""Below, a token takes a third more time; above, it takes no less (`docs/lab.md`)."""
CHUNK_STEP = 16


class NativeEngine:
    """One model on the CPU.

    `cache_bytes` bounds the cached sequences. Raises ModelError when the build can't be read or is not of a kind that
    this engine computes.
    """

    name = "native"
    device = "cpu"
    compute_type = "int8"

    def __init__(
        self,
        directory: Path,
        info: BuildInfo,
        tokenizer: Tokenizer,
        *,
        device: str,
        compute_type: str,
        threads: int,
        cache_bytes: int,
    ) -> None:
        check_support(device, compute_type)
        self.threads = threads
        torch.set_num_threads(threads)
        with torch.inference_mode():
            self._transformer = open_transformer(read_weights(directory), threads)
        if isinstance(self._transformer, NativeTransformer):
            torch.set_num_threads(1)  # what is left to torch is too little to wait for another thread
        self._pool = SequencePool(self._transformer.new_cache, self._transformer.token_bytes, cache_bytes)
        self._chunks = ChunkLength(self._transformer.weights.step_bytes / self._transformer.layers)
        self._tokens = TokenIndex(tokenizer.all_bytes)
        self._special = tokenizer.special_ids
        self._draft_length = DraftLength()
        self._size = info.vocabulary_size

    # The contract

    @torch.inference_mode()
    def generate(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Generation:
        """See `Engine.generate`."""
        cancellation.check()
        started = time.perf_counter()
        ids = np.asarray(prompt, dtype=np.int64)
        try:
            sequence = self._pool.take(ids, sampling.max_tokens * sampling.candidates)
            cached = len(sequence.ids)
            logits = sequence.recall(len(prompt))
            if logits is None:
                cached = min(cached, len(prompt) - 1)
                logits = self._prefill(sequence, prompt, cancellation)
            batch = _Batch(
                self._transformer,
                sequence,
                self._constraint(sampling),
                sampling,
                cancellation,
                on_token,
                self._matches(sequence, ids, sampling),
                self._draft_length,
            )
            completions = batch.run(logits)
        except RuntimeError as error:
            raise failure(error) from error
        finally:
            self._pool.settle()
        return Generation(
            completions=completions,
            cached_tokens=cached,
            computed_tokens=len(prompt) - cached,
            first_token_seconds=(batch.first_token_at or time.perf_counter()) - started,
            generated_tokens=batch.generated,
            drafted_tokens=batch.drafted,
            accepted_tokens=batch.accepted,
        )

    @torch.inference_mode()
    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """See `Engine.warm`."""
        ids = np.asarray(prompt, dtype=np.int64)
        if not self._pool.fits(len(prompt)):
            return self._pool.shared(ids)
        try:
            sequence = self._pool.take(ids, 0)
            if sequence.recall(len(prompt)) is None:
                self._prefill(sequence, prompt, cancellation)
        except RuntimeError as error:
            raise failure(error) from error
        finally:
            self._pool.settle()
        return len(prompt)

    @torch.inference_mode()
    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """See `Engine.score`. Leaves the cache alone."""
        scores: list[float] = []
        try:
            cache = self._transformer.new_cache(len(ids))
            for at in range(0, len(ids) - 1, SCORED_AT_ONCE):
                chunk = ids[at : at + SCORED_AT_ONCE]
                following = torch.tensor(ids[at + 1 : at + 1 + len(chunk)])
                hidden = self._transformer.forward(chunk, cache, at, check=cancellation.check)
                logits = self._transformer.logits(hidden)[: len(following)]
                scores += logits.log_softmax(-1).gather(1, following[:, None])[:, 0].tolist()
        except RuntimeError as error:
            raise failure(error) from error
        return scores

    def cache_bytes(self) -> int:
        """See `Engine.cache_bytes`."""
        return self._pool.bytes

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a prompt that are run at once, as things stand."""
        return self._chunks.tokens

    def forget_dropped(self) -> None:
        """Forget the texts that were cut off, which drafts are made of."""
        self._pool.forget_dropped()

    def close(self) -> None:
        """See `Engine.close`."""
        self._pool.clear()

    def _prefill(self, sequence: CachedSequence, prompt: list[int], cancellation: CancellationToken) -> Tensor:
        """Run what the sequence lacks of the prompt; gives the logits after it, (rows,), and keeps them."""
        sequence.cut(len(prompt) - 1)
        while (at := len(sequence.ids)) < len(prompt):
            begun = time.perf_counter()
            chunk = prompt[at : at + self._chunks.tokens]
            hidden = self._transformer.prefill(chunk, sequence.cache, at, cancellation.check)
            sequence.append(chunk)
            self._chunks.took(len(chunk), (time.perf_counter() - begun) / self._transformer.layers)
        logits = self._transformer.logits(hidden)[0]
        sequence.remember(logits)
        return logits

    def _constraint(self, sampling: SamplingParams) -> Constraint:
        allowed = allowed_ids(self._transformer.rows, self._size, self._special, sampling.end_tokens)
        return Constraint(self._tokens, allowed, sampling.end_tokens, sampling.forced)

    def _matches(self, sequence: CachedSequence, prompt: Ids, sampling: SamplingParams) -> Matches:
        text = np.where(np.isin(prompt, list(self._special)), GAP, prompt)
        dropped = [gone.tolist() for gone in sequence.dropped] if sampling.drafts else []
        return Matches(text.tolist(), sampling.related, dropped)


FIRST_GUESS = 500e9
"""Operations per second, two to each weight, before the first chunk was measured: those of two cores."""


class ChunkLength:
    """How many tokens of a prompt are run at once: as many as a layer takes `LAYER_SECONDS` for, as measured."""

    def __init__(self, layer_bytes: float) -> None:
        self._rate = FIRST_GUESS / (2 * layer_bytes)
        """Tokens per second, of one layer."""

    @property
    def tokens(self) -> int:
        """Length of the next chunk."""
        length = int(self._rate * LAYER_SECONDS) // CHUNK_STEP * CHUNK_STEP
        return min(max(length, SHORTEST_CHUNK), LONGEST_CHUNK)

    def took(self, tokens: int, seconds: float) -> None:
        """Learn from a chunk, and the time of one of its layers. Short ones tell nothing of long ones."""
        if tokens >= SHORTEST_CHUNK:
            self._rate = 0.7 * self._rate + 0.3 * tokens / max(seconds, 1e-6)


@define
class _Row:
    """One candidate."""

    number: int
    random: np.random.Generator | None
    matches: Matches
    tokens: list[int] = field(factory=list)
    log_probabilities: list[float] = field(factory=list)
    written: bytes = b""
    places: list[int] = field(factory=list)
    """Where in the cache its tokens' keys and values are, without the last token's."""
    ended: bool = False
    """Whether the model chose an end token."""


class _Batch:
    """One `generate` call from the logits after the prompt on."""

    def __init__(
        self,
        transformer: Transformer | NativeTransformer,
        sequence: CachedSequence,
        constraint: Constraint,
        sampling: SamplingParams,
        cancellation: CancellationToken,
        on_token: OnToken,
        matches: Matches,
        draft_length: DraftLength,
    ) -> None:
        self._transformer = transformer
        self._sequence = sequence
        self._prompt = len(sequence.ids)
        self._constraint = constraint
        self._penalty = np.where(constraint.allowed, np.float32(0), np.float32(-np.inf))
        self._sampling = sampling
        self._cancellation = cancellation
        self._on_token = on_token
        self._matches = matches
        self._draft_length = draft_length
        self._ahead = _Ahead()
        self.generated = 0
        self.drafted = 0
        self.accepted = 0
        self.first_token_at: float | None = None

    def run(self, logits: Tensor) -> list[Completion]:
        """All candidates."""
        greedy = self._sampling.temperature == 0
        rows = [_Row(0, None, self._matches.copy())] if greedy else self._samples()
        branched = len(rows) == self._sampling.candidates
        active, end = rows, self._prompt
        logits = logits.repeat(len(rows), 1)
        try:
            while active:
                going_on = self._choose_all(active, logits)
                if not branched and self._is_branch(rows[0], going_on):
                    branched = True
                    others = self._branch(rows[0], logits[0])
                    rows = [*rows, *(row for row, _ in others)]
                    going_on += [row for row, goes_on in others if goes_on]
                active = going_on
                if active:
                    self._cancellation.check()
                    logits = self._next(active, end)
                    end += len(active)
        finally:
            self._keep(rows[0])
        return [Completion(row.tokens, row.log_probabilities, row.ended) for row in rows]

    def _samples(self) -> list[_Row]:
        """Rows that draw independently, each from a generator of its own."""
        seeds = np.random.SeedSequence(self._sampling.seed).spawn(self._sampling.candidates)
        return [_Row(number, np.random.default_rng(seed), self._matches.copy()) for number, seed in enumerate(seeds)]

    def _is_branch(self, best: _Row, going_on: list[_Row]) -> bool:
        """Whether the last choice of the greedy row was its first beyond the forced bytes, or its last at all."""
        return len(best.written) > len(self._sampling.forced) or not going_on

    def _branch(self, best: _Row, logits: Tensor) -> list[tuple[_Row, bool]]:
        """The other greedy candidates, begun with what was likely at the last choice, and whether each goes on.

        They share the tokens before it with the first one, and their places in the cache.
        """
        head = len(best.places)
        mask = self._constraint.mask(self._constraint.bytes_of(best.tokens[:head])).copy()
        mask[[*self._sampling.end_tokens, *best.tokens[head : head + 1]]] = False
        others = ranked(logits.numpy(), mask)[: self._sampling.candidates - 1]
        normaliser = log_sum(logits.numpy())
        result = []
        for number, id in enumerate(others, start=1):
            self._cancellation.check()
            row = _Row(number, None, self._matches.copy(), places=list(best.places))
            for token, log_probability in zip(best.tokens[:head], best.log_probabilities[:head], strict=True):
                self._take(row, token, log_probability)
            result.append((row, self._take(row, id, float(logits[id]) - normaliser)))
        return result

    def _next(self, active: Sequence[_Row], end: int) -> Tensor:
        """Logits of the token after the last one of each row, (rows of the batch, rows)."""
        if len(active) > 1 or len(active[0].places) < end - self._prompt:
            self._ahead = _Ahead()
            return self._step(active, end)
        (row,) = active
        logits = self._foreseen(row.tokens[-1])
        if logits is None:
            logits = self._step_ahead(row, end)
        row.places.append(end)
        return logits

    def _foreseen(self, id: int) -> Tensor | None:
        """The logits after this token, where it is the next one of a draft that was run; (1, rows)."""
        ahead, self._ahead = self._ahead, _Ahead()
        if not ahead.ids:
            return None
        right = ahead.ids[0] == id
        self._draft_length.guessed(ahead.agreeing, right)
        if not right or not len(ahead.logits):
            return None
        self.accepted += 1
        self._ahead = _Ahead(ahead.ids[1:], ahead.agreeing + 1, ahead.logits[1:])
        return ahead.logits[:1]

    def _step_ahead(self, row: _Row, end: int) -> Tensor:
        """Run the last token of a row that is alone in the cache, and a draft of what may come next."""
        draft: list[int] = []
        agreeing = 0
        if self._sampling.drafts:
            draft, agreeing = row.matches.draft(min(LENGTHS[-1], self._sampling.max_tokens - len(row.tokens) - 1))
        length = self._draft_length.choose(agreeing)
        ids = [row.tokens[-1], *draft[:length]]
        started = time.perf_counter()
        hidden = self._transformer.forward(ids, self._sequence.cache, end)
        logits = self._transformer.logits(hidden)
        self._draft_length.took(len(ids), time.perf_counter() - started)
        self.drafted += len(ids) - 1
        self._ahead = _Ahead(draft, agreeing, logits[1:])
        return logits[:1]

    def _step(self, active: Sequence[_Row], end: int) -> Tensor:
        """Run the last token of each row; gives their logits, (rows of the batch, rows)."""
        ids = [row.tokens[-1] for row in active]
        positions = [self._prompt + len(row.tokens) - 1 for row in active]
        for place, row in enumerate(active, start=end):
            row.places.append(place)
        visible = torch.full((len(active), end + len(active)), -torch.inf)
        visible[:, : self._prompt] = 0
        for line, row in enumerate(active):
            visible[line, row.places] = 0
        hidden = self._transformer.forward(ids, self._sequence.cache, end, positions, visible)
        return self._transformer.logits(hidden)

    def _choose_all(self, active: Sequence[_Row], logits: Tensor) -> list[_Row]:
        """Choose the next token of each row; gives those that go on. Mixes the document's n-grams into the logits."""
        going_on = []
        for row, values in zip(active, logits.numpy(), strict=True):
            normaliser = log_sum(values)
            if self._sampling.ngrams:
                normaliser = mix(values, normaliser, row.matches)
            id = self._choose(row, values)
            if self._take(row, id, float(values[id]) - normaliser):
                going_on.append(row)
        return going_on

    def _choose(self, row: _Row, logits: Logits) -> int:
        """The id for one row."""
        if row.random is not None:
            mask = self._constraint.mask(row.written)
            return sample(logits, mask, self._sampling.temperature, self._sampling.top_p, row.random)
        if len(row.written) >= len(self._sampling.forced):
            return int((logits + self._penalty).argmax())
        allowed = np.flatnonzero(self._constraint.mask(row.written))
        return int(allowed[logits[allowed].argmax()])

    def _take(self, row: _Row, id: int, log_probability: float) -> bool:
        """Report a token and add it to its row, unless it is an end token; True when the row goes on."""
        self.generated += 1
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        stop = self._on_token(row.number, id, min(log_probability, 0.0))
        if id in self._sampling.end_tokens:
            row.ended = True
            return False
        row.tokens.append(id)
        row.matches.append(id)
        row.log_probabilities.append(min(log_probability, 0.0))
        row.written += self._constraint.bytes_of([id])
        return not stop and len(row.tokens) < self._sampling.max_tokens

    def _keep(self, row: _Row) -> None:
        """Leave a candidate's keys and values in the sequence, for when it is accepted."""
        cache, count = self._sequence.cache, len(row.places)
        if row.places != list(range(self._prompt, self._prompt + count)):
            cache[:, :, self._prompt : self._prompt + count] = cache[:, :, row.places]
        self._sequence.append(row.tokens[:count])


@define
class _Ahead:
    """A draft that was run, of which nothing was found wrong yet."""

    ids: list[int] = field(factory=list)
    """Those that were run, and those that were only thought of."""
    agreeing: int = 0
    """Tokens before the first of them that agree with those before their model."""
    logits: Tensor = field(factory=lambda: torch.empty(0, 0))
    """Of what comes after each of those that were run."""


def mix(logits: Logits, normaliser: float, matches: Matches) -> float:
    """Mix what the n-grams say of the next token into its logits, (rows,), in place.

    `normaliser` is the logarithm of the sum of their exponentials; gives the new one. A gain g beside the probability p
    makes exp(logit) grow by g times that sum.
    """
    mixture = matches.mixture()
    if mixture is None:
        return normaliser
    gains = np.log(mixture.gains).astype(np.float32) + np.float32(normaliser)
    logits[mixture.ids] = np.logaddexp(logits[mixture.ids], gains)
    return normaliser + math.log1p(float(mixture.gains.sum()))


def check_support(device: str, compute_type: str) -> None:
    """Raise ModelError when the engine does not compute on such a device or in such a type."""
    if device not in ("auto", "cpu"):
        raise ModelError(
            f"The native engine does not run on {device}.", "Set `device` to `auto`, or `engine` to `ct2`."
        )
    if compute_type not in COMPUTE_TYPES:
        raise ModelError(
            f"The native engine does not compute in {compute_type!r}.",
            f"Set `compute_type` to one of: {', '.join(COMPUTE_TYPES)}; or `engine` to `ct2`.",
        )


def failure(error: RuntimeError) -> ModelError:
    """What to tell of an error of torch's; that memory is lacking is one of these, too."""
    if "allocate memory" in str(error):
        return ModelError("There is not enough memory.", "Lower `cache.memory_mb`, or choose a smaller model.")
    return ModelError(f"torch failed: {error}.", "Restart the worker; see the log if it goes on.")
