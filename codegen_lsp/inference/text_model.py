"""Text to text: prompts in the format of the model, answers decoded from tokens and cut by the stop rules.

One `TextModel` holds a tokenizer and an engine. It makes prompts (`prompt`), heals their last token (see
`tokenizer`), and decodes bytes to text as tokens arrive.
"""

from __future__ import annotations

import inspect
import logging
import math
import textwrap
import time
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import psutil
from attrs import evolve

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.answer import Alternatives, DecodedAnswer
from codegen_lsp.inference.attention_record import AttentionRecorder
from codegen_lsp.inference.attribution import attributions, reading_shares, with_end
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, Engine, SamplingParams, Steps
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL, MixingWeights
from codegen_lsp.inference.engines.native.ngram_index import WorkspaceCounts
from codegen_lsp.inference.origins import find_origin, with_places, with_prompt_places
from codegen_lsp.inference.prompt import CHARACTERS_PER_TOKEN_BOUND, MINIMUM_PREFIX, Prompt, PromptFormat
from codegen_lsp.inference.prompt_attribution import described_prompt
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    GenerationStats,
    OriginParams,
    OriginResult,
    Rates,
    RelatedFiles,
    Score,
    ScoredText,
    ScoreResult,
    StreamedText,
    WarmParams,
)
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.workspace_indexes import WorkspaceIndexes

logger = logging.getLogger(__name__)

RELATED_CHARACTERS = 100_000
"""Characters of a related text that are used."""
RELATED_KEPT = 16
"""Number of related texts whose tokens are kept."""


def probe_text() -> str:
    """Return source code with which tokenizers and speed are measured: the standard library's, or else this module's.

    Embeddable distributions of Python have no source of the standard library.
    """
    try:
        source = inspect.getsource(textwrap)
    except OSError:
        source = Path(__file__).read_text("utf-8")
    return "\n".join(source.splitlines()[:250])


PROBE = probe_text()

OnText = Callable[[StreamedText], None]


class TextModel:
    """One loaded model that continues text."""

    def __init__(
        self,
        info: BuildInfo,
        tokenizer: Tokenizer,
        engine: Engine,
        *,
        weights: MixingWeights | None = None,
        workspaces: WorkspaceIndexes | None = None,
    ) -> None:
        self.info = info
        self.tokenizer = tokenizer
        self.engine = engine
        self.weights = weights
        """Weights of the n-grams; None where none are mixed in."""
        self.workspaces = workspaces
        """None where the engine does not mix n-grams."""
        self._format = PromptFormat(info, tokenizer)
        self._encode_related = lru_cache(RELATED_KEPT)(self._encode_compactly)
        self._measurements = 0

    def generate(
        self,
        params: GenerateParams,
        cancellation: CancellationToken,
        queue_seconds: float = 0.0,
        on_text: OnText | None = None,
    ) -> GenerateResult:
        """Continue a text. `on_text` gets its parts as they are generated.

        Raises: Cancelled, and ModelError when the answer leaves no space for a prompt or the runtime fails.
        """
        return self.engine.run(self.generating(params, cancellation, queue_seconds, on_text), cancellation)

    def generating(
        self,
        params: GenerateParams,
        cancellation: CancellationToken,
        queue_seconds: float = 0.0,
        on_text: OnText | None = None,
    ) -> Steps[GenerateResult]:
        """Return the computation of `generate`."""
        started = time.perf_counter()
        room = self.info.context_length - params.stop.max_tokens
        if room < MINIMUM_PREFIX:
            raise ModelError(
                f"{params.stop.max_tokens} tokens of answer leave no room in a context of {self.info.context_length}.",
                "Lower `max_tokens`.",
            )
        prompt = self.prompt(params.prefix, params.suffix, room, heal=params.heal, files=params.files)
        answers = [self._answer(params, prompt) for _ in range(params.candidates)]

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            answer = answers[candidate]
            stops = id not in self.end_tokens and answer.add(id, log_probability)
            if on_text is not None:
                text, tokens = answer.streamable()
                if text or tokens:
                    on_text(StreamedText(params.stream, candidate, text, tokens))
            return stops

        def on_alternatives(candidate: int, alternatives: Alternatives) -> None:
            answers[candidate].alternatives = alternatives

        sampling = evolve(self._sampling(params, prompt), on_alternatives=on_alternatives)
        try:
            generation = yield from self.engine.generating(prompt.ids, sampling, cancellation, on_token)
        except Cancelled:
            logger.info("cancelled after %d tokens", sum(answer.tokens for answer in answers))
            raise
        pairs = zip(answers, generation.completions, strict=False)
        candidates = [answer.candidate(made) for answer, made in pairs if answer.complete or not params.distinct]
        return GenerateResult(
            candidates=_unique(candidates, params.temperature > 0) if params.distinct else candidates,
            stats=GenerationStats(
                prompt_tokens=len(prompt.ids),
                cached_tokens=generation.cached_tokens,
                generated_tokens=generation.generated_tokens,
                drafted_tokens=generation.drafted_tokens,
                accepted_tokens=generation.accepted_tokens,
                queue_seconds=queue_seconds,
                first_token_seconds=generation.first_token_seconds,
                total_seconds=time.perf_counter() - started,
            ),
        )

    def warm(self, params: WarmParams, cancellation: CancellationToken) -> int:
        """Cache the state of a prompt for requests that extend it. Return the number of cached tokens."""
        return self.engine.run(self.warming(params, cancellation), cancellation)

    def warming(self, params: WarmParams, cancellation: CancellationToken) -> Steps[int]:
        """Return the computation of `warm`."""
        room = self.info.context_length - 1
        prompt = self.prompt(params.prefix, params.suffix, room, heal=True, files=params.files)
        return (yield from self.engine.warming(prompt.ids, cancellation))

    def score(self, texts: Sequence[ScoredText], cancellation: CancellationToken) -> ScoreResult:
        """Return the likelihood of each text after the text before it, which is cut at its start to fit the context.

        Of a text that does not fit alone, only the end is scored. Raises: Cancelled, and ModelError when the runtime
        fails.
        """
        return self.engine.run(self.scoring(texts, cancellation), cancellation)

    def scoring(self, texts: Sequence[ScoredText], cancellation: CancellationToken) -> Steps[ScoreResult]:
        """Return the computation of `score`."""
        scores = []
        for item in texts:
            cancellation.check()
            scores.append((yield from self._scoring(item, cancellation)))
        return ScoreResult(scores)

    def origin(self, params: OriginParams) -> OriginResult:
        """Return the place that agrees longest with a suggestion. Safe in any thread."""
        return find_origin(params, self.tokenizer, self._counts(params))

    def attribute(self, params: AttributionParams, cancellation: CancellationToken) -> AttributionResult:
        """Return the probability of each token of a suggestion, and its sources, without places (see `placed`).

        Raises: Cancelled, and ModelError when the runtime fails.
        """
        return self.engine.run(self.attributing(params, cancellation), cancellation)

    def attributing(self, params: AttributionParams, cancellation: CancellationToken) -> Steps[AttributionResult]:
        """Return the computation of `attribute`."""
        request, context, prompt = params.request, self.info.context_length, self._prompt_before(params)
        # The end of the prompt is the end of a pre-token, so the rest is tokenized as it is in the whole text.
        limit = context * CHARACTERS_PER_TOKEN_BOUND
        ids = self.tokenizer.encode(prompt.forced.decode("utf-8", "replace") + params.text[:limit])
        ids = ids[: context - len(prompt.ids)] if params.text else []
        if not ids and (not params.prompt or len(prompt.ids) < 2):
            return AttributionResult([])
        sampling = self._sampling(request, prompt)
        info, length = self.info, len(prompt.ids)
        recorder = AttentionRecorder(info.layers, info.heads, length, len(ids)) if params.attention else None
        shares = yield from reading_shares(
            self.engine, self.tokenizer, prompt.ids, ids, sampling, params, recorder, cancellation
        )
        found = list(attributions(self.tokenizer, ids, shares.suggestion, prompt.forced))
        return AttributionResult(
            with_end(found, len(params.text)),
            described_prompt(params, self.tokenizer, prompt, shares.prompt) if params.prompt else [],
            recorder.record() if recorder is not None else None,
        )

    def placed(self, params: AttributionParams, result: AttributionResult) -> AttributionResult:
        """Add the places that the tokens agree with. Safe in any thread."""
        counts = self._counts(params.request)
        if result.prompt:
            result = with_prompt_places(result, self._prompt_before(params).ids, self.tokenizer, counts)
        return with_places(params, result, self.tokenizer, counts)

    def _prompt_before(self, params: AttributionParams) -> Prompt:
        """Return the prompt that a suggestion answered."""
        request = params.request
        room = max(MINIMUM_PREFIX, self.info.context_length - request.stop.max_tokens)
        return self.prompt(request.prefix, request.suffix, room, heal=request.heal, files=request.files)

    def _scoring(self, item: ScoredText, cancellation: CancellationToken) -> Steps[Score]:
        limit = self.info.context_length * CHARACTERS_PER_TOKEN_BOUND
        ids = self.tokenizer.encode((item.before[-limit:] + item.text)[-2 * limit :])
        missing, tokens = len(item.text.encode("utf-8", "replace")), 0
        while missing > 0 and tokens < len(ids):
            tokens += 1
            missing -= len(self.tokenizer.token_bytes(ids[-tokens]))
        room = (ids if item.before else [self.info.end_of_text, *ids])[-self.info.context_length :]
        tokens = min(tokens, len(room) - 1)
        if not tokens:
            return Score(0.0, 0)
        scores = yield from self.engine.scoring(room, cancellation)
        return Score(sum(scores[-tokens:]), tokens)

    def prefill_rate(self, tokens: int = 256) -> float:
        """Return the prefill rate in tokens per second: the better of two prompts that are not cached."""
        length = min(tokens, self.info.context_length // 2)
        probe = self.tokenizer.encode(PROBE)[: length + 1]
        once = SamplingParams(max_tokens=1, end_tokens=frozenset())
        seconds = []
        for ids in (probe[-8:], probe[:-1], probe[1:]):
            started = time.perf_counter()
            self.engine.generate(ids, once, CancellationToken(), lambda *_: False)
            seconds.append(time.perf_counter() - started)
        return (len(probe) - 1) / max(min(seconds[1:]), 1e-9)

    def measure(self, cancellation: CancellationToken) -> Rates:
        """Measure prefill and decoding on source code, from another position each time so that nothing is cached."""
        length = min(512, self.info.context_length // 2)
        probe = self.tokenizer.encode(PROBE)
        start = self._measurements % len(probe)
        self._measurements += 1
        ids = (probe[start:] + probe * math.ceil(length / len(probe)))[:length]
        decode = 32
        seen: list[float] = []

        def on_token(candidate: int, id: int, log_probability: float) -> bool:
            seen.append(time.perf_counter())
            return False

        started = time.perf_counter()
        self.engine.generate(ids, SamplingParams(max_tokens=decode, end_tokens=frozenset()), cancellation, on_token)
        return Rates(
            prefill_tokens_per_second=length / (seen[0] - started),
            prefill_tokens=length,
            decode_tokens_per_second=(len(seen) - 1) / max(seen[-1] - seen[0], 1e-9),
            resident_mb=_resident_mb(),
        )

    def prompt(self, prefix: str, suffix: str, room: int, *, heal: bool, files: RelatedFiles | None = None) -> Prompt:
        """Return a prompt of at most `room` tokens in the format of the family (see `PromptFormat.prompt`)."""
        return self._format.prompt(prefix, suffix, room, heal=heal, files=files)

    def _answer(self, params: GenerateParams, prompt: Prompt) -> DecodedAnswer:
        return DecodedAnswer(
            prompt.forced,
            params.stop,
            self.tokenizer.token_bytes,
            deadline_seconds=params.deadline_seconds,
            reports_tokens=params.top_logprobs is not None,
        )

    def _sampling(self, params: GenerateParams, prompt: Prompt) -> SamplingParams:
        return SamplingParams(
            max_tokens=params.stop.max_tokens + (len(prompt.forced) > 0),
            end_tokens=self.end_tokens,
            forced=prompt.forced,
            reuse=params.reuse,
            candidates=params.candidates,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            seed=params.seed,
            alternatives=params.top_logprobs or 0,
            ngrams=self.weights is not None,
            weights=self.weights or SMALL_MODEL,
            related=self._related(params),
            workspace=self._counts(params),
        )

    def _related(self, params: GenerateParams) -> list[array[int]]:
        """Return the token ids of texts outside the prompt that the answer may repeat parts of."""
        after = [params.suffix] if self.info.infill == "none" else []
        snippets = params.snippets if self.workspaces is None or not params.workspace else []
        unread = params.files.files if params.files is not None and self.info.file_marks is None else []
        texts = (*after, *params.related, *snippets, *(file.text for file in unread))
        return [self._encode_related(text[:RELATED_CHARACTERS]) for text in texts if text]

    def _encode_compactly(self, text: str) -> array[int]:
        """Return the ids of a text in four bytes each; a list with its numbers takes ten times as much."""
        return array("i", self.tokenizer.encode(text))

    def _counts(self, params: GenerateParams | OriginParams) -> WorkspaceCounts | None:
        if self.workspaces is None or not params.workspace:
            return None
        return self.workspaces.counts(params.workspace, params.excluded_files)

    def close(self) -> None:
        """Free the model, and write what changed in the indexes."""
        self.engine.close()
        if self.workspaces is not None:
            self.workspaces.close()

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Ids of the tokens that end an answer."""
        ends = {self.info.end_of_text, *self.info.ends}
        return frozenset(ends if self.info.infill_end is None else ends | {self.info.infill_end})

    @cached_property
    def characters_per_token(self) -> float:
        """Mean length of a token of Python source, in characters."""
        return self.tokenizer.characters_per_token(PROBE)


def _unique(candidates: list[Candidate], sampled: bool) -> list[Candidate]:
    """Return the candidates without repeated texts, most likely first; a greedy first candidate stays first."""
    unique = list({candidate.text: candidate for candidate in reversed(candidates)}.values())[::-1]
    if sampled:
        return sorted(unique, key=lambda candidate: -candidate.log_probability)
    return unique[:1] + sorted(unique[1:], key=lambda candidate: -candidate.log_probability)


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20
