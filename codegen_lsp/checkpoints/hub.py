"""The client of the Hugging Face Hub: list and fetch the files of a repository, explain what failed.

This is the only module that uses the network, and only when the user asks for a download. huggingface_hub knows the
hub's addresses, tokens, mirrors and errors. Its `hf_hub_download`, however, discards what an interrupted process has
fetched, which hurts with files of 10 GB and more. So each file is fetched with its `http_get` into a partial file of
our own, which the next run resumes, and its digest is checked before it counts as fetched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from attrs import evolve, frozen

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.catalogue import Checkpoint
from codegen_lsp.errors import DownloadError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.version import __version__

SMALL_FILES = re.compile(
    r"config\.json|tokenizer\.json|vocab\.json|merges\.txt|added_tokens\.json|tokenizer_config\.json"
    r"|(LICENSE|NOTICE)(\.txt|\.md)?|README\.md",
    re.IGNORECASE,
)
"""Files needed beside the weights. A Python file is never fetched."""

WEIGHTS = (
    re.compile(r"model\.safetensors"),
    re.compile(r"model-\d+-of-\d+\.safetensors|model\.safetensors\.index\.json"),
    re.compile(r"pytorch_model\.bin"),
    re.compile(r"pytorch_model-\d+-of-\d+\.bin|pytorch_model\.bin\.index\.json"),
)
"""Forms in which weights are published, best first; one is fetched."""

VOCABULARY = re.compile(r"vocab\.json|merges\.txt")

IDENTITY = {"Accept-Encoding": "identity"}
"""Header that asks for uncompressed bytes: a compressed answer can't be resumed."""

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
    digest: str = ""
    """SHA-256, or git's blob id of 40 digits; of the catalogue, else of the hub's list; empty if neither has one."""


_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def sends_tokens_to(url: str) -> bool:
    """Return whether an access token may be sent to an address: encrypted, or on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def hub_endpoint(chosen: str | None) -> str:
    """Return the hub's address, from the environment as it is now, not as it was when huggingface_hub was imported.

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
    """Return the files to fetch for a checkpoint, weights last. A vocabulary may come from another repository.

    Raises DownloadError when the repository has no weights, and the errors of huggingface_hub.
    """
    found = _list_repository((entry.repository, *entry.aliases), hub, token, entry.revision)
    found = [evolve(file, digest=entry.digests.get(file.name, file.digest)) for file in found]
    forms = [_matching(form, found) for form in WEIGHTS]
    weights = next((files for files in forms if any(not file.name.endswith(".json") for file in files)), [])
    if not weights:
        raise DownloadError(f"{entry.name} has no weights on {hub}.", "If HF_ENDPOINT names a mirror, try another one.")
    small = _matching(SMALL_FILES, found)
    if entry.vocabulary_from and len(_matching(VOCABULARY, small)) < 2:
        small += _matching(VOCABULARY, _list_repository((entry.vocabulary_from,), hub, token))
    return [*small, *weights]


def missing_bytes(files: list[RemoteFile], folder: Path, entry: Checkpoint) -> int:
    """Return the number of bytes still to fetch; by the catalogue's estimate when the hub does not state sizes."""
    if any(file.size is None for file in files):
        return entry.download_mb * 1_000_000
    there = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return max(0, sum(file.size or 0 for file in files) - there)


def fetch_all(files: list[RemoteFile], folder: Path, hub: str, token: str | None, report: ProgressReport) -> None:
    """Fetch files to a folder. Raises what `fetch` raises."""
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


def fetch(
    file: RemoteFile, target: Path, hub: str, token: str | None, on_bytes: Callable[[int], None] = lambda count: None
) -> None:
    """Fetch one file to `target`, resuming the partial file beside it if there is one.

    `on_bytes` is called with the number of bytes so far. A broken connection is retried as long as each attempt
    (`http_get` makes several of its own) brings new data. Raises DownloadError when the data has another digest than
    the hub announced, and the errors of huggingface_hub.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if target.is_file():
        on_bytes(target.stat().st_size)
        return
    url = hf_hub_url(file.repository, file.name, revision=file.commit, endpoint=hub)
    # False, not None: huggingface_hub would use the token of the environment or of a login.
    sent = token if sends_tokens_to(url) else False
    headers = build_hf_headers(
        token=sent,
        library_name="codegen-lsp",
        library_version=__version__,
        headers=IDENTITY,
    )
    remote = get_hf_file_metadata(url, token=sent, headers=headers, endpoint=hub, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    if urlsplit(remote.location)[:2] != urlsplit(url)[:2]:
        headers.pop("authorization", None)
    digest = file.digest or (remote.etag or "").strip('"')
    if not _DIGEST.fullmatch(digest):
        raise DownloadError(
            f"{hub} does not state the digest of {file.name}, so it can't be checked.",
            "Use another mirror, or download the checkpoint yourself and run `codegen-lsp models convert`.",
        )
    partial = target.with_name(f"{target.name}.{digest[:16]}.partial")
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
    if not _matches(partial, digest):
        partial.unlink()
        raise DownloadError(
            f"{file.name} arrived damaged: its digest is not the announced one.",
            "Run the same command again; what arrived whole is kept. A proxy or mirror may be at fault.",
        )
    partial.rename(target)


def explain(error: Exception, what: str, hub: str) -> DownloadError | None:
    """Return the error to show for a failed download; None for an error that is a bug.

    Timeouts and refused connections are recognised by the names of their classes: huggingface_hub has changed its HTTP
    library twice, and each library has classes of its own.
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


class _Counted:
    """A file that reports its size after each write.

    `http_get` also seeks and truncates, when a server sends a whole file instead of the requested rest.
    """

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


def _list_repository(names: Iterable[str], hub: str, token: str | None, revision: str = "") -> list[RemoteFile]:
    """Return the files of the first repository that exists. Raises DownloadError, errors of huggingface_hub."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

    missing: Exception | None = None
    for name in names:
        try:
            sent = token if sends_tokens_to(hub) else False
            api = HfApi(endpoint=hub, token=sent, library_name="codegen-lsp", library_version=__version__)
            found = api.model_info(
                name,
                revision=revision or None,
                files_metadata=True,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
                token=sent,
            )
            if not isinstance(found.sha, str) or not _COMMIT.fullmatch(found.sha) or revision not in ("", found.sha):
                # It becomes a part of a path.
                raise ValueError(f"{found.sha!r} is not the commit that was asked for")
            return [
                RemoteFile(name, found.sha, file.rfilename, file.size, _listed(file)) for file in found.siblings or []
            ]
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


def _listed(file: Any) -> str:
    """Return the digest of a file in the hub's list; empty if there is none."""
    found = file.lfs.sha256 if file.lfs is not None else file.blob_id
    return found if isinstance(found, str) and _DIGEST.fullmatch(found) else ""


def _matches(path: Path, digest: str) -> bool:
    """Return whether a file has a digest: SHA-256 for large files, git's blob id for others."""
    if len(digest) == 64:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == digest


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
