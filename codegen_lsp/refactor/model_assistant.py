"""What a refactoring asks of the model: to continue a text, and to say how likely texts are.

The window is what fits the model; a model without infilling is asked with the text before alone. Without any model,
nothing is suggested and everything is equally likely, so what needs no model still works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    ScoredText,
    ScoreParams,
    ScoreResult,
    StopRules,
)

SCORED_CHARACTERS = 1_500
"""Of a text that is scored, at most; and as much before it."""


class LanguageModel(Protocol):
    """The part of `InferenceClient` that refactorings need."""

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `InferenceClient.generate`."""
        ...

    async def score(self, params: ScoreParams) -> ScoreResult:
        """See `InferenceClient.score`."""
        ...


@frozen
class ModelAssistant:
    """The model at work on one document."""

    model: LanguageModel | None
    infill: bool = False
    key: str = "refactor"
    prefix_characters: int = 4_000
    suffix_characters: int = 1_500
    temperature: float = 0.0
    optional: bool = False
    """Whether the work can do without the model: then its failures become notes."""
    notes: list[str] = field(factory=list)
    """What went wrong with the model without ending the work."""

    async def continuations(
        self, before: str, after: str = "", *, stop: StopRules, candidates: int = 1
    ) -> list[Candidate]:
        """How the text may go on, best first; nothing without a model. Raises WorkerError and ModelError."""
        if self.model is None:
            return []
        params = GenerateParams(
            document=self.key,
            prefix=before[-self.prefix_characters :],
            suffix=after[: self.suffix_characters] if self.infill else "",
            stop=stop,
            candidates=candidates,
            temperature=self.temperature,
        )
        try:
            return (await self.model.generate(params)).candidates
        except CodegenError as error:
            self._note(error)
            return []

    async def likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[float]:
        """For each text, given what stands before it, the sum of its log-probabilities in nats; all 0 without a model.

        Raises WorkerError and ModelError.
        """
        wanted = [ScoredText(before[-SCORED_CHARACTERS:], text[:SCORED_CHARACTERS]) for before, text in texts if text]
        if self.model is None or not wanted:
            return [0.0] * len(texts)
        try:
            result = await self.model.score(ScoreParams(self.key, wanted))
        except CodegenError as error:
            self._note(error)
            return [0.0] * len(texts)
        scores = iter(result.scores)
        return [next(scores).log_probability if text else 0.0 for _, text in texts]

    def _note(self, error: CodegenError) -> None:
        if not self.optional:
            raise error
        self.notes.append(f"The model could not be asked. {error}")

    async def ranked(self, old: str, results: Sequence[str]) -> list[int]:
        """The order of new texts of a document by the likelihood of what is new in them, best first."""
        likelihoods = await self.likelihoods([changed_part(old, new) for new in results])
        return sorted(range(len(results)), key=lambda at: -likelihoods[at])


def changed_part(old: str, new: str) -> tuple[str, str]:
    """What stands before the first difference in `new`, from its line on, and from there to the last difference."""
    size = min(len(old), len(new))
    head = next((at for at in range(size) if old[at] != new[at]), size)
    tail = next((at for at in range(size - head) if old[-1 - at] != new[-1 - at]), size - head)
    start = new.rfind("\n", 0, head) + 1
    end = new.find("\n", max(start, len(new) - tail))
    return new[:start], new[start : len(new) if end < 0 else end + 1]
