"""Speculative decoding: how many tokens to draft.

The model runs a draft of several tokens in one step and keeps those that it would have chosen itself (Leviathan et al.,
"Fast Inference from Transformers via Speculative Decoding", 2023; here a token is kept only where it is exactly the one
chosen, so the answer is the same as without drafts). A step of several tokens takes longer than a step of one; how much
longer depends on model and machine, and how often a draft is right depends on the text. Both are measured as decoding
goes on, and the length with the highest expected number of tokens per second is taken, which may be 0.
"""

from __future__ import annotations

from bisect import bisect_right

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 11, 15)
"""Lengths of a draft, in tokens; the step has one token more."""
AGREEMENTS = (1, 2, 3, 4, 6, 9, 13)
"""Lower bounds of the classes in which drafts are counted: a drafted token is right the more often, the more tokens
before it agree with those before the text that it was copied from."""
INITIAL_ACCEPTANCE = (0.3, 0.45, 0.55, 0.65, 0.75, 0.8, 0.85)
"""Assumed acceptance rate of each class, before any draft was measured."""
INITIAL_COST = 0.06
"""Assumed cost of each further token of a step, in steps of one token, before it was measured (`docs/lab.md`)."""
ACCEPTANCE_MEMORY, COST_MEMORY = 0.97, 0.8
"""Weight of the old value in the moving averages."""
COST_DECAY = 0.005
"""Share by which the measured costs decay toward the initial ones with each step without a draft, so that lengths that
were rejected once are tried again."""
OUTLIER = 3.0
"""A step that takes this many times longer than expected is delayed by other programs; its time is capped."""


class DraftLength:
    """Choice of the length of the next draft, by the acceptance rates and costs measured so far."""

    def __init__(self) -> None:
        self._acceptance = list(INITIAL_ACCEPTANCE)
        self._single = 0.0
        """Seconds of a step of one token."""
        self._costs = [1 + INITIAL_COST * length for length in LENGTHS]
        """Cost of a step with a draft of each length, in steps of one token."""

    def choose(self, agreeing: int) -> int:
        """Return the best length for a draft before which `agreeing` tokens agree."""
        if not agreeing or not self._single:
            return 0
        best, best_rate, expected, chance, position = 0, 1.0, 1.0, 1.0, 0
        for length, cost in zip(LENGTHS[1:], self._costs[1:], strict=True):
            while position < length:
                chance *= self._acceptance[_class(agreeing + position)]
                expected += chance
                position += 1
            if expected / cost > best_rate:
                best, best_rate = length, expected / cost
        return best

    def record_guess(self, agreeing: int, right: bool) -> None:
        """Learn whether a drafted token, before which `agreeing` tokens agree, was the one chosen."""
        at = _class(agreeing)
        self._acceptance[at] = ACCEPTANCE_MEMORY * self._acceptance[at] + (1 - ACCEPTANCE_MEMORY) * right

    def record_step(self, tokens: int, seconds: float) -> None:
        """Learn the time of a step."""
        if tokens > 1:
            self._record_draft(tokens - 1, seconds)
            return
        if self._single:
            seconds = COST_MEMORY * self._single + (1 - COST_MEMORY) * min(seconds, OUTLIER * self._single)
        self._single = seconds
        for at, length in enumerate(LENGTHS):
            self._costs[at] += COST_DECAY * (1 + INITIAL_COST * length - self._costs[at])

    def _record_draft(self, length: int, seconds: float) -> None:
        if not self._single or length not in LENGTHS:
            return
        at = LENGTHS.index(length)
        measured = min(seconds / self._single, OUTLIER * self._costs[at])
        self._costs[at] = COST_MEMORY * self._costs[at] + (1 - COST_MEMORY) * measured


def _class(agreeing: int) -> int:
    return bisect_right(AGREEMENTS, agreeing) - 1
