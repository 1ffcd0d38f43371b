"""How many tokens to guess ahead, so that checking them pays.

The model runs a guess of several tokens in one step and keeps what it would have said itself (Leviathan et al., "Fast
Inference from Transformers via Speculative Decoding", 2023; here a token is kept only where it is the very one chosen,
so the answer is the same as without). A step of several tokens takes longer than one of a single token; how much longer
depends on the model and the machine, and how often a guess is right on the text. Both are measured as they go, and the
length that promises the most tokens per second is taken: none at all, where that is so.
"""

from __future__ import annotations

from bisect import bisect_right

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 11, 15)
"""Tokens of a draft; the step has one more."""
AGREEMENTS = (1, 2, 3, 4, 6, 9, 13)
"""How often a guess is right depends most on how many tokens before it agree with those before its model; these begin
the classes that are told apart."""
FIRST_RIGHT = (0.3, 0.45, 0.55, 0.65, 0.75, 0.8, 0.85)
"""What share is right in each class, before any was seen."""
FIRST_COST = 0.06
"""What a further token adds to a step, in steps of one token, before it was measured (`docs/lab.md`)."""
RIGHT_MEMORY, COST_MEMORY = 0.97, 0.8
"""Weight of what was known when something new is seen."""
FORGETTING = 0.995
"""So much of what is known of costs is left after each step without a draft: what did not pay once is tried again."""
OUTLIER = 3.0
"""A step that takes so many times longer than expected tells of other programs."""


class DraftLength:
    """How long a draft should be, from what was seen so far."""

    def __init__(self) -> None:
        self._right = list(FIRST_RIGHT)
        self._single = 0.0
        """Seconds of a step of one token."""
        self._costs = [1 + FIRST_COST * length for length in LENGTHS]
        """Of steps with drafts, in steps of one token."""

    def choose(self, agreeing: int) -> int:
        """The length that promises most, after so many tokens that agree."""
        if not agreeing or not self._single:
            return 0
        best, best_rate, expected, chance, ahead = 0, 1.0, 1.0, 1.0, 0
        for length, cost in zip(LENGTHS[1:], self._costs[1:], strict=True):
            while ahead < length:
                chance *= self._right[_class(agreeing + ahead)]
                expected += chance
                ahead += 1
            if expected / cost > best_rate:
                best, best_rate = length, expected / cost
        return best

    def guessed(self, agreeing: int, right: bool) -> None:
        """A token after so many that agree was foreseen, or was not."""
        at = _class(agreeing)
        self._right[at] = RIGHT_MEMORY * self._right[at] + (1 - RIGHT_MEMORY) * right

    def took(self, tokens: int, seconds: float) -> None:
        """Learn from a step of so many tokens."""
        if tokens > 1:
            self._took_draft(tokens - 1, seconds)
            return
        if self._single:
            seconds = COST_MEMORY * self._single + (1 - COST_MEMORY) * min(seconds, OUTLIER * self._single)
        self._single = seconds
        for at, length in enumerate(LENGTHS):
            self._costs[at] += (1 - FORGETTING) * (1 + FIRST_COST * length - self._costs[at])

    def _took_draft(self, length: int, seconds: float) -> None:
        if not self._single or length not in LENGTHS:
            return
        at = LENGTHS.index(length)
        measured = min(seconds / self._single, OUTLIER * self._costs[at])
        self._costs[at] = COST_MEMORY * self._costs[at] + (1 - COST_MEMORY) * measured


def _class(agreeing: int) -> int:
    return bisect_right(AGREEMENTS, agreeing) - 1
