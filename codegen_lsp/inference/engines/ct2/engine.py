"""The engine on `ctranslate2.Generator`: every architecture that CTranslate2 has, on CPU and CUDA.

A prompt is split into a prefix whose state is cached (`prefix_cache`) and a tail that is computed. CTranslate2 can't be
interrupted before the first token, so prefixes are cached while the worker is idle.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ctranslate2

from codegen_lsp.errors import ModelError
from codegen_lsp.inference import heap
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.constraint import Constraint, TokenIndex, allowed_ids
from codegen_lsp.inference.engines.base import (
    CancellationToken,
    EngineConfig,
    Generation,
    OnToken,
    SamplingParams,
    Steps,
    T,
    check_ids,
)
from codegen_lsp.inference.engines.ct2.decoding import CandidateDecoder
from codegen_lsp.inference.engines.ct2.devices import resolve_compute_type, resolve_device
from codegen_lsp.inference.engines.ct2.prefix_cache import PrefixCache, cut_position
from codegen_lsp.inference.engines.steps import NoBatch, at_once, run_alone
from codegen_lsp.inference.tokenizer import Tokenizer

SHORT_PROMPT = 64
"""Prompts of up to this many tokens are computed whole: caching them saves less than the copy costs."""
REFRESH_AT_LEAST = 64
"""`warm` caches a longer prefix when at least this many tokens, and an eighth of the prompt, aren't covered."""


class StepCallback:
    """A callback for each decoded token, which can be emptied.

    CTranslate2's thread drops its reference to the callback some time after the call has returned. If that is the last
    reference to the generator, the generator is destroyed by its own thread, which ends the process.
    """

    def __init__(self, callback: Callable[[Any], bool] | None) -> None:
        self.callback = callback

    def __call__(self, result: Any) -> bool:
        return self.callback is None or self.callback(result)


class Ct2Engine:
    """One model in CTranslate2.

    Raises: ModelError when the files can't be read, the weights are 4-bit, or the device or compute type isn't
    available.
    """

    name = "ct2"
    mixes_ngrams = False
    slots = most_slots = 1
    note = ""

    def __init__(self, directory: Path, info: BuildInfo, tokenizer: Tokenizer, config: EngineConfig) -> None:
        if info.bits != 8:
            raise ModelError(
                f"The model in {directory} has weights of {info.bits} bits, which CTranslate2 can't run.",
                "Set `engine` to `native` and `device` to `cpu`, or choose an int8 build.",
            )
        self.device = resolve_device(config.device)
        self.compute_type = resolve_compute_type(config.compute_type, self.device)
        self.threads = config.threads
        self._directory = directory
        self._info = info
        bytes_per_value = 2 if "16" in self.compute_type else 4
        self._cache = PrefixCache(config.cache_bytes, info.token_values * bytes_per_value)
        self._bytes = tokenizer.all_bytes
        self._tokens = TokenIndex(self._bytes)
        self._pieces = read_pieces(directory)
        self._special = tokenizer.special_ids
        heap.keep_freed_memory()
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
        check_ids(prompt, len(self._pieces))
        started = time.perf_counter()
        if sampling.temperature > 0 and sampling.seed is not None:
            self._reseed(sampling.seed)
        constraint = Constraint(
            self._tokens,
            allowed_ids(len(self._pieces), self._info.vocabulary_size, self._special, sampling.end_tokens),
            sampling.end_tokens,
            sampling.forced,
        )
        prefix, hit = self._choose_prefix(prompt)
        decoder = CandidateDecoder(self.call, prompt, prefix, sampling, constraint, cancellation, on_token)
        completions = decoder.sample() if sampling.temperature > 0 else decoder.greedy()
        return Generation(
            completions=completions,
            cached_tokens=prefix if hit else 0,
            computed_tokens=decoder.computed + (0 if hit else prefix),
            first_token_seconds=(decoder.first_token_at or time.perf_counter()) - started,
            generated_tokens=decoder.generated,
        )

    def warm(self, prompt: list[int], cancellation: CancellationToken) -> int:
        """See `Engine.warm`. Can't be interrupted once it computes."""
        cut = cut_position(prompt, self._bytes)
        covered = self._cache.covered(prompt)
        if cut - covered < max(REFRESH_AT_LEAST, cut // 8) or not self._cache.fits_alone(cut):
            return covered
        cancellation.check()
        if not self._cache.fits(cut):
            self._drop_cached()
        self.call(prompt[cut : cut + 1], prompt[:cut], max_length=1)
        self._cache.add(prompt[:cut])
        return cut

    def score(self, ids: list[int], cancellation: CancellationToken) -> list[float]:
        """See `Engine.score`. Can't be interrupted once it computes."""
        cancellation.check()
        try:
            (result,) = self._generator.score_batch([[self._pieces[id] for id in ids]], max_input_length=0)
        except RuntimeError as error:
            raise ModelError(f"CTranslate2 failed: {error}.", "Free some memory, then try again.") from error
        return list(result.log_probs)

    def generating(
        self, prompt: list[int], sampling: SamplingParams, cancellation: CancellationToken, on_token: OnToken
    ) -> Steps[Generation]:
        """See `Engine.generating`. CTranslate2 can't be left between two tokens."""
        return at_once(lambda: self.generate(prompt, sampling, cancellation, on_token))

    def warming(self, prompt: list[int], cancellation: CancellationToken) -> Steps[int]:
        """See `Engine.warming`."""
        return at_once(lambda: self.warm(prompt, cancellation))

    def scoring(self, ids: list[int], cancellation: CancellationToken) -> Steps[list[float]]:
        """See `Engine.scoring`."""
        return at_once(lambda: self.score(ids, cancellation))

    def run(self, steps: Steps[T], cancellation: CancellationToken) -> T:
        """See `Engine.run`."""
        return run_alone(steps)

    def batch(self) -> NoBatch:
        """See `Engine.batch`."""
        return NoBatch()

    def cache_bytes(self) -> int:
        """See `Engine.cache_bytes`."""
        return self._cache.bytes

    def close(self) -> None:
        """See `Engine.close`."""
        self._drop_cached()
        self._generator.unload_model()

    def call(
        self, tail: list[int], prefix: list[int], callback: Callable[[Any], bool] | None = None, **options: Any
    ) -> Any:
        """Continue `prefix` + `tail`, caching the state of `prefix`, and return CTranslate2's result.

        Raises: ModelError when CTranslate2 fails.
        """
        step = StepCallback(callback)
        try:
            (result,) = self._generator.generate_batch(
                [[self._pieces[id] for id in tail]],
                static_prompt=[self._pieces[id] for id in prefix] or None,
                cache_static_prompt=bool(prefix),
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

    # Private

    def _choose_prefix(self, prompt: list[int]) -> tuple[int, bool]:
        """Return the length of the prefix to pass as `static_prompt`, and whether its state is cached already."""
        covered = self._cache.covered(prompt)
        if covered * 2 >= len(prompt) or len(prompt) <= SHORT_PROMPT:
            return covered, covered > 0
        cut = cut_position(prompt, self._bytes)
        if not self._cache.fits(cut):
            return covered, covered > 0
        self._cache.add(prompt[:cut])
        return cut, False

    def _drop_cached(self) -> None:
        """Free all cached states, which CTranslate2 does only together with the model."""
        if self._cache.clear():
            self._generator.unload_model()
            self._generator.load_model()

    def _reseed(self, seed: int) -> None:
        """Make sampling repeatable. The thread of a generator reads the seed when it starts, so a new one is made."""
        ctranslate2.set_random_seed(seed)
        self._cache.clear()
        self._generator = self._open()


def read_pieces(directory: Path) -> list[str]:
    """Read CTranslate2's name of each row of the embedding, by id.

    Raises: ModelError when the vocabulary can't be read.
    """
    path = directory / "vocabulary.json"
    try:
        pieces: list[str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read: {error}.", "Pull or convert the model again.") from error
    return pieces
