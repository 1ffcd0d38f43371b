"""The Python files of a workspace, read for a rename that concerns them, too.

As for `neighbours`, what `.gitignore` leaves out, files that hold secrets and files that the user has excluded are
never opened.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen
from pygls.uris import from_fs_path, to_fs_path

from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.workspace.ignore import excluding_pattern
from codegen_lsp.workspace.related import MOST_FILES, files_of, innermost
from codegen_lsp.workspace.secrets import holds_secrets
from codegen_lsp.workspace.sources import Workspace

if TYPE_CHECKING:
    from codegen_lsp.lsp.documents import Document
    from codegen_lsp.lsp.server import CodegenServer


@frozen
class Request:
    """Which files are meant."""

    root: Path
    exclude: tuple[str, ...]
    open_texts: Mapping[Path, str]
    """Texts of the open documents, which go before what is on the disk."""
    folders: tuple[str, ...]
    """URIs of the workspace's folders, which patterns count from."""


def workspace_of(server: CodegenServer, document: Document) -> Workspace | None:
    """The workspace folder that a document is in, or None."""
    workspace = server.workspace
    folders = tuple(workspace.folders) or ((workspace.root_uri,) if workspace.root_uri else ())
    root = innermost(document.uri, folders)
    if root is None:
        return None
    documents, exclude = list(server.documents), tuple(server.settings.exclude)

    def read() -> dict[Path, str]:
        files = [(to_fs_path(other.uri), other.text) for other in documents if other.uri.startswith("file:")]
        open_texts = {Path(place).resolve(): text for place, text in files if place}
        return python_files(Request(root, exclude, open_texts, folders))

    return Workspace(root, read)


def python_files(request: Request) -> dict[Path, str]:
    """The texts of the Python files below a folder, by absolute path. Raises RefactorError."""
    found: dict[Path, str] = {}
    for number, name in enumerate(files_of(request.root, ".py", 10 * MOST_FILES)):
        path = (request.root / name).resolve()
        uri = from_fs_path(str(path)) or ""
        if holds_secrets(uri) or excluding_pattern(uri, request.folders, request.exclude):
            continue
        if number >= MOST_FILES:
            raise RefactorError(
                "too_many_files",
                f"{request.root} has more than {MOST_FILES} Python files, too many to look through.",
                "Open a smaller folder, or rename with your language server for Python.",
            )
        try:
            found[path] = request.open_texts[path] if path in request.open_texts else _read(path)
        except (FileNotFoundError, UnicodeDecodeError, SyntaxError):
            # What Python can't read uses nothing.
            continue
        except OSError as error:
            raise RefactorError("unreadable_file", f"{path} can't be read: {error}.") from error
    return found


def _read(path: Path) -> str:
    """The text in the encoding that the file names, line ends as they are."""
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return data.decode(encoding)
