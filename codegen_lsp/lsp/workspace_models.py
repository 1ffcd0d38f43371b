"""Which model runs in a workspace: that of the settings, or one that was adapted to it (`codegen-lsp adapt`).

An adapted model is never chosen silently: it is offered once in the folders that it was adapted to, and the answer is
kept in the user's folder for settings. The setting `model_by_folder` and a model that the setting `model` names decide
without a question.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cattrs
import platformdirs
from attrs import frozen

from codegen_lsp.checkpoints import store
from codegen_lsp.file_replacement import PRIVATE, replace_file
from codegen_lsp.settings import Settings
from codegen_lsp.workspace.uris import path_of

logger = logging.getLogger(__name__)

FILE = "workspace-models.json"
MAX_BYTES = 1_000_000


@frozen
class ModelChoice:
    """The user's answer to an offer."""

    folder: str
    """The workspace folder, as an absolute path."""
    model: str
    """The adapted model that was offered."""
    use: bool


@frozen
class ModelOffer:
    """An adapted model that the user was not asked about yet."""

    folder: str
    model: str
    base: str
    finished: str

    @property
    def question(self) -> str:
        """The question by which it is offered."""
        return (
            f"{self.model} was adapted to the code in {self.folder} on {self.finished}, from {self.base}. Use it in "
            "this folder? `codegen-lsp models remove` takes it away again."
        )


def choices_file() -> Path:
    """Return the path of the file with the answers, which may not exist yet."""
    return platformdirs.user_config_path("codegen-lsp", appauthor=False) / FILE


def choices() -> list[ModelChoice]:
    """Return the answers that are kept; none if the file can't be read."""
    try:
        with choices_file().open("rb") as file:
            return cattrs.structure(json.loads(file.read(MAX_BYTES)), list[ModelChoice])
    except FileNotFoundError:
        return []
    except Exception as error:
        logger.warning("%s can't be read: %s", choices_file(), error)
        return []


def keep(choice: ModelChoice) -> None:
    """Keep an answer, in place of one about the same folder and model. Raises: OSError."""
    _write([*(one for one in choices() if (one.folder, one.model) != (choice.folder, choice.model)), choice])


def forget(model: str) -> list[ModelChoice]:
    """Delete the answers about a model, and return them. Raises: OSError."""
    kept = choices()
    forgotten = [one for one in kept if one.model == model]
    if forgotten:
        _write([one for one in kept if one.model != model])
    return forgotten


def _write(answers: Sequence[ModelChoice]) -> None:
    """Write the file with the answers, whole or not at all; without answers, delete it."""
    path = choices_file()
    if not answers:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content: Any = cattrs.unstructure(list(answers))
    replace_file(path, json.dumps(content, indent=2).encode(), PRIVATE)


def model_of_workspace(folders: Sequence[str], settings: Settings) -> str:
    """Return the model for the workspace folders, given as URIs: a name or path as in the setting `model`."""
    for folder in _paths(folders):
        for named, model in settings.model_by_folder.items():
            if folder.is_relative_to(Path(named).expanduser()):
                return model
    chosen = {(one.folder, one.model) for one in choices() if one.use}
    for offer in _adapted(folders, settings):
        if (offer.folder, offer.model) in chosen:
            return offer.model
    return settings.model


def lost_choices(folders: Sequence[str]) -> list[ModelChoice]:
    """Return the answers by which a model is to be used in the workspace folders that is in the store no longer."""
    there = {name for name, _ in store.adapted()}
    here = {str(folder) for folder in _paths(folders)}
    return [one for one in choices() if one.use and one.folder in here and one.model not in there]


def offer_for(folders: Sequence[str], settings: Settings) -> ModelOffer | None:
    """Return an adapted model that the user is to be asked about; None if there is none."""
    named = [Path(folder).expanduser() for folder in settings.model_by_folder]
    answered = {(one.folder, one.model) for one in choices()}
    for offer in _adapted(folders, settings):
        decided = any(Path(offer.folder).is_relative_to(folder) for folder in named)
        if (offer.folder, offer.model) not in answered and not decided:
            return offer
    return None


def _adapted(folders: Sequence[str], settings: Settings) -> list[ModelOffer]:
    """Return the models that were adapted to the workspace folders from the model of the settings, newest first."""
    found = []
    for name, record in store.adapted():
        if settings.model not in (store.AUTO, record.base, name):
            continue
        for folder in _paths(folders):
            if any(folder.is_relative_to(one) or one.is_relative_to(folder) for one in record.folders):
                found.append(ModelOffer(str(folder), name, record.base, record.finished))
    return sorted(found, key=lambda offer: offer.finished, reverse=True)


def _paths(folders: Sequence[str]) -> list[Path]:
    return [Path(os.path.realpath(path)) for folder in folders if (path := path_of(folder))]
