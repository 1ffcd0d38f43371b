"""The probability of each token of a suggestion and its prompt, and the shares of the model and of the n-grams in it.

The tokens are read as a given text, without the cache and without decoding, so that an explanation changes nothing for
the requests that it runs between. `origins` finds the places that they agree with.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Sequence

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from codegen_lsp.errors import OtherEngineError
from codegen_lsp.inference.attention_record import AttentionRecorder
from codegen_lsp.inference.constraint import Constraint, TokenIndex, allowed_ids
from codegen_lsp.inference.engines.base import CancellationToken, Engine, ReadsLogits, SamplingParams, Steps
from codegen_lsp.inference.engines.native.mixing import interpolate, predictions
from codegen_lsp.inference.engines.native.ngrams import GAP, Mixture, NgramMatcher
from codegen_lsp.inference.rpc.attribution import AttributionParams, LikelyToken, TokenAttribution
from codegen_lsp.inference.sampling import Logits
from codegen_lsp.inference.tokenizer import Tokenizer


@frozen
class TokenShares:
    """The probability of a token in a text, as the sum of the shares of its sources."""

    model_probability: float
    """Without n-grams."""
    model: float
    document: float
    workspace: float
    alternatives: list[tuple[int, float]]
    """The most likely ids and their probabilities."""

    @property
    def probability(self) -> float:
        """Return the sum of the shares."""
        return self.model + self.document + self.workspace


@frozen
class TextShares:
    """The shares of the tokens of a text."""

    prompt: list[TokenShares]
    """Of each token of the prompt; empty if they were not asked for."""
    suggestion: list[TokenShares]


NOTHING = TokenShares(0.0, 0.0, 0.0, 0.0, [])
"""Of the first token of a prompt, before which there is nothing."""


def reading_shares(
    engine: Engine,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    ids: Sequence[int],
    sampling: SamplingParams,
    params: AttributionParams,
    attention: AttentionRecorder | None,
    cancellation: CancellationToken,
) -> Steps[TextShares]:
    """Return the computation of the shares of each of `ids` after the prompt of at least one id.

    Raises: OtherEngineError when the attention is asked for that the engine can't show.
    """
    text = [*prompt, *ids]
    if isinstance(engine, ReadsLogits):
        reader = _LogitsReader(tokenizer, prompt, len(ids), sampling, params)
        yield from engine.reading_logits(text, reader.take, attention.take if attention is not None else None)
        return TextShares([NOTHING, *reader.prompt_shares] if params.prompt else [], reader.shares)
    if attention is not None:
        raise OtherEngineError(
            f"The engine {engine.name} does not show what the model attends to. {engine.note}".strip(),
            "Remedy that, or choose another model." if engine.note else "Set `engine` to `native`.",
        )
    logs: list[float] = yield from engine.scoring(text, cancellation)
    shares = [TokenShares(score, score, 0.0, 0.0, []) for score in np.exp(logs).tolist()]
    first = len(prompt) - 1
    return TextShares([NOTHING, *shares[:first]] if params.prompt else [], shares[first:])


class _LogitsReader:
    """Takes the logits before each id of a text, and mixes the n-grams into those of the suggestion."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        count: int,
        sampling: SamplingParams,
        params: AttributionParams,
    ) -> None:
        special = tokenizer.special_ids
        self.shares: list[TokenShares] = []
        self.prompt_shares: list[TokenShares] = []
        """Of the tokens of the prompt but the first, if they were asked for."""
        self._tokenizer = tokenizer
        self._index = TokenIndex(tokenizer.all_bytes)
        self._sampling = sampling
        self._alternatives = params.alternatives
        self._count = count
        self._left = len(prompt) - 1
        """Ids of the prompt that are still to come."""
        text = [GAP if id in special else id for id in prompt]
        self._ngrams = NgramMatcher(text, sampling.related, [])
        self._read = NgramMatcher(text[:1], sampling.related, []) if params.prompt else None
        """The prompt as far as it was read."""
        self._written = b""
        self._allowed: NDArray[np.bool_] | None = None

    def take(self, logits: Logits, id: int, normaliser: float) -> None:
        """Add the shares of an id."""
        if self._left:
            self._left -= 1
            if self._read is not None:
                if self._allowed is None:
                    self._allowed = self._constraint(len(logits)).allowed
                self.prompt_shares.append(self._shares_of(logits, id, normaliser, self._read, self._allowed, False))
                self._read.read(GAP if id in self._tokenizer.special_ids else id)
            return
        if len(self.shares) == self._count:
            return
        mask = self._constraint(len(logits)).mask(self._written)
        forced = len(self._written) < len(self._sampling.forced)
        self.shares.append(self._shares_of(logits, id, normaliser, self._ngrams, mask, forced))
        self._ngrams.append(id)
        self._written += self._tokenizer.token_bytes(id)

    def _shares_of(
        self, logits: Logits, id: int, normaliser: float, ngrams: NgramMatcher, mask: NDArray[np.bool_], forced: bool
    ) -> TokenShares:
        """Return the shares of an id; among those of the mask where it is `forced` by typed text."""
        mixed, own = logits.copy(), float(logits[id]) - normaliser
        kept, parts, mixed_normaliser = 1.0, [0.0, 0.0], normaliser
        if self._sampling.ngrams:
            mixtures = predictions(ngrams, self._sampling, math.exp(float(logits.max()) - normaliser))
            for source, mixture in enumerate(mixtures):
                if mixture is not None:
                    left = 1 / (1 + float(mixture.gains.sum()))
                    parts = [part * left for part in parts]
                    parts[source] = gain_of(mixture, id) * left
                    kept *= left
                    mixed_normaliser = interpolate(mixed, mixed_normaliser, mixture)
        probabilities = np.exp(mixed - np.float32(mixed_normaliser))
        # Of all tokens that may stand here, those that agree with the typed text; without such a text the sum is 1,
        # and the special tokens stay in it, as in the probabilities that decoding reports.
        among = float(probabilities[mask].sum()) if forced else 1.0
        own_among = float(np.exp(logits[mask] - np.float32(normaliser)).sum()) if forced else 1.0
        alone = math.exp(own) / max(own_among, 1e-30)
        model, workspace, document = (part / max(among, 1e-30) for part in (math.exp(own) * kept, *parts))
        best = self._most_likely(probabilities, mask, among)
        return TokenShares(min(alone, 1.0), model, document, workspace, best)

    def _constraint(self, size: int) -> Constraint:
        sampling, tokenizer = self._sampling, self._tokenizer
        allowed = allowed_ids(size, tokenizer.size, tokenizer.special_ids, sampling.end_tokens)
        return Constraint(self._index, allowed, sampling.end_tokens, sampling.forced)

    def _most_likely(
        self, probabilities: NDArray[np.float32], mask: NDArray[np.bool_], among: float
    ) -> list[tuple[int, float]]:
        allowed = np.where(mask, probabilities, -1.0)
        count = min(self._alternatives, int(mask.sum()))
        best = np.argpartition(-allowed, count)[:count] if count < len(allowed) else np.arange(len(allowed))
        best = best[np.argsort(-allowed[best], kind="stable")]
        return [(int(id), min(float(probabilities[id]) / max(among, 1e-30), 1.0)) for id in best]


def gain_of(mixture: Mixture, id: int) -> float:
    """Return the gain of an id, 0 where it has none."""
    (found,) = np.nonzero(mixture.ids == id)
    return float(mixture.gains[found[0]]) if len(found) else 0.0


def attributions(
    tokenizer: Tokenizer, ids: Sequence[int], shares: Sequence[TokenShares], forced: bytes
) -> Iterator[TokenAttribution]:
    """Yield the attribution of each token, without places. `forced` are the typed bytes that the first ones hold."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    end, missing = 0, len(forced)
    for id, share in zip(ids, shares, strict=True):
        piece = tokenizer.token_bytes(id)
        typed = piece[:missing]
        missing -= len(typed)
        start, end = end, end + len(decoder.decode(piece[len(typed) :]))
        yield TokenAttribution(
            text=tokenizer.decode([id]),
            start=start,
            end=end,
            typed=len(typed.decode("utf-8", "ignore")),
            probability=round(min(share.probability, 1.0), 6),
            model_probability=round(share.model_probability, 6),
            from_model=round(share.model, 6),
            from_document=round(share.document, 6),
            from_workspace=round(share.workspace, 6),
            alternatives=[
                LikelyToken(tokenizer.decode([other]), round(probability, 6))
                for other, probability in share.alternatives
            ],
        )


def with_end(found: Sequence[TokenAttribution], length: int) -> list[TokenAttribution]:
    """Return the attributions with their parts cut at the suggestion's length in code points."""
    return [evolve(one, start=min(one.start, length), end=min(one.end, length)) for one in found]
