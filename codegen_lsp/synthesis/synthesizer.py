"""Write a turn: several candidates from the model, each run together with what is above it, the best first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import evolve, field, frozen

from codegen_lsp.inference.rpc.messages import Candidate, GenerateParams, GenerateResult
from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn, shortened
from codegen_lsp.synthesis.examples import Example, examples_in
from codegen_lsp.synthesis.running import ProgramRun, ProgramRunner, RunKind
from codegen_lsp.synthesis.turn_format import as_comment, stop_rules, truncate

ORDER: tuple[RunKind, ...] = ("right", "ran", "contradicts", "failed", "timeout")
"""Candidates that crash, hang or contradict an example come last."""


class TurnModel(Protocol):
    """The part of `InferenceClient` that writing a turn needs."""

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `InferenceClient.generate`."""
        ...


@frozen
class Proposal:
    """A candidate for the code of a turn, and what it did."""

    code: str
    log_probability: float
    """Mean over the tokens, in nats."""
    run: ProgramRun

    @property
    def good(self) -> bool:
        """True unless it crashes, hangs, contradicts an example or does nothing at all."""
        return self.run.kind in ("right", "ran") and bool(self.code.strip())

    def turn(self, request: str, *, edited: bool = False) -> DialogueTurn:
        """Return the turn with this code."""
        return DialogueTurn(request, self.code, shortened(self.run.last.text), edited)


@frozen
class WritingOptions:
    """How turns are written."""

    candidates: int = 4
    """One is the most likely; the others are sampled."""
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 256
    """Limit of tokens for each turn."""


@frozen
class Synthesizer:
    """Writes turns with a model and a sandbox."""

    model: TurnModel
    runner: ProgramRunner
    options: WritingOptions = field(factory=WritingOptions)
    document: str = "synthesis"
    """Identifies the requests to the model; a newer one supersedes an older one."""

    async def propose(
        self,
        above: Dialogue,
        request: str,
        *,
        seed: int = 0,
        examples: Sequence[Example] | None = None,
        on_proposal: Callable[[Proposal, int], None] | None = None,
    ) -> list[Proposal]:
        """Return candidates for the turn below a dialogue, the best first; each seed gives others.

        `examples` are tried in place of those in the request. `on_proposal` gets each candidate when it was run, and
        the number of all.

        Raises: ModelError, WorkerError, SupersededError, SandboxError.
        """
        codes = await self._write(above, request, seed)

        async def tried(code: str) -> Proposal:
            proposal = Proposal(code, codes[code], await self.run(above, DialogueTurn(request, code), examples))
            if on_proposal is not None:
                on_proposal(proposal, len(codes))
            return proposal

        return sorted(await asyncio.gather(*map(tried, codes)), key=_rank)

    async def judge(self, above: Dialogue, request: str, code: str) -> Proposal:
        """Return given code as a proposal, whose log-probability is 0. Raises: SandboxError."""
        return Proposal(code, 0.0, await self.run(above, DialogueTurn(request, code)))

    async def run(self, above: Dialogue, turn: DialogueTurn, examples: Sequence[Example] | None = None) -> ProgramRun:
        """Run a turn below a dialogue, and try examples, by default those of its request.

        Cancelling the caller ends the program. Raises: SandboxError.
        """
        dialogue = above.with_turn(len(above.turns), turn)
        tried = examples_in(turn.request) if examples is None else examples
        return await self.runner.run_cancellable(dialogue, tried)

    async def judged(self, above: Dialogue, turn: DialogueTurn) -> DialogueTurn:
        """Return a turn with the output of a new run. Raises: SandboxError."""
        return evolve(turn, output=shortened((await self.run(above, turn)).last.text))

    async def _write(self, above: Dialogue, request: str, seed: int) -> dict[str, float]:
        """Return the code of each candidate and its likelihood, without repeats."""
        options = self.options
        params = GenerateParams(
            self.document,
            above.prompt + as_comment(request),
            stop=stop_rules(options.max_tokens),
            heal=False,
        )
        answers: list[Candidate] = []
        if seed == 0:
            answers += (await self.model.generate(params)).candidates
        if sampled := options.candidates - len(answers):
            params = evolve(params, candidates=sampled, temperature=options.temperature, top_p=options.top_p, seed=seed)
            answers += (await self.model.generate(params)).candidates
        codes: dict[str, float] = {}
        for answer in answers:
            codes.setdefault(truncate(answer.text).strip("\n").rstrip(), answer.log_probability)
        return codes


def _rank(proposal: Proposal) -> tuple[bool, int, float]:
    return not proposal.code.strip(), ORDER.index(proposal.run.kind), -proposal.log_probability
