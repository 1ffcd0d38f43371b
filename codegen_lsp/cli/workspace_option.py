"""The option `--workspace`: the folder whose files are counted, as those of an editor that has it open."""

from __future__ import annotations

from pathlib import Path

from codegen_lsp.cli.location import LocationError
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.workspace.files import FileAccess
from codegen_lsp.workspace.sources import project_of
from codegen_lsp.workspace.uris import path_of, uri_of


def workspace_of(snapshot: Snapshot, folder: Path | None, exclude: list[str]) -> FileAccess:
    """Return the files of a folder that may be read: by default of the project of the file.

    Raises: LocationError when the file is not in the folder.
    """
    file = Path(path_of(snapshot.uri) or "")
    root = project_of(file) if folder is None else folder.absolute()
    if not file.is_relative_to(root):
        raise LocationError(f"{file} is not in {root}.", "Give a folder that the file is in.")
    return FileAccess(root, (uri_of(root),), tuple(exclude))
