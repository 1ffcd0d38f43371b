"""Installed builds: list, find, install, remove.

There are two places: the user's store, which `models pull` and `models convert` fill, and the models that ship with
codegen-lsp, which are read-only. A build is made in a folder whose name begins with a dot and renamed when it is
complete and verified, so all listed builds are complete. The language server imports this module, so it imports nothing
heavy.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from attrs import frozen

from codegen_lsp.checkpoints.adaptation_record import WORK, AdaptationRecord, claimed, read_record
from codegen_lsp.checkpoints.catalogue import bundled_directory, look_up, suggestions
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import METADATA, BuildInfo, read_info
from codegen_lsp.temporary_folder import TemporaryFolder

__all__ = ["InstalledBuild", "bundled_directory", "find", "install", "installed", "remove", "store_directory"]

LOG = logging.getLogger(__name__)

STORE_VARIABLE = "CODEGEN_LSP_MODELS"
"""Environment variable with another folder for the user's store."""

AUTO = "auto"

DOWNLOADS = ".downloads"
"""Subfolder of the store for checkpoints that are being fetched."""

BuildVersion = tuple[int, int, int]
"""Inode, size in bytes and time of change in nanoseconds of a build's metadata."""

FOUR_BITS = "-4bit"
"""End of the names of 4-bit builds."""

LEFT_BEHIND_SECONDS = 24 * 3600
"""Age from which a working folder is assumed to belong to a process that was killed."""


@frozen
class InstalledBuild:
    """A complete build on disk."""

    name: str
    path: Path
    info: BuildInfo
    bundled: bool
    """True for a build that ships with codegen-lsp, which is read-only."""


def store_directory() -> Path:
    """Return the user's store, which may not exist yet."""
    chosen = os.environ.get(STORE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("codegen-lsp", appauthor=False) / "models"


def installed() -> list[InstalledBuild]:
    """Return all builds, the user's first, each place sorted by name.

    Damaged builds are left out, with a warning in the log. A build of the user's hides a bundled one of the same name.
    """
    found: dict[str, InstalledBuild] = {}
    for directory, bundled in _candidates():
        if directory.name in found:
            continue
        try:
            found[directory.name] = _read(directory, bundled)
        except ModelError as error:
            LOG.warning("Left out: %s", error)
    return list(found.values())


def adapted() -> list[tuple[str, AdaptationRecord]]:
    """Return name and record of the builds in the user's store that were adapted to folders."""
    records = [(folder.name, read_record(folder)) for folder in _folders(store_directory())]
    return [(name, record) for name, record in records if record is not None]


def four_bit_name(name: str) -> str:
    """Return the name of the 4-bit build of a model by default."""
    return int8_name(name) + FOUR_BITS


def int8_name(name: str) -> str:
    """Return the name of the int8 build, by default, of a 4-bit build's."""
    return name.removesuffix(FOUR_BITS)


def find(name_or_path: str) -> InstalledBuild:
    """Return the build for a setting: `auto`, an installed build's name, a name of the catalogue, or a build's folder.

    `auto` is the bundled model, or the smallest one in the store when there is none; one with 4-bit weights only if
    they cost little or there is no other. Raises ModelError, with advice, when there is no such build or it is damaged.
    """
    wanted = name_or_path.strip()
    if wanted in ("", AUTO):
        return _default()
    builds = {directory.name: (directory, bundled) for directory, bundled in reversed(_candidates())}
    entry = look_up(wanted)
    for name in (wanted, entry.name if entry else None, _same_but_for_case(wanted, list(builds))):
        if name in builds:
            return _read(*builds[name])
    path = Path(wanted).expanduser()
    if (path / METADATA).is_file():
        return _read(path, bundled=False)
    if path.is_dir():
        raise ModelError(
            f"{path} is not a model build: it has no {METADATA}.",
            f"If it is a checkpoint, convert it first: `codegen-lsp models convert {path}`.",
        )
    if entry is not None:
        raise ModelError(f"{entry.name} is not installed.", f"Fetch it with `codegen-lsp models pull {entry.name}`.")
    near = suggestions(wanted, list(builds))
    hint = f"Did you mean {' or '.join(near)}?" if near else "See `codegen-lsp models list`."
    raise ModelError(f"There is no model called {wanted!r}.", hint)


def version_of(build: Path) -> BuildVersion | None:
    """Return the version of a build, which another one in its place has not; None if there is none any longer."""
    try:
        status = (build / METADATA).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def remove(name: str) -> Path:
    """Delete a build from the user's store, and the working files of its adaptation; return the deleted folder.

    The working files of an adaptation that was not finished are deleted as well, under the name that it was to have.
    Raises ModelError when there is no such build, when it is bundled, or when it can't be deleted.
    """
    store = store_directory()
    entry = look_up(name)
    own = [directory.name for directory in _folders(store)]
    discard_downloads(entry.name if entry else name)
    unfinished = _discard_adaptation(store, name)
    for candidate in (name, entry.name if entry else None, _same_but_for_case(name, own)):
        if candidate in own:
            return _delete(store / candidate)
    if unfinished is not None:
        return unfinished
    build = find(name)
    reason = "ships with codegen-lsp" if build.bundled else f"is not in the store {store}"
    raise ModelError(
        f"{build.name} {reason} and is not removed.", f"Delete the folder {build.path} yourself if you must."
    )


def _discard_adaptation(store: Path, name: str) -> Path | None:
    """Delete the working files of an adaptation; return their folder, None where there are none."""
    found = [folder for folder in (store / WORK).glob("*") if folder.name.lower() == name.lower()]
    for folder in found:
        try:
            with claimed(folder):
                shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(f"{folder} can't be deleted: {error}.", "Correct its permissions.") from error
    return found[0] if found else None


def download_directory(name: str, commit: str) -> Path:
    """Return the folder to fetch a checkpoint to, at one commit of its repository; delete those of other commits."""
    wanted = store_directory() / DOWNLOADS / f"{name}@{commit[:12]}"
    for other in _downloads(name):
        if other != wanted:
            shutil.rmtree(other, ignore_errors=True)
    return wanted


def discard_downloads(name: str) -> None:
    """Delete the files that were fetched of a checkpoint, complete or partial."""
    for folder in _downloads(name):
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def workspace(name: str) -> Iterator[Path]:
    """Provide an empty folder in the store to make a build in, and delete it afterwards.

    Raises ModelError when the store can't be written to.
    """
    store = writable_store()
    _sweep(store)
    with TemporaryFolder(f".making-{name}-", store) as folder:
        yield folder


def install(build: Path, name: str) -> InstalledBuild:
    """Move a finished build from its `workspace` into the store, in place of one of the same name.

    Raises ModelError when the build is incomplete or can't be moved.
    """
    read_info(build)
    target = store_directory() / checked_name(name)
    try:
        with TemporaryFolder(".replaced-", target.parent) as aside:
            try:
                if target.exists():
                    target.rename(aside / target.name)
                build.rename(target)
            except BaseException:
                put_back(target.name)
                raise
    except OSError as error:
        raise ModelError(
            f"{target} can't be replaced: {error}.", "Close the editors that use this model, then try again."
        ) from error
    return _read(target, bundled=False)


def put_back(name: str) -> None:
    """Put a build back that a killed process moved aside and did not replace."""
    for aside in store_directory().glob(f".replaced-*/{name}"):
        if not (store_directory() / name).exists():
            aside.rename(store_directory() / name)
            shutil.rmtree(aside.parent, ignore_errors=True)


def checked_name(name: str) -> str:
    """Return the name. Raises ModelError when it can't be the name of a folder in the store."""
    allowed = all(character.isalnum() or character in "._-+" for character in name)
    if not name or not allowed or name.startswith(".") or name.lower() == AUTO:
        raise ModelError(
            f"{name!r} can't be the name of a model.",
            "Use letters, digits, and `.`, `_`, `-`; not `auto`, no dot first.",
        )
    return name


def writable_store() -> Path:
    """Return the user's store, made if it is missing. Raises ModelError when it can't be written to."""
    store = store_directory()
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise ModelError(
            f"The models' folder {store} can't be written to: {error.strerror or error}.",
            f"Free the space or correct its permissions, or set {STORE_VARIABLE} to another folder.",
        ) from error
    return store


def _default() -> InstalledBuild:
    builds = installed()
    for build in builds:
        if build.bundled:
            return build
    if not builds:
        raise ModelError("No model is installed.", "Fetch one with `codegen-lsp models pull codegen-350M-mono`.")
    # 4 bits are never the default, unless they cost next to nothing.
    return min(builds, key=lambda build: (not build.info.suits_as_default, build.info.bytes))


def _candidates() -> list[tuple[Path, bool]]:
    """Return the folders with a `build.json`, the user's first, each with whether it is bundled."""
    own = [(directory, False) for directory in _folders(store_directory())]
    return own + [(directory, True) for directory in _folders(bundled_directory())]


def _folders(place: Path) -> list[Path]:
    try:
        entries = sorted(place.iterdir(), key=lambda path: path.name.lower())
    except OSError:
        return []
    return [path for path in entries if not path.name.startswith(".") and (path / METADATA).is_file()]


def _read(directory: Path, bundled: bool) -> InstalledBuild:
    return InstalledBuild(name=directory.name, path=directory, info=read_info(directory), bundled=bundled)


def _same_but_for_case(name: str, names: list[str]) -> str | None:
    return next((candidate for candidate in names if candidate.lower() == name.lower()), None)


def _downloads(name: str) -> list[Path]:
    return [folder for folder in (store_directory() / DOWNLOADS).glob("*") if folder.name.rpartition("@")[0] == name]


def _sweep(store: Path) -> None:
    """Delete leftovers of killed processes; put back a build that was moved aside and never replaced."""
    for folder in store.glob(".*-*"):
        if not folder.name.startswith((".making-", ".replaced-", ".removed-")) or _age(folder) < LEFT_BEHIND_SECONDS:
            continue
        if folder.name.startswith(".replaced-"):
            for build in folder.iterdir():
                if not (store / build.name).exists():
                    build.rename(store / build.name)
        shutil.rmtree(folder, ignore_errors=True)


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _delete(directory: Path) -> Path:
    """Move a build out of the list in one step, then delete its files."""
    try:
        aside = TemporaryFolder(".removed-", directory.parent)
        directory.rename(aside.path / directory.name)
        shutil.rmtree(aside.path)
    except OSError as error:
        raise ModelError(
            f"{directory} can't be deleted: {error}.", "Close the editors that use this model, then try again."
        ) from error
    return directory
