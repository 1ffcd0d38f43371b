"""The gain of an adapted model on lines that were written after it was trained.

Both models are asked at places in lines that commits added later, with the workspace as it was before each commit, so
that nothing leaks. Lines that nearly repeat the code trained on, or earlier ones, are left out. The n-grams of document
and workspace are on, as in an editor.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from attrs import field, frozen

from codegen_lsp.errors import SupersededError
from codegen_lsp.evaluation import lines, places
from codegen_lsp.evaluation.documents import EvaluationError, SourceDocument
from codegen_lsp.evaluation.figures import Difference, difference
from codegen_lsp.evaluation.git_history import AddedRun, GitHistory
from codegen_lsp.evaluation.lines import LineCase, PackageIndex
from codegen_lsp.evaluation.places import CursorPlace
from codegen_lsp.evaluation.runtime import Runtime, running
from codegen_lsp.inference.client.client import InferenceClient
from codegen_lsp.inference.rpc.attribution import AttributionParams
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexStateParams,
    IndexUpdate,
    ModelDescription,
    StopRules,
    WorkspaceFile,
)
from codegen_lsp.progress import ProgressReport
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.options import options_for
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.training import cleaning
from codegen_lsp.training.duplicates import NEAR_DUPLICATE, SHINGLE, shingles

WORKSPACE = "workspace"
RUN_LINES = 15
"""Lines of a run that are scored."""
RUN_TOKENS = 300
LEAST_PROBABILITY = 1e-6
"""Probabilities arrive rounded to this; a token costs 20 bits at most."""
FILES_AT_ONCE = 100


@frozen
class CommitCases:
    """The cases of one commit."""

    commit: str
    places: list[CursorPlace]
    runs: list[AddedRun]


@frozen
class Tally:
    """Sums of each figure that a model gave for one case, and of what they are shares."""

    bits: float = 0.0
    bytes: int = 0
    exact: int = 0
    asked: int = 0
    words: int = 0
    words_asked: int = 0
    saved: int = 0
    characters: int = 0


@frozen
class AddedLinesFigures:
    """Before and after, on added lines, with intervals over the commits."""

    commits: int
    runs: int
    places: int
    figures: dict[str, Difference] = field(factory=dict)


def choose_cases(
    history: GitHistory,
    since: str,
    commits: int,
    per_commit: int,
    seed: int,
    report: ProgressReport = lambda message, share: None,
) -> list[CommitCases]:
    """Return cases of commits after `since`, drawn at random, in the order of the commits.

    Raises EvaluationError when no commit added lines.
    """
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    later = history.commits_after(since)
    drawn = set(dice.sample(later, min(3 * commits, len(later))))
    known = [shingles(text) for text in history.files_at(since).values()]
    seen = np.unique(np.concatenate(known)) if known else np.zeros(0, np.uint64)
    found: list[CommitCases] = []
    for commit in later:
        if commit not in drawn or len(found) == commits:
            continue
        report("reading the history", len(found) / commits)
        added = history.added_by(commit)
        sources = {run.path for run in _one_per_file(added) if _is_source(run)}
        runs = [run for run in added if run.path in sources and not _is_known(run.added, seen)]
        if not runs:
            continue
        seen = np.unique(np.concatenate([seen, *(shingles(run.added) for run in runs)]))
        chosen = dice.sample(runs, min(per_commit, len(runs)))
        found.append(CommitCases(commit, [place for run in chosen for place in _places(run, dice)], chosen))
    if not found:
        raise EvaluationError("No commit since then added code.", "Give more days with --days.")
    return found


def compare(
    history: GitHistory, cases: Sequence[CommitCases], before: Runtime, after: Runtime, report: ProgressReport
) -> AddedLinesFigures:
    """Ask both builds at all cases. Raises ModelError and WorkerError."""
    tallies = asyncio.run(_ask_both(history, cases, before, after, report))
    clusters = [number for number, one, _ in tallies]
    sums = [(one, other) for _, one, other in tallies]
    figures = {}
    for name, part, whole in FIGURES:
        parts = [(float(getattr(one, part)), float(getattr(other, part))) for one, other in sums]
        figure = difference(parts, [float(getattr(one, whole)) for one, _ in sums], clusters)
        if figure is not None:
            figures[name] = figure
    return AddedLinesFigures(
        len(cases), sum(len(one.runs) for one in cases), sum(len(one.places) for one in cases), figures
    )


FIGURES = (
    ("bits per byte", "bits", "bytes"),
    ("lines exact", "exact", "asked"),
    ("identifiers right", "words", "words_asked"),
    ("keystrokes saved", "saved", "characters"),
)
"""Names of the figures, and the fields of a tally that each divides."""


def _one_per_file(runs: Sequence[AddedRun]) -> Iterable[AddedRun]:
    return {run.path: run for run in runs}.values()


def _is_source(run: AddedRun) -> bool:
    return not cleaning.rejection_by_path(run.path) and not cleaning.rejection_by_text(run.text)


def _is_known(added: str, seen: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> bool:
    """Return whether most runs of words of the added lines were there before; short ones never count as known.

    `seen` is sorted: a repository has millions of runs, which `numpy.isin` would sort for each call.
    """
    if len(re.findall(r"\w+", added)) < SHINGLE or not len(seen):
        return False
    found = shingles(added)
    nearest = seen[np.minimum(np.searchsorted(seen, found), len(seen) - 1)]
    return bool((nearest == found).mean() >= NEAR_DUPLICATE)


def _places(run: AddedRun, dice: random.Random) -> list[CursorPlace]:
    """Return a place of each kind in one of the added lines; the lines below it in the run are not written yet."""
    starts = [0, *(match.end() for match in re.finditer("\n", run.text)), len(run.text) + 1]
    inside = range(starts[run.first - 1], starts[run.last])
    whole = SourceDocument(WORKSPACE, run.path, "python", run.text)
    spans = [span for span in places.code_lines(whole) if span[0] in inside]
    if not spans:
        return []
    start, end = dice.choice(spans)
    text = run.text[:end] + run.text[max(starts[run.last] - 1, end) :]
    document = SourceDocument(WORKSPACE, run.path, "python", text)
    drawn = [(kind, list(places.offsets(kind, text, start, end))) for kind in places.KINDS]
    return [CursorPlace(kind, document, dice.choice(offsets)) for kind, offsets in drawn if offsets]


async def _ask_both(
    history: GitHistory, cases: Sequence[CommitCases], before: Runtime, after: Runtime, report: ProgressReport
) -> list[tuple[int, Tally, Tally]]:
    found: list[tuple[int, Tally, Tally]] = []
    async with running(before) as (one, described), running(after) as (other, described_after):
        files: dict[str, str] = {}
        parent = ""
        for number, case in enumerate(cases):
            report(f"commit {number + 1} of {len(cases)}", number / len(cases))
            wanted = f"{case.commit}^"
            changed: Mapping[str, str | None] = (
                history.changed_between(parent, wanted) if parent else dict(history.files_at(wanted))
            )
            parent = wanted
            for path, text in changed.items():
                files.pop(path, None) if text is None else files.__setitem__(path, text)
            for client in (one, other):
                await _index(client, changed, number)
            for run in case.runs:
                found.append((number, await _score(one, run), await _score(other, run)))
            for at, place in enumerate(case.places):
                key = 1000 * number + at
                first = await _complete(one, described, place, files, key)
                second = await _complete(other, described_after, place, files, key)
                found.append((number, first, second))
    return found


async def _index(client: InferenceClient, changed: Mapping[str, str | None], version: int) -> None:
    """Bring the index of the workspace up to date."""
    removed = [path for path, text in changed.items() if text is None]
    kept = [WorkspaceFile(path, text, version, len(text)) for path, text in changed.items() if text is not None]
    for first in range(0, max(len(kept), 1), FILES_AT_ONCE):
        update = IndexUpdate(WORKSPACE, kept[first : first + FILES_AT_ONCE], removed if not first else [], kept=False)
        await client.update_index(update)
    while (await client.index_state(IndexStateParams(WORKSPACE))).pending:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.05)


async def _score(client: InferenceClient, run: AddedRun) -> Tally:
    """Return the bits of the added lines, with the text above in the prompt, and all n-grams."""
    rows = run.text.split("\n")
    above = "".join(row + "\n" for row in rows[: run.first - 1])
    added = "".join(row + "\n" for row in rows[run.first - 1 : min(run.last, run.first - 1 + RUN_LINES)])
    below = "\n".join(rows[run.last :])
    prefix = lines.from_line_start(above, lines.PREFIX_CHARACTERS)
    request = GenerateParams(
        f"score {run.path}",
        prefix,
        lines.to_line_end(below, lines.SUFFIX_CHARACTERS),
        StopRules(max_tokens=RUN_TOKENS),
        heal=False,
        workspace=WORKSPACE,
        excluded_files=[run.path],
        related=[above[: len(above) - len(prefix)]] if len(above) > len(prefix) else [],
    )
    if not prefix:
        return Tally()
    while True:
        try:
            result = await client.attribute(AttributionParams(request, added, above, below, 0))
            break
        except SupersededError:  # by a prefetch of the place before
            await asyncio.sleep(0.05)
    bits = sum(-math.log2(max(token.probability, LEAST_PROBABILITY)) for token in result.tokens)
    return Tally(bits=bits, bytes=sum(len(token.text.encode()) for token in result.tokens))


async def _complete(
    client: InferenceClient, model: ModelDescription, place: CursorPlace, files: Mapping[str, str], number: int
) -> Tally:
    """Return the tally of the suggestion that an editor shows at a place."""
    case = LineCase(place, below=True)
    snapshot = lines.snapshot_of(case, number)
    settings = Settings(languages={"*": True}, candidates=1)
    context = lines.context_of(snapshot, place.document, {WORKSPACE: files})
    service = SuggestionService(indexer=PackageIndex(place.document))
    outcome = await service.complete(snapshot, options_for(settings, "python", model), client, context=context)
    answer = lines.answer_of(case, snapshot.offset, outcome.suggestions)
    in_word = place.kind == "mid-word"
    return Tally(
        exact=answer.right,
        asked=1,
        words=in_word and answer.word_right,
        words_asked=in_word,
        saved=answer.saved,
        characters=len(place.rest),
    )
