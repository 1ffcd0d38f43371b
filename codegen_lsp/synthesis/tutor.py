"""The tutor: a learner writes a program step by step, with hints, and sees at each step what differs."""

from __future__ import annotations

import re

from attrs import evolve, field, mutable

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn, shortened
from codegen_lsp.synthesis.problems import Step, TutorProblem
from codegen_lsp.synthesis.running import ProgramRun
from codegen_lsp.synthesis.synthesizer import Synthesizer

WORDS = re.compile(r"\s*\S+")


@mutable
class Tutor:
    """One learner at one problem."""

    problem: TutorProblem
    synthesizer: Synthesizer
    learner: Dialogue = field(init=False)
    """What the learner has written: the steps that are done."""
    model: Dialogue = field(init=False)
    """The solution: the problem's own, or the model's."""
    _solution: str | None = field(init=False, default=None)
    """That of the current step, once it is known."""
    _words: int = field(init=False, default=0)
    """Words of it that were revealed."""

    def __attrs_post_init__(self) -> None:
        self.learner = Dialogue(self.problem.head)
        self.model = Dialogue(self.problem.head)

    @property
    def number(self) -> int:
        """Index of the current step."""
        return len(self.learner.turns)

    @property
    def done(self) -> bool:
        """True when all steps are done."""
        return self.number == len(self.problem.steps)

    @property
    def step(self) -> Step:
        """The current step. Raises: IndexError when all are done."""
        return self.problem.steps[self.number]

    async def submit(self, code: str) -> ProgramRun:
        """Run the learner's code for the current step, and go on to the next one if it is right.

        Raises: SandboxError.
        """
        turn = DialogueTurn(self.step.request, code.strip("\n"), edited=True)
        run = await self._run(turn)
        if run.kind in ("right", "ran"):
            await self._advance(evolve(turn, output=shortened(run.last.text)))
        return run

    async def hint(self) -> tuple[str, bool]:
        """Return the solution of the current step up to its next word, and whether that is all of it.

        The words begin after what the step gives of its solution. Raises: what `Synthesizer.propose` raises.
        """
        solution = await self._current_solution()
        given = self.step.given if solution.startswith(self.step.given) else ""
        words = WORDS.findall(solution[len(given) :])
        self._words = min(self._words + 1, len(words))
        return given + "".join(words[: self._words]), self._words == len(words)

    async def skip(self) -> str:
        """Take the solution for the current step, and return it. Raises: what `Synthesizer.propose` raises."""
        solution = await self._current_solution()
        await self._advance(DialogueTurn(self.step.request, solution))
        return solution

    async def _run(self, turn: DialogueTurn) -> ProgramRun:
        """Run a turn below the learner's program, then what checks it."""
        dialogue = self.learner.with_turn(self.number, turn)
        runner, step = self.synthesizer.runner, self.step
        run = await runner.run_cancellable(dialogue, step.examples)
        if run.kind not in ("right", "ran") or not step.check:
            return run
        checked = dialogue.with_turn(self.number + 1, DialogueTurn("Check it.", step.check))
        check = await runner.run_cancellable(checked)
        if check.kind == "ran":
            return evolve(run, kind="right")
        return evolve(run, kind="contradicts", reason=f"The tests of the problem fail: {check.reason}")

    async def _current_solution(self) -> str:
        if self._solution is None:
            step = self.step
            self._solution = step.solution
            if not step.solution:
                proposals = await self.synthesizer.propose(self.learner, step.request, examples=step.examples)
                self._solution = proposals[0].code if proposals else ""
        return self._solution

    async def _advance(self, turn: DialogueTurn) -> None:
        solution = self._solution if self._solution is not None else self.step.solution
        self.model = self.model.with_turn(self.number, DialogueTurn(self.step.request, solution or ""))
        self.learner = self.learner.with_turn(self.number, turn)
        self._solution, self._words = None, 0

    async def model_program(self) -> Dialogue:
        """Return the solution of the whole problem; the model writes the steps that have none.

        Raises: what `Synthesizer.propose` raises.
        """
        dialogue = Dialogue(self.problem.head)
        for known, step in zip(self.model.turns, self.problem.steps, strict=False):
            code = known.code
            if not code:
                proposals = await self.synthesizer.propose(dialogue, step.request, examples=step.examples)
                code = proposals[0].code if proposals else ""
            dialogue = dialogue.with_turn(len(dialogue.turns), DialogueTurn(step.request, code))
        return dialogue
