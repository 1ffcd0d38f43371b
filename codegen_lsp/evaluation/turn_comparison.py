"""MTPB in several turns against all prompts at once, as CodeGen's paper compares them.

Both have the same problems, so that the difference is measured problem by problem.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from attrs import frozen

from codegen_lsp.evaluation.figures import Figure, mean
from codegen_lsp.evaluation.programs import ProgramSample, mean_rate


@frozen
class TurnRates:
    """Pass rates of the same problems in both formats."""

    name: str
    """`all`, or the number of turns."""
    multi: Figure
    single: Figure
    gain: Figure
    """Difference of the two, over problems."""


def compare_turns(
    multi: Sequence[ProgramSample], single: Sequence[ProgramSample], turns_of: Callable[[str], int]
) -> list[TurnRates]:
    """Return the rates of all problems and of those with each number of turns; `turns_of` is from a test to that.

    Only tests that were done in both formats count.
    """
    both = {one.task for one in multi} & {one.task for one in single}
    counts = sorted({turns_of(task) for task in both})
    groups = [("all", both)]
    groups += [(f"{count} turns", {task for task in both if turns_of(task) == count}) for count in counts]
    return [_rates(name, _by_problem(multi, tasks), _by_problem(single, tasks)) for name, tasks in groups if tasks]


def _by_problem(samples: Sequence[ProgramSample], tasks: set[str]) -> dict[str, float]:
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for sample in samples:
        if sample.task in tasks:
            outcomes[sample.task.partition("/")[0]].append(sample.passed)
    return {problem: sum(passed) / len(passed) for problem, passed in sorted(outcomes.items())}


def _rates(name: str, multi: dict[str, float], single: dict[str, float]) -> TurnRates:
    several, once = mean_rate(list(multi.values())), mean_rate(list(single.values()))
    gain = mean([multi[problem] - single[problem] for problem in multi])
    assert several is not None
    assert once is not None
    assert gain is not None
    return TurnRates(name, several, once, gain)
