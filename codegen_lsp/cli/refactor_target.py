"""The file that a refactoring works on: read with its selection, written back in its own encoding."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import tokenize
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.cli.location import range_at
from codegen_lsp.errors import CodegenError
from codegen_lsp.refactor.edits import Original, SelectedSource
from codegen_lsp.refactor.results import RefactoringOffer
from codegen_lsp.source.languages import identifier_of
from codegen_lsp.workspace.decoding import read_source
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
    """Write a result and the other files that change along with it, all or none; return their paths.

    Raises: UnwritableFileError.
    """
    others = [(other.path, Original(other.before), other.after) for other in offer.others]
    _write_all([(target.path, target.original, offer.text), *others])
    return [target.path, *(relative(other.path) for other in offer.others)]


def write(path: Path, original: Original, new: str) -> None:
    """Replace a file's text, in its own encoding and with its line ends. Raises: UnwritableFileError."""
    _write_all([(path, original, new)])


def _write_all(changes: Sequence[tuple[Path, Original, str]]) -> None:
    """Replace the texts of files: first all are written beside their places, then each is moved to its own."""
    staged: list[tuple[Path, Path, bytes]] = []
    replaced: list[tuple[Path, bytes]] = []
    try:
        for path, original, new in changes:
            staged.append(_staged(path.resolve(), original, new))
        for temporary, path, before in staged:
            temporary.replace(path)
            replaced.append((path, before))
    except (OSError, UnicodeEncodeError) as error:
        for path, before in replaced:
            with contextlib.suppress(OSError):
                path.write_bytes(before)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        advice = "Nothing was changed. Check its permissions and those of its folder."
        raise UnwritableFileError(f"{path} can't be written: {reason}.", advice) from error
    finally:
        for temporary, _, _ in staged:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _staged(path: Path, original: Original, new: str) -> tuple[Path, Path, bytes]:
    """Write a file's new text beside it; return the new file, the path, and the old content. Raises: OSError."""
    before, mode = path.read_bytes(), path.stat().st_mode
    # An administrator may write anything; a file or folder without permission to write is meant to stay.
    for place, what in ((path, "the file is read-only"), (path.parent, "its folder is read-only")):
        if not place.stat().st_mode & 0o222 or not os.access(place, os.W_OK):
            raise PermissionError(errno.EACCES, what)
    if read_source(path) != original.text:
        raise OSError(errno.ESTALE, "it was changed since it was read")
    text = original.text
    for edit in reversed(original.edits(new)):
        text = text[: edit.start] + edit.new + text[edit.end :]
    data = text.encode(_encoding(path))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary, path, before


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
