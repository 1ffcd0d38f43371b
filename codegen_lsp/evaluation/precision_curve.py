"""Precision against coverage of what an editor shows, by the setting `threshold`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from attrs import evolve, frozen

from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal
from codegen_lsp.evaluation.figures import Figure, ratio, share
from codegen_lsp.evaluation.lines import (
    DOCUMENT,
    LineAnswer,
    LineCase,
    Packages,
    answer_of,
    context_of,
    snapshot_of,
)
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.suggest.request import CompletionModel

THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Thresholds of the points of the curve."""


@frozen
class CurvePoint:
    """Precision and coverage at a threshold, over all places."""

    threshold: float
    shown: Figure | None
    fits_of_shown: Figure | None
    right_of_shown: Figure | None
    keystrokes: Figure | None


async def ask_at_thresholds(
    cases: Iterable[LineCase],
    model: CompletionModel,
    options_of: Callable[[str], Options],
    packages: Packages | None = None,
) -> AsyncIterator[dict[float, LineAnswer]]:
    """Yield what an editor would show at each case with each of `THRESHOLDS`; the model is asked once."""
    for number, case in enumerate(cases):
        snapshot = snapshot_of(case, number)
        planned = plan(snapshot, evolve(options_of(snapshot.language), threshold=0.0))
        if isinstance(planned, Refusal):
            yield dict.fromkeys(THRESHOLDS, LineAnswer(case, None))
            continue
        context = context_of(snapshot, case.place.document, packages or {})
        related = [*planned.rest_of_document, *(snippet.text for snippet in context.snippets)]
        params = GenerateParams(DOCUMENT, planned.prefix, planned.suffix, planned.stop, related=related)
        result = await model.generate(params)
        planned = evolve(planned, modules=context.modules)
        answers = {}
        for threshold in THRESHOLDS:
            stop = evolve(planned.stop, threshold=threshold)
            shaped = shape_all(result.candidates, evolve(planned, stop=stop))
            answers[threshold] = answer_of(case, snapshot.offset, [] if isinstance(shaped, Refusal) else shaped)
        yield answers


def curve_of(answers: Sequence[dict[float, LineAnswer]]) -> list[CurvePoint]:
    """Return the points of the curve, by threshold."""
    points = []
    for threshold in THRESHOLDS:
        some = [at[threshold] for at in answers]
        shown = [answer for answer in some if answer.text is not None]
        points.append(
            CurvePoint(
                threshold,
                shown=share([answer.text is not None for answer in some]),
                fits_of_shown=share([answer.fits for answer in shown]),
                right_of_shown=share([answer.right for answer in shown]),
                keystrokes=ratio([answer.saved for answer in some], [len(answer.case.place.rest) for answer in some]),
            )
        )
    return points
