"""The file that a refactoring works on: read with its selection, written back in its own encoding."""

from __future__ import annotations

import contextlib
import os
import tempfile
import tokenize
from pathlib import Path

from attrs import frozen

from codegen_lsp.cli.location import range_at
from codegen_lsp.errors import CodegenError
from codegen_lsp.refactor.edits import Original, SelectedSource
from codegen_lsp.refactor.results import RefactoringOffer
from codegen_lsp.source.languages import identifier_of
from codegen_lsp.workspace.files import FileAccess, python_files
from codegen_lsp.workspace.sources import Workspace, project_of


class UnwritableFileError(CodegenError):
    """A file that a refactoring can't be written to. It is as it was before."""


@frozen
class RefactoringTarget:
    """A file and the selection in it."""

    path: Path
    original: Original
    source: SelectedSource


def target_at(place: str, language: str | None = None) -> RefactoringTarget:
    """Read the file of a `FILE:RANGE` and select the range. Raises: LocationError and UnreadableSourceError."""
    found = range_at(place)
    original = Original(found.text)
    absolute = found.path.absolute()
    root = project_of(absolute)
    source = SelectedSource(
        original.normal(),
        original.normal_offset(found.start),
        original.normal_offset(found.end),
        language or identifier_of(found.path),
        absolute,
        workspace=Workspace(root, lambda: python_files(FileAccess(root))),
    )
    return RefactoringTarget(found.path, original, source)


def write_offer(target: RefactoringTarget, offer: RefactoringOffer) -> list[Path]:
    """Write a result and the other files that change along with it; return their paths. Raises: UnwritableFileError."""
    write(target.path, target.original, offer.text)
    for other in offer.others:
        write(other.path, Original(other.before), other.after)
    return [target.path, *(relative(other.path) for other in offer.others)]


def write(path: Path, original: Original, new: str) -> None:
    """Replace a file's text, in its own encoding and with its line ends. Raises: UnwritableFileError."""
    text = original.text
    for edit in reversed(original.edits(new)):
        text = text[: edit.start] + edit.new + text[edit.end :]
    path = path.resolve()
    temporary = None
    try:
        data = text.encode(_encoding(path))
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, path.stat().st_mode)  # noqa: PTH101 - a path from mkstemp
        Path(temporary).replace(path)
    except (OSError, UnicodeEncodeError) as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
        advice = "Check its permissions; nothing was changed."
        raise UnwritableFileError(f"{path} can't be written: {error}.", advice) from error


def relative(path: Path) -> Path:
    """Return a path relative to the working directory if it lies there, else as it is."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _encoding(path: Path) -> str:
    """Return the encoding that a file has, its byte order mark included."""
    if path.suffix in (".py", ".pyi"):
        with path.open("rb") as file:
            return tokenize.detect_encoding(file.readline)[0]
    return "utf-8-sig" if path.read_bytes().startswith(b"\xef\xbb\xbf") else "utf-8"
