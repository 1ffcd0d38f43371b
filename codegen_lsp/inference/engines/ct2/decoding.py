"""Decoding of candidates with CTranslate2.

CTranslate2 can't restrict the tokens that a step may choose, but returns the logits of every step. So constraints
(forced bytes, no padding, no special tokens) are checked as tokens arrive; where the free choice breaks one, decoding
goes on from there with the most likely token that is allowed. The common case costs nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from attrs import define, field

from codegen_lsp.inference.constraint import Constraint
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, Completion, OnToken, SamplingParams
from codegen_lsp.inference.sampling import Logits, alternatives, log_softmax, most_likely, most_likely_ids, sample


@define
class CallResult:
    """The tokens of one call of CTranslate2 that the constraint permits."""

    tokens: list[int] = field(factory=list)
    log_probabilities: list[float] = field(factory=list)
    end: Literal["end_token", "stopped", "forbidden", "length"] = "length"
    """Why it ended: an end token, the caller, a token that the constraint forbids, or the token limit."""
    logits: list[Logits] = field(factory=list)
    """Logits of each step, a forbidden one included."""


class CandidateDecoder:
    """One `generate` call: the candidates of one prompt under the same parameters."""

    def __init__(
        self,
        call: Callable[..., Any],
        prompt: list[int],
        prefix: int,
        sampling: SamplingParams,
        constraint: Constraint,
        cancellation: CancellationToken,
        on_token: OnToken,
    ) -> None:
        """`call` is `Ct2Engine.call`; the first `prefix` tokens of the prompt are its `static_prompt`."""
        self._call = call
        self._prefix = prompt[:prefix]
        self._tail = prompt[prefix:]
        self._sampling = sampling
        self._constraint = constraint
        self._cancellation = cancellation
        self._on_token = on_token
        self._random: np.random.Generator | None = None
        self._branch: tuple[int, Logits | None] = (0, None)
        """Number of tokens before the branch of the greedy candidates, and the logits there."""
        self._branch_settled = False
        self.computed = 0
        self.generated = 0
        self.first_token_at: float | None = None

    def greedy(self) -> list[Completion]:
        """Decode the greedy completion, then those that differ from it in the first token beyond the forced bytes."""
        best = self._continue(0, [], [])
        completions = [best]
        shared, logits = self._branch
        if self._sampling.candidates == 1 or logits is None:
            return completions
        log_probabilities = log_softmax(logits)
        mask = self._constraint.mask(self._constraint.bytes_of(best.tokens[:shared]))
        excluded = [*self._sampling.end_tokens, *best.tokens[shared : shared + 1]]
        others = alternatives(logits, mask, excluded, self._sampling.candidates - 1)
        for candidate, id in enumerate(others, start=1):
            self._cancellation.check()
            tokens = [*best.tokens[:shared], id]
            logs = [*best.log_probabilities[:shared], float(log_probabilities[id])]
            stop = False
            for token, log_probability in zip(tokens, logs, strict=True):
                stop = self._on_token(candidate, token, log_probability)
            if stop:
                completions.append(Completion(tokens, logs, ended=False))
            else:
                completions.append(self._continue(candidate, tokens, logs))
        return completions

    def sample(self) -> list[Completion]:
        """Draw independent samples."""
        self._random = np.random.default_rng(self._sampling.seed)
        completions = []
        for candidate in range(self._sampling.candidates):
            self._cancellation.check()
            completions.append(self._continue(candidate, [], []))
        return completions

    def _continue(self, candidate: int, tokens: list[int], log_probabilities: list[float]) -> Completion:
        """Decode from `tokens` on, which have been reported."""
        while len(tokens) < self._sampling.max_tokens:
            result = self._run(candidate, tokens, self._constraint.bytes_of(tokens))
            self._find_branch(tokens, result)
            tokens, log_probabilities = tokens + result.tokens, log_probabilities + result.log_probabilities
            if result.end == "end_token":
                return Completion(tokens, log_probabilities, ended=True)
            if result.end == "stopped":
                break
            if result.end == "forbidden":
                logits = result.logits[len(result.tokens)]
                id = self._choose(logits, self._constraint.bytes_of(tokens))
                log_probability = float(log_softmax(logits)[id])
                self._report_alternatives(candidate, logits)
                stop = self._report(candidate, id, log_probability)
                if id in self._sampling.end_tokens:
                    return Completion(tokens, log_probabilities, ended=True)
                tokens, log_probabilities = [*tokens, id], [*log_probabilities, log_probability]
                self._branch_settled |= len(self._constraint.bytes_of(tokens)) > len(self._sampling.forced)
                if stop:
                    break
        return Completion(tokens, log_probabilities, ended=False)

    def _find_branch(self, tokens: list[int], result: CallResult) -> None:
        """Keep the logits of the step at which the greedy completion first goes beyond the forced bytes.

        Where a token ends exactly at the end of the forced bytes, that is the step after it.
        """
        written = len(self._constraint.bytes_of(tokens))
        for index, logits in enumerate(result.logits):
            if self._branch_settled:
                return
            self._branch = len(tokens) + index, logits
            step = self._constraint.bytes_of(result.tokens[index : index + 1])
            written += len(step)
            self._branch_settled = bool(step) and written > len(self._sampling.forced)

    def _run(self, candidate: int, tokens: list[int], written: bytes) -> CallResult:
        """Call CTranslate2 once; it runs up to the first token that the constraint forbids."""
        found = CallResult()
        cancelled = False

        def step(result: Any) -> bool:
            nonlocal cancelled, written
            self.generated += 1
            if self._cancellation.cancelled:
                cancelled = True
                return True
            id: int = result.token_id
            if not self._constraint.permits(id, written):
                found.end = "forbidden"
                return True
            self._report_alternatives(candidate, result.logits)
            stop = self._report(candidate, id, result.log_prob)
            if id in self._sampling.end_tokens:
                found.end = "end_token"
                return True
            written += self._constraint.bytes_of([id])
            found.tokens.append(id)
            found.log_probabilities.append(result.log_prob)
            if stop:
                found.end = "stopped"
            return stop

        tail = self._tail + tokens
        self.computed += len(tail)
        options: dict[str, Any] = {}
        if self._random is not None:
            options["sampling_topk"] = self._sampling.top_k
            options["sampling_topp"] = self._sampling.top_p
            options["sampling_temperature"] = self._sampling.temperature
        answer = self._call(
            tail,
            self._prefix,
            max_length=self._sampling.max_tokens - len(tokens),
            end_token=sorted(self._sampling.end_tokens),
            return_end_token=True,
            return_scores=True,
            return_logits_vocab=True,
            callback=step,
            **options,
        )
        if cancelled:
            raise Cancelled
        if answer.logits:
            found.logits = [np.asarray(logits, dtype=np.float32) for logits in answer.logits[0]]
        return found

    def _report(self, candidate: int, id: int, log_probability: float) -> bool:
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        return self._on_token(candidate, id, log_probability)

    def _choose(self, logits: Logits, written: bytes) -> int:
        mask = self._constraint.mask(written)
        if self._random is None:
            return most_likely(logits, mask)
        sampling = self._sampling
        allowed = np.where(mask, logits, np.float32(-np.inf))
        return sample(allowed, sampling.temperature, sampling.top_p, self._random, top_k=sampling.top_k)

    def _report_alternatives(self, candidate: int, logits: Any) -> None:
        """Report the most likely tokens of a step, if that is asked for; `logits` are (1, vocabulary) or less."""
        if self._sampling.on_alternatives is not None and self._sampling.alternatives:
            log_probabilities = log_softmax(np.asarray(logits, dtype=np.float32).reshape(-1))
            log_probabilities = np.where(self._constraint.allowed, log_probabilities, -np.inf)
            ids = most_likely_ids(log_probabilities, self._sampling.alternatives)
            self._sampling.on_alternatives(candidate, [(id, float(log_probabilities[id])) for id in ids])
