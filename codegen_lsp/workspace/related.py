"""The files of the workspace that may help to complete a document, read for `completion.context` and `.modules`.

All of this reads the disk, so it runs in a thread, while nobody types; what it found is used until it is run again.
What `.gitignore` leaves out, files that hold secrets and files that the user has excluded are never opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from attrs import define, evolve, field, frozen
from pygls.uris import from_fs_path, to_fs_path

from codegen_lsp.completion.context import Snippet, Surroundings, related
from codegen_lsp.completion.modules import Files, modules_of
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.completion.undefined_names import Modules
from codegen_lsp.workspace.ignore import excluding_pattern
from codegen_lsp.workspace.secrets import holds_secrets

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

MOST_FILES = 4_000
"""Files of a workspace that are listed; in larger ones the rest is not looked at."""
LARGEST = 200_000
"""Bytes of a file; larger ones are data."""
KEPT = 200
"""Texts of files that are kept."""
INTERVAL = 5.0
"""Seconds between two looks for one document."""
SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "build", "dist", "target"})


@frozen
class Request:
    """What is looked for: the document with the cursor, the workspace, and what may not be read."""

    snapshot: Snapshot
    folders: tuple[str, ...]
    """URIs of the workspace's folders."""
    exclude: tuple[str, ...]
    open_texts: Mapping[str, str]
    """Texts of the open documents by URI, which go before what is on the disk."""
    texts: bool = True
    """Whether similar texts are wanted."""
    modules: bool = True
    """Whether the names of imported modules are wanted."""


@define
class Neighbours:
    """Reads files, and keeps what it has read. One thread at a time."""

    _texts: dict[Path, tuple[int, str]] = field(factory=dict)
    """By path: the time of its last change in nanoseconds, and the text."""

    def look(self, request: Request) -> Surroundings:
        """What the other files say. Never raises."""
        try:
            root, path = _place(request.snapshot.uri, request.folders)
            if root is None:
                return Surroundings()
            listed = list(files_of(root, PurePosixPath(path).suffix))
            found = self._snippets(request, root, path, listed) if request.texts else []
            modules = self._modules(request, root, path, listed) if request.modules else {}
            return Surroundings(tuple(found), modules)
        except Exception:
            logger.exception("Looking for related files failed")
            return Surroundings()

    def _snippets(self, request: Request, root: Path, path: str, listed: Sequence[str]) -> list[Snippet]:
        """What looks like the cursor's surroundings."""
        snapshot = request.snapshot
        return related(
            snapshot.text, snapshot.offset, path, listed, lambda other: self._text(request, root, other) or ""
        )

    def _modules(self, request: Request, root: Path, path: str, listed: Sequence[str]) -> Modules:
        """The names of the modules of the workspace that a Python document imports."""
        snapshot = request.snapshot
        if snapshot.language != "python":
            return {}
        files = Files(
            paths=frozenset(listed),
            read=lambda other: self._text(request, root, other),
            entries=lambda folder: [entry.name for entry in (root / folder).iterdir()],
        )
        return modules_of(snapshot.text, path, files)

    def _text(self, request: Request, root: Path, path: str) -> str | None:
        """The text of a file; None when it must not or can't be read."""
        place = root / path
        uri = from_fs_path(str(place)) or ""
        if holds_secrets(uri) or excluding_pattern(uri, request.folders, request.exclude):
            return None
        if uri in request.open_texts:
            return request.open_texts[uri]
        try:
            status = place.stat()
            if status.st_size > LARGEST:
                return None
            kept = self._texts.get(place)
            if kept is None or kept[0] != status.st_mtime_ns:
                kept = status.st_mtime_ns, place.read_text(encoding="utf-8").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError):
            return None
        self._texts.pop(place, None)
        self._texts[place] = kept
        while len(self._texts) > KEPT:
            del self._texts[next(iter(self._texts))]
        return kept[1]


async def look_around(server: CodegenServer, uri: str, offset: int) -> None:
    """Find out what other files say for a document, for the next suggestions in it."""
    document = server.documents.get(uri)
    model = server.status.current.model
    if document is None or model is None:
        return
    without = server.settings.without
    texts = model.ngrams and "context" not in without
    modules = document.language == "python" and not {"correctness", "modules"} & set(without)
    now = time.monotonic()
    if not (texts or modules) or now - server.looked_around.get(uri, -INTERVAL) < INTERVAL:
        return
    server.looked_around[uri] = now
    workspace = server.workspace
    folders = tuple(workspace.folders) or ((workspace.root_uri,) if workspace.root_uri else ())
    open_texts = {other.uri: other.text for other in server.documents if not server.documents.is_lost(other.uri)}
    exclude = tuple(server.settings.exclude)
    request = Request(document.snapshot(offset), folders, exclude, open_texts, texts, modules)
    found = await asyncio.to_thread(server.neighbours.look, request)
    if server.looked_around.get(uri) == now:
        server.surroundings[uri] = found


def forget(server: CodegenServer, uri: str) -> None:
    """Forget what was found for a document that is closed."""
    server.surroundings.pop(uri, None)
    server.looked_around.pop(uri, None)


def changed(server: CodegenServer, uri: str) -> None:
    """A document was changed: it may have names now that the others were told it has not."""
    for other in set(server.looked_around) - {uri}:
        del server.looked_around[other]
        server.surroundings[other] = evolve(server.around(other), modules={})


def _place(uri: str, folders: Sequence[str]) -> tuple[Path | None, str]:
    """The innermost workspace folder that the document is in, and its path from there; None when it is in none."""
    root = innermost(uri, folders)
    return (None, "") if root is None else (root, Path(to_fs_path(uri) or "").relative_to(root).as_posix())


def innermost(uri: str, folders: Sequence[str]) -> Path | None:
    """The innermost of the folders (their URIs) that a document's file is in."""
    path = to_fs_path(uri)
    if not path or not uri.startswith("file:"):
        return None
    roots = [Path(place) for folder in folders if (place := to_fs_path(folder))]
    inside = [root for root in roots if Path(path).is_relative_to(root)]
    return max(inside, key=lambda one: len(one.parts), default=None)


def files_of(root: Path, extension: str, most: int | None = None) -> Iterator[str]:
    """Paths of the files with this extension that are not ignored, from the root on; `most` files are looked at,
    `MOST_FILES` by default."""
    from pathspec import GitIgnoreSpec

    specs: list[tuple[str, GitIgnoreSpec]] = []
    count = 0
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root).as_posix()
        prefix = "" if here == "." else here + "/"
        if ".gitignore" in files:
            try:
                lines = (Path(folder) / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()
                specs.append((prefix, GitIgnoreSpec.from_lines(lines)))
            except (OSError, ValueError):
                logger.info("%s.gitignore can't be read", prefix)
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED and not name.startswith(".") and not _ignored(f"{prefix}{name}/", specs)
        )
        for name in sorted(files):
            count += 1
            if count > (most or MOST_FILES):
                return
            if name.endswith(extension) and not _ignored(prefix + name, specs):
                yield prefix + name


def _ignored(path: str, specs: Sequence[tuple[str, GitIgnoreSpec]]) -> bool:
    return any(path.startswith(prefix) and spec.match_file(path[len(prefix) :]) for prefix, spec in specs)
