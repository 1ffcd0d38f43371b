"""Where settings come from: `initializationOptions`, then `workspace/configuration`, then each change.

An editor that can be asked is asked, since what it then sends is complete; one that can't sends its settings with
`workspace/didChangeConfiguration`. Later ones go over earlier ones, setting by setting.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from codegen_lsp.settings import FORMER_NAMES, SECTION, LogSettings, Settings, setting_names, structure_settings

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

logger = logging.getLogger(__name__)

_PATIENCE = 3.0
"""Seconds that an editor has to answer before the model is loaded without its settings."""
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Configuration:
    """The settings in force, the layers they were read from, and what is wrong with them."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.problems: list[str] = []
        self.initial: object = None
        self.later: object = None
        self._reported: list[str] = []

    def read(self) -> Settings:
        """Read the layers anew and return the settings that were in force before."""
        before = self.settings
        self.settings, self.problems = structure_settings(self.initial, self.later)
        return before

    def unreported(self) -> list[str]:
        """The problems, unless they were returned by the last call."""
        new = self.problems if self.problems != self._reported else []
        self._reported = self.problems
        return new


async def start(server: CodegenServer) -> None:
    """Read the settings for the first time, and load the model."""
    workspace = server.client_capabilities.workspace
    if workspace and workspace.did_change_configuration and workspace.did_change_configuration.dynamic_registration:
        server.background(_register(server))
    await _pull(server)
    await apply(server)


async def did_change_configuration(ls: CodegenServer, params: types.DidChangeConfigurationParams) -> None:
    """`workspace/didChangeConfiguration`."""
    if not await _pull(ls) and params.settings is not None:
        ls.configuration.later = _section_of(params.settings)
    await apply(ls)


async def apply(server: CodegenServer) -> None:
    """Put the settings in force, and report what is wrong with them."""
    configuration = server.configuration
    before = configuration.read()
    settings = configuration.settings
    if settings.log != before.log:
        configuration.problems += configure_logging(settings.log)
    server.metrics.enabled = settings.metrics
    if problems := configuration.unreported():
        report(server, problems)
    if settings != before:
        server.completer.forget()
    if settings.model != before.model:
        server.models.follow_settings()
    await server.models.apply()


def report(server: CodegenServer, problems: list[str]) -> None:
    """Tell the user, once, what is wrong with the settings that he wrote."""
    for problem in problems:
        logger.warning("%s", problem)
    message = "Settings of codegen-lsp: " + " ".join(problems)
    server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, message))


def configure_logging(settings: LogSettings) -> list[str]:
    """Send the log where the settings say. Returns what is wrong with them."""
    problems: list[str] = []
    handler: logging.Handler = logging.StreamHandler()
    if settings.file:
        try:
            handler = logging.FileHandler(Path(settings.file).expanduser(), encoding="utf-8", delay=False)
        except OSError as error:
            problems.append(f"`{SECTION}.log.file` can't be written ({error}); the standard error stream is used.")
    handler.setFormatter(logging.Formatter(_FORMAT))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, logging.StreamHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    root.setLevel(level)
    # pygls logs the text of documents at its info level.
    logging.getLogger("pygls").setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
    return problems


async def _pull(server: CodegenServer) -> bool:
    """Ask the editor for its settings. False when it can't be asked or doesn't answer."""
    workspace = server.client_capabilities.workspace
    if not (workspace and workspace.configuration):
        return False
    try:
        async with asyncio.timeout(_PATIENCE):
            answers = await server.workspace_configuration_async(
                types.ConfigurationParams([types.ConfigurationItem(section=SECTION)])
            )
    except (JsonRpcException, TimeoutError) as error:
        logger.warning("The editor doesn't give its settings: %s", error or "no answer")
        return False
    server.configuration.later = answers[0] if answers else None
    return True


def _section_of(settings: object) -> object:
    """Our section of what an editor sends: the settings of all its servers, or ours alone."""
    if not isinstance(settings, dict):
        return settings
    if SECTION in settings:
        return settings[SECTION]
    known = {name.split(".")[1] for name in setting_names()} | set(FORMER_NAMES)
    ours = any(str(name).removeprefix(f"{SECTION}.").partition(".")[0] in known for name in settings)
    return settings if ours else None


async def _register(server: CodegenServer) -> None:
    """Ask to be told when settings change; VS Code tells only those who ask."""
    options = types.DidChangeConfigurationRegistrationOptions(section=SECTION)
    registration = types.Registration(
        "codegen-lsp-settings", types.WORKSPACE_DID_CHANGE_CONFIGURATION, register_options=options
    )
    try:
        await server.client_register_capability_async(types.RegistrationParams([registration]))
    except JsonRpcException as error:
        logger.warning("The editor will not tell when settings change: %s", error)
