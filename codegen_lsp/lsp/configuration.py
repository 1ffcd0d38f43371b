"""The settings in force, and the layers they are read from: `initializationOptions`, then those sent later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from attrs import evolve

from codegen_lsp.lsp.workspace_models import ModelOffer
from codegen_lsp.settings import SECTION, RemoteSettings, Settings, structure_settings


class Configuration:
    """The settings in force, their layers, and their problems."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.problems: list[str] = []
        self.initial: object = None
        """`initializationOptions`."""
        self.later: object = None
        """The newest of `workspace/configuration` and `workspace/didChangeConfiguration`."""
        self.may_name_log_file = True
        """False for a client of a socket: the log belongs to whoever started the server."""
        self.may_name_remote = True
        """False for a client of a socket: the key, and the text of files, belong to whoever started the server."""
        self.asked_about: list[RemoteSettings] = []
        """Servers whose confirmation the user was asked for, so that each is asked for once."""
        self.offered: list[ModelOffer] = []
        """Adapted models that the user was asked about, so that each is offered once."""
        self._reported: list[str] = []
        self._requests = 0
        self._answered = asyncio.Event()

    @property
    def is_requested(self) -> bool:
        """True while the editor is asked for the settings."""
        return self._requests > 0

    @contextmanager
    def requested(self) -> Iterator[None]:
        """Mark the time in which the editor is asked for the settings."""
        self._requests += 1
        self._answered.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._answered.set()

    async def answered(self) -> None:
        """Wait until the editor has answered, or has been silent for too long."""
        if self.is_requested:
            await self._answered.wait()

    def read(self) -> Settings:
        """Read the layers anew and return the settings that were in force before."""
        before = self.settings
        self.settings, self.problems = structure_settings(self.initial, self.later)
        if self.settings.log.file and not self.may_name_log_file:
            self.settings = evolve(self.settings, log=evolve(self.settings.log, file=""))
            self.problems.append(f"`{SECTION}.log.file` is ignored: clients of a socket can't choose the log file.")
        if self.settings.remote.url and not self.may_name_remote:
            self.settings = evolve(self.settings, remote=RemoteSettings())
            self.problems.append(f"`{SECTION}.remote` is ignored: clients of a socket can't choose another server.")
        return before

    def unreported(self) -> list[str]:
        """Return the problems, or an empty list if the last call returned the same ones."""
        new = self.problems if self.problems != self._reported else []
        self._reported = self.problems
        return new
