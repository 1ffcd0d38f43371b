"""Names: the repository that a user means, and the name under which its build is installed."""

from __future__ import annotations

import re

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.errors import ModelError

ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""An owner and a name, as the hub allows them."""
REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,199}", re.ASCII)


def repository_in(name: str) -> str | None:
    """Return the repository that `ORG/NAME`, or its address on the hub, names; None for other names."""
    bare = ADDRESS.sub("", name.strip(), count=1).rstrip("/")
    return bare if REPOSITORY.fullmatch(bare) and ".." not in bare and "--" not in bare else None


def checked_revision(revision: str) -> str:
    """Return the revision. Raises ModelError when it can't be a branch, a tag or a commit."""
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ModelError(
            f"{revision!r:.200} can't be a revision.", "Give a branch, a tag or a commit of the repository."
        )
    return revision


def name_for(repository: str, chosen: str = "") -> str:
    """Return the name for the build of a repository that is not in the catalogue.

    It is the repository's, or with the owner before it where the catalogue or another installed model has that name.
    `chosen` is the user's. Raises ModelError when the name can't be one, or is another model's.
    """
    if chosen:
        name = store.checked_name(chosen)
        if reason := _taken(name, repository):
            raise ModelError(f"{name} {reason}.", "Choose another name with --name.")
        return name
    owner, _, last = repository.partition("/")
    for name in (last, f"{owner}-{last}"):
        if not _taken(name, repository):
            return store.checked_name(name)
    raise ModelError(
        f"The names {last} and {owner}-{last} are those of other models.", "Choose a name with --name NAME."
    )


def _taken(name: str, repository: str) -> str:
    """Return why a name is another model's, as the rest of a sentence; empty if it is free or this repository's."""
    if look_up(name) is not None:
        return "is the name of a checkpoint of the catalogue"
    for build in store.installed():
        if build.name.lower() == name.lower() and build.info.source.partition("@")[0].lower() != repository.lower():
            return f"is the name of an installed model, which was made from {build.info.source}"
    return ""
