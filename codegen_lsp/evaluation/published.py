"""Published figures of the CodeGen checkpoints, beside which an evaluation of one of them is printed.

A conversion is right when the figure of the build agrees with the published one. Figures are percent.
"""

from __future__ import annotations

from attrs import frozen

from codegen_lsp.evaluation.figures import Figure

PAPER = "Nijkamp et al., 2023"
PAPER2 = "Nijkamp et al., 2023 (CodeGen2)"

HUMANEVAL: dict[str, dict[int, float]] = {
    "codegen-350M-nl": {1: 2.12, 10: 4.10, 100: 7.38},
    "codegen-2B-nl": {1: 6.70, 10: 14.15, 100: 22.84},
    "codegen-6B-nl": {1: 10.43, 10: 18.36, 100: 29.85},
    "codegen-16B-nl": {1: 14.24, 10: 23.46, 100: 38.33},
    "codegen-350M-multi": {1: 6.67, 10: 10.61, 100: 16.84},
    "codegen-2B-multi": {1: 14.51, 10: 24.67, 100: 38.56},
    "codegen-6B-multi": {1: 18.16, 10: 28.71, 100: 44.85},
    "codegen-16B-multi": {1: 18.32, 10: 32.07, 100: 50.80},
    "codegen-350M-mono": {1: 12.76, 10: 23.11, 100: 35.19},
    "codegen-2B-mono": {1: 23.70, 10: 36.64, 100: 57.01},
    "codegen-6B-mono": {1: 26.13, 10: 42.29, 100: 65.82},
    "codegen-16B-mono": {1: 29.28, 10: 49.86, 100: 75.00},
    "codegen2-1B": {1: 10.27},
    "codegen2-3_7B": {1: 14.88},
    "codegen2-7B": {1: 18.83},
    "codegen2-16B": {1: 20.46},
}
"""pass@k by checkpoint and k. With 200 samples, and the best of the temperatures 0.2, 0.6 and 0.8 for each k."""
MTPB: dict[str, dict[str, float]] = {
    "codegen-350M-multi": {"multi-turn": 4.09},
    "codegen-2B-multi": {"multi-turn": 20.82},
    "codegen-6B-multi": {"multi-turn": 25.51},
    "codegen-16B-multi": {"multi-turn": 26.27},
    "codegen-350M-mono": {"multi-turn": 16.98, "single-turn": 5.75},
    "codegen-2B-mono": {"multi-turn": 38.72, "single-turn": 25.43},
    "codegen-6B-mono": {"multi-turn": 43.52, "single-turn": 28.48},
    "codegen-16B-mono": {"multi-turn": 47.34, "single-turn": 38.74},
}
"""Pass rates by checkpoint and format, with 40 samples of each test."""


@frozen
class PublishedFigure:
    """A published figure beside one that was measured."""

    name: str
    published: float
    """From 0 to 1."""
    measured: Figure
    source: str

    @property
    def agrees(self) -> bool:
        """True if it lies within the interval of the measured one."""
        return self.measured.low <= self.published <= self.measured.high

    @property
    def sentence(self) -> str:
        """One line for a person."""
        place = "within" if self.agrees else "outside"
        ours = self.measured
        return (
            f"{self.name}: published {self.published:.2%} ({self.source}), {place} the interval of "
            f"{ours.low:.2%} to {ours.high:.2%} measured here"
        )


def of_humaneval(model: str, rates: dict[int, Figure]) -> list[PublishedFigure]:
    """Return the published pass@k of a checkpoint for each k that was measured; `model` is the name of the build."""
    source = PAPER2 if model.startswith("codegen2-") else PAPER
    known = HUMANEVAL.get(model, {})
    return [PublishedFigure(f"pass@{k}", known[k] / 100, rates[k], source) for k in rates if k in known]


def of_mtpb(model: str, form: str, rate: Figure | None) -> list[PublishedFigure]:
    """Return the published pass rate of a checkpoint, if there is one; `model` is the name of the build."""
    known = MTPB.get(model, {}).get(form)
    return [PublishedFigure(f"{form} pass rate", known / 100, rate, PAPER)] if known and rate else []
