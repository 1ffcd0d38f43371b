"""Rotary positions as config.json declares them: base, and the scalings by which a context is made longer.

All but linear scaling give each rotated pair of entries a divisor of its frequency. They are independent of the length
of a text, so they are computed once; scalings that depend on it are refused. YaRN multiplies cosines and sines as well,
which is the same as multiplying the queries by the square (`convert`).
"""

from __future__ import annotations

import math
from typing import Any

from attrs import frozen

ROTARY_BASE = 10000.0
"""Base of the rotary frequencies, as in RoFormer (Su et al., 2021) and all CodeGen models."""
BETA_FAST, BETA_SLOW = 32.0, 1.0
"""Rotations within the original context above which YaRN leaves a frequency as it is, and below which it divides it by
the factor (Peng et al., YaRN, 2023)."""


class UnsupportedError(ValueError):
    """A variant of an architecture that neither engine runs."""


@frozen
class Rotary:
    """Rotary positions of a model."""

    base: float
    factor: float = 1.0
    """Number by which positions are divided."""
    divisors: tuple[float, ...] = ()
    """Numbers by which the frequencies of the pairs are divided; empty where none are."""
    attention_factor: float = 1.0
    """Number by which cosines and sines are multiplied."""


def read_rotary(config: dict[str, Any], width: int) -> Rotary:
    """Return the rotary positions of heads whose first `width` entries are rotated.

    Raises: UnsupportedError for other kinds of scaling; KeyError, TypeError and ValueError when one is incomplete.
    """
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(scaling.get("rope_theta") or config.get("rope_theta") or ROTARY_BASE)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return Rotary(base)
    if kind == "linear":
        return Rotary(base, factor=float(scaling["factor"]))
    context = int(config["max_position_embeddings"])
    original = float(scaling.get("original_max_position_embeddings") or context)
    if kind == "llama3":
        return _checked(Rotary(base, divisors=_llama3(scaling, base, width, original)), width)
    if kind == "yarn":
        return _checked(_yarn(scaling, base, width, original, context), width)
    if kind == "longrope":
        return _checked(_longrope(scaling, base, original, context), width)
    if kind == "dynamic":
        raise UnsupportedError("rope scaling of the kind dynamic, whose frequencies depend on the length of the text")
    raise UnsupportedError(f"rope scaling of the kind {kind}")


def _checked(rotary: Rotary, width: int) -> Rotary:
    numbers = (*rotary.divisors, rotary.attention_factor)
    if len(rotary.divisors) != width // 2 or not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ValueError(f"rope scaling with other than {width // 2} positive numbers")
    return rotary


def _llama3(scaling: dict[str, Any], base: float, width: int, original: float) -> tuple[float, ...]:
    """Return Llama 3.1's divisors: 1 for short wavelengths, the factor for long ones, and what lies between."""
    factor = float(scaling["factor"])
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    if not 0 < low < high:
        raise ValueError(f"low_freq_factor {low} is not below high_freq_factor {high}")
    divisors = []
    for frequency in _frequencies(base, width):
        rotations = original * frequency / (2 * math.pi)
        kept = min(1.0, max(0.0, (rotations - low) / (high - low)))
        divisors.append(1 / ((1 - kept) / factor + kept))
    return tuple(divisors)


def _yarn(scaling: dict[str, Any], base: float, width: int, original: float, context: int) -> Rotary:
    factor = float(scaling.get("factor") or context / original)
    fast, slow = float(scaling.get("beta_fast") or BETA_FAST), float(scaling.get("beta_slow") or BETA_SLOW)
    low, high = (width * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(base)) for beta in (fast, slow))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    if low == high:
        high += 0.001
    divided = [min(1.0, max(0.0, (pair - low) / (high - low))) for pair in range(width // 2)]
    divisors = tuple(1 / (share / factor + (1 - share)) for share in divided)
    return Rotary(base, divisors=divisors, attention_factor=_yarn_attention(scaling, factor))


def _yarn_attention(scaling: dict[str, Any], factor: float) -> float:
    declared, scale, scale_all = (scaling.get(key) for key in ("attention_factor", "mscale", "mscale_all_dim"))
    if declared is not None:
        return float(declared)

    def scaled(by: float) -> float:
        return 0.1 * by * math.log(factor) + 1 if factor > 1 else 1.0

    return scaled(float(scale)) / scaled(float(scale_all)) if scale and scale_all else scaled(1)


def _longrope(scaling: dict[str, Any], base: float, original: float, context: int) -> Rotary:
    """Return LongRoPE's positions where its divisors are the same for short and long texts."""
    divisors = tuple(float(divisor) for divisor in scaling["short_factor"])
    if divisors != tuple(float(divisor) for divisor in scaling["long_factor"]):
        raise UnsupportedError("rope scaling of the kind longrope, whose frequencies depend on the length of the text")
    declared, factor = scaling.get("attention_factor"), float(scaling.get("factor") or context / original)
    by_length = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return Rotary(base, divisors=divisors, attention_factor=by_length if declared is None else float(declared))


def _frequencies(base: float, width: int) -> list[float]:
    """Return the frequency of each pair, in radians per position."""
    return [base ** (-2 * pair / width) for pair in range(width // 2)]
