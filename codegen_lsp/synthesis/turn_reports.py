"""What each turn of a dialogue did when it was run, and whether its examples hold."""

from __future__ import annotations

import asyncio

from attrs import evolve, frozen

from codegen_lsp.synthesis.dialogue import Dialogue, shortened
from codegen_lsp.synthesis.examples import examples_in
from codegen_lsp.synthesis.running import ProgramRun, ProgramRunner, RunKind, TurnResult


@frozen
class TurnReport:
    """What a turn did."""

    kind: RunKind
    result: TurnResult
    reason: str = ""
    """Why it failed, or which example does not hold, in one line."""


async def report_turns(runner: ProgramRunner, dialogue: Dialogue, first: int = 0) -> list[TurnReport]:
    """Run a dialogue, and return what each turn from the index `first` on did. Raises: SandboxError."""
    numbers = range(first, len(dialogue.turns))
    if not numbers:
        return []
    found = await asyncio.to_thread(lambda: [examples_in(dialogue.turns[number].request) for number in numbers])
    with_examples = {number: examples for number, examples in zip(numbers, found, strict=True) if examples}
    whole, *tried = await asyncio.gather(
        runner.run_cancellable(dialogue),
        *(runner.run_cancellable(dialogue.until(number + 1), examples) for number, examples in with_examples.items()),
    )
    runs = dict(zip(with_examples, tried, strict=True))
    return [report_of(runs[number]) if number in runs else _part(whole, number) for number in numbers]


def report_of(run: ProgramRun) -> TurnReport:
    """Return what the last turn of a program did."""
    return TurnReport(run.kind, run.last, run.reason)


def with_outputs(dialogue: Dialogue, reports: list[TurnReport], first: int = 0) -> Dialogue:
    """Return a dialogue whose turns from `first` on state what they did."""
    for number, report in enumerate(reports, start=first):
        turn = evolve(dialogue.turns[number], output=shortened(report.result.text))
        dialogue = dialogue.with_turn(number, turn)
    return dialogue


def _part(run: ProgramRun, number: int) -> TurnReport:
    """Return what one turn of a program did."""
    if number >= len(run.turns):
        return TurnReport("failed", TurnResult(error=run.reason), run.reason)
    result = run.turns[number]
    if result.error:
        return TurnReport("timeout" if run.kind == "timeout" else "failed", result, result.failure)
    return TurnReport("ran", result)
