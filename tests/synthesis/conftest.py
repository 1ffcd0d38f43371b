"""A model that answers from a script."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from codegen_lsp.inference.rpc.messages import Candidate, GenerateParams, GenerateResult, GenerationStats


@define
class ScriptedTurns:
    """Answers each request by a function of it, with a list of texts, the most likely first."""

    answer: Callable[[GenerateParams], list[str]]
    asked: list[GenerateParams] = field(factory=list)

    async def generate(self, params: GenerateParams) -> GenerateResult:
        self.asked.append(params)
        texts = self.answer(params)[: params.candidates]
        candidates = [Candidate(text, 1, -0.1 * number, "stop") for number, text in enumerate(texts, start=1)]
        return GenerateResult(candidates, GenerationStats(1, 0, 1, 0.0, 0.0, 0.0))
