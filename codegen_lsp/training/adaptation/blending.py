"""How much of a training's change to keep, so that the model forgets little of other code.

A point on the line from the base's weights to the trained ones forgets less than the trained ones, and keeps more of
their gain than its share of the way (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). The loss on
general code rises about with the square of the share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from codegen_lsp.checkpoints.adaptation_record import GENERAL, AdaptationRecord

MOST_FORGOTTEN = 0.02
"""Relative rise of the bits per byte of held-out general code, above which less of the change is kept. Refreshes count
together."""
LEAST_ALLOWED = 0.005
"""Rise that a refresh is allowed where the former ones have used up the limit."""
LEAST_SHARE = 0.1
"""Share of the change at which the search ends."""
MARGIN = 0.95


def allowed_rise(earlier: AdaptationRecord | None) -> float:
    """Return the rise on general code that is allowed, after an earlier adaptation of the base."""
    before = earlier.figures.get(GENERAL) if earlier is not None else None
    return max(MOST_FORGOTTEN - (before.change if before is not None else 0.0), LEAST_ALLOWED)


def smaller_share(share: float, rise: float, allowed: float) -> float | None:
    """Return the share of the change to try after one at which general code rose by `rise`; None if that is enough."""
    if rise <= allowed or share <= LEAST_SHARE:
        return None
    return max(LEAST_SHARE, MARGIN * share * math.sqrt(allowed / rise))


def blended(base: Mapping[str, Tensor], trained: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return the weights at `share` of the way from the base to the trained ones."""
    return {name: base[name].lerp(tensor, share) for name, tensor in trained.items()}
