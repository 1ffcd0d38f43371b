"""Decoding of the candidates of one request, as one batch.

The tokens of the candidates lie side by side in the KV cache, behind the prompt, and each candidate attends to the
prompt and its own tokens. A candidate that is alone may run ahead with a draft (`speculative`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from attrs import define, field

from codegen_lsp.inference.constraint import Constraint
from codegen_lsp.inference.engines.base import CancellationToken, Completion, OnToken, SamplingParams, Steps
from codegen_lsp.inference.engines.native.arrays import Floats, empty_floats
from codegen_lsp.inference.engines.native.forward import Rows
from codegen_lsp.inference.engines.native.kv_cache import CachedSequence
from codegen_lsp.inference.engines.native.mixing import interpolate, predictions
from codegen_lsp.inference.engines.native.ngram_segment import DEPTH
from codegen_lsp.inference.engines.native.ngrams import NgramMatcher
from codegen_lsp.inference.engines.native.speculative import LENGTHS, DraftLength
from codegen_lsp.inference.sampling import Logits, alternatives, log_sum, most_likely_ids, sample


@define
class CandidateState:
    """One candidate while it is decoded."""

    number: int
    random: np.random.Generator | None
    """Source of its samples; None for greedy decoding."""
    ngrams: NgramMatcher
    tokens: list[int] = field(factory=list)
    log_probabilities: list[float] = field(factory=list)
    written: bytes = b""
    slots: list[int] = field(factory=list)
    """Positions in the KV cache of its tokens, without the last one, which has not been run."""
    ended: bool = False
    """True if the model chose an end token."""


@define
class PendingDraft:
    """A draft that was run, as far as it has not been compared with the chosen tokens."""

    ids: list[int] = field(factory=list)
    """Tokens of the draft; those at its end may not have been run."""
    agreeing: int = 0
    """Tokens before the first of them that agree with those before the text it was copied from."""
    logits: Floats = field(factory=lambda: empty_floats(0, 0))
    """Logits after each of the tokens that were run."""


@define
class RowShare:
    """Rows of a forward pass that each request may use, fewer in company; shared by all requests of an engine."""

    rows: int = LENGTHS[-1] + 1


class DecodeBatch:
    """One `generate` call, from the logits after the prompt on."""

    def __init__(
        self,
        sequence: CachedSequence,
        constraint: Constraint,
        sampling: SamplingParams,
        cancellation: CancellationToken,
        on_token: OnToken,
        ngrams: NgramMatcher,
        draft_length: DraftLength,
        share: RowShare,
    ) -> None:
        self._sequence = sequence
        self._prompt = len(sequence.ids)
        self._constraint = constraint
        self._penalty = np.where(constraint.allowed, np.float32(0), np.float32(-np.inf))
        self._sampling = sampling
        self._cancellation = cancellation
        self._on_token = on_token
        self._ngrams = ngrams
        self._draft_length = draft_length
        self._share = share
        self._pending = PendingDraft()
        self.generated = 0
        self.drafted = 0
        self.accepted = 0
        self.first_token_at: float | None = None

    def run(self, logits: Floats) -> Steps[list[Completion]]:
        """Decode all candidates; `logits` are those after the prompt, (padded vocabulary size,)."""
        greedy = self._sampling.temperature == 0
        candidates = [CandidateState(0, None, self._ngrams.copy())] if greedy else self._samples()
        branched = len(candidates) == self._sampling.candidates
        active, end = candidates, self._prompt
        logits = np.repeat(logits[None], len(candidates), axis=0)
        try:
            while active:
                going_on = self._choose_all(active, logits)
                if not branched and self._is_branch(candidates[0], going_on):
                    branched = True
                    others = self._branch(candidates[0], logits[0])
                    candidates = [*candidates, *(candidate for candidate, _ in others)]
                    going_on += [candidate for candidate, goes_on in others if goes_on]
                active = going_on
                if active:
                    self._cancellation.check()
                    logits = yield from self._next(active, end)
                    end += len(active)
        finally:
            self._keep(candidates[0])
        return [Completion(one.tokens, one.log_probabilities, one.ended) for one in candidates]

    def _samples(self) -> list[CandidateState]:
        """Return candidates that sample independently, each from a generator of its own."""
        seeds = np.random.SeedSequence(self._sampling.seed).spawn(self._sampling.candidates)
        generators = map(np.random.default_rng, seeds)
        return [CandidateState(number, random, self._ngrams.copy()) for number, random in enumerate(generators)]

    def _is_branch(self, best: CandidateState, going_on: list[CandidateState]) -> bool:
        """Return whether the last token of the greedy candidate was the first beyond the forced bytes, or its last."""
        return len(best.written) > len(self._sampling.forced) or not going_on

    def _branch(self, best: CandidateState, logits: Floats) -> list[tuple[CandidateState, bool]]:
        """Return the other greedy candidates, and whether each goes on.

        They begin with the most likely alternatives to the last token of the first candidate, and share the tokens
        before it, with their slots in the KV cache.
        """
        shared = len(best.slots)
        mask = self._constraint.mask(self._constraint.bytes_of(best.tokens[:shared]))
        excluded = [*self._sampling.end_tokens, *best.tokens[shared : shared + 1]]
        others = alternatives(logits, mask, excluded, self._sampling.candidates - 1)
        normaliser = log_sum(logits)
        result = []
        for number, id in enumerate(others, start=1):
            self._cancellation.check()
            candidate = CandidateState(number, None, self._ngrams.copy(), slots=list(best.slots))
            for token, log_probability in zip(best.tokens[:shared], best.log_probabilities[:shared], strict=True):
                self._take(candidate, token, log_probability)
            self._report_alternatives(candidate, logits, normaliser)
            result.append((candidate, self._take(candidate, id, float(logits[id]) - normaliser)))
        return result

    def _next(self, active: Sequence[CandidateState], end: int) -> Steps[Floats]:
        """Return the logits after the last token of each candidate: (candidates, padded vocabulary size).

        A token gets its slot when it has been run: of one that was not, as after a cancellation, nothing stays.
        """
        if len(active) > 1 or len(active[0].slots) < end - self._prompt:
            self._pending = PendingDraft()
            stepped: Floats = yield self._step(active, end)
            for slot, candidate in enumerate(active, start=end):
                candidate.slots.append(slot)
            return stepped
        candidate = active[0]
        logits = self._drafted_logits(candidate.tokens[-1])
        if logits is None:
            logits = yield from self._step_with_draft(candidate, end)
        candidate.slots.append(end)
        return logits

    def _drafted_logits(self, id: int) -> Floats | None:
        """Return the logits after this token if it is the next one of a draft that was run; (1, padded vocab. size)."""
        pending, self._pending = self._pending, PendingDraft()
        if not pending.ids:
            return None
        right = pending.ids[0] == id
        self._draft_length.record_guess(pending.agreeing, right)
        if not right or not len(pending.logits):
            return None
        self.accepted += 1
        self._pending = PendingDraft(pending.ids[1:], pending.agreeing + 1, pending.logits[1:])
        return pending.logits[:1]

    def _step_with_draft(self, candidate: CandidateState, end: int) -> Steps[Floats]:
        """Run the last token of the only candidate in the cache, and a draft of the tokens after it."""
        draft: list[int] = []
        agreeing = 0
        if self._sampling.drafts:
            limit = min(LENGTHS[-1], self._sampling.max_tokens - len(candidate.tokens) - 1, self._share.rows - 1)
            draft, agreeing = self._draft(candidate, limit)
        length = self._draft_length.choose(agreeing)
        ids = [candidate.tokens[-1], *draft[:length]]
        rows = Rows(ids, self._sequence.cache, end)
        logits: Floats = yield rows
        if rows.seconds:
            self._draft_length.record_step(len(ids), rows.seconds)
        self.drafted += len(ids) - 1
        self._pending = PendingDraft(draft, agreeing, logits[1:])
        return logits[:1]

    def _draft(self, candidate: CandidateState, limit: int) -> tuple[list[int], int]:
        """Return the draft with the longest agreement: of the document, or of the workspace where it agrees longer."""
        draft, agreeing = candidate.ngrams.draft(limit)
        workspace = self._sampling.workspace
        if workspace is None or limit < 1 or agreeing >= DEPTH:
            return draft, agreeing
        match = workspace.longest_match(candidate.ngrams.tail(DEPTH), limit)
        if match is None or match[1].agreement <= agreeing:
            return draft, agreeing
        return match[0], match[1].agreement

    def _step(self, active: Sequence[CandidateState], end: int) -> Rows:
        """Return what runs the last token of each candidate."""
        ids = [candidate.tokens[-1] for candidate in active]
        positions = [self._prompt + len(candidate.tokens) - 1 for candidate in active]
        attn_mask = np.full((len(active), end + len(active)), -np.inf, dtype=np.float32)
        attn_mask[:, : self._prompt] = 0
        for row, candidate in enumerate(active):
            attn_mask[row, [*candidate.slots, end + row]] = 0
        return Rows(ids, self._sequence.cache, end, positions, attn_mask)

    def _choose_all(self, active: Sequence[CandidateState], logits: Floats) -> list[CandidateState]:
        """Choose the next token of each candidate and return those that go on. N-grams are mixed into the logits."""
        going_on = []
        for candidate, values in zip(active, logits, strict=True):
            normaliser = log_sum(values)
            if self._sampling.ngrams:
                normaliser = self._interpolate(candidate, values, normaliser)
            self._report_alternatives(candidate, values, normaliser)
            id = self._choose(candidate, values)
            if self._take(candidate, id, float(values[id]) - normaliser):
                going_on.append(candidate)
        return going_on

    def _interpolate(self, candidate: CandidateState, logits: Logits, normaliser: float) -> float:
        """Mix the n-grams of the workspace, then those of the document, into the logits. Return the new normaliser."""
        for mixture in predictions(candidate.ngrams, self._sampling, math.exp(float(logits.max()) - normaliser)):
            normaliser = interpolate(logits, normaliser, mixture)
        return normaliser

    def _choose(self, candidate: CandidateState, logits: Logits) -> int:
        """Choose the next token of one candidate."""
        if len(candidate.written) >= len(self._sampling.forced):
            allowed = logits + self._penalty
        elif candidate.random is None:
            ids = np.flatnonzero(self._constraint.mask(candidate.written))
            return int(ids[logits[ids].argmax()])
        else:
            allowed = np.where(self._constraint.mask(candidate.written), logits, np.float32(-np.inf))
        if candidate.random is None:
            return int(allowed.argmax())
        sampling = self._sampling
        return sample(allowed, sampling.temperature, sampling.top_p, candidate.random, top_k=sampling.top_k)

    def _report_alternatives(self, candidate: CandidateState, logits: Logits, normaliser: float) -> None:
        """Report the most likely tokens, if that is asked for."""
        if self._sampling.on_alternatives is not None and self._sampling.alternatives:
            ids = most_likely_ids(logits + self._penalty, self._sampling.alternatives)
            reported = [(id, min(float(logits[id]) - normaliser, 0.0)) for id in ids]
            self._sampling.on_alternatives(candidate.number, reported)

    def _take(self, candidate: CandidateState, id: int, log_probability: float) -> bool:
        """Report a token and append it, unless it is an end token. Return whether the candidate goes on."""
        self.generated += 1
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        stop = self._on_token(candidate.number, id, min(log_probability, 0.0))
        if id in self._sampling.end_tokens:
            candidate.ended = True
            return False
        candidate.tokens.append(id)
        candidate.ngrams.append(id)
        candidate.log_probabilities.append(min(log_probability, 0.0))
        candidate.written += self._constraint.bytes_of([id])
        return not stop and len(candidate.tokens) < self._sampling.max_tokens

    def _keep(self, candidate: CandidateState) -> None:
        """Leave the keys and values of a candidate in the sequence, for the case that it is accepted."""
        cache, count = self._sequence.cache, len(candidate.slots)
        if candidate.slots != list(range(self._prompt, self._prompt + count)):
            cache[:, :, self._prompt : self._prompt + count] = cache[:, :, candidate.slots]
        self._sequence.append(candidate.tokens[:count])
