"""How long to wait before the model is asked while somebody types.

A request that the next key overtakes has cost work for nothing; waiting costs the time that is waited. Which is worse
depends on the model: when it mostly answers before the next key, asking at once wastes little, and when it never does,
only a pause in typing is worth asking in. So the wait grows with what the mean answer takes beyond half a mean gap
between keys, up to one gap. (Tabby, too, goes by the mean gap and the mean answer, but waits at least 100 ms, since
what it has begun can't be cancelled.) Where a word or a line ends, people pause more often, and half the wait does.

How long a newer request waits for a generation that is under way is the same kind of question. Of an answer that takes
c in the mean and is right for the newer request in a share p of cases, what is left is worth waiting for as long as it
is less than p c: else a new generation, which takes c, is the shorter way. Both are measured as they go.
"""

from __future__ import annotations

from attrs import evolve, frozen

WEIGHT = 0.1
"""Of the newest value in the running means: they follow about the last ten."""
LONGEST_GAP = 1.5
"""Seconds between keys beyond which somebody has stopped typing."""
LONGEST_WAIT = 0.4
"""Seconds. As Tabby."""


@frozen
class Rhythm:
    """Running means of how somebody types and how the model answers, in seconds; None before the first value."""

    gap: float | None = None
    answer: float | None = None

    def typed(self, gap: float) -> Rhythm:
        """After a key that came this long after the one before."""
        return self if gap > LONGEST_GAP else evolve(self, gap=_mean(self.gap, gap))

    def answered(self, seconds: float) -> Rhythm:
        """After an answer of the model."""
        return evolve(self, answer=_mean(self.answer, seconds))


def wait_before_asking(rhythm: Rhythm, before: str, since_key: float) -> float:
    """Seconds still to wait. `before` is the line up to the cursor, `since_key` how long ago the last key was."""
    if rhythm.gap is None or rhythm.answer is None:
        return 0.0
    wait = min(rhythm.answer - rhythm.gap / 2, rhythm.gap, LONGEST_WAIT)
    if not (before[-1:].isalnum() or before[-1:] == "_"):
        wait /= 2
    return max(0.0, wait - since_key)


FIRST_RIGHT = 0.5
"""Share of generations under way that are right for who typed on meanwhile, before any was waited for."""
FIRST_ANSWER = 0.3
"""Seconds of an answer before there was one."""


@frozen
class Adoption:
    """Running means of what became of the generations under way that newer requests waited for."""

    right: float = FIRST_RIGHT
    answer: float | None = None
    """Seconds of a generation."""

    def waited_for(self, right: bool) -> Adoption:
        """After a generation that was waited for has ended."""
        return evolve(self, right=_mean(self.right, float(right)))

    def answered(self, seconds: float) -> Adoption:
        """After any generation."""
        return evolve(self, answer=_mean(self.answer, seconds))

    def patience(self, since: float) -> float:
        """Seconds that a generation is worth waiting for which began so many seconds ago."""
        if self.answer is None:
            return FIRST_RIGHT * FIRST_ANSWER
        most = self.right * self.answer
        return most if self.answer - since <= most else 0.0


def _mean(mean: float | None, value: float) -> float:
    return value if mean is None else mean + WEIGHT * (value - mean)
