"""N-grams of a document, to interpolate with the probabilities of a model and to draft tokens.

Source code repeats itself, mostly within a short distance. A language model of the n-grams of the document (a cache
language model: Kuhn and De Mori, 1990), interpolated with a small model, predicts more than a far larger model alone
(Hellendoorn and Devanbu, "Are Deep Neural Networks the Best Choice for Modeling Source Code?", 2017). The same matches
give drafts that the model checks in one step (prompt lookup decoding; Saxena, 2023).

There is no table of n-grams, and nothing is kept between requests. For each position of the text, an array holds the
number of tokens up to it that agree with the last tokens written. A new token increases that number by one where the
token occurs, and sets it to zero everywhere else: one pass over some thousand numbers, which takes microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

ORDERS = (1, 2, 3, 5, 8)
"""Lengths of the contexts of n-grams, in tokens."""
SINGLE_SUCCESSOR = 0.27
"""U of a context that always had the same successor: it is trusted more than Witten-Bell smoothing trusts it. Fitted on
held-out packages (`docs/lab.md`)."""
WITTEN_BELL_K = (94.6, 48.3, 50.7, 23.2, 4.7)
"""k of each order in Witten-Bell smoothing (Witten and Bell, 1991, have k = 1): with N matches of the context and U
distinct successors (`SINGLE_SUCCESSOR` instead of 1), the order weighs N / (N + k U) against all shorter contexts
together. Fitted on held-out packages (`docs/lab.md`)."""
MAX_AGREEMENT = 16
"""Cap of the number of agreeing tokens."""
_LONGEST_ORDER = np.searchsorted(ORDERS, np.arange(MAX_AGREEMENT + 1), side="right") - 1
"""By number of agreeing tokens, the index in `ORDERS` of the longest context."""
GAP = -1
"""Separator between texts, which agrees with no token."""

Ids = NDArray[np.int32]


@frozen(eq=False)
class Mixture:
    """Gains to be added to the probabilities of some ids, before all probabilities are normalised again.

    With the nested weights w and the relative frequencies f of the orders, the interpolated probability of an id is
    p (1 - w1)(1 - w2)… + …, which is proportional to p plus a gain. Most ids have no gain and are left alone.
    """

    ids: NDArray[np.int64]
    gains: NDArray[np.float64]


class NgramMatcher:
    """Agreement of the end of a growing text with all earlier positions of it and of other texts."""

    def __init__(self, text: Sequence[int], others: Iterable[Sequence[int]], dropped: Iterable[Sequence[int]]) -> None:
        """`text` is the text so far; `others` count as much as it does. `dropped`, texts that were taken back, are used
        for drafts only."""
        for_drafts, counted = _joined(dropped), _joined(others)
        self._ids = np.concatenate((for_drafts, counted, np.asarray(text, dtype=np.int32)))
        self._end = self._fixed = len(self._ids)
        self._first = len(for_drafts)
        self._columns = np.empty(int(self._ids.max(initial=0)) + 1, dtype=np.int64)
        self._agreement = self._agreements()

    def copy(self) -> NgramMatcher:
        """Return a copy that can be continued differently."""
        other = object.__new__(NgramMatcher)
        other.__dict__.update(self.__dict__)
        other._ids = self._ids.copy()
        return other

    def append(self, id: int) -> None:
        """Append a token to the text. It is used for drafts, and not counted for the mixture."""
        end = self._end
        if end == len(self._ids):
            self._ids = np.concatenate((self._ids, np.full(64, GAP, dtype=np.int32)))
        agreement = np.zeros(end + 1, dtype=np.int16)
        np.add(self._agreement[:-1], 1, out=agreement[1:end])
        agreement[:end] *= self._ids[:end] == id
        if end and self._ids[0] == id:
            agreement[0] = 1
        self._agreement = np.minimum(agreement, MAX_AGREEMENT, out=agreement)
        self._ids[end] = id
        self._end += 1

    def read(self, id: int) -> None:
        """Append a token to the text, as though the text had begun with it; `GAP` for a special token."""
        self.append(id)
        if id == GAP:
            self._agreement[:] = 0
        self._fixed = self._end
        if id >= len(self._columns):
            self._columns = np.empty(2 * id + 2, dtype=np.int64)

    def tail(self, length: int) -> list[int]:
        """Return the last tokens written, at most `length`; `GAP` stands for special tokens."""
        tail: list[int] = self._ids[max(self._end - length, 0) : self._end].tolist()
        return tail

    def mixture(self, k: Sequence[float] = WITTEN_BELL_K) -> Mixture | None:
        """Return the n-grams' prediction of the next token; None when the last token occurs nowhere else.

        `k` has the weight of each order.
        """
        first, last = self._first, self._fixed - 1
        lengths = self._agreement[first:last] if last > first else self._agreement[:0]
        positions = np.flatnonzero(lengths)
        successors = self._ids[positions + (first + 1)]
        kept = successors != GAP
        if not kept.all():
            positions, successors = positions[kept], successors[kept]
        count = len(positions)
        if not count:
            return None
        # The column of an id is the last of the positions that it follows, so that nothing needs to be sorted.
        self._columns[successors] = numbers = np.arange(count)
        columns = self._columns[successors]
        longest = np.bincount(_LONGEST_ORDER[lengths[positions]] * count + columns, minlength=len(ORDERS) * count)
        counts = longest.reshape(len(ORDERS), count)[::-1].cumsum(0)[::-1]
        totals, different = counts.sum(1).tolist(), np.count_nonzero(counts, axis=1).tolist()
        factors, rest = [0.0] * len(ORDERS), 1.0
        for order in reversed(range(len(ORDERS))):
            if total := totals[order]:
                distinct = SINGLE_SUCCESSOR if different[order] == 1 else different[order]
                weight = total / (total + k[order] * distinct)
                factors[order] = rest * weight / total
                rest *= 1 - weight
        one_of_each = columns == numbers
        gains = np.dot(factors, counts[:, one_of_each])
        return Mixture(successors[one_of_each].astype(np.int64), gains / rest)

    def draft(self, length: int) -> tuple[list[int], int]:
        """Return up to `length` tokens that may come next, and the number of tokens before them that agree.

        They are those after the longest agreement, the latest one of several.
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
        """Return the number of agreeing tokens for each position, 0 for the last one, which agrees with itself."""
        ids, end = self._ids, self._end
        agreement = np.zeros(end, dtype=np.int16)
        agreeing = np.arange(max(end - 1, 0))
        for back in range(min(MAX_AGREEMENT, end)):
            agreeing = agreeing[agreeing >= back]
            agreeing = agreeing[ids[agreeing - back] == ids[end - 1 - back]] if ids[end - 1 - back] != GAP else []
            if not len(agreeing):
                break
            agreement[agreeing] += 1
        return agreement


def _joined(texts: Iterable[Sequence[int]]) -> Ids:
    """Return the texts as one array, with a gap after each."""
    parts = [np.append(np.asarray(text, dtype=np.int32), np.int32(GAP)) for text in texts]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
