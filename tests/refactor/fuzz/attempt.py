"""Perform a refactoring at a place of a program, and compare what the program does before and after."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from pathlib import Path
from unittest import mock

from attrs import define, field, frozen

from codegen_lsp.refactor.dispatch import backend_for
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.python import simplify, type_hints
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import RENAME, RefactoringKind
from codegen_lsp.refactor.results import RefactoringOffer
from codegen_lsp.workspace.sources import Workspace
from tests.refactor.conftest import ScriptedModel
from tests.refactor.fuzz.interpreter import Files, Interpreter, Observation
from tests.refactor.fuzz.places import Place, places
from tests.refactor.fuzz.ruff_findings import RuffFindings

MOST_MADE = 4
"""Most refactorings that are made in one program."""
MOST_PLACES = 40
"""Most places of one program at which the menu is asked for."""
MOST_ASKED = 12
"""Most places of one program at which a refactoring is asked for."""
MOST_OFFERS = 2
"""Most results of one refactoring that are run."""
DOCUMENT = "document.py"
"""The file that is edited."""


@frozen
class Program:
    """A program, and what is done to it."""

    files: Files
    """Their texts by path; one is `DOCUMENT`."""
    answers: tuple[str, ...]
    """What the model says whenever it is asked."""
    turn: int
    """The places are tried in their order, from this one on."""
    in_workspace: bool = False
    """The refactoring may look at the other files."""


@frozen
class Finding:
    """A refactoring that changed what a program does, or failed in a way that is no refusal."""

    kind: str
    program: Program
    place: Place
    after: Files
    difference: str

    @property
    def key(self) -> str:
        """The kind of the refactoring and of the difference: findings with equal keys may have the same cause."""
        words = re.findall(r"does not compile|[A-Za-z]+Error|doctests|style", self.difference)
        return f"{self.kind}: {' '.join(sorted(set(words))) or 'values'}"

    def __str__(self) -> str:
        start, end = self.place
        text = self.program.files[DOCUMENT]
        mark = f"{text[:start]}¦{text[end:]}" if start == end else f"{text[:start]}⟦{text[start:end]}⟧{text[end:]}"
        files = "".join(f"\n# {name}\n{one}" for name, one in self.program.files.items() if name != DOCUMENT)
        after = "".join(f"\n# {name}\n{one}" for name, one in self.after.items() if self.program.files.get(name) != one)
        return f"{self.kind} at\n```\n{mark}{files}```\nmakes\n```{after}```\n{self.difference}\n"


class ChangedBehaviourError(AssertionError):
    """A refactoring is not right."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


@define
class Tally:
    """What became of the places of one refactoring."""

    programs: int = 0
    places: int = 0
    in_menu: int = 0
    made: int = 0
    results: int = 0
    """Versions that were run: a refactoring may have several results."""
    unfinished: int = 0
    """Results that could not be compared, because one version ran too long."""
    changed: int = 0
    refused: Counter[str] = field(factory=Counter)
    """Places that the menu has and where the refactoring is refused, by rule."""


async def _no_errors(text: str, path: Path | None) -> Counter[str]:
    return Counter()


def without_type_checker() -> None:
    """Let every type hint pass: fewer are withheld than with mypy, which takes a second for each."""
    type_hints.errors = _no_errors


class Laboratory:
    """Tries refactorings on programs: an interpreter to run them, an event loop, and a folder as the workspace."""

    def __init__(self, interpreter: Interpreter, runner: asyncio.Runner, folder: Path) -> None:
        self._interpreter, self._runner = interpreter, runner
        self._folder = folder
        self.ruff = RuffFindings()

    def try_all(self, kind: RefactoringKind, program: Program, tally: Tally) -> list[Finding]:
        """Try a refactoring at the places of a program; return what is wrong with the results."""
        if program.in_workspace:
            self._write(program.files)
        text = program.files[DOCUMENT]
        backend = backend_for("python")
        assert backend is not None
        found: list[Finding] = []
        tally.programs += 1
        all_places = places(kind, text)
        turn = program.turn % max(1, len(all_places))
        made = asked = 0
        for place in [*all_places[turn:], *all_places[:turn]][:MOST_PLACES]:
            tally.places += 1
            source = self._source(program, place)
            if kind not in [entry.kind for entry in backend.menu(source)]:
                continue
            tally.in_menu += 1
            asked += 1
            try:
                offers = self._runner.run(self._offers(kind, source, program))
            except RefactorError as error:
                tally.refused[error.rule] += 1
                if asked >= MOST_ASKED:
                    break
                continue
            except Exception as error:
                found.append(Finding(kind.name, program, place, {}, f"fails with {type(error).__name__}: {error}"))
                tally.changed += 1
                break
            made += 1
            tally.made += 1
            found += self._compared(kind, program, place, offers[:MOST_OFFERS], tally)
            if found or made == MOST_MADE or asked >= MOST_ASKED:
                break
        return found

    def _write(self, files: Files) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, text in files.items():
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def _source(self, program: Program, place: Place) -> SelectedSource:
        path = self._folder / DOCUMENT
        texts = {self._folder / name: text for name, text in program.files.items()}
        workspace = Workspace(self._folder, lambda: texts) if program.in_workspace else None
        return SelectedSource(program.files[DOCUMENT], *place, path=path, workspace=workspace)

    async def _offers(self, kind: RefactoringKind, source: SelectedSource, program: Program) -> list[RefactoringOffer]:
        model = ScriptedModel([list(program.answers) for _ in range(4)])
        with mock.patch.object(simplify, "ruff_fixes", self.ruff.fixes):
            outcome = await perform(kind, source, model.assistant(), lambda step, share: None)
        return outcome.offers

    def _compared(
        self, kind: RefactoringKind, program: Program, place: Place, offers: list[RefactoringOffer], tally: Tally
    ) -> list[Finding]:
        versions = [self._files(program, offer) for offer in offers]
        names = [_word_at(program.files[DOCUMENT], place[0])] if kind is RENAME else []
        labels = [offer.label for offer in offers] if kind is RENAME else []
        before, *after = self._interpreter.observe([program.files, *versions], [*names, *labels])
        tally.results += len(after)
        found = []
        for files, seen in zip(versions, after, strict=True):
            if before is None or seen is None:
                tally.unfinished += 1
            elif difference := difference_of(before, seen) or style_of(program.files[DOCUMENT], files[DOCUMENT]):
                found.append(Finding(kind.name, program, place, files, difference))
        tally.changed += bool(found)
        return found

    def _files(self, program: Program, offer: RefactoringOffer) -> Files:
        others = {one.path.relative_to(self._folder).as_posix(): one.after for one in offer.others}
        return {**program.files, DOCUMENT: offer.text, **others}


def difference_of(before: Observation, after: Observation) -> str | None:
    """Return the first difference between what is seen of two programs, or None."""
    assert before is not None
    assert after is not None
    if after[0][0] == "does not compile" != before[0][0]:
        return f"does not compile: {after[0][1]}"
    for at, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            step = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
            return f"input {at}, before: {'; '.join(old[step:])}\ninput {at}, after: {'; '.join(new[step:])}"
    return None


def style_of(before: str, after: str) -> str | None:
    """Return the difference in indentation, or None: a file that indents by tabs or two spaces still does."""
    old, new = _margins(before), _margins(after)
    if old and new and old != new and len(old) == 1:
        return f"style: indents by {sorted(new)} where the file has {sorted(old)}"
    return None


def _margins(text: str) -> set[str]:
    """Return the steps by which a text indents the bodies of its definitions."""
    found = re.findall(r"^([ \t]*)(?:async )?(?:def|class) .*:\n([ \t]+)\S", text, re.MULTILINE)
    return {inner.removeprefix(outer) for outer, inner in found}


def _word_at(text: str, offset: int) -> str:
    found = re.compile(r"\w*").match(text, offset)
    return found.group() if found else ""
