"""The source files that models are evaluated on: files and folders that the user names, or a held-out corpus."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from attrs import frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.source.languages import IDENTIFIER_OF_SUFFIX, identifier_of
from codegen_lsp.source.lines import with_lf
from codegen_lsp.workspace.decoding import UnreadableSourceError, read_source
from codegen_lsp.workspace.files import list_files

CORPUS = Path(".cache/training/model")
"""Folder in which `make model` leaves its corpus."""
HELD_OUT = "validation.jsonl"
"""File with the held-out packages in a corpus made by `codegen_lsp.training`."""
MAX_CHARACTERS = 200_000
"""Larger files are data."""
MAX_FILES = 1_000_000
"""Files in a folder that are considered."""


class EvaluationError(CodegenError):
    """An evaluation that has nothing to measure on, or that can't read or write its files."""


@frozen
class SourceDocument:
    """One source file, line ends as LF."""

    package: str
    """Files of one package resemble each other; draws take one file of each package in turn."""
    path: str
    language: str
    """LSP language identifier."""
    text: str

    @property
    def workspace_path(self) -> str:
        """The path with slashes, relative to the package's folder where it is not relative already."""
        path, package = PurePath(self.path), PurePath(self.package)
        if not path.is_absolute() and ".." not in path.parts:
            return path.as_posix()
        inside = path != package and path.is_relative_to(package)
        return path.relative_to(package).as_posix() if inside else path.name


def find_documents(
    paths: Sequence[Path], corpus: Path | None, *, allowed: Callable[[Path], bool] | None = None
) -> list[SourceDocument]:
    """Return the given files and those in the given folders; without any, the held-out packages of a corpus.

    Each given path counts as a package. Files that are not `allowed` are not opened. Raises: EvaluationError;
    UnreadableSourceError for a given file.
    """
    if not paths and corpus is None and not (CORPUS / "corpus").is_dir():
        raise EvaluationError(
            "There is nothing to measure on.",
            "Give files or folders of source that the model was not trained on, or --corpus DIR, a corpus made by "
            "`python -m codegen_lsp.training --out DIR --until corpus`: its held-out packages are used.",
        )
    if not paths:
        return held_out(corpus or CORPUS)
    read = [_read(path, str(given)) for given in paths for path in _source_files(given, allowed)]
    documents = [document for document in read if document is not None]
    if not documents:
        raise EvaluationError("No source file can be read there.", "Give files or folders of source code.")
    return documents


def held_out(folder: Path) -> list[SourceDocument]:
    """Return the held-out packages of a corpus, on which a model was not trained.

    `folder` is the corpus or the training's folder around it. Raises: EvaluationError.
    """
    path = next((place / HELD_OUT for place in (folder, folder / "corpus") if (place / HELD_OUT).is_file()), None)
    if path is None:
        raise EvaluationError(
            f"{folder} is no corpus: it has no {HELD_OUT}.",
            "Make one with `python -m codegen_lsp.training --out DIR --until corpus`, then give --corpus DIR; or give "
            "files or folders of source that the model was not trained on.",
        )
    from codegen_lsp.training.corpus import documents

    try:
        return [SourceDocument(d.package, d.path, "python", d.text) for d in documents(path)]
    except (OSError, ValueError, TypeError) as error:
        raise EvaluationError(f"{path} can't be read: {error}.", "Delete the corpus and make it again.") from error


def in_turn(documents: Iterable[SourceDocument], dice: random.Random) -> Iterator[SourceDocument]:
    """Yield each document once, in random order, one of each package in turn."""
    packages: dict[str, list[SourceDocument]] = defaultdict(list)
    for document in documents:
        packages[document.package].append(document)
    waiting = [packages[name] for name in sorted(packages)]
    dice.shuffle(waiting)
    for files in waiting:
        dice.shuffle(files)
    while waiting:
        for files in waiting:
            yield files.pop()
        waiting = [files for files in waiting if files]


def _source_files(given: Path, allowed: Callable[[Path], bool] | None) -> list[Path]:
    """Return a file as it is, and of a folder the source files that are neither ignored nor hidden, sorted by path."""
    if not given.is_dir():
        return [given]
    paths = [given / name for name in list_files(given, "", MAX_FILES)]
    paths = sorted(path for path in paths if path.suffix in IDENTIFIER_OF_SUFFIX and not path.name.startswith("."))
    return paths if allowed is None else list(filter(allowed, paths))


def _read(path: Path, package: str) -> SourceDocument | None:
    """Read a document. None when it is too large, or in a folder and unreadable."""
    try:
        text = with_lf(read_source(path))
    except UnreadableSourceError:
        if str(path) == package:
            raise
        return None
    return SourceDocument(package, str(path), identifier_of(path), text) if len(text) <= MAX_CHARACTERS else None
