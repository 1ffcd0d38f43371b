"""Pull a checkpoint: fetch it from the Hugging Face Hub, convert it, verify it, install the build."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import Checkpoint, resolve
from codegen_lsp.checkpoints.hub import explain, fetch_all, hub_endpoint, list_files, missing_bytes
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import DownloadError
from codegen_lsp.progress import ProgressReport

DOWNLOAD_SHARE = 0.7
"""Share of the download in the progress; the rest is converting and verifying."""

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
) -> InstalledBuild:
    """Fetch, convert, verify and install a checkpoint of the catalogue. Resumes a run that was interrupted.

    `endpoint` is the address of a hub or mirror; None means the environment's HF_ENDPOINT or else the Hugging Face Hub.
    `token` is an access token; None means the environment's HF_TOKEN. A checkpoint whose licence needs consent is
    fetched only with `accept_license`.

    Raises DownloadError when it can't be fetched, ConversionError when it can't be converted or verified, and
    ModelError when the name is unknown or the store can't be written to.
    """
    from codegen_lsp.checkpoints.convert import convert_checkpoint

    report = progress or (lambda message, fraction: None)
    entry = check(name, accept_license)
    hub = hub_endpoint(endpoint)
    folder = store.writable_store()
    try:
        report(f"asking {urlsplit(hub).netloc} for {entry.name}", 0.0)
        files = list_files(entry, hub, token)
        source = store.download_directory(entry.name, files[-1].commit)
        check_disk(folder, missing_bytes(files, source, entry) + entry.architecture.int8_bytes)
        source.mkdir(parents=True, exist_ok=True)
        fetch_all(files, source, hub, token, lambda message, done: report(message, DOWNLOAD_SHARE * done))
    except DownloadError:
        raise
    except Exception as error:
        explained = explain(error, entry.name, hub)
        if explained is None:
            raise
        raise explained from error
    with store.workspace(entry.name) as work:
        convert_checkpoint(
            source,
            work / "build",
            name=entry.name,
            progress=lambda message, done: report(message, DOWNLOAD_SHARE + (1 - DOWNLOAD_SHARE) * done),
            origin=f"{files[-1].repository}@{files[-1].commit}",
        )
        build = store.install(work / "build", entry.name)
    store.discard_downloads(entry.name)
    return build


def check(name: str, accept_license: bool) -> Checkpoint:
    """Return the checkpoint of a name if it may be pulled here. Raises ModelError and DownloadError."""
    entry = resolve(name)
    check_license(entry, accept_license)
    check_memory(entry)
    return entry


def check_license(entry: Checkpoint, accepted: bool) -> None:
    """Raise DownloadError when the checkpoint's licence needs the user's consent and lacks it."""
    if entry.needs_consent and not accepted:
        raise DownloadError(
            f"{entry.name} needs your consent to its licence ({entry.license}).",
            f"Read its terms at https://huggingface.co/{entry.repository}, then agree with --accept-license.",
        )


def check_memory(entry: Checkpoint) -> None:
    """Raise DownloadError when this machine has not enough memory to run or to convert the checkpoint."""
    memory = psutil.virtual_memory()
    advice = "Choose a smaller one: `codegen-lsp models list` shows what each needs."
    needed = entry.architecture.memory_bytes
    if needed > memory.total:
        raise DownloadError(
            f"{entry.name} takes {needed / GIBIBYTE:.1f} GiB of memory to run; this machine has "
            f"{memory.total / GIBIBYTE:.1f}.",
            advice,
        )
    needed = entry.architecture.conversion_bytes
    if needed > memory.available:
        raise DownloadError(
            f"{entry.name} takes {needed / GIBIBYTE:.1f} GiB of memory to convert; {memory.available / GIBIBYTE:.1f} "
            "are free.",
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
