"""The project of a file: its folder, its readable files, and the name under which the file is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from attrs import frozen

_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", ".git", ".hg")
"""Files and folders that mark the root of a project."""


@frozen
class Workspace:
    """The folder that a document is in, and its readable Python files."""

    root: Path
    read: Callable[[], Mapping[Path, str]]
    """Return the texts of all Python files that are not excluded, by absolute path, with line ends as they are; for
    open documents, the editor's text. Raises: WorkspaceError."""


@frozen
class OtherFile:
    """A file that changes along with the document."""

    path: Path
    before: str
    """Its text with line ends as they are."""
    after: str
    """Its text after the change, with LF line ends."""


def module_of(path: Path) -> tuple[str, Path]:
    """Return the dotted name under which a file is imported, and the folder that must be on the import path for
    that."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file() and root.parent != root:
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts), root


def project_of(path: Path) -> Path:
    """Return the folder of the project that a file belongs to.

    That is the nearest one with a project file (`pyproject.toml`, `.git` and the like), else the folder from which the
    file is imported.
    """
    _, root = module_of(path)
    return next((one for one in [root, *root.parents] if any((one / mark).exists() for mark in _PROJECT_FILES)), root)
