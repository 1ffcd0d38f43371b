"""Pull a checkpoint: fetch it from the Hugging Face Hub, convert it, verify it, install the build.

This is the only module that uses the network, and only when the user asks for a download. huggingface_hub knows the
hub's addresses, tokens, mirrors and errors; its `hf_hub_download`, however, throws away what an interrupted process has
fetched, which hurts with files of 10 GB and more. So each file is fetched with its `http_get` into a partial file of
our own, which the next run goes on with, and its digest is checked before it counts as fetched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import psutil
from attrs import frozen

import codegen_lsp
from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import Checkpoint, resolve
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import DownloadError
from codegen_lsp.progress import ProgressReport

SMALL_FILES = re.compile(
    r"config\.json|tokenizer\.json|vocab\.json|merges\.txt|added_tokens\.json|tokenizer_config\.json"
    r"|(LICENSE|NOTICE)(\.txt|\.md)?|README\.md",
    re.IGNORECASE,
)
"""What is needed beside the weights. No Python file is ever fetched."""

WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model-\d+-of-\d+\.bin|pytorch_model\.bin\.index\.json"),
)
"""Forms in which weights are published, best first; one is fetched."""

VOCABULARY = re.compile(r"vocab\.json|merges\.txt")

DOWNLOAD_SHARE = 0.7
"""Part of the progress that is the download; the rest is converting and verifying."""

SPARE_DISK = 512 << 20
"""Bytes that must stay free beside what is needed."""

GIBIBYTE = 1 << 30
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


@frozen
class RemoteFile:
    """A file of a repository at one commit."""

    repository: str
    commit: str
    name: str
    size: int | None
    """Bytes; None when the hub does not say."""


def pull(
    name: str,
    *,
    progress: ProgressReport | None = None,
    accept_license: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> InstalledBuild:
    """Fetch, convert, verify and install the checkpoint that `name` means in the catalogue.

    `endpoint` is the address of a hub or mirror, else the environment's HF_ENDPOINT, else the Hugging Face Hub; `token`
    likewise is the environment's HF_TOKEN. A checkpoint whose licence needs consent is only fetched with
    `accept_license`. A run that was interrupted is taken up where it stopped.

    Raises DownloadError for everything that keeps it from being fetched, ConversionError when it can't be converted or
    verified, and ModelError when the name is unknown or the store can't be written to.
    """
    from codegen_lsp.checkpoints.convert import convert_checkpoint

    report = progress or (lambda message, fraction: None)
    entry = resolve(name)
    check_license(entry, accept_license)
    check_memory(entry)
    hub = hub_endpoint(endpoint)
    folder = store.writable_store()
    try:
        report(f"asking {urlsplit(hub).netloc} for {entry.name}", 0.0)
        files = list_files(entry, hub, token)
        source = store.download_directory(entry.name, files[-1].commit)
        check_disk(folder, _missing_bytes(files, source, entry) + entry.architecture.int8_bytes)
        source.mkdir(parents=True, exist_ok=True)
        _fetch_all(files, source, hub, token, lambda message, done: report(message, DOWNLOAD_SHARE * done))
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


def check_license(entry: Checkpoint, accepted: bool) -> None:
    """Raise DownloadError when the checkpoint's licence needs the user's consent and has not got it."""
    if entry.needs_consent and not accepted:
        raise DownloadError(
            f"{entry.name} needs your consent to its licence ({entry.license}).",
            f"Read its terms at https://huggingface.co/{entry.repository}, then agree with --accept-license.",
        )


def check_memory(entry: Checkpoint) -> None:
    """Raise DownloadError when this machine could not run or not convert the checkpoint: better before the download
    than after it."""
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
    """Raise DownloadError when `folder`'s disk has less than `needed` bytes free, and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_DISK:
        raise DownloadError(
            f"{(needed + SPARE_DISK) / GIBIBYTE:.1f} GiB of disk space are needed in {folder}; {free / GIBIBYTE:.1f} "
            "are free.",
            f"Make room, or set {store.STORE_VARIABLE} to a folder on another disk.",
        )


def hub_endpoint(chosen: str | None) -> str:
    """Address of the hub, read from the environment now rather than when huggingface_hub was imported.

    Raises DownloadError in offline mode (HF_HUB_OFFLINE).
    """
    from huggingface_hub import constants

    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    if constants.HF_HUB_OFFLINE or offline.upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(
            "Downloads are switched off by HF_HUB_OFFLINE.",
            "Unset it, or convert a checkpoint's folder with `codegen-lsp models convert`.",
        )
    address: str = chosen or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    return address.rstrip("/")


def list_files(entry: Checkpoint, hub: str, token: str | None) -> list[RemoteFile]:
    """The files to fetch for a checkpoint, weights last; those that lend their vocabulary included.

    Raises DownloadError when the repository has no weights, and whatever huggingface_hub raises.
    """
    found = _list_repository((entry.repository, *entry.aliases), hub, token)
    forms = [_matching(form, found) for form in WEIGHTS]
    weights = next((files for files in forms if any(not file.name.endswith(".json") for file in files)), [])
    if not weights:
        raise DownloadError(f"{entry.name} has no weights on {hub}.", "If HF_ENDPOINT names a mirror, try another one.")
    small = _matching(SMALL_FILES, found)
    if entry.vocabulary_from and len(_matching(VOCABULARY, small)) < 2:
        small += _matching(VOCABULARY, _list_repository((entry.vocabulary_from,), hub, token))
    return [*small, *weights]


def fetch(
    file: RemoteFile, target: Path, hub: str, token: str | None, on_bytes: Callable[[int], None] = lambda count: None
) -> None:
    """Fetch one file to `target`, going on with the partial file beside it if there is one.

    `on_bytes` is called with the bytes there are so far. A connection that breaks is taken up again as long as each
    attempt (`http_get` makes several of its own) brings new data. Raises DownloadError when the data is not what the
    hub announced, and whatever huggingface_hub raises.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if target.is_file():
        on_bytes(target.stat().st_size)
        return
    url = hf_hub_url(file.repository, file.name, revision=file.commit, endpoint=hub)
    headers = build_hf_headers(
        token=token, library_name="codegen-lsp", library_version=codegen_lsp.__version__, headers=IDENTITY
    )
    remote = get_hf_file_metadata(url, headers=headers, endpoint=hub, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if urlsplit(remote.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)
    partial = target.with_name(f"{target.name}.{_slug(remote.etag)}.partial")
    while True:
        there = _size(partial)
        if remote.size is not None and there > remote.size:
            partial.unlink()
            there = 0
        try:
            with partial.open("ab") as out:
                http_get(
                    remote.location,
                    _Counted(out, on_bytes),  # type: ignore[arg-type]
                    resume_size=there,
                    headers=headers,
                    expected_size=remote.size,
                    displayed_filename=file.name,
                )
            break
        except HfHubHTTPError:
            raise
        except HTTPError:
            if _size(partial) <= there:
                raise
    if not _matches(partial, remote.etag):
        partial.unlink()
        raise DownloadError(
            f"{file.name} arrived damaged: its digest is not the one the hub announced.",
            "Run the same command again; what arrived whole is kept. A proxy or mirror may be at fault.",
        )
    partial.rename(target)


def explain(error: Exception, what: str, hub: str) -> DownloadError | None:
    """What a failed download means to the user, and what to do; None for an error that is a bug.

    Timeouts and refused connections are told by the names of their classes: huggingface_hub has changed its HTTP
    library twice, and each has its own.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    kept = "Run the same command again; what has arrived is kept."
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error.response.status_code, error.response.headers, what, hub)
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadError("Downloads are switched off by HF_HUB_OFFLINE.", "Unset it.")
    if isinstance(error, HTTPError) and "TimeoutException" in kinds:
        return DownloadError(f"{hub} stopped answering.", f"Check the network. {kept}")
    if isinstance(error, HTTPError) and {"ConnectError", "ProxyError", "UnsupportedProtocol"} & kinds:
        return DownloadError(
            f"{hub} can't be reached: {error}.", "Check the network and proxy, or set HF_ENDPOINT to a mirror."
        )
    if isinstance(error, HTTPError):
        return DownloadError(f"The connection to {hub} broke: {error}.", f"Check the network. {kept}")
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return DownloadError(
            f"The disk is full: {error}.", f"Make room, or set {store.STORE_VARIABLE} to another disk. {kept}"
        )
    if isinstance(error, OSError) and error.errno in NO_PERMISSION:
        return DownloadError(f"{what} can't be written: {error}.", "Correct the permissions of that folder.")
    if isinstance(error, OSError):
        return DownloadError(f"{what} did not arrive whole: {error}.", kept)
    return None


def _explain_status(status: int, headers: Any, what: str, hub: str) -> DownloadError:
    if status in (401, 403):
        return DownloadError(
            f"{hub} refuses access to {what} (HTTP {status}): it is gone, or not open to everybody.",
            "If you have access, log in with `hf auth login` or set HF_TOKEN; else try another mirror.",
        )
    if status == 404:
        return DownloadError(
            f"{what} is not on {hub} (HTTP 404).", "Check HF_ENDPOINT, or update codegen-lsp: it may have moved."
        )
    if status == 429:
        wait = str(headers.get("Retry-After", ""))
        when = f"in {wait} seconds" if wait.isdigit() else "in a few minutes"
        return DownloadError(
            f"{hub} has had too many requests from here (HTTP 429).",
            f"Run the same command again {when}; what has arrived is kept. Logging in raises the limit.",
        )
    return DownloadError(
        f"{hub} has a fault of its own (HTTP {status}).", "Run the same command again later; what has arrived is kept."
    )


IDENTITY = {"Accept-Encoding": "identity"}
"""Bytes as they are: a compressed answer can't be taken up in the middle."""


class _Counted:
    """A file that tells how many bytes it holds whenever some are written. `http_get` also seeks and truncates, when a
    server sends the whole file where the rest of it was asked for."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._on_bytes(self._file.tell())
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)


def _fetch_all(files: list[RemoteFile], folder: Path, hub: str, token: str | None, report: ProgressReport) -> None:
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    from huggingface_hub.utils.logging import set_verbosity_error

    disable_progress_bars()
    set_verbosity_error()  # type: ignore[no-untyped-call]
    total = sum(file.size or 0 for file in files)
    before = 0
    for file in files:

        def on_bytes(count: int, name: str = file.name, base: int = before) -> None:
            report(f"downloading {name}", min(1.0, (base + count) / total) if total else 0.0)

        fetch(file, folder / file.name, hub, token, on_bytes)
        before += file.size or 0


def _list_repository(names: Iterable[str], hub: str, token: str | None) -> list[RemoteFile]:
    """Files of the first of the repositories that exists."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

    missing: Exception | None = None
    for name in names:
        try:
            api = HfApi(endpoint=hub, token=token, library_name="codegen-lsp", library_version=codegen_lsp.__version__)
            found = api.model_info(name, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            return [RemoteFile(name, found.sha or "main", file.rfilename, file.size) for file in found.siblings or []]
        except RepositoryNotFoundError as error:
            missing = missing or error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, HTTPError):
                raise
            raise DownloadError(
                f"{hub} does not answer like a Hugging Face Hub: {error}.",
                "Check HF_ENDPOINT, and whether a proxy or a login page of the network is in the way.",
            ) from error
    assert missing is not None
    raise missing


def _matching(pattern: re.Pattern[str], files: Iterable[RemoteFile]) -> list[RemoteFile]:
    return sorted((file for file in files if pattern.fullmatch(file.name)), key=lambda file: file.name)


def _missing_bytes(files: list[RemoteFile], folder: Path, entry: Checkpoint) -> int:
    """Bytes still to fetch; by the catalogue's estimate when the hub does not state sizes."""
    if any(file.size is None for file in files):
        return entry.download_mb * 1_000_000
    there = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return max(0, sum(file.size or 0 for file in files) - there)


def _matches(path: Path, etag: str | None) -> bool:
    """Whether a file has the digest that the hub uses as its tag: SHA-256 for large files, git's blob id for others.
    Other tags (of mirrors) tell nothing."""
    if etag is not None and re.fullmatch(r"[0-9a-f]{64}", etag):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == etag
    if etag is not None and re.fullmatch(r"[0-9a-f]{40}", etag):
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == etag
    return True


def _slug(etag: str | None) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", etag or "")[:16] or "untagged"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
