"""The speed of a model on a machine, predicted from the model's sizes and from measurements of other models.

A pass takes time for the bytes that it reads, of weights and of the keys and values before its tokens, for the
arithmetic of attending to these, for each layer (threads wait for each other), and for each row of the output layer (a
token is chosen among them). Each of these costs is a number of seconds that belongs to the machine and to the kind of
pass. They are fitted to the times of small models of different shapes, as the solution without negative numbers that
has the least squared relative error.

Pure arithmetic: the language server imports this module.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from attrs import frozen

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.errors import ModelError

PassKind = Literal["step", "typed", "prompt"]
"""`step`: one token is decoded. `typed`: `TYPED` tokens after a cached prompt are read, and the first one is decoded.
`prompt`: tokens that are not cached are read in chunks, and the first one is decoded."""

TYPED, WANTED = 4, 16
"""Tokens that are typed, and tokens that are wanted, as in `benchmarks.engines`."""
CONTEXT = 1024
"""Tokens of a prompt, as in docs/performance.md: about half of what the default settings allow."""
CHUNK = 256
"""Tokens of a prompt that engines read at once, at most (`native.engine.LONGEST_CHUNK`)."""
INT8 = 8.0
VALUE_BYTES = 4
"""Bytes of a key or value in the KV cache of a processor."""
MOST_BITS_OF_FOUR = 6.0
"""With their scales, weights in 4 bits take 4.25 to 4.5; a build may have some matrices in int8."""


@frozen
class ModelSizes:
    """Sizes of a decoder that its speed depends on."""

    layers: int
    attention_width: int
    """Entries of the queries of a token."""
    rows: int
    """Rows of the output layer."""
    block_weights: int
    """Weights of the matrices of all layers."""
    head_weights: int
    """Weights of the output layer."""
    token_values: int
    """Keys and values of a token in all layers."""
    bits: float = INT8
    """Bits that a weight takes, its share of the scales included where they are many."""

    @property
    def step_bytes(self) -> float:
        """Bytes of weights that one pass reads: all but the embedding."""
        return (self.block_weights + self.head_weights) * self.bits / 8

    def costs(self, kind: PassKind, tokens: int, cached: int) -> tuple[float, ...]:
        """Return the amounts that a pass over tokens behind `cached` ones costs, in the order of `PassSpeed`."""
        if kind == "prompt":
            work = float(self.block_weights) * tokens
            attended = self.attention_width * self.layers * tokens * (cached + tokens / 2)
            return work, attended, float(self.layers * math.ceil(tokens / CHUNK)), float(self.rows), 1.0
        read = self.step_bytes + VALUE_BYTES * self.token_values * (cached + tokens)
        attended = float(self.attention_width * self.layers * (cached + tokens))
        return read, attended, float(self.layers), float(self.rows), 1.0


def sizes_of(architecture: Architecture, bits: float = INT8) -> ModelSizes:
    """Return the sizes of a build of that architecture."""
    head = architecture.rows * architecture.width
    every = sum(math.prod(shape) for shape in architecture.matrices())
    return ModelSizes(
        layers=architecture.layers,
        attention_width=architecture.attention_width,
        rows=architecture.rows,
        block_weights=every - head * (1 if architecture.tied else 2),
        head_weights=head,
        token_values=2 * architecture.layers * architecture.kv_width,
        bits=bits,
    )


@frozen
class PassSpeed:
    """Costs of one kind of pass on a machine, in seconds."""

    weight: float
    """For each byte of weights, keys and values; in a prompt, for each weight and token."""
    attended: float
    """For each entry of a query and token that it attends to."""
    layer: float
    """For each layer; in a prompt, for each layer and chunk."""
    row: float
    """For each row of the output layer."""
    fixed: float

    def seconds(self, costs: Sequence[float]) -> float:
        """Return the time of a pass that costs these amounts."""
        return sum(
            amount * price
            for amount, price in zip(costs, (self.weight, self.attended, self.layer, self.row, self.fixed), strict=True)
        )


@frozen
class TimedPass:
    """A pass that was measured."""

    sizes: ModelSizes
    kind: PassKind
    tokens: int
    cached: int
    seconds: float

    @property
    def costs(self) -> tuple[float, ...]:
        """The amounts that it costs, in the order of `PassSpeed`."""
        return self.sizes.costs(self.kind, self.tokens, self.cached)


@frozen
class ModelTimes:
    """The latencies that a user of a model sees, in seconds. `CONTEXT` tokens are the prompt, `TYPED` are typed."""

    first_token: float
    """From typing to the first token, when the rest of the prompt is cached."""
    step: float
    """Each further token."""
    prompt: float
    """From a prompt of which nothing is cached to the first token."""

    @property
    def suggestion(self) -> float:
        """From typing to the last of `WANTED` tokens."""
        return self.first_token + (WANTED - 1) * self.step


@frozen
class MachineSpeed:
    """Costs of all passes on a machine, for weights of a number of bits."""

    step: PassSpeed
    typed: PassSpeed
    prompt: PassSpeed

    @property
    def bandwidth(self) -> float:
        """Bytes of weights that decoding reads in a second; infinite where their cost is too small to be seen."""
        return 1 / self.step.weight if self.step.weight else math.inf

    def times(self, sizes: ModelSizes, context: int = CONTEXT) -> ModelTimes:
        """Predict the latencies of a model."""
        return ModelTimes(
            first_token=self.typed.seconds(sizes.costs("typed", TYPED, context)),
            step=self.step.seconds(sizes.costs("step", 1, context + TYPED)),
            prompt=self.prompt.seconds(sizes.costs("prompt", context, 0)),
        )


def speed_for(speeds: Mapping[str, MachineSpeed], sizes: ModelSizes) -> MachineSpeed:
    """Return the costs for a model, of those by the bits of a weight: measured in 4 bits if it has fewer than 6."""
    return speeds.get("4" if sizes.bits < MOST_BITS_OF_FOUR else f"{INT8:g}") or speeds[f"{INT8:g}"]


def fit(passes: Sequence[TimedPass]) -> MachineSpeed:
    """Return the costs that explain measured passes best. Raises: ModelError when a kind was not measured."""
    kinds: tuple[PassKind, ...] = ("step", "typed", "prompt")
    return MachineSpeed(*(_fit_kind(kind, [one for one in passes if one.kind == kind]) for kind in kinds))


def _fit_kind(kind: PassKind, passes: Sequence[TimedPass]) -> PassSpeed:
    """Return the costs of one kind, from at least one pass with a positive time."""
    measured = [one for one in passes if one.seconds > 0]
    if not measured:
        raise ModelError(f"No pass of the kind {kind} could be measured.", "Measure again.")
    rows = [[amount / one.seconds for amount in one.costs] for one in measured]
    best, least = [0.0] * len(rows[0]), math.inf
    for count in range(1, len(rows[0]) + 1):
        for used in itertools.combinations(range(len(rows[0])), count):
            prices = _least_squares([[row[index] for index in used] for row in rows])
            if prices is None or min(prices) < 0:
                continue
            error = sum(
                (sum(row[index] * price for index, price in zip(used, prices, strict=True)) - 1) ** 2 for row in rows
            )
            if error < least * (1 - 1e-9):
                least, best = error, [0.0] * len(rows[0])
                for index, price in zip(used, prices, strict=True):
                    best[index] = price
    return PassSpeed(*best)


def _least_squares(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Return x that minimizes |rows x - 1|, by the normal equations; None where they have no single solution.

    Columns are scaled first: they are bytes, layers and rows, which differ by nine orders of magnitude.
    """
    size = len(rows[0])
    if len(rows) < size:
        return None
    scales = [math.sqrt(sum(row[index] ** 2 for row in rows)) for index in range(size)]
    if min(scales) <= 0:
        return None
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    matrix = [
        [sum(row[i] * row[j] for row in scaled) for j in range(size)] + [sum(row[i] for row in scaled)]
        for i in range(size)
    ]
    for at in range(size):
        pivot = max(range(at, size), key=lambda row: abs(matrix[row][at]))
        if abs(matrix[pivot][at]) < 1e-9:
            return None
        matrix[at], matrix[pivot] = matrix[pivot], matrix[at]
        for row in range(size):
            if row != at:
                factor = matrix[row][at] / matrix[at][at]
                matrix[row] = [a - factor * b for a, b in zip(matrix[row], matrix[at], strict=True)]
    return [matrix[index][size] / matrix[index][index] / scales[index] for index in range(size)]
