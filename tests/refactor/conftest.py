"""A scripted model, and cases written as source with a selection."""

from __future__ import annotations

from attrs import define, field

from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    GenerationStats,
    Score,
    ScoreParams,
    ScoreResult,
)
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from tests.cases import Marked


@define
class ScriptedModel:
    """Answers each call from a script; texts with certain words are likely."""

    answers: list[list[str]]
    likes: list[str] = field(factory=list)
    asked: list[GenerateParams] = field(factory=list)
    scored: list[ScoreParams] = field(factory=list)

    async def generate(self, params: GenerateParams) -> GenerateResult:
        self.asked.append(params)
        texts = self.answers.pop(0) if self.answers else []
        # A real answer ends before the first stop string.
        candidates = [Candidate(cut(text, params.stop.strings), 5, -0.1, "stop") for text in texts]
        return GenerateResult(candidates, GenerationStats(10, 0, 5, 0.0, 0.0, 0.0))

    async def score(self, params: ScoreParams) -> ScoreResult:
        self.scored.append(params)
        return ScoreResult([Score(self.likelihood(one.text), 5) for one in params.texts])

    def likelihood(self, text: str) -> float:
        return -1.0 if any(word in text for word in self.likes) else -10.0

    def assistant(self, *, infill: bool = True) -> ModelAssistant:
        return ModelAssistant(self, infill, "refactor", prefix_characters=4_000, suffix_characters=1_500)


def cut(text: str, stops: list[str]) -> str:
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def source(marked: str, language: str = "python") -> SelectedSource:
    """Return the source without its marks: │ for a cursor, or «» around a selection."""
    found = Marked.parse(marked)
    return SelectedSource(found.text, found.start, found.end, language)
