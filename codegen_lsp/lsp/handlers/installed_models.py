"""Models that are installed, replaced or removed while the server runs, as in a terminal beside the editor."""

from __future__ import annotations

import asyncio
import logging

from codegen_lsp.checkpoints.store import adapted, store_directory
from codegen_lsp.lsp.handlers.configuration import offer_adapted
from codegen_lsp.lsp.session import Session
from codegen_lsp.lsp.workspace_models import forget, lost_choices

logger = logging.getLogger(__name__)

WATCH_INTERVAL = 2.0
"""Seconds between two checks of whether the store has changed."""


async def watch_store(session: Session) -> None:
    """Follow the changes of the user's store: one `stat` in each interval."""
    await report_lost_models(session)
    known = _changed_at()
    while True:
        await asyncio.sleep(WATCH_INTERVAL)
        if _changed_at() == known:
            continue
        # An installation moves the build before aside first, so a missing one may be there in a moment.
        await asyncio.sleep(WATCH_INTERVAL)
        known = _changed_at()
        if message := await session.models.follow_store():
            session.editor.show_warning(message)
        else:
            await report_lost_models(session)
        there = {name for name, _ in adapted()}
        session.configuration.offered = [offer for offer in session.configuration.offered if offer.model in there]
        offer_adapted(session)


async def report_lost_models(session: Session) -> None:
    """Tell the user once of each model that was to be used in a workspace folder and was deleted."""
    for choice in lost_choices(session.editor.folders):
        session.editor.show_warning(
            f"{choice.model}, which was to be used in {choice.folder}, is no longer installed. "
            f"The model of the settings is used there. `codegen-lsp adapt {choice.folder}` makes another one."
        )
        try:
            await asyncio.to_thread(forget, choice.model)
        except OSError as error:
            logger.warning("The answer about %s can't be deleted: %s", choice.model, error)


def _changed_at() -> int | None:
    """Return when a build was last added to the store or removed, in nanoseconds; None while there is no store."""
    try:
        return store_directory().stat().st_mtime_ns
    except OSError:
        return None
