"""The model's part in a refactoring: continuing a text, and scoring how likely texts are.

The prompt is cut to what fits the model; a model without infilling gets the text before the place only. Without a
model there are no continuations and all texts are equally likely, so that refactorings that can do without one work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

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
from codegen_lsp.source.lines import start_of_line

if TYPE_CHECKING:
    from codegen_lsp.completion.options import Options
    from codegen_lsp.inference.rpc.messages import ModelDescription

SCORED_CHARACTERS = 1_500
"""Most characters of a text that are scored, and most characters before it that are given with it."""


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
    """The model as the assistant of refactorings in one document."""

    model: LanguageModel | None
    """None while no model is ready."""
    infill: bool
    """The model takes text after the place."""
    document: str
    """Identifies the document's requests to the model; a newer one supersedes an older one."""
    prefix_characters: int
    """Most characters before the place in the prompt."""
    suffix_characters: int
    """Most characters after the place in the prompt of a model that infills."""
    temperature: float = 0.0
    optional: bool = False
    """The refactoring can do without the model: failures of the model become notes."""
    notes: list[str] = field(factory=list)
    """Failures of the model that did not end the refactoring."""

    @classmethod
    def for_model(
        cls, client: LanguageModel | None, model: ModelDescription | None, options: Options, document: str
    ) -> ModelAssistant:
        """Return the assistant for a model, whose prompts are as long as those for completion.

        `client` is None while no model is ready.
        """
        return cls(
            client,
            model is not None and model.infill,
            document,
            options.prefix_characters,
            options.suffix_characters,
            options.temperature,
            notes=[] if client is not None else ["No model was ready, so names come from the code alone."],
        )

    async def continuations(
        self, before: str, after: str = "", *, stop: StopRules, candidates: int = 1
    ) -> list[Candidate]:
        """Return continuations of `before`, best first; none without a model. Raises WorkerError and ModelError."""
        if self.model is None:
            return []
        params = GenerateParams(
            document=self.document,
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
        """Return the log-likelihood of each text in nats, given the text before it; all 0 without a model.

        `texts` are pairs of the text before and the text to score. Raises WorkerError and ModelError.
        """
        wanted = [ScoredText(before[-SCORED_CHARACTERS:], text[:SCORED_CHARACTERS]) for before, text in texts if text]
        if self.model is None or not wanted:
            return [0.0] * len(texts)
        try:
            result = await self.model.score(ScoreParams(self.document, wanted))
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
        """Return the order of new texts of a document by the likelihood of their changed parts, best first."""
        likelihoods = await self.likelihoods([changed_part(old, new) for new in results])
        return sorted(range(len(results)), key=lambda at: -likelihoods[at])


def changed_part(old: str, new: str) -> tuple[str, str]:
    """Return the text before the first changed line of `new`, and the lines from there to the last difference."""
    size = min(len(old), len(new))
    head = next((at for at in range(size) if old[at] != new[at]), size)
    tail = next((at for at in range(size - head) if old[-1 - at] != new[-1 - at]), size - head)
    start = start_of_line(new, head)
    end = new.find("\n", max(start, len(new) - tail))
    return new[:start], new[start : len(new) if end < 0 else end + 1]
