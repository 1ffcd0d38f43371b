"""A temporary folder that leaves nothing behind, whenever the program is interrupted."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path


class TemporaryFolder:
    """A new folder, which is removed at the end of a `with` block.

    `tempfile.TemporaryDirectory` leaves its folder behind when a signal interrupts the program after the folder is made
    and before its removal is registered, or during the removal. Here the removal is registered first, and done again at
    the end of the program where it was interrupted.
    """

    def __init__(self, prefix: str = "codegen-lsp-", parent: Path | None = None) -> None:
        """Make the folder below `parent`, or in the folder of temporary files. Raises: OSError."""
        self.path = Path(parent or tempfile.gettempdir()) / (prefix + secrets.token_urlsafe(6))
        self._removal = weakref.finalize(self, _remove, self.path)
        self.path.mkdir(mode=0o700)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Remove the folder, unless it is kept."""
        if self._removal.alive:
            _remove(self.path)
        if not self.path.exists():
            self._removal.detach()

    def keep(self) -> None:
        """Do not remove the folder."""
        self._removal.detach()


def _remove(folder: Path) -> None:
    """Remove a folder and what it contains, as far as possible."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    with suppress(OSError):  # a program may have made its files read-only; links could lead out of the folder
        folder.chmod(0o700)
        for place, folders, files in os.walk(folder):
            for path in (Path(place, name) for name in (*folders, *files)):
                if not path.is_symlink():
                    path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
