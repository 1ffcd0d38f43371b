"""Ablation study: the effect of each part of a completion, by asking the same places with and without it.

Two runs on different places differ by more than the effect of most parts. So each place is asked both ways, and the
figures of a part are paired differences on the places that it concerns: infilling can't make a difference where nothing
is below the cursor, nor other files where there are none. Places in one file resemble each other, so the intervals are
over files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from attrs import evolve, frozen

from codegen_lsp.completion.context import WorkspaceContext
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.evaluation.figures import Figure, ratio, share
from codegen_lsp.evaluation.lines import LineAnswer, LineCase, Packages, answer_of, context_of, snapshot_of
from codegen_lsp.suggest.request import CompletionModel
from codegen_lsp.suggest.service import SuggestionService

EVERYTHING = ""
"""Key of the answer with no part left out."""
OF_THE_MODEL = "ngrams"
"""The part that is chosen when the model is loaded, not for each request."""
IN_LINES = ("window", OF_THE_MODEL, "rest_of_document", "threshold", "correctness", "modules", "context")
"""Parts whose effect shows at single places, except `infilling`, which is not always on. The effect of the others shows
over time, in `bench replay`."""


@frozen
class AblationCase:
    """One case with all its answers."""

    case: LineCase
    concerned: frozenset[str]
    """The parts that can make a difference here."""
    answers: Mapping[str, LineAnswer]
    """By the part that was left out; `EVERYTHING` has what an editor shows."""


@frozen
class AblationFigures:
    """The effect of a part on the cases that it concerns. Differences are with the part minus without it."""

    part: str
    cases: int
    changed: int
    """Cases in which something else is shown."""
    shown: tuple[Figure | None, Figure | None]
    """Share with a suggestion: with the part, and without."""
    fits: tuple[Figure | None, Figure | None]
    """Share of the suggestions that fit."""
    undefined: tuple[Figure | None, Figure | None]
    """Python: share of the suggestions that use an undefined name."""
    parses: tuple[Figure | None, Figure | None]
    """Python: share of the suggestions that parse."""
    saved: tuple[Figure | None, Figure | None]
    """Share of the characters that need not be typed."""
    gain: Figure | None
    """Difference of the share saved."""
    wrong: Figure | None
    """Difference of the share of cases with a suggestion that does not fit."""


async def ask_without(
    cases: Iterable[LineCase],
    model: CompletionModel,
    options_of: Callable[[str], Options],
    packages: Packages,
    parts: Sequence[str],
) -> AsyncIterator[AblationCase]:
    """Yield what an editor shows at each case, with everything and without each of the parts."""
    for number, case in enumerate(cases):
        snapshot = snapshot_of(case, number)
        options = options_of(snapshot.language)
        context = context_of(snapshot, case.place.document, packages)
        answers = {}
        for part in (EVERYTHING, *parts):
            some = evolve(options, ablate=options.ablate | ({part} - {EVERYTHING}))
            visible = evolve(context, modules={}) if "modules" in some.ablate else context
            outcome = await SuggestionService().complete(snapshot, some, model, context=visible)
            answers[part] = answer_of(case, snapshot.offset, outcome.suggestions)
        yield AblationCase(case, _concerned(snapshot, options, context), answers)


def joined(one: AblationCase, without_cache: AblationCase) -> AblationCase:
    """Return a case with the answer of a model that was loaded without n-gram mixing added."""
    return evolve(one, answers={**one.answers, OF_THE_MODEL: without_cache.answers[EVERYTHING]})


def _concerned(snapshot: Snapshot, options: Options, context: WorkspaceContext) -> frozenset[str]:
    planned = plan(snapshot, options)
    if not isinstance(planned, Plan):
        return frozenset()
    parts = {OF_THE_MODEL, "threshold"}
    parts |= {"infilling"} if planned.suffix else set()
    parts |= {"rest_of_document"} if planned.rest_of_document else set()
    parts |= {"context"} if context.snippets else set()
    parts |= {"modules"} if context.modules else set()
    parts |= {"correctness"} if snapshot.language == "python" else set()
    parts |= {"window"} if len(snapshot.text[: snapshot.offset]) > options.prefix_characters else set()
    return frozenset(parts)


def figures_of(asked: Sequence[AblationCase], parts: Sequence[str]) -> list[AblationFigures]:
    """Return the figures of each part."""
    return [_figures([one for one in asked if part in one.concerned and part in one.answers], part) for part in parts]


def _figures(asked: Sequence[AblationCase], part: str) -> AblationFigures:
    with_it = [one.answers[EVERYTHING] for one in asked]
    without = [one.answers[part] for one in asked]
    rests = [len(one.case.place.rest) for one in asked]
    return AblationFigures(
        part,
        len(asked),
        sum(a.whole != b.whole or a.text != b.text for a, b in zip(with_it, without, strict=True)),
        shown=(_shown(with_it), _shown(without)),
        fits=(_of_shown(with_it, lambda one: one.fits), _of_shown(without, lambda one: one.fits)),
        undefined=(_of_shown(with_it, lambda one: one.undefined), _of_shown(without, lambda one: one.undefined)),
        parses=(_of_shown(with_it, lambda one: one.parses), _of_shown(without, lambda one: one.parses)),
        saved=(ratio([a.saved for a in with_it], rests), ratio([b.saved for b in without], rests)),
        gain=_by_file(asked, [a.saved - b.saved for a, b in zip(with_it, without, strict=True)], rests),
        wrong=_by_file(asked, [_wrong(a) - _wrong(b) for a, b in zip(with_it, without, strict=True)], [1] * len(asked)),
    )


def _shown(answers: Sequence[LineAnswer]) -> Figure | None:
    return share([one.text is not None for one in answers])


def _of_shown(answers: Sequence[LineAnswer], is_so: Callable[[LineAnswer], bool | None]) -> Figure | None:
    return share([so for one in answers if one.text is not None and (so := is_so(one)) is not None])


def _wrong(answer: LineAnswer) -> int:
    return answer.text is not None and not answer.fits


def _by_file(asked: Sequence[AblationCase], parts: Sequence[float], wholes: Sequence[float]) -> Figure | None:
    """Return the sum of the parts over the sum of the wholes, with an interval over files."""
    sums: dict[tuple[str, str], tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for one, part, whole in zip(asked, parts, wholes, strict=True):
        key = one.case.place.document.package, one.case.place.document.path
        sums[key] = sums[key][0] + part, sums[key][1] + whole
    figure = ratio([part for part, _ in sums.values()], [whole for _, whole in sums.values()])
    return evolve(figure, cases=len(asked)) if figure else None
