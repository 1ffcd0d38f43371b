"""The engine on `ctranslate2.Generator`: every architecture CTranslate2 has, on CPU and CUDA.

A prompt is split in a part whose state is cached (`static_prompt`) and a tail. CTranslate2 finds a cached state again
only by exact equality, copies it whole on each hit, never frees one before the model is unloaded, and can't be
interrupted before the first token. Hence the policy here: few cached prefixes, cut at a line's start so that edits
inside the current line keep them valid, chosen anew only when a good deal of the prompt isn't covered, and all dropped
by reloading when the budget is used up, while idle.

CTranslate2 can't restrict what a step may choose, but returns the logits of every step. So constraints (forced bytes,
no padding, no special tokens) are checked as tokens arrive, and where the free choice breaks one, decoding goes on from
there with the best token that doesn't: the common case costs nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from attrs import define, frozen

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.constraint import Constraint, TokenIndex, allowed_ids
from codegen_lsp.inference.engines.base import (
    CancellationToken,
    Cancelled,
    Completion,
    Generation,
    OnToken,
    SamplingParams,
)
from codegen_lsp.inference.sampling import Logits, log_softmax, most_likely, ranked, sample
from codegen_lsp.inference.tokenizer import Tokenizer

LINE_TAIL = 64
"""How many tokens before its end a prompt is searched for the start of its last line, to be cut there."""
SHORT_PROMPT = 64
"""Prompts up to this length are computed whole: caching them saves less than the copy costs."""
REFRESH_AT_LEAST = 64
"""A longer prefix is cached while idle when at least this many tokens, and an eighth of the prompt, aren't covered."""


@define
class CachedPrefix:
    """A prefix whose keys and values CTranslate2 holds."""

    ids: list[int]
    size: int
    """In bytes."""


@define
class _Spell:
    """What one call of CTranslate2 brought."""

    tokens: list[int]
    log_probabilities: list[float]
    verdict: str
    """`ended` by an end token, `stopped` by the caller, `broken` by a token that the constraint forbids, or `full`."""
    logits: list[Logits]
    """Of each step, the forbidden one included."""


class _Step:
    """A callback that can be emptied.

    CTranslate2's thread drops its reference to the callback some time after the call has returned. Were that the last
    one to the generator, the generator would be destroyed by its own thread, which ends the process.
    """

    def __init__(self, callback: Callable[[Any], bool] | None) -> None:
        self.callback = callback

    def __call__(self, result: Any) -> bool:
        return self.callback is None or self.callback(result)


class Ct2Engine:
    """One model in CTranslate2.

    `cache_bytes` bounds the cached prefixes. Raises ModelError when the files can't be read or the device is missing.
    """

    name = "ct2"

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
        self.device = resolve_device(device)
        self.compute_type = resolve_compute_type(compute_type, self.device)
        self.threads = threads
        self._directory = directory
        self._info = info
        self._cache_limit = cache_bytes
        self._bytes = tokenizer.all_bytes
        self._tokens = TokenIndex(self._bytes)
        self._pieces = read_pieces(directory)
        self._special = tokenizer.special_ids
        self._cached: list[CachedPrefix] = []
        self._generator = self._open()

    def _open(self) -> Any:
        try:
            return ctranslate2.Generator(
                str(self._directory),
                device=self.device,
                compute_type=self.compute_type,
                inter_threads=1,
                intra_threads=self.threads,
            )
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ModelError(
                f"CTranslate2 can't load {self._directory}: {error}.",
                "Check it with `codegen-lsp models verify`, or pull or convert the model again.",
            ) from error

    # The contract

    def generate(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Generation:
        """See `Engine.generate`."""
        cancellation.check()
        started = time.perf_counter()
        if sampling.temperature > 0 and sampling.seed is not None:
            self._reseed(sampling.seed)
        constraint = Constraint(
            self._tokens,
            allowed_ids(len(self._pieces), self._info.vocabulary_size, self._special, sampling.end_tokens),
            sampling.end_tokens,
            sampling.forced,
        )
        static, hit = self._static_for(prompt)
        session = _Session(self.call, prompt, static, sampling, constraint, cancellation, on_token)
        completions = session.sample() if sampling.temperature > 0 else session.greedy()
        return Generation(
            completions=completions,
            cached_tokens=static if hit else 0,
            computed_tokens=session.computed + (0 if hit else static),
            first_token_seconds=(session.first_token_at or time.perf_counter()) - started,
            generated_tokens=session.generated,
        )

    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """See `Engine.warm`. Can't be interrupted once it computes."""
        cut = self._cut(prompt)
        covered = self._covered(prompt)
        if cut - covered < max(REFRESH_AT_LEAST, cut // 8) or not self._fits_alone(cut):
            return covered
        cancellation.check()
        if not self._fits(cut):
            self._drop_all()
        self.call(prompt[cut : cut + 1], prompt[:cut], max_length=1)
        self._remember(prompt[:cut])
        return cut

    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """See `Engine.score`. Can't be interrupted once it computes."""
        cancellation.check()
        try:
            (result,) = self._generator.score_batch([[self._pieces[id] for id in ids]], max_input_length=0)
        except RuntimeError as error:
            raise ModelError(f"CTranslate2 failed: {error}.", "Free some memory, then try again.") from error
        return list(result.log_probs)

    def cache_bytes(self) -> int:
        """See `Engine.cache_bytes`."""
        return sum(prefix.size for prefix in self._cached)

    def close(self) -> None:
        """See `Engine.close`."""
        self._drop_all()
        self._generator.unload_model()

    # Cached prefixes

    def _static_for(self, prompt: list[int]) -> tuple[int, bool]:
        """Length of the static part for a prompt, and whether its state is there already."""
        covered = self._covered(prompt)
        if covered * 2 >= len(prompt) or len(prompt) <= SHORT_PROMPT:
            return covered, covered > 0
        cut = self._cut(prompt)
        if not self._fits(cut):
            return covered, covered > 0
        self._remember(prompt[:cut])
        return cut, False

    def _covered(self, prompt: list[int]) -> int:
        """Length of the longest cached prefix of the prompt."""
        best = None
        for prefix in self._cached:
            n = len(prefix.ids)
            if n < len(prompt) and (best is None or n > len(best.ids)) and prompt[:n] == prefix.ids:
                best = prefix
        return len(best.ids) if best else 0

    def _cut(self, prompt: list[int]) -> int:
        """Where to cut a prompt: after its last line break, else one token before its end."""
        end = len(prompt) - 1
        for at in range(end, max(0, end - LINE_TAIL), -1):
            if b"\n" in self._bytes[prompt[at - 1]]:
                return at
        return end

    def _remember(self, ids: list[int]) -> None:
        self._cached.append(CachedPrefix(ids, self._size(len(ids))))

    def _size(self, tokens: int) -> int:
        per_value = 2 if "16" in self.compute_type else 4
        return tokens * self._info.layers * self._info.width * 2 * per_value

    def _fits(self, tokens: int) -> bool:
        return self.cache_bytes() + self._size(tokens) <= self._cache_limit

    def _fits_alone(self, tokens: int) -> bool:
        return self._size(tokens) <= self._cache_limit

    def _drop_all(self) -> None:
        """Free all cached states, which CTranslate2 does only with the model."""
        if not self._cached:
            return
        self._generator.unload_model()
        self._cached.clear()
        self._generator.load_model()

    # Calls

    def call(
        self, tail: list[int], static: list[int], callback: Callable[[Any], bool] | None = None, **options: Any
    ) -> Any:
        """Continue one prompt and give CTranslate2's result. Raises ModelError when it fails."""
        step = _Step(callback)
        try:
            (result,) = self._generator.generate_batch(
                [[self._pieces[id] for id in tail]],
                static_prompt=[self._pieces[id] for id in static] or None,
                cache_static_prompt=bool(static),
                include_prompt_in_result=False,
                callback=step if callback else None,
                **options,
            )
        except RuntimeError as error:
            raise ModelError(
                f"CTranslate2 failed: {error}.", "Restart the worker; see the log if it goes on."
            ) from error
        finally:
            step.callback = None
        return result

    def _reseed(self, seed: int) -> None:
        """Make sampling repeatable. The seed is read when a generator's thread begins, so a new one is made."""
        ctranslate2.set_random_seed(seed)
        self._cached.clear()
        self._generator = self._open()


class _Session:
    """One `generate` call: continuations of one prompt under the same rules."""

    def __init__(
        self,
        call: Callable[..., Any],
        prompt: list[int],
        static: int,
        sampling: SamplingParams,
        constraint: Constraint,
        cancellation: CancellationToken,
        on_token: OnToken,
    ) -> None:
        self._call = call
        self._static = prompt[:static]
        self._tail = prompt[static:]
        self._sampling = sampling
        self._constraint = constraint
        self._cancellation = cancellation
        self._on_token = on_token
        self._random: np.random.Generator | None = None
        self._branch: tuple[int, Logits | None] = (0, None)
        self._branch_settled = False
        self.computed = 0
        self.generated = 0
        self.first_token_at: float | None = None

    def greedy(self) -> list[Completion]:
        """The most likely continuation, then those that differ from it in the first token beyond the forced bytes."""
        best = self._continue(0, [], [])
        results = [best]
        head, logits = self._branch
        if self._sampling.candidates == 1 or logits is None:
            return results
        log_probabilities = log_softmax(logits)
        taken = best.tokens[head : head + 1]
        mask = self._constraint.mask(self._constraint.bytes_of(best.tokens[:head]))
        others = [id for id in ranked(logits, mask) if id not in self._sampling.end_tokens and id not in taken]
        for candidate, id in enumerate(others[: self._sampling.candidates - 1], start=1):
            self._cancellation.check()
            tokens = [*best.tokens[:head], id]
            logs = [*best.log_probabilities[:head], float(log_probabilities[id])]
            stop = False
            for token, log_probability in zip(tokens, logs, strict=True):
                stop = self._on_token(candidate, token, log_probability)
            if stop:
                results.append(Completion(tokens, logs, ended=False))
            else:
                results.append(self._continue(candidate, tokens, logs))
        return results

    def sample(self) -> list[Completion]:
        """Independent samples."""
        self._random = np.random.default_rng(self._sampling.seed)
        results = []
        for candidate in range(self._sampling.candidates):
            self._cancellation.check()
            results.append(self._continue(candidate, [], []))
        return results

    def _continue(self, candidate: int, tokens: list[int], log_probabilities: list[float]) -> Completion:
        """Go on from `tokens`, which were reported already."""
        while len(tokens) < self._sampling.max_tokens:
            spell = self._run(candidate, tokens, self._constraint.bytes_of(tokens))
            self._find_branch(tokens, spell)
            tokens, log_probabilities = tokens + spell.tokens, log_probabilities + spell.log_probabilities
            if spell.verdict == "ended":
                return Completion(tokens, log_probabilities, ended=True)
            if spell.verdict == "stopped":
                break
            if spell.verdict == "broken":
                logits = spell.logits[len(spell.tokens)]
                id = self._choose(logits, self._constraint.bytes_of(tokens))
                log_probability = float(log_softmax(logits)[id])
                stop = self._report(candidate, id, log_probability)
                if id in self._sampling.end_tokens:
                    return Completion(tokens, log_probabilities, ended=True)
                tokens, log_probabilities = [*tokens, id], [*log_probabilities, log_probability]
                self._branch_settled |= len(self._constraint.bytes_of(tokens)) > len(self._sampling.forced)
                if stop:
                    break
        return Completion(tokens, log_probabilities, ended=False)

    def _find_branch(self, tokens: list[int], spell: _Spell) -> None:
        """Keep the logits of the step at which the first continuation can first go beyond the forced bytes.

        Where a token ends just where the forced bytes do, that is the step after it.
        """
        written = len(self._constraint.bytes_of(tokens))
        for index, logits in enumerate(spell.logits):
            if self._branch_settled:
                return
            self._branch = len(tokens) + index, logits
            step = self._constraint.bytes_of(spell.tokens[index : index + 1])
            written += len(step)
            self._branch_settled = bool(step) and written > len(self._sampling.forced)

    def _run(self, candidate: int, tokens: list[int], written: bytes) -> _Spell:
        """One call of CTranslate2, up to the first token that the constraint forbids."""
        spell = _Spell([], [], "full", [])
        cancelled = False

        def step(result: Any) -> bool:
            nonlocal cancelled, written
            self.generated += 1
            if self._cancellation.cancelled:
                cancelled = True
                return True
            id: int = result.token_id
            if not self._constraint.permits(id, written):
                spell.verdict = "broken"
                return True
            stop = self._report(candidate, id, result.log_prob)
            if id in self._sampling.end_tokens:
                spell.verdict = "ended"
                return True
            written += self._constraint.bytes_of([id])
            spell.tokens.append(id)
            spell.log_probabilities.append(result.log_prob)
            if stop:
                spell.verdict = "stopped"
            return stop

        tail = self._tail + tokens
        self.computed += len(tail)
        options: dict[str, Any] = {}
        if self._random is not None:
            options["sampling_topk"] = 0
            options["sampling_topp"] = self._sampling.top_p
            options["sampling_temperature"] = self._sampling.temperature
        answer = self._call(
            tail,
            self._static,
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
        spell.logits = [np.asarray(logits, dtype=np.float32) for logits in answer.logits[0]] if answer.logits else []
        return spell

    def _report(self, candidate: int, id: int, log_probability: float) -> bool:
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        return self._on_token(candidate, id, log_probability)

    def _choose(self, logits: Logits, written: bytes) -> int:
        mask = self._constraint.mask(written)
        if self._random is None:
            return most_likely(logits, mask)
        return sample(logits, mask, self._sampling.temperature, self._sampling.top_p, self._random)


def read_pieces(directory: Path) -> list[str]:
    """CTranslate2's name of each row of the embedding, by id. Raises ModelError."""
    path = directory / "vocabulary.json"
    try:
        pieces: list[str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read: {error}.", "Pull or convert the model again.") from error
    return pieces


def resolve_device(device: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`. Raises ModelError when CUDA is asked for and not there."""
    gpus = ctranslate2.get_cuda_device_count()
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise ModelError("No CUDA device was found.", "Set `device` to `auto` or `cpu`, or install the CUDA driver.")
    return device


def resolve_compute_type(compute_type: str, device: str) -> str:
    """The compute type to use; `auto` is int8, on CUDA with float16 around it. Raises ModelError when unsupported."""
    supported = ctranslate2.get_supported_compute_types(device)
    if compute_type == "auto":
        return "int8_float16" if device == "cuda" and "int8_float16" in supported else "int8"
    if compute_type not in supported:
        raise ModelError(
            f"The compute type {compute_type!r} is not supported on {device} here.",
            f"Set `compute_type` to `auto` or one of: {', '.join(sorted(supported))}.",
        )
    return compute_type


@frozen
class Capabilities:
    """Compute types that CTranslate2 supports here, by device, and the number of CUDA devices."""

    cpu: list[str]
    cuda: list[str]
    gpus: int


def capabilities() -> Capabilities:
    """What CTranslate2 can do on this machine."""
    gpus: int = ctranslate2.get_cuda_device_count()
    cuda = sorted(ctranslate2.get_supported_compute_types("cuda")) if gpus else []
    return Capabilities(sorted(ctranslate2.get_supported_compute_types("cpu")), cuda, gpus)
