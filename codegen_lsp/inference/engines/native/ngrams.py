"""What a document says again: its n-grams, to mix into a model's probabilities and to guess tokens ahead.

Source code repeats itself, and most of what it repeats is close by. A cache of the document's n-grams, mixed into a
language model's probabilities, tells a small model more than a far larger one would know (Hellendoorn and Devanbu, "Are
Deep Neural Networks the Best Choice for Modeling Source Code?", 2017). The same matches say what may come next, for a
draft that the model checks in one step (prompt lookup decoding; Saxena, 2023).

There is no table of n-grams. For each place of the text it is known how many tokens up to it agree with the last ones
written; a new token makes that number one more where it stands, and zero everywhere else. That is a pass over an array
of some thousand numbers, which takes microseconds, and there is nothing to keep between requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

ORDERS = (1, 2, 3, 5, 8)
"""Tokens of context that n-grams are counted by."""
CAUTION = (10.0, 6.0, 5.0, 4.5, 0.75)
"""k for each of them: N matches with U different successors weigh N / (N + k U) against all shorter contexts together.
Fitted on held-out packages; `docs/lab.md` has what they give."""
LONGEST = 16
"""Longer agreement counts as this long."""
_LONGEST_ORDER = np.searchsorted(ORDERS, np.arange(LONGEST + 1), side="right") - 1
"""The place in `ORDERS` of the longest n-gram that so long an agreement is one of."""
GAP = -1
"""Stands between texts: no token, so nothing agrees across it."""

Ids = NDArray[np.int32]


@frozen(eq=False)
class Mixture:
    """What to add to a model's probabilities: `gains` for some ids, before all are divided by their new sum.

    With the nested weights w and the relative frequencies f of the orders, the mixed probability of an id is
    p (1 - w1)(1 - w2)… + …, which is in proportion to p plus a gain. Most ids have none, so nothing is done to them.
    """

    ids: NDArray[np.int64]
    gains: NDArray[np.float64]


class Matches:
    """Where the end of a text that is being written agrees with other places of it, and of other texts."""

    def __init__(self, text: Sequence[int], others: Iterable[Sequence[int]], dropped: Iterable[Sequence[int]]) -> None:
        """`text` is what is there of the text, `others` what counts as much as it does; `dropped` are texts that were
        taken back, which only drafts may repeat."""
        unwanted, wanted = _joined(dropped), _joined(others)
        self._ids = np.concatenate((unwanted, wanted, np.asarray(text, dtype=np.int32)))
        self._end = self._fixed = len(self._ids)
        self._first = len(unwanted)
        self._columns = np.empty(int(self._ids.max(initial=0)) + 1, dtype=np.int64)
        self._agreement = self._agreements()

    def copy(self) -> Matches:
        """The same, to be continued otherwise."""
        other = object.__new__(Matches)
        other.__dict__.update(self.__dict__)
        other._ids = self._ids.copy()
        return other

    def append(self, id: int) -> None:
        """Continue the text with a token. Drafts may repeat it; it isn't counted for a mixture."""
        end = self._end
        if end == len(self._ids):
            self._ids = np.concatenate((self._ids, np.full(64, GAP, dtype=np.int32)))
        agreement = np.zeros(end + 1, dtype=np.int16)
        np.add(self._agreement[:-1], 1, out=agreement[1:end])
        agreement[:end] *= self._ids[:end] == id
        if end and self._ids[0] == id:
            agreement[0] = 1
        self._agreement = np.minimum(agreement, LONGEST, out=agreement)
        self._ids[end] = id
        self._end += 1

    def mixture(self) -> Mixture | None:
        """What the n-grams say of the next token; None when the last one is nowhere else."""
        first, last = self._first, self._fixed - 1
        lengths = self._agreement[first:last] if last > first else self._agreement[:0]
        places = np.flatnonzero(lengths)
        successors = self._ids[places + (first + 1)]
        kept = successors != GAP
        if not kept.all():
            places, successors = places[kept], successors[kept]
        count = len(places)
        if not count:
            return None
        # Each id's column is the last of the places that it follows, so that nothing has to be sorted.
        self._columns[successors] = numbers = np.arange(count)
        columns = self._columns[successors]
        longest = np.bincount(_LONGEST_ORDER[lengths[places]] * count + columns, minlength=len(ORDERS) * count)
        counts = longest.reshape(len(ORDERS), count)[::-1].cumsum(0)[::-1]
        totals, different = counts.sum(1).tolist(), np.count_nonzero(counts, axis=1).tolist()
        factors, share = [0.0] * len(ORDERS), 1.0
        for order in reversed(range(len(ORDERS))):
            if total := totals[order]:
                weight = total / (total + CAUTION[order] * different[order])
                factors[order] = share * weight / total
                share *= 1 - weight
        one_of_each = columns == numbers
        gains = np.dot(factors, counts[:, one_of_each])
        return Mixture(successors[one_of_each].astype(np.int64), gains / share)

    def draft(self, length: int) -> tuple[list[int], int]:
        """At most `length` tokens that may come next, and how many tokens before them agree.

        They are what follows the longest agreement, the latest of several.
        """
        lengths = self._agreement[: self._end - 1]
        if length < 1 or not len(lengths):
            return [], 0
        back = int(lengths[::-1].argmax())
        at = len(lengths) - 1 - back
        agreeing = int(lengths[at])
        if not agreeing:
            return [], 0
        following: list[int] = self._ids[at + 1 : min(at + 1 + length, self._end)].tolist()
        return (following[: following.index(GAP)] if GAP in following else following), agreeing

    def _agreements(self) -> NDArray[np.int16]:
        """`LONGEST` at most for each place, 0 for the last, which only agrees with itself."""
        ids, end = self._ids, self._end
        agreement = np.zeros(end, dtype=np.int16)
        agreeing = np.arange(max(end - 1, 0))
        for back in range(min(LONGEST, end)):
            agreeing = agreeing[agreeing >= back]
            agreeing = agreeing[ids[agreeing - back] == ids[end - 1 - back]] if ids[end - 1 - back] != GAP else []
            if not len(agreeing):
                break
            agreement[agreeing] += 1
        return agreement


def _joined(texts: Iterable[Sequence[int]]) -> Ids:
    """Texts as one array, a gap after each."""
    parts = [np.append(np.asarray(text, dtype=np.int32), np.int32(GAP)) for text in texts]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
