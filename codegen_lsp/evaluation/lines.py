"""The line evaluation: completing the rest of a line, by the model alone and as an editor shows it.

The model alone is asked through the text interface of the inference client, so that any build of any engine can be
compared. The editor's view goes through the same service as in the server (`suggest.service`), with its rules on when
to ask and what to show.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from attrs import evolve, frozen

from codegen_lsp.completion import context
from codegen_lsp.completion.correctness import can_go_on, first_undefined, is_beginning
from codegen_lsp.completion.modules import Files, modules_of
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.evaluation.figures import Figure, mean, ratio, share
from codegen_lsp.evaluation.places import KINDS, CursorPlace, Kind, draw
from codegen_lsp.evaluation.similarity import edit_similarity
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    IndexStateParams,
    IndexUpdate,
    StopRules,
    WorkspaceFile,
)
from codegen_lsp.source.brackets import open_at_end
from codegen_lsp.suggest.request import CompletionModel
from codegen_lsp.suggest.service import SuggestionService
from codegen_lsp.suggest.workspace_indexing import IndexedWorkspace, WorkspaceIndexer

PREFIX_CHARACTERS = 6_000
SUFFIX_CHARACTERS = 1_500
"""Text around the cursor that the model alone gets, the same as by the default settings of the server."""
MAX_TOKENS = 64
DOCUMENT = "evaluation"


Packages = Mapping[str, Mapping[str, str]]
"""Texts of files by package and by path in the package's folder."""


@frozen
class LineCase:
    """A place, with or without the text below its line."""

    place: CursorPlace
    below: bool


@frozen
class LineAnswer:
    """The completion of a case."""

    case: LineCase
    text: str | None
    """The completed rest of the line; None when nothing was shown."""
    whole: str = ""
    """The whole suggestion, further lines included."""

    @property
    def right(self) -> bool:
        """Return true if it is the rest of the line, trailing blanks aside."""
        return self.text is not None and self.text.rstrip() == self.case.place.rest

    @property
    def similarity(self) -> float:
        """Return the edit similarity with the rest of the line; 0 when nothing was shown."""
        return edit_similarity(self.text.rstrip(), self.case.place.rest) if self.text is not None else 0.0

    @property
    def word_right(self) -> bool:
        """Return true if the word at the cursor ends as in the file."""
        return self.text is not None and leading_word(self.text) == leading_word(self.case.place.rest)

    @property
    def fits(self) -> bool:
        """Return true if the rest of the line begins with it, up to the end of a word: it needs no correction."""
        if self.text is None:
            return False
        text, rest = self.text.rstrip(), self.case.place.rest
        return bool(text) and rest.startswith(text) and not (leading_word(rest[len(text) :]) and leading_word(text[-1]))

    @property
    def saved(self) -> int:
        """Return the characters that need not be typed: those that fit, less the key that accepts them."""
        return max(0, len((self.text or "").rstrip()) - 1) if self.fits else 0

    @property
    def parses(self) -> bool | None:
        """Return true if a Python program can begin with the text before the cursor and the suggestion.

        None in other languages, without a suggestion, and where no program can begin with the lines above.
        """
        above = self.case.place.before.rpartition("\n")[0]
        if self.text is None or self.case.place.document.language != "python" or not is_beginning(above):
            return None
        return can_go_on(self.case.place.before + self.whole)

    @property
    def undefined(self) -> bool | None:
        """Return true if the suggestion uses a name that nothing in the document defines.

        None in languages other than Python, and without a suggestion.
        """
        place = self.case.place
        if self.text is None or place.document.language != "python":
            return None
        text = place.before + (place.below if self.case.below else "")
        cursor = Snapshot("", 0, "python", text, place.offset).cursor
        opened = open_at_end(place.before, cursor.language)
        return first_undefined(self.whole, text, cursor, 0, opened, {}, cut_short=True) is not None


@frozen
class LineFigures:
    """Figures of one kind of place, with or without the text below."""

    kind: Kind
    below: bool
    exact: Figure | None
    """Share of lines completed exactly."""
    similarity: Figure | None
    """Mean edit similarity."""
    word: Figure | None
    """Share of words completed exactly; only for the kind `mid-word`."""
    keystrokes: Figure | None
    """Share of the characters that need not be typed."""
    shown: Figure | None
    """Share of places with a suggestion; 1 for the model alone."""
    right_of_shown: Figure | None
    """Share of the suggestions that are right."""
    fits_of_shown: Figure | None
    """Share of the suggestions that fit."""
    parses: Figure | None
    """Share of the suggestions that parse."""
    undefined: Figure | None
    """Share of the suggestions that use an undefined name."""


def cases_of(places: Iterable[CursorPlace]) -> list[LineCase]:
    """Return each place with and without the text below."""
    return [LineCase(place, below) for place in places for below in (False, True)]


async def ask_model(cases: Iterable[LineCase], model: CompletionModel) -> AsyncIterator[LineAnswer]:
    """Yield what the model alone generates, greedily, up to the end of the line. Raises: ModelError and WorkerError."""
    stop = StopRules(max_tokens=MAX_TOKENS, max_lines=1, strings=["\n"])
    for case in cases:
        prefix = from_line_start(case.place.before, PREFIX_CHARACTERS)
        suffix = to_line_end(case.place.below, SUFFIX_CHARACTERS) if case.below else ""
        result = await model.generate(GenerateParams(DOCUMENT, prefix, suffix, stop))
        text = result.candidates[0].text if result.candidates else ""
        yield LineAnswer(case, text.split("\n")[0])


async def ask_editor(
    cases: Iterable[LineCase],
    model: CompletionModel,
    options_of: Callable[[str], Options],
    packages: Packages | None = None,
    *,
    indexed: bool = False,
) -> AsyncIterator[LineAnswer]:
    """Yield what an editor shows at each case after a key was typed, in a document that it opens for the first time.

    The document ends at the cursor, or the line does and the text below follows. `options_of` returns the options of a
    language; `packages` are the workspaces with their other files, whose n-grams are mixed in where `indexed` is true.
    """
    cases = list(cases)
    if indexed:
        await index_packages(model, packages or {}, {case.place.document.package for case in cases})
    for number, case in enumerate(cases):
        snapshot = snapshot_of(case, number)
        options = options_of(snapshot.language)
        workspace_context = context_of(snapshot, case.place.document, packages or {})
        if "modules" in options.ablate:
            workspace_context = evolve(workspace_context, modules={})
        indexer = PackageIndex(case.place.document) if indexed else None
        service = SuggestionService(indexer=indexer)
        outcome = await service.complete(snapshot, options, model, context=workspace_context)
        yield answer_of(case, snapshot.offset, outcome.suggestions)


class PackageIndex(WorkspaceIndexer):
    """The index of a document's package, which `index_packages` has made."""

    def __init__(self, document: SourceDocument) -> None:
        super().__init__()
        self._document = document

    def workspace_of(self, uri: str) -> IndexedWorkspace:
        """Return the index of the package, without the document itself."""
        return IndexedWorkspace(self._document.package, self._document.path)


async def index_packages(model: CompletionModel, packages: Packages, names: Iterable[str]) -> None:
    """Index the files of packages, each as a workspace, and wait until that is done. Nothing is kept on disk."""
    for name in names:
        files = [WorkspaceFile(path, text, 0, len(text)) for path, text in packages.get(name, {}).items()]
        await model.update_index(IndexUpdate(name, files, kept=False))
        while (await model.index_state(IndexStateParams(name))).pending:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)


def snapshot_of(case: LineCase, number: int) -> Snapshot:
    """Return the document of a case, as a separate file for each number."""
    place = case.place
    text = place.before + (place.below if case.below else "")
    return Snapshot(f"file:///{number}", 0, place.document.language, text, place.offset)


def answer_of(case: LineCase, offset: int, suggestions: Sequence[Suggestion]) -> LineAnswer:
    """Return the part of the first suggestion after the cursor at an offset, as an editor shows it."""
    if not suggestions:
        return LineAnswer(case, None)
    whole = suggestions[0].insert[offset - suggestions[0].start :]
    return LineAnswer(case, whole.split("\n")[0], whole)


def packages_of(documents: Iterable[SourceDocument]) -> Packages:
    """Return all texts by package and by path in the package's folder."""
    packages: dict[str, dict[str, str]] = defaultdict(dict)
    for document in documents:
        packages[document.package][document.workspace_path] = document.text
    return packages


def context_of(snapshot: Snapshot, document: SourceDocument, packages: Packages) -> context.WorkspaceContext:
    """Return the context from the other files of a document's package, as the server finds it in a workspace."""
    files = packages.get(document.package, {})
    path = document.workspace_path
    others = [other for other in files if other != path]
    found = context.similar_snippets(snapshot.text, snapshot.offset, path, others, files.__getitem__)
    if snapshot.language != "python":
        return context.WorkspaceContext(tuple(found), {}, document.package, path)
    workspace = Files(frozenset(others), files.get, lambda folder: _entries(folder, files))
    return context.WorkspaceContext(tuple(found), modules_of(snapshot.text, path, workspace), document.package, path)


def _entries(folder: str, paths: Iterable[str]) -> set[str]:
    start = f"{folder}/" if folder else ""
    return {path[len(start) :].partition("/")[0] for path in paths if path.startswith(start)}


def figures_of(answers: Sequence[LineAnswer]) -> list[LineFigures]:
    """Return the figures by kind of place, without and with the text below."""
    found = []
    for kind in KINDS:
        for below in (False, True):
            some = [answer for answer in answers if answer.case.place.kind == kind and answer.case.below == below]
            shown = [answer for answer in some if answer.text is not None]
            found.append(
                LineFigures(
                    kind,
                    below,
                    exact=share([answer.right for answer in some]),
                    similarity=mean([answer.similarity for answer in some]),
                    word=share([answer.word_right for answer in some]) if kind == "mid-word" else None,
                    keystrokes=ratio(
                        [answer.saved for answer in some], [len(answer.case.place.rest) for answer in some]
                    ),
                    shown=share([answer.text is not None for answer in some]),
                    right_of_shown=share([answer.right for answer in shown]),
                    fits_of_shown=share([answer.fits for answer in shown]),
                    parses=share([parses for answer in shown if (parses := answer.parses) is not None]),
                    undefined=share([missing for answer in shown if (missing := answer.undefined) is not None]),
                )
            )
    return found


@frozen
class LineStart:
    """The text around a cursor at the start of a line, cut as for `ask_model`."""

    before: str
    after: str
    package: str = ""
    path: str = ""
    """The file, in its package's folder."""


def draw_line_starts(documents: Sequence[SourceDocument], count: int, seed: int) -> list[LineStart]:
    """Return `count` cursors at starts of lines. Raises: EvaluationError when the documents have no code."""
    return [
        LineStart(
            from_line_start(place.before, PREFIX_CHARACTERS),
            to_line_end(place.below, SUFFIX_CHARACTERS),
            place.document.package,
            place.document.workspace_path,
        )
        for place in draw(documents, count, seed)
        if place.kind == "line start"
    ]


def leading_word(text: str) -> str:
    """Return the letters, digits and underscores at the start of a text."""
    match = re.match(r"\w*", text)
    return match.group() if match else ""


def from_line_start(text: str, limit: int) -> str:
    """Return the end of the text, whole lines of at most `limit` characters; at least part of the last line."""
    if len(text) <= limit:
        return text
    at = text.find("\n", len(text) - limit - 1)
    return text[at + 1 :] if 0 <= at < len(text) - 1 else text[-limit:]


def to_line_end(text: str, limit: int) -> str:
    """Return the beginning of the text, whole lines of at most `limit` characters."""
    return text if len(text) <= limit else text[: max(0, text.rfind("\n", 0, limit))]
