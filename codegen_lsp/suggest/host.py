"""The application around the suggestion service, as idle work sees it."""

from __future__ import annotations

from typing import Protocol

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.request import ModelHandle
from codegen_lsp.workspace.files import FileAccess


class Host(Protocol):
    """The part of the application around the service that idle work needs."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        ...

    @property
    def busy(self) -> bool:
        """True while the user waits for something that needs the model, so that idle work would be in the way."""
        ...

    def snapshot(self, uri: str, offset: int) -> Snapshot | None:
        """Return an open document with the cursor at an offset; None if it must not be read or is not open."""
        ...

    def file_access(self, uri: str) -> FileAccess | None:
        """Return the files of the workspace that may be read for a document; None if it is in no workspace folder."""
        ...

    @property
    def current_model(self) -> ModelHandle:
        """The model as it is now, which may still be loading."""
        ...

    async def idle_model(self) -> ModelHandle | None:
        """Wait while a model loads, and return it; None if there is none, or if it is at work."""
        ...
