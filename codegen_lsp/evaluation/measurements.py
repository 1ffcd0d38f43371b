"""The evaluations of `codegen-lsp eval`, each as one function from a build and its cases to a `Measurement`.

Each raises ModelError and WorkerError, and keeps the figures of the cases that were done when the user interrupts it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve

from codegen_lsp.completion.options import Options
from codegen_lsp.evaluation import ablation_study, human_eval, lines, precision_curve, refactorings
from codegen_lsp.evaluation.ablation_study import AblationCase
from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument, in_turn
from codegen_lsp.evaluation.lines import LineAnswer
from codegen_lsp.evaluation.places import draw
from codegen_lsp.evaluation.runtime import Measurement, Runtime, gather, running
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.options import options_for


def measure_lines(
    runtime: Runtime,
    documents: Sequence[SourceDocument],
    cases: int,
    seed: int,
    *,
    shown: bool,
    indexed: bool = False,
    ablate: Sequence[str] = (),
    report: ProgressReport,
) -> tuple[Measurement, list[LineAnswer]]:
    """Complete lines: `alone` and, with `shown`, `shown`, each a list of LineFigures.

    With `indexed`, the other files of a document's package are the indexed workspace of what is shown.

    `ablate` names parts of a completion that are left out. Raises: EvaluationError.
    """
    asked = lines.cases_of(draw(documents, cases, seed))
    total = len(asked) * (2 if shown else 1)
    runtime, settings = _ablated(runtime, ablate)

    async def run() -> tuple[ModelDescription, list[LineAnswer], list[LineAnswer]]:
        async with running(runtime) as (client, model):
            alone = await gather(lines.ask_model(asked, client), report, total=total)
            if not shown or len(alone) < len(asked):
                return model, alone, []
            packages = lines.packages_of(documents)
            answers = lines.ask_editor(
                asked, client, lambda language: options_for(settings, language, model), packages, indexed=indexed
            )
            return model, alone, await gather(answers, report, total=total, before=len(asked))

    model, alone, in_editor = asyncio.run(run())
    figures = {"alone": lines.figures_of(alone)}
    if in_editor:
        figures["shown"] = lines.figures_of(in_editor)
    interrupted = len(in_editor if shown else alone) < len(asked)
    return Measurement(model, runtime.weights, interrupted, figures), [*alone, *in_editor]


def measure_curve(
    runtime: Runtime,
    documents: Sequence[SourceDocument],
    cases: int,
    seed: int,
    *,
    ablate: Sequence[str] = (),
    report: ProgressReport,
) -> Measurement:
    """Complete lines at several thresholds: `curve`, a list of CurvePoint. Raises: EvaluationError."""
    asked = lines.cases_of(draw(documents, cases, seed))
    runtime, settings = _ablated(runtime, ablate)

    async def run() -> tuple[ModelDescription, list[dict[float, LineAnswer]]]:
        async with running(runtime) as (client, model):
            answers = precision_curve.ask_at_thresholds(
                asked, client, lambda language: options_for(settings, language, model), lines.packages_of(documents)
            )
            return model, await gather(answers, report, total=len(asked))

    model, answers = asyncio.run(run())
    figures = {"curve": precision_curve.curve_of(answers)}
    return Measurement(model, runtime.weights, len(answers) < len(asked), figures)


def measure_parts(
    runtime: Runtime,
    documents: Sequence[SourceDocument],
    cases: int,
    seed: int,
    *,
    parts: Sequence[str],
    report: ProgressReport,
) -> Measurement:
    """Complete lines with and without each part: `parts`, a list of AblationFigures. Raises: EvaluationError."""
    asked = lines.cases_of(draw(documents, cases, seed))
    infilling = "on" if "infilling" in parts else "auto"
    settings = Settings(model=str(runtime.build.path), languages={"*": True}, candidates=1, infilling=infilling)
    of_requests = [part for part in parts if part != ablation_study.OF_THE_MODEL]
    packages = lines.packages_of(documents)
    total = len(asked) * (1 + (len(of_requests) < len(parts)))

    async def run(runtime: Runtime, without: Sequence[str], before: int) -> tuple[ModelDescription, list[AblationCase]]:
        async with running(runtime, cache_memory_mb=None) as (client, model):

            def options_of(language: str) -> Options:
                return options_for(settings, language, model)

            answers = ablation_study.ask_without(asked, client, options_of, packages, without)
            return model, await gather(answers, report, total=total, before=before)

    model, answered = asyncio.run(run(runtime, of_requests, 0))
    interrupted = len(answered) < len(asked)
    if not interrupted and len(of_requests) < len(parts):
        _, without = asyncio.run(run(evolve(runtime, ngrams="off"), (), len(asked)))
        interrupted = len(without) < len(asked)
        answered = [ablation_study.joined(one, other) for one, other in zip(answered, without, strict=False)]
    figures = {"parts": ablation_study.figures_of(answered, parts)}
    return Measurement(model, runtime.weights, interrupted, figures)


def measure_bits(
    runtime: Runtime,
    documents: Sequence[SourceDocument],
    files: int,
    seed: int,
    *,
    checkpoint: Path | None,
    report: ProgressReport,
) -> Measurement:
    """Predict whole files: `bits_per_byte` of the build.

    With a checkpoint also `float`, the same of its float weights, and `loss`, the relative difference. Raises:
    ConversionError when the checkpoint can't be read.
    """
    from codegen_lsp.evaluation import likelihood
    from codegen_lsp.inference.loading import load_model

    chosen = list(itertools.islice(in_turn(documents, random.Random(seed)), files))  # noqa: S311 - a sample, not a secret
    text_model, model = load_model(runtime.load_params(), lambda message, fraction: report(message, 0.0))
    total = len(chosen) * (2 if checkpoint else 1)
    build: list[likelihood.FileCost] = []
    floats: list[likelihood.FileCost] = []
    interrupted = False
    try:
        for cost in likelihood.costs(chosen, text_model.info, text_model.tokenizer, text_model.engine):
            build.append(cost)
            report(f"{len(build)} of {total}", len(build) / total)
        if checkpoint:
            for cost in likelihood.float_costs(chosen, text_model.info, text_model.tokenizer, checkpoint):
                floats.append(cost)
                report(f"{len(build) + len(floats)} of {total}", (len(build) + len(floats)) / total)
    except KeyboardInterrupt:
        interrupted = True
    figures = {"bits_per_byte": likelihood.bits_per_byte(build)}
    if floats:
        figures["float"] = likelihood.bits_per_byte(floats)
        figures["loss"] = likelihood.loss_of(build[: len(floats)], floats)
    return Measurement(model, runtime.weights, interrupted, figures)


def measure_infilling(runtime: Runtime, data: Path, cases: int, seed: int, report: ProgressReport) -> Measurement:
    """Fill in HumanEval's single lines: `exact_match`. Raises: EvaluationError."""
    problems = human_eval.some(human_eval.read_lines(data), cases, seed)

    async def run() -> tuple[ModelDescription, list[human_eval.FilledLine]]:
        async with running(runtime) as (client, model):
            return model, await gather(human_eval.fill_lines(problems, client), report, total=len(problems))

    model, filled = asyncio.run(run())
    figures = {"exact_match": human_eval.exact_match(filled)}
    return Measurement(model, runtime.weights, len(filled) < len(problems), figures)


def measure_refactorings(
    runtime: Runtime,
    documents: Sequence[SourceDocument],
    functions: int,
    seed: int,
    *,
    kinds: Sequence[RefactoringKind],
    verified: int,
    report: ProgressReport,
) -> Measurement:
    """Refactor functions: `kinds`, a list of KindFigures, and the attempts that are `broken` or whose tests `failed`.

    Raises: SandboxError.
    """
    total = functions * len(kinds)
    settings = Settings(model=str(runtime.build.path))

    async def run() -> tuple[ModelDescription, list[refactorings.RefactoringAttempt]]:
        async with running(runtime) as (client, model):
            assistant = ModelAssistant.for_model(client, model, options_for(settings, "python", model), "refactor")
            attempts = refactorings.attempts(documents, functions, seed, assistant, kinds, verified)
            return model, await gather(attempts, report, total=total)

    model, attempts = asyncio.run(run())
    figures = {
        "kinds": refactorings.figures_of(attempts),
        "broken": [attempt for attempt in attempts if attempt.broken or (attempt.refused or "").startswith("crash")],
        "failed": [one for one in attempts if one.verified is not None and one.verified.kind == "failed"],
    }
    return Measurement(model, runtime.weights, False, figures)


def save_answers(answers: Sequence[LineAnswer], path: Path) -> None:
    """Write one line of JSON for each answer: its place, the expected text and the completion.

    Raises: EvaluationError when the file can't be written.
    """
    rows = (
        {
            "package": answer.case.place.document.package,
            "path": answer.case.place.document.path,
            "line": answer.case.place.line_number,
            "kind": answer.case.place.kind,
            "below": answer.case.below,
            "before": answer.case.place.before.rpartition("\n")[2],
            "expected": answer.case.place.rest,
            "found": answer.text,
            "right": answer.right,
        }
        for answer in answers
    )
    try:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"{path} can't be written: {error.strerror or error}.", "Give another path.") from error


def _ablated(runtime: Runtime, ablate: Sequence[str]) -> tuple[Runtime, Settings]:
    """Return the runtime and an editor's settings, the named parts left out."""
    if "ngrams" in ablate:
        runtime = evolve(runtime, ngrams="off")
    path = str(runtime.build.path)
    return runtime, Settings(model=path, languages={"*": True}, candidates=1, ablate=tuple(ablate))
