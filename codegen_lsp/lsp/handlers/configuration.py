"""Reading the settings: `initializationOptions`, then `workspace/configuration`, then each change.

An editor that answers `workspace/configuration` is asked, since its answer is complete; another sends its settings with
`workspace/didChangeConfiguration`. Later settings override earlier ones one by one.
"""

from __future__ import annotations

import asyncio
import logging

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from codegen_lsp.former_settings import FORMER_NAMES
from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.lsp.remote import question
from codegen_lsp.lsp.remote_consent import confirm
from codegen_lsp.lsp.session import Session
from codegen_lsp.lsp.workspace_models import ModelChoice, ModelOffer, keep, offer_for
from codegen_lsp.settings import SECTION, RemoteSettings, setting_names
from codegen_lsp.source.languages import IDENTIFIER_OF_SUFFIX

logger = logging.getLogger(__name__)

USE, KEEP = "Use the adapted model", "Keep the model as it is"
"""Answers to the offer of an adapted model."""
CONFIRM, DECLINE = "Send text to this server", "Use the local model"
"""Answers to the question whether a server may be used."""


async def start(session: Session) -> None:
    """Read the settings for the first time, and load the model."""
    if session.editor.capabilities.registers_configuration:
        session.background.start(session.editor.register_for_settings(SECTION))
    if session.editor.capabilities.registers_watchers:
        session.background.start(session.editor.register_for_files(IDENTIFIER_OF_SUFFIX))
    await _pull(session)
    await apply(session)


async def did_change_configuration(session: Session, params: types.DidChangeConfigurationParams) -> None:
    """`workspace/didChangeConfiguration`."""
    if not await _pull(session) and params.settings is not None:
        session.configuration.later = _section_of(params.settings)
    await apply(session)


async def apply(session: Session) -> None:
    """Put the settings in force, and report their problems to the user, each once."""
    configuration = session.configuration
    before = configuration.read()
    settings = configuration.settings
    if settings.log != before.log:
        configuration.problems += configure_logging(settings.log)
    session.metrics.enabled = settings.metrics
    if problems := configuration.unreported():
        for problem in problems:
            logger.warning("%s", problem)
        session.editor.show_warning("Settings of codegen-lsp: " + " ".join(problems))
    if settings != before:
        session.suggestions.forget()
    if (settings.model, settings.model_by_folder) != (before.model, before.model_by_folder):
        session.models.follow_settings()
    await session.models.apply()
    if (unconfirmed := session.models.unconfirmed) is not None and unconfirmed not in session.configuration.asked_about:
        session.configuration.asked_about.append(unconfirmed)
        session.background.start(_ask(session, unconfirmed))
    offer_adapted(session)


def offer_adapted(session: Session) -> None:
    """Offer a model that was adapted to the workspace, each once."""
    offer = offer_for(session.editor.folders, session.settings) if session.settings.enabled else None
    if offer is not None and offer not in session.configuration.offered:
        session.configuration.offered.append(offer)
        session.background.start(_offer(session, offer))


async def _offer(session: Session, offer: ModelOffer) -> None:
    """Ask the user about an adapted model, keep the answer, and use the model if it is wanted."""
    try:
        chosen = await session.editor.choose(offer.question, [USE, KEEP])
    except JsonRpcException as error:
        logger.warning("The editor does not ask whether an adapted model is to be used: %s", error)
        return
    if chosen is None:
        return
    try:
        await asyncio.to_thread(keep, ModelChoice(offer.folder, offer.model, chosen == USE))
    except OSError as error:
        session.editor.show_warning(f"The answer can't be kept: {error}.")
        return
    await session.models.apply()


async def _ask(session: Session, remote: RemoteSettings) -> None:
    """Have the user confirm a server, and use it then."""
    try:
        chosen = await session.editor.choose(question(remote), [CONFIRM, DECLINE])
    except JsonRpcException as error:
        logger.warning("The editor does not ask whether a server may be used: %s", error)
        return
    if chosen != CONFIRM or session.settings.remote != remote:
        return
    try:
        await asyncio.to_thread(confirm, remote)
    except OSError as error:
        session.editor.show_warning(f"The confirmation can't be kept: {error}.")
        return
    await session.models.apply()


async def _pull(session: Session) -> bool:
    """Request the settings. False if the editor can't be asked or doesn't answer."""
    with session.configuration.requested():
        answered, settings = await session.editor.pull_settings(SECTION)
    if answered:
        session.configuration.later = settings
    return answered


def _section_of(settings: object) -> object:
    """Return the section of this server from what an editor sends: the settings of all its servers, or this one's."""
    if not isinstance(settings, dict):
        return settings
    if SECTION in settings:
        return settings[SECTION]
    known = {name.split(".")[1] for name in setting_names()} | set(FORMER_NAMES)
    own = any(str(name).removeprefix(f"{SECTION}.").partition(".")[0] in known for name in settings)
    return settings if own else None
