"""Pull a model: examine its repository on the Hugging Face Hub, fetch it, convert it, verify it, install the build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.catalogue import Checkpoint
from codegen_lsp.checkpoints.hub import fetch_all, hub_endpoint, missing_bytes
from codegen_lsp.checkpoints.hub_errors import WEBSITE, explain
from codegen_lsp.checkpoints.license_terms import LicenseTerms
from codegen_lsp.checkpoints.offer import Offer, Wanted, examine, want
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import DownloadError
from codegen_lsp.progress import ProgressReport

DOWNLOAD_SHARE = 0.7
"""Share of the download in the progress; the rest is converting and verifying."""

CONVERTED = 0.85
"""Share of the progress until the int8 build is made, if a 4-bit build is made from it."""

SPARE_DISK = 512 << 20
"""Bytes that must stay free."""

GIBIBYTE = 1 << 30


def pull(
    name: str,
    *,
    progress: ProgressReport | None = None,
    accept_license: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
    revision: str = "",
    file: str = "",
    build_name: str = "",
    group: int | None = None,
) -> InstalledBuild:
    """Fetch, convert, verify and install a model. Resumes a run that was interrupted.

    `name` is a checkpoint of the catalogue, or `ORG/NAME` for any repository of a supported kind; `revision` is a
    branch, tag or commit of it, `file` one of its GGUF files, `build_name` the name to install it by. `endpoint` is the
    address of a hub or mirror; None means the environment's HF_ENDPOINT or else the Hugging Face Hub. `token` is an
    access token; None means the environment's HF_TOKEN. A model whose licence needs consent is fetched only with
    `accept_license`. With `group`, a build with 4-bit weights in groups of this many is installed, by a name that says
    so.

    Raises DownloadError when it can't be fetched, ConversionError when it can't be converted or verified, and
    ModelError when the name is unknown or the store can't be written to.
    """
    wanted = check(want(name, build_name=build_name, revision=revision, file=file, group=group), accept_license)
    offer = find_offer(wanted, progress=progress, endpoint=endpoint, token=token)
    return install(offer, progress=progress, accept_license=accept_license, endpoint=endpoint, token=token)


def check(wanted: Wanted, accept_license: bool) -> Wanted:
    """Return what is wanted if it may be pulled here, as far as the catalogue tells. Raises DownloadError."""
    if wanted.entry is not None:
        check_license(wanted.title, license_of(wanted.entry), accept_license)
        check_memory(wanted.title, wanted.entry.architecture, wanted.group)
    return wanted


def license_of(entry: Checkpoint) -> LicenseTerms:
    """Return the terms of a checkpoint of the catalogue."""
    return LicenseTerms(entry.license, entry.needs_consent, f"{WEBSITE}/{entry.repository}")


def find_offer(
    wanted: Wanted,
    *,
    progress: ProgressReport | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    require: Callable[[str], None] = lambda extra: None,
) -> Offer:
    """Ask the hub what it has of a model, without fetching weights; arguments and errors are those of `pull`.

    `require` is called with the name of an extra that is needed to read it.
    """
    hub = hub_endpoint(endpoint)
    store.writable_store()
    (progress or _silent)(f"asking {urlsplit(hub).netloc} for {wanted.title}", 0.0)
    with _explained(wanted.repositories[0], hub):
        return examine(wanted, hub, token, require)


def install(
    offer: Offer,
    *,
    progress: ProgressReport | None = None,
    accept_license: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> InstalledBuild:
    """Fetch, convert, verify and install what a repository offers; arguments and errors are those of `pull`."""
    from codegen_lsp.checkpoints.convert import convert_checkpoint
    from codegen_lsp.checkpoints.quantize import install_made

    report = progress or _silent
    title, group = offer.wanted.title, offer.wanted.group
    check_license(title, offer.license, accept_license)
    check_memory(title, offer.architecture, group)
    hub = hub_endpoint(endpoint)
    files = offer.selection.files
    with _explained(offer.repository.name, hub):
        missing = missing_bytes(files, offer.folder, _estimate(offer))
        made = 0 if group is None else offer.architecture.four_bit_bytes(group)
        check_disk(store.writable_store(), missing + offer.conversion_disk_bytes + made)
        fetch_all(files, offer.folder, hub, token, lambda message, done: report(message, DOWNLOAD_SHARE * done))
    converted = 1.0 if group is None else CONVERTED
    with store.workspace(offer.name) as work:
        convert_checkpoint(
            offer.source,
            work / "build",
            name=offer.name,
            progress=lambda message, done: report(message, DOWNLOAD_SHARE + (converted - DOWNLOAD_SHARE) * done),
            origin=offer.origin,
            terms=offer.folder,
        )
        build = install_made(
            work / "build", offer.name, group, lambda message, done: report(message, CONVERTED + (1 - CONVERTED) * done)
        )
    store.discard_downloads(offer.name)
    return build


def decline(offer: Offer) -> None:
    """Delete what was fetched of a model that the user does not want."""
    store.discard_downloads(offer.name)


def check_license(title: str, terms: LicenseTerms, accepted: bool) -> None:
    """Raise DownloadError when a licence needs the user's consent and lacks it."""
    if terms.needs_consent and not accepted:
        raise DownloadError(
            f"{title} needs your consent to its licence ({terms.name}).",
            f"Read its terms at {terms.address}, then agree with --accept-license.",
        )


def check_memory(title: str, architecture: Architecture, group: int | None = None) -> None:
    """Raise DownloadError when this machine has not enough memory to run or to convert a model.

    With `group`, that is to run it with 4-bit weights in groups of this many, which some models can't have.
    """
    if group is not None and not architecture.has_four_bits:
        raise DownloadError(
            f"{title} can't have 4-bit weights, which only the native engine runs: it does not run this kind of model.",
            "Pull it without --bits 4.",
        )
    memory = psutil.virtual_memory()
    advice = "Choose a smaller one: `codegen-lsp models list` shows what each needs."
    needed = architecture.memory_bytes if group is None else architecture.four_bit_memory_bytes(group)
    if needed > memory.total:
        raise DownloadError(
            f"{title} takes {needed / GIBIBYTE:,.1f} GiB of memory to run; this machine has "
            f"{memory.total / GIBIBYTE:.1f}.",
            advice,
        )
    needed = architecture.conversion_bytes
    if needed > memory.available:
        raise DownloadError(
            f"{title} takes {needed / GIBIBYTE:,.1f} GiB of memory to convert; {memory.available / GIBIBYTE:.1f} are "
            "free.",
            f"Close other programs. {advice}",
        )


def check_disk(folder: Path, needed: int) -> None:
    """Raise DownloadError when the disk of `folder` has less than `needed` and `SPARE_DISK` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_DISK:
        raise DownloadError(
            f"{(needed + SPARE_DISK) / GIBIBYTE:.1f} GiB of disk space are needed in {folder}; {free / GIBIBYTE:.1f} "
            "are free.",
            f"Make room, or set {store.STORE_VARIABLE} to a folder on another disk.",
        )


def _estimate(offer: Offer) -> int:
    """Return the bytes of a download for a hub that states none."""
    entry = offer.wanted.entry
    return entry.download_mb * 1_000_000 if entry is not None else 4 * offer.architecture.parameters


@contextmanager
def _explained(repository: str, hub: str) -> Iterator[None]:
    """Replace errors of huggingface_hub and of the disk by ones in the user's terms. Raises DownloadError."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        explained = explain(error, repository, hub)
        if explained is None:
            raise
        raise explained from error


def _silent(message: str, fraction: float) -> None:
    """Report nothing."""
