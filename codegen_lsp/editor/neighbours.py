"""The files of the workspace that may help to complete a document, read for `completion.context`.

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

from attrs import define, field, frozen
from pygls.uris import from_fs_path, to_fs_path

from codegen_lsp.completion.context import Snippet, related
from codegen_lsp.completion.exclusions import holds_secrets
from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.editor.exclusion import excluding_pattern

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

    from codegen_lsp.editor.server import CodegenServer

logger = logging.getLogger(__name__)

MOST_FILES = 4_000
"""Files of a workspace that are listed; in larger ones the rest is not looked at."""
LARGEST = 200_000
"""Bytes of a file; larger ones are data."""
KEPT = 200
"""Texts of files that are kept."""
INTERVAL = 5.0
"""Seconds between two looks for one document."""
MIXING = ("incremental",)
"""Engines that make use of related texts."""
SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "build", "dist", "target"})


@frozen
class Request:
    """What is looked for: the document with the cursor, the workspace, and what may not be read."""

    snapshot: Snapshot
    folders: tuple[str, ...]
    """URIs of the workspace's folders."""
    exclude: tuple[str, ...]
    open_texts: Mapping[str, str]
    """Texts of the open documents by URI, which go before what is on the disk; latest used first."""


@define
class Neighbours:
    """Reads files, and keeps what it has read. One thread at a time."""

    _texts: dict[Path, tuple[int, str]] = field(factory=dict)
    """By path: the time of its last change in nanoseconds, and the text."""

    def texts(self, request: Request) -> list[str]:
        """Texts that the answer may repeat something of, in a stable order. Never raises."""
        try:
            return [snippet.text for snippet in self.snippets(request)]
        except Exception:
            logger.exception("Looking for related files failed")
            return []

    def snippets(self, request: Request) -> list[Snippet]:
        """What looks like the cursor's surroundings."""
        snapshot = request.snapshot
        root, path = _place(snapshot.uri, request.folders)
        if root is None:
            return []
        return related(
            snapshot.text,
            snapshot.offset,
            path,
            listed(root, PurePosixPath(path).suffix),
            lambda other: self._text(request, root, other),
        )

    def _text(self, request: Request, root: Path, path: str) -> str:
        """The text of a file, or nothing when it must not or can't be read."""
        place = root / path
        uri = from_fs_path(str(place)) or ""
        if holds_secrets(uri) or excluding_pattern(uri, request.folders, request.exclude):
            return ""
        if uri in request.open_texts:
            return request.open_texts[uri]
        try:
            status = place.stat()
            if status.st_size > LARGEST:
                return ""
            kept = self._texts.get(place)
            if kept is None or kept[0] != status.st_mtime_ns:
                kept = status.st_mtime_ns, place.read_text(encoding="utf-8").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError):
            return ""
        self._texts.pop(place, None)
        self._texts[place] = kept
        while len(self._texts) > KEPT:
            del self._texts[next(iter(self._texts))]
        return kept[1]


async def look_around(server: CodegenServer, uri: str, offset: int) -> None:
    """Find out which texts may help in a document, for the next suggestions in it."""
    document = server.documents.get(uri)
    model = server.status.current.model
    if document is None or model is None or model.engine not in MIXING or "context" in server.settings.without:
        return
    now = time.monotonic()
    if now - server.related_since.get(uri, -INTERVAL) < INTERVAL:
        return
    server.related_since[uri] = now
    workspace = server.workspace
    folders = tuple(workspace.folders) or ((workspace.root_uri,) if workspace.root_uri else ())
    open_texts = {other.uri: other.text for other in server.documents if not server.documents.is_lost(other.uri)}
    request = Request(document.snapshot(offset), folders, tuple(server.settings.exclude), open_texts)
    server.related[uri] = await asyncio.to_thread(server.neighbours.texts, request)


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


def listed(root: Path, extension: str, most: int | None = None) -> Iterator[str]:
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
