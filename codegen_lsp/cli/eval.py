"""`codegen-lsp eval …`: figures of a build, as tables for a person and as JSON for a program."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import cattrs
from attrs import frozen
from rich.console import Console
from rich.table import Table

from codegen_lsp.checkpoints.store import InstalledBuild, find
from codegen_lsp.completion.options import Options
from codegen_lsp.evaluation import human_eval, lines, part_figures, refactorings
from codegen_lsp.evaluation.documents import Document, EvaluationError, held_out, in_turn
from codegen_lsp.evaluation.figures import Figure
from codegen_lsp.evaluation.lines import Answer, CurvePoint, LineFigures
from codegen_lsp.evaluation.part_figures import Asked, PartFigures
from codegen_lsp.evaluation.places import draw
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.sandbox.sandbox import Confinement
from codegen_lsp.settings import Settings
from codegen_lsp.source.languages import IDENTIFIER_OF_SUFFIX, identifier_of
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.options import load_params
from codegen_lsp.suggest.service import options_for
from codegen_lsp.workspace.decoding import UnreadableSourceError, read_source

T = TypeVar("T")

CORPUS = Path(".cache/training/model")
"""Where `make model` leaves its corpus."""
LARGEST_FILE = 200_000
"""Characters; larger files are data."""
SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__", "build", "dist"})
KS = (1, 10, 100)
"""The k of pass@k that are shown, where there are as many samples."""


@frozen
class Runtime:
    """Which build to measure, and where it runs."""

    build: InstalledBuild
    device: str = "auto"
    threads: int = 0
    engine: str = "auto"
    ngrams: str = "auto"


@frozen
class Measured:
    """A model and what came out."""

    model: ModelDescription
    weights: str
    """SHA-256 of the build's weights."""
    interrupted: bool
    """Whether the user ended it before all cases were done."""
    figures: Any
    """By their names; see the functions below."""


def documents(paths: Sequence[Path], corpus: Path | None) -> list[Document]:
    """The files given, those in the folders given, else the held-out packages of a corpus.

    Each path given counts as a package. Raises EvaluationError.
    """
    if not paths and corpus is None and not (CORPUS / "corpus").is_dir():
        raise EvaluationError(
            "There is nothing to measure on.",
            "Give files or folders of source that the model was not trained on, or --corpus DIR, a corpus made by "
            "`python -m codegen_lsp.training --out DIR --until corpus`: its held-out packages are used.",
        )
    if not paths:
        return held_out(corpus or CORPUS)
    found = [_document(path, str(given)) for given in paths for path in _files(given)]
    usable = [document for document in found if document is not None]
    if not usable:
        raise EvaluationError("No source file can be read there.", "Give files or folders of source code.")
    return usable


def line_starts(found: Sequence[Document], count: int, seed: int) -> list[tuple[str, str]]:
    """The text before and after so many cursors at starts of lines, cut as in `measure_lines`.

    Raises EvaluationError.
    """
    places = [place for place in draw(found, count, seed) if place.kind == "line start"]
    return [
        (lines.from_line_start(p.before, lines.PREFIX_CHARACTERS), lines.to_line_end(p.below, lines.SUFFIX_CHARACTERS))
        for p in places
    ]


def measure_lines(
    runtime: Runtime,
    found: Sequence[Document],
    cases: int,
    seed: int,
    *,
    shown: bool,
    report: ProgressReport,
    without: Sequence[str] = (),
    curve: bool = False,
) -> tuple[Measured, list[Answer]]:
    """`alone` and, where asked for, `shown`: lists of LineFigures, without the parts named where they have them.

    Raises EvaluationError, ModelError and WorkerError.
    """
    asked = lines.cases_of(draw(found, cases, seed))
    if "ngrams" in without:
        runtime = attrs.evolve(runtime, ngrams="off")
    settings = Settings(model=str(runtime.build.path), languages={"*": True}, candidates=1, ablate=tuple(without))

    async def run() -> tuple[ModelDescription, list[Answer], list[Answer]]:
        async with _opened(runtime) as (client, model):
            total = len(asked) * (2 if shown else 1)
            alone = await _gathered(lines.ask_model(asked, client), report, 0, total)
            if not shown or len(alone) < len(asked):
                return model, alone, []
            packages = lines.packages_of(found)
            answers = lines.ask_editor(asked, client, lambda language: options_for(settings, language, model), packages)
            return model, alone, await _gathered(answers, report, len(asked), total)

    async def run_curve() -> tuple[ModelDescription, list[dict[float, Answer]]]:
        async with _opened(runtime) as (client, model):
            packages = lines.packages_of(found)
            answers = lines.ask_at_thresholds(
                asked, client, lambda language: options_for(settings, language, model), packages
            )
            return model, await _gathered(answers, report, 0, len(asked))

    if curve:
        model, at_thresholds = asyncio.run(run_curve())
        done = len(at_thresholds) == len(asked)
        return Measured(model, _weights(runtime), not done, {"curve": lines.curve_of(at_thresholds)}), []
    model, alone, in_editor = asyncio.run(run())
    figures = {"alone": lines.figures_of(alone)}
    if in_editor:
        figures["shown"] = lines.figures_of(in_editor)
    done = len(in_editor if shown else alone) == len(asked)
    return Measured(model, _weights(runtime), not done, figures), [*alone, *in_editor]


def measure_parts(
    runtime: Runtime, found: Sequence[Document], cases: int, seed: int, parts: Sequence[str], report: ProgressReport
) -> tuple[Measured, list[Asked]]:
    """`parts`: PartFigures of each part. Raises EvaluationError, ModelError and WorkerError."""
    asked = lines.cases_of(draw(found, cases, seed))
    infilling = "on" if "infilling" in parts else "auto"
    settings = Settings(model=str(runtime.build.path), languages={"*": True}, candidates=1, infilling=infilling)
    of_requests = [part for part in parts if part != part_figures.OF_THE_MODEL]
    packages = lines.packages_of(found)
    total = len(asked) * (1 + (len(of_requests) < len(parts)))

    async def run(runtime: Runtime, without: Sequence[str], before: int) -> tuple[ModelDescription, list[Asked]]:
        async with _opened(runtime, cache_memory_mb=None) as (client, model):

            def options_of(language: str) -> Options:
                return options_for(settings, language, model)

            answers = part_figures.ask_without(asked, client, options_of, packages, without)
            return model, await _gathered(answers, report, before, total)

    model, with_it = asyncio.run(run(runtime, of_requests, 0))
    done = len(with_it) == len(asked)
    if done and len(of_requests) < len(parts):
        _, without = asyncio.run(run(attrs.evolve(runtime, ngrams="off"), (), len(asked)))
        done = len(without) == len(asked)
        with_it = [part_figures.joined(one, other) for one, other in zip(with_it, without, strict=False)]
    figures = part_figures.figures_of(with_it, parts)
    return Measured(model, _weights(runtime), not done, {"parts": figures}), with_it


def measure_bits(
    runtime: Runtime,
    found: Sequence[Document],
    files: int,
    seed: int,
    *,
    checkpoint: Path | None,
    report: ProgressReport,
) -> Measured:
    """`bits_per_byte` of the build, and with the checkpoint that of the `float` weights and the build's `loss`.

    Raises ModelError and ConversionError.
    """
    from codegen_lsp.evaluation import likelihood
    from codegen_lsp.inference.loading import load_model

    chosen = list(itertools.islice(in_turn(found, random.Random(seed)), files))  # noqa: S311 - a sample, not a secret
    text_model, model = load_model(_load_params(runtime), lambda message, fraction: report(message, 0.0))
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
    return Measured(model, _weights(runtime), interrupted, figures)


def measure_infilling(runtime: Runtime, data: Path, cases: int, seed: int, report: ProgressReport) -> Measured:
    """`exact_match` on HumanEval's single lines. Raises EvaluationError, ModelError, WorkerError."""
    problems = human_eval.some(human_eval.read_lines(data), cases, seed)

    async def run() -> tuple[ModelDescription, list[human_eval.FilledLine]]:
        async with _opened(runtime) as (client, model):
            return model, await _gathered(human_eval.fill_lines(problems, client), report, 0, len(problems))

    model, filled = asyncio.run(run())
    figures = {"exact_match": human_eval.exact_match(filled)}
    return Measured(model, _weights(runtime), len(filled) < len(problems), figures)


def measure_functions(
    runtime: Runtime,
    data: Path,
    cases: int,
    seed: int,
    *,
    samples: int,
    temperature: float,
    confinement: Confinement,
    report: ProgressReport,
) -> Measured:
    """`pass@1` and on of HumanEval. Raises EvaluationError, ModelError, WorkerError and SandboxError."""
    problems = human_eval.some(human_eval.read_functions(data), cases, seed)
    total = len(problems) * samples

    async def run() -> tuple[ModelDescription, list[human_eval.Attempt]]:
        async with _opened(runtime) as (client, model):
            attempts = human_eval.attempt_functions(
                problems, client, samples=samples, temperature=temperature, seed=seed, confinement=confinement
            )
            return model, await _gathered(attempts, report, 0, total)

    model, attempts = asyncio.run(run())
    whole = attempts[: len(attempts) // samples * samples]
    figures = {f"pass@{k}": human_eval.passes(whole, k) for k in KS if k <= samples}
    return Measured(model, _weights(runtime), len(attempts) < total, figures)


def measure_refactorings(
    runtime: Runtime,
    found: Sequence[Document],
    functions: int,
    seed: int,
    *,
    kinds: Sequence[RefactoringKind],
    verified: int,
    report: ProgressReport,
) -> Measured:
    """`kinds`: KindFigures of each kind. Raises ModelError, WorkerError and SandboxError."""
    total = functions * len(kinds)

    async def run() -> tuple[ModelDescription, list[refactorings.RefactoringAttempt]]:
        async with _opened(runtime) as (client, model):
            assistant = ModelAssistant(client, model.infill)
            attempts = refactorings.attempts(found, functions, seed, assistant, kinds, verified)
            return model, await _gathered(attempts, report, 0, total)

    model, attempts = asyncio.run(run())
    figures = {
        "kinds": refactorings.figures_of(attempts),
        "broken": [attempt for attempt in attempts if attempt.broken or (attempt.refused or "").startswith("crash")],
        "failed": [one for one in attempts if one.verified is not None and one.verified.kind == "failed"],
    }
    return Measured(model, _weights(runtime), False, figures)


def print_refactorings(console: Console, measured: Measured) -> None:
    """What became of each kind, and what was offered though it does not hold."""
    _print_heading(console, measured)
    table = _table(
        ("kind",), ("tried", "done", "results", "broken", "withheld by tests", "tests passed", "tests failed")
    )
    for one in measured.figures["kinds"]:
        cells = (one.tried, one.done, one.results, one.broken, one.withheld, one.passed, one.failed)
        table.add_row(one.kind, *(str(cell) for cell in cells))
    console.print(table, highlight=False)
    for attempt in [*measured.figures["broken"], *measured.figures["failed"]]:
        why = attempt.broken or [attempt.refused or attempt.verified.detail]
        console.print(f"{attempt.kind} at {attempt.place}: {why[0]}", style="red", highlight=False, markup=False)


def as_json(measured: Measured) -> str:
    """The figures for a program: shares as numbers from 0 to 1, each with its interval and number of cases."""
    return json.dumps(cattrs.unstructure(measured), indent=2)


def save_answers(answers: Sequence[Answer], path: Path) -> None:
    """Write one line of JSON for each answer: where, what was expected, what came. Raises EvaluationError."""
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


def print_lines(console: Console, measured: Measured) -> None:
    """The line evaluation for a person."""
    _print_heading(console, measured)
    if "curve" in measured.figures:
        curve: list[CurvePoint] = measured.figures["curve"]
        _print_table(
            console,
            ("threshold",),
            ("shown", "fits of shown", "right of shown", "saved"),
            [((f"{at.threshold:g}",), (at.shown, at.fits_of_shown, at.right_of_shown, at.keystrokes)) for at in curve],
        )
        return
    alone: list[LineFigures] = measured.figures["alone"]
    _print_table(
        console,
        ("alone", "below"),
        ("exact", "similarity", "word", "saved"),
        [((f.kind, _below(f)), (f.exact, f.similarity, f.word, f.keystrokes)) for f in alone],
    )
    if "shown" in measured.figures:
        shown: list[LineFigures] = measured.figures["shown"]
        console.print()
        _print_table(
            console,
            ("shown", "below"),
            ("shown", "fits", "right", "saved", "parses", "undefined"),
            [
                ((f.kind, _below(f)), (f.shown, f.fits_of_shown, f.right_of_shown, f.keystrokes, f.parses, f.undefined))
                for f in shown
            ],
        )
    console.print("Percent, with the 95 % interval. What each means: docs/evaluation.md.", style="dim", highlight=False)


def print_parts(console: Console, measured: Measured) -> None:
    """What each part gives, for a person."""
    _print_heading(console, measured)
    parts: list[PartFigures] = measured.figures["parts"]
    table = _table(("part",), ("cases", "changed", "saves", "shows wrong ones"))
    for part in parts:
        table.add_row(part.part, str(part.cases), str(part.changed), _points(part.gain), _points(part.wrong))
    console.print(table, highlight=False)
    console.print()
    table = _table(("with it, without",), ("shown", "fits", "parses", "undefined", "saved"))
    for part in parts:
        pairs = (part.shown, part.fits, part.parses, part.undefined, part.saved)
        table.add_row(part.part, *(_pair(*pair) for pair in pairs))
    console.print(table, highlight=False)
    console.print(
        "Above, points of a percent that having the part adds, with the 95 % interval over files; below, percent. "
        "What each means: docs/evaluation.md.",
        style="dim",
        highlight=False,
    )


def _pair(one: Figure | None, other: Figure | None) -> str:
    return "" if one is None or other is None else f"{one.value * 100:.1f}, {other.value * 100:.1f}"


def _points(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{figure.value * 100:+.2f} ({figure.low * 100:+.2f} to {figure.high * 100:+.2f})"


def print_bits(console: Console, measured: Measured) -> None:
    """Bits per byte for a person."""
    _print_heading(console, measured)
    names = {"bits_per_byte": "build", "float": "float weights"}
    rows = [(name, measured.figures[key]) for key, name in names.items() if measured.figures.get(key)]
    table = _table(("",), ("bits per byte", "95 % interval", "files"))
    for name, figure in rows:
        table.add_row(name, f"{figure.value:.4f}", f"{figure.low:.4f} to {figure.high:.4f}", str(figure.cases))
    console.print(table, highlight=False)
    if loss := measured.figures.get("loss"):
        console.print(
            f"Bits of the build against those of the float weights: {loss.value:+.3%} "
            f"({loss.low:+.3%} to {loss.high:+.3%})",
            highlight=False,
        )


def print_shares(console: Console, measured: Measured) -> None:
    """One figure a row for a person."""
    _print_heading(console, measured)
    rows = [((name.replace("_", " "),), (figure,)) for name, figure in measured.figures.items()]
    _print_table(console, ("",), ("percent, 95 % interval",), rows)


def _below(figures: LineFigures) -> str:
    return "yes" if figures.below else "no"


def _print_heading(console: Console, measured: Measured) -> None:
    model = measured.model
    console.print(f"{model.name} ({model.compute_type}, {measured.weights[:12]})", style="bold", highlight=False)
    if measured.interrupted:
        console.print("Interrupted: these are the figures of the cases done so far.", style="yellow")


def _print_table(
    console: Console,
    names: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[Figure | None]]],
) -> None:
    table = _table(names, (*columns, "cases"))
    for name, figures in rows:
        cases = next((figure.cases for figure in figures if figure), 0)
        table.add_row(*name, *map(_percent, figures), str(cases))
    console.print(table, highlight=False)


def _table(names: Sequence[str], columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for name in names:
        table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _percent(figure: Figure | None) -> str:
    if figure is None:
        return ""
    value = "100" if figure.value == 1 else f"{figure.value * 100:.1f}"
    return f"{value} ({figure.low * 100:.0f}-{figure.high * 100:.0f})"


async def _gathered(answers: AsyncIterator[T], report: ProgressReport, before: int, total: int) -> list[T]:
    """All answers, or those there are when the user interrupts."""
    found: list[T] = []
    try:
        async for answer in answers:
            found.append(answer)
            report(f"{before + len(found)} of {total}", (before + len(found)) / total)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
    return found


@asynccontextmanager
async def _opened(
    runtime: Runtime, cache_memory_mb: int | None = 0
) -> AsyncIterator[tuple[InferenceClient, ModelDescription]]:
    """A worker of its own with the build. Prompts are not cached unless memory is given: mostly no two are alike."""
    client = InferenceClient()
    try:
        yield client, await client.load(attrs.evolve(_load_params(runtime), cache_memory_mb=cache_memory_mb))
    finally:
        await client.close()


def _load_params(runtime: Runtime) -> Any:
    settings = Settings(
        model=str(runtime.build.path),
        engine=runtime.engine,
        device=runtime.device,
        threads=runtime.threads,
        ngrams=runtime.ngrams,
    )
    return attrs.evolve(load_params(settings, runtime.build.path), cache_memory_mb=0, shared=False)


def _weights(runtime: Runtime) -> str:
    weights = runtime.build.info.files.get("model.bin")
    return weights.sha256 if weights else ""


def open_runtime(model: str, device: str, threads: int, engine: str) -> Runtime:
    """The build that is meant by a name. Raises ModelError."""
    return Runtime(find(model), device, threads, engine)


def _files(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    return [
        path
        for path in sorted(given.rglob("*"))
        if path.suffix in IDENTIFIER_OF_SUFFIX
        and path.is_file()
        and not any(part in SKIPPED or part.startswith(".") for part in path.relative_to(given).parts)
    ]


def _document(path: Path, package: str) -> Document | None:
    """A file as a document; None when it is too large, or in a folder and unreadable."""
    try:
        text = with_lf(read_source(path))
    except UnreadableSourceError:
        if str(path) == package:
            raise
        return None
    language = identifier_of(path)
    return Document(package, str(path), language, text) if len(text) <= LARGEST_FILE else None
