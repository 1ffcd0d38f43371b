"""The client of the Hugging Face Hub: list and fetch the files of a repository.

This is the only module that uses the network, and only when the user asks for a download. huggingface_hub knows the
hub's addresses, tokens, mirrors and errors. Its `hf_hub_download`, however, discards what an interrupted process has
fetched, which hurts with files of 10 GB and more. So each file is fetched with its `http_get` into a partial file of
our own, which the next run resumes, and its digest is checked before it counts as fetched.

What a hub answers is checked: names and sizes of files, the commit, digests. Nothing is written beyond a stated size.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from attrs import frozen

from codegen_lsp.checkpoints.hub_errors import not_like_a_hub
from codegen_lsp.checkpoints.repository_files import RemoteFile, RemoteRepository, is_safe, largest
from codegen_lsp.errors import DownloadError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.version import __version__

IDENTITY = {"Accept-Encoding": "identity"}
"""Header that asks for uncompressed bytes: a compressed answer can't be resumed."""

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


def missing_bytes(files: Iterable[RemoteFile], folder: Path, estimate: int) -> int:
    """Return the number of bytes still to fetch to a folder; `estimate` when the hub does not state all sizes."""
    sizes = [file.size for file in files]
    if None in sizes:
        return estimate
    there = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return max(0, sum(size or 0 for size in sizes) - there)


def fetch_all(files: Iterable[RemoteFile], folder: Path, hub: str, token: str | None, report: ProgressReport) -> None:
    """Fetch files to a folder. Raises what `fetch` raises."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    from huggingface_hub.utils.logging import set_verbosity_error

    disable_progress_bars()
    set_verbosity_error()  # type: ignore[no-untyped-call]
    files = list(files)
    total = sum(file.size or 0 for file in files)
    before = 0
    for file in files:

        def on_bytes(count: int, name: str = file.name, base: int = before) -> None:
            report(f"downloading {name}", min(1.0, (base + count) / total) if total else 0.0)

        fetch(file, folder / file.local_name, hub, token, on_bytes)
        before += file.size or 0


def fetch(
    file: RemoteFile, target: Path, hub: str, token: str | None, on_bytes: Callable[[int], None] = lambda count: None
) -> None:
    """Fetch one file to `target`, resuming the partial file beside it if there is one.

    `on_bytes` is called with the number of bytes so far. A broken connection is retried as long as each attempt
    (`http_get` makes several of its own) brings new data. Raises DownloadError when the data has another digest or size
    than the hub announced, and the errors of huggingface_hub.
    """
    if target.is_file():
        on_bytes(target.stat().st_size)
        return
    source = _locate(file, hub, token)
    partial = _partial(target, source.digest)
    _receive(source, partial, source.size, on_bytes)
    if not _matches(partial, source.digest):
        partial.unlink()
        raise DownloadError(
            f"{file.name} arrived damaged: its digest is not the announced one.",
            "Run the same command again; what arrived whole is kept. A proxy or mirror may be at fault.",
        )
    partial.rename(target)


def fetch_beginning(file: RemoteFile, target: Path, hub: str, token: str | None, size: int) -> Path:
    """Fetch the first `size` bytes of a file, or all if it has fewer; return the partial file, which `fetch` resumes.

    Raises what `fetch` raises.
    """
    if target.is_file():
        return target
    source = _locate(file, hub, token)
    partial = _partial(target, source.digest)
    if _size(partial) < size:
        _receive(source, partial, size if source.size is None else min(size, source.size))
    return partial


@frozen
class _Location:
    """Where the bytes of a file are."""

    file: RemoteFile
    url: str
    headers: dict[str, str]
    size: int | None
    """Bytes of the whole file; None when the hub does not state them."""
    digest: str


class _EnoughError(Exception):
    """The bytes that were asked for have arrived."""


def _locate(file: RemoteFile, hub: str, token: str | None) -> _Location:
    """Ask the hub for address, size and digest of a file. Raises DownloadError, errors of huggingface_hub."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

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
    if None not in (file.size, remote.size) and file.size != remote.size:
        raise not_like_a_hub(hub, f"it states {file.size} bytes of {file.name} in its list, and then {remote.size}")
    size = file.size if remote.size is None else remote.size
    return _Location(file, remote.location, headers, size, digest)


def _receive(
    source: _Location, partial: Path, wanted: int | None, on_bytes: Callable[[int], None] = lambda count: None
) -> None:
    """Append to a partial file until it has the `wanted` bytes of its beginning, or with None all of them."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.file_download import http_get

    whole = wanted is None or wanted == source.size
    limit = wanted if wanted is not None else largest(source.file)
    headers = source.headers if whole else source.headers | {"Range": f"bytes=0-{(wanted or 1) - 1}"}
    while True:
        there = _size(partial)
        if wanted is not None and there > wanted:
            partial.unlink()
            there = 0
        try:
            with partial.open("ab") as out:
                http_get(
                    source.url,
                    _Counted(out, on_bytes, limit),  # type: ignore[arg-type]
                    resume_size=there,
                    headers=headers,
                    expected_size=wanted,
                    displayed_filename=source.file.name,
                )
            return
        except _EnoughError:
            if not whole:  # the server ignores ranges
                return
            partial.unlink()
            raise DownloadError(
                f"{source.file.name} is longer than the {limit} bytes that it may have.",
                "The hub, a mirror or a proxy is at fault: try another one.",
            ) from None
        except HfHubHTTPError:
            raise
        except HTTPError:
            if _size(partial) <= there:
                raise
        except ValueError as error:
            if isinstance(error, OSError):
                raise
            raise OSError(f"{source.file.name}: {error}") from error


class _Counted:
    """A file that reports its size after each write, and takes no more than `limit` bytes.

    `http_get` also seeks and truncates, when a server sends a whole file instead of the requested rest.
    """

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None], limit: int | None = None) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self._limit = limit

    def write(self, data: bytes) -> int:
        room = len(data) if self._limit is None else self._limit - self._file.tell()
        written = self._file.write(data[: max(0, room)])
        self._on_bytes(self._file.tell())
        if room < len(data):
            raise _EnoughError
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)


def list_repository(names: Iterable[str], hub: str, token: str | None, revision: str = "") -> RemoteRepository:
    """Return the first repository that exists, with its files. `revision` is a commit, a branch or a tag.

    Raises DownloadError when the answer is not one of a hub, and the errors of huggingface_hub.
    """
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
            commit = found.sha
            pinned = _COMMIT.fullmatch(revision) is not None
            if not isinstance(commit, str) or not _COMMIT.fullmatch(commit) or (pinned and revision != commit):
                # It becomes a part of a path.
                raise ValueError(f"{commit!r} is not the commit that was asked for")
            return RemoteRepository(
                name, commit, tuple(_remote_file(name, commit, file) for file in found.siblings or [])
            )
        except RepositoryNotFoundError as error:
            missing = missing or error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, HTTPError):
                raise
            raise not_like_a_hub(hub, error) from error
    assert missing is not None
    raise missing


def _remote_file(repository: str, commit: str, listed: Any) -> RemoteFile:
    """Return a file of the hub's list. Raises ValueError when its name or size can't be one."""
    name, size = listed.rfilename, listed.size
    if not isinstance(name, str) or not is_safe(name):
        raise ValueError(f"it lists the file {name!r:.200}, which is no path inside a repository")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise ValueError(f"it states the size {size!r:.200} of {name}")
    return RemoteFile(repository, commit, name, size, _listed(listed))


def _partial(target: Path, digest: str) -> Path:
    return target.with_name(f"{target.name}.{digest[:16]}.partial")


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
