"""The line evaluation: how much of the rest of a line a model gets right, and what an editor shows of it.

The model alone is asked through the client's own text interface, so that any build of any engine can be compared; what
an editor shows goes the same straight way as in the server (`editor.completer`), with its rules on when to ask and what
to show.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

from attrs import evolve, frozen

from codegen_lsp.completion import context
from codegen_lsp.completion.correctness import can_go_on, first_undefined, is_beginning
from codegen_lsp.completion.modules import Files, modules_of
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import plan
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion
from codegen_lsp.evaluation.documents import Document
from codegen_lsp.evaluation.figures import Figure, mean, ratio, share
from codegen_lsp.evaluation.places import KINDS, Kind, Place
from codegen_lsp.evaluation.similarity import edit_similarity
from codegen_lsp.inference.rpc.messages import GenerateParams, StopRules
from codegen_lsp.source.brackets import open_at_end
from codegen_lsp.suggest.service import Completer, Model, Outcome

PREFIX_CHARACTERS = 6_000
SUFFIX_CHARACTERS = 1_500
"""Text around the cursor that the model alone is given: as much as the server's settings give it by default."""
MAX_TOKENS = 64
DOCUMENT = "evaluation"


Packages = Mapping[str, Mapping[str, str]]
"""Texts of files by package and path."""


@frozen
class Case:
    """A place, with or without the text below its line."""

    place: Place
    below: bool


@frozen
class Answer:
    """What was completed at a case."""

    case: Case
    text: str | None
    """The rest of the line, as completed; None when nothing was shown."""
    whole: str = ""
    """All that was shown, further lines and all."""

    @property
    def right(self) -> bool:
        """Whether it is the rest of the line, blanks at its end aside."""
        return self.text is not None and self.text.rstrip() == self.case.place.rest

    @property
    def similarity(self) -> float:
        """Edit similarity with the rest of the line; 0 when nothing was shown."""
        return edit_similarity(self.text.rstrip(), self.case.place.rest) if self.text is not None else 0.0

    @property
    def word_right(self) -> bool:
        """Whether the word at the cursor ends as in the file."""
        return self.text is not None and leading_word(self.text) == leading_word(self.case.place.rest)

    @property
    def fits(self) -> bool:
        """Whether the rest of the line begins with it and with its last word: accepting it leaves nothing to mend."""
        if self.text is None:
            return False
        text, rest = self.text.rstrip(), self.case.place.rest
        return bool(text) and rest.startswith(text) and not (leading_word(rest[len(text) :]) and leading_word(text[-1]))

    @property
    def saved(self) -> int:
        """Characters that need not be typed: those that fit, less the key that accepts them."""
        return max(0, len((self.text or "").rstrip()) - 1) if self.fits else 0

    @property
    def parses(self) -> bool | None:
        """Whether a Python program can begin with the text before and what was shown; None where it can't as it is."""
        above = self.case.place.before.rpartition("\n")[0]
        if self.text is None or self.case.place.document.language != "python" or not is_beginning(above):
            return None
        return can_go_on(self.case.place.before + self.whole)

    @property
    def undefined(self) -> bool | None:
        """Whether what was shown uses a name that nothing in the document defines; None in other languages."""
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
    """Share of words completed exactly; for the kind `mid-word` alone."""
    keystrokes: Figure | None
    """Share of the characters that need not be typed."""
    shown: Figure | None
    """Share of places where something was shown; 1 for the model alone."""
    right_of_shown: Figure | None
    """Share of what was shown that is right."""
    fits_of_shown: Figure | None
    """Share of what was shown that the rest of the line begins with."""
    parses: Figure | None
    """Share of what was shown that parses."""
    undefined: Figure | None
    """Share of what was shown that uses an undefined name."""


def cases_of(places: Iterable[Place]) -> list[Case]:
    """Each place with and without the text below."""
    return [Case(place, below) for place in places for below in (False, True)]


async def ask_model(cases: Iterable[Case], model: Model) -> AsyncIterator[Answer]:
    """What the model alone writes, greedily, up to the end of the line. Raises ModelError and WorkerError."""
    stop = StopRules(max_tokens=MAX_TOKENS, max_lines=1, strings=["\n"])
    for case in cases:
        prefix = from_line_start(case.place.before, PREFIX_CHARACTERS)
        suffix = to_line_end(case.place.below, SUFFIX_CHARACTERS) if case.below else ""
        result = await model.generate(GenerateParams(DOCUMENT, prefix, suffix, stop))
        text = result.candidates[0].text if result.candidates else ""
        yield Answer(case, text.split("\n")[0])


async def ask_editor(
    cases: Iterable[Case], model: Model, options_of: Callable[[str], Options], packages: Packages | None = None
) -> AsyncIterator[Answer]:
    """What an editor shows at each case after a key was typed, in a document that it has not seen before.

    The document ends with the cursor, or the line does and what is below it follows. `options_of` gives the options in
    a language; `packages` are the workspaces, whose other files may help.
    """
    for number, case in enumerate(cases):
        snapshot = snapshot_of(case, number)
        options = options_of(snapshot.language)
        around = surroundings_of(snapshot, case.place.document, packages or {})
        if "modules" in options.ablate:
            around = evolve(around, modules={})
        outcome = await Completer().suggest(snapshot, options, model, around=around)
        yield shown_of(case, snapshot.offset, outcome)


def snapshot_of(case: Case, number: int) -> Snapshot:
    """The document of a case, as a file of its own for each number."""
    place = case.place
    text = place.before + (place.below if case.below else "")
    return Snapshot(f"file:///{number}", 0, place.document.language, text, place.offset)


def shown_of(case: Case, offset: int, outcome: Outcome) -> Answer:
    """What an editor shows of an outcome, the cursor being at an offset."""
    return _shown_of(case, offset, outcome.suggestions or Refusal("none", "Nothing is shown."))


def packages_of(documents: Iterable[Document]) -> Packages:
    """All files by package and path."""
    packages: dict[str, dict[str, str]] = defaultdict(dict)
    for document in documents:
        packages[document.package][document.path] = document.text
    return packages


def surroundings_of(snapshot: Snapshot, document: Document, packages: Packages) -> context.WorkspaceContext:
    """What the other files of a document's package say, as the server finds it in a workspace."""
    files = packages.get(document.package, {})
    others = [path for path in files if path != document.path]
    found = context.related(snapshot.text, snapshot.offset, document.path, others, files.__getitem__)
    if snapshot.language != "python":
        return context.WorkspaceContext(tuple(found))
    workspace = Files(frozenset(others), files.get, lambda folder: _entries(folder, files))
    return context.WorkspaceContext(tuple(found), modules_of(snapshot.text, document.path, workspace))


def _entries(folder: str, paths: Iterable[str]) -> set[str]:
    start = f"{folder}/" if folder else ""
    return {path[len(start) :].partition("/")[0] for path in paths if path.startswith(start)}


def figures_of(answers: Sequence[Answer]) -> list[LineFigures]:
    """The figures by kind of place, without and with the text below."""
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


THRESHOLDS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
"""At which the curve of precision against coverage is drawn."""


@frozen
class CurvePoint:
    """What a threshold gives, over all places."""

    threshold: float
    shown: Figure | None
    fits_of_shown: Figure | None
    right_of_shown: Figure | None
    keystrokes: Figure | None


async def ask_at_thresholds(
    cases: Iterable[Case], model: Model, options_of: Callable[[str], Options], packages: Packages | None = None
) -> AsyncIterator[dict[float, Answer]]:
    """What an editor would show at each case with each of `THRESHOLDS`; the model is asked once."""
    for number, case in enumerate(cases):
        snapshot = snapshot_of(case, number)
        planned = plan(snapshot, evolve(options_of(snapshot.language), threshold=0.0))
        if isinstance(planned, Refusal):
            yield dict.fromkeys(THRESHOLDS, Answer(case, None))
            continue
        around = surroundings_of(snapshot, case.place.document, packages or {})
        related = [*planned.rest_of_document, *(snippet.text for snippet in around.snippets)]
        params = GenerateParams(DOCUMENT, planned.prefix, planned.suffix, planned.stop, related=related)
        result = await model.generate(params)
        planned = evolve(planned, modules=around.modules)
        yield {
            threshold: _shown_of(
                case,
                snapshot.offset,
                shape_all(result.candidates, evolve(planned, stop=evolve(planned.stop, threshold=threshold))),
            )
            for threshold in THRESHOLDS
        }


def _shown_of(case: Case, offset: int, shaped: Sequence[Suggestion] | Refusal) -> Answer:
    if isinstance(shaped, Refusal):
        return Answer(case, None)
    whole = shaped[0].insert[offset - shaped[0].start :]
    return Answer(case, whole.split("\n")[0], whole)


def curve_of(answers: Sequence[dict[float, Answer]]) -> list[CurvePoint]:
    """Precision against coverage, by threshold."""
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


def leading_word(text: str) -> str:
    """The letters, digits and underscores that a text begins with."""
    match = re.match(r"\w*", text)
    return match.group() if match else ""


def from_line_start(text: str, limit: int) -> str:
    """The end of the text, whole lines of at most `limit` characters; at least part of the last line."""
    if len(text) <= limit:
        return text
    at = text.find("\n", len(text) - limit - 1)
    return text[at + 1 :] if 0 <= at < len(text) - 1 else text[-limit:]


def to_line_end(text: str, limit: int) -> str:
    """The beginning of the text, whole lines of at most `limit` characters."""
    return text if len(text) <= limit else text[: max(0, text.rfind("\n", 0, limit))]
