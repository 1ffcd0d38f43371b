"""Explain what failed in a download, in the user's terms."""

from __future__ import annotations

import errno
from typing import Any

from codegen_lsp.checkpoints import store
from codegen_lsp.errors import DownloadError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)
KEPT = "Run the same command again; what has arrived is kept."
WEBSITE = "https://huggingface.co"
"""Where people read a repository's terms and ask for access, whatever mirror serves its files."""


def explain(error: Exception, what: str, hub: str) -> DownloadError | None:
    """Return the error to show for a failed download; None for an error that is a bug.

    `what` is the repository. Timeouts and refused connections are recognised by the names of their classes:
    huggingface_hub has changed its HTTP library twice, and each library has classes of its own.
    """
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined]

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error.response.status_code, error.response.headers, what, hub)
    if isinstance(error, OfflineModeIsEnabled):
        return DownloadError("Downloads are switched off by HF_HUB_OFFLINE.", "Unset it.")
    if isinstance(error, HTTPError) and "TimeoutException" in kinds:
        return DownloadError(f"{hub} stopped answering.", f"Check the network. {KEPT}")
    if isinstance(error, HTTPError) and {"ConnectError", "ProxyError", "UnsupportedProtocol"} & kinds:
        return DownloadError(
            f"{hub} can't be reached: {error}.", "Check the network and proxy, or set HF_ENDPOINT to a mirror."
        )
    if isinstance(error, HTTPError):
        return DownloadError(f"The connection to {hub} broke: {error}.", f"Check the network. {KEPT}")
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return DownloadError(
            f"The disk is full: {error}.", f"Make room, or set {store.STORE_VARIABLE} to another disk. {KEPT}"
        )
    if isinstance(error, OSError) and error.errno in NO_PERMISSION:
        return DownloadError(f"{what} can't be written: {error}.", "Correct the permissions of that folder.")
    if isinstance(error, OSError):
        return DownloadError(f"{what} did not arrive whole: {error}.", KEPT)
    return None


def not_like_a_hub(hub: str, reason: object) -> DownloadError:
    """Return the error for an answer that no hub gives."""
    return DownloadError(
        f"{hub} does not answer like a Hugging Face Hub: {reason}.",
        "Check HF_ENDPOINT, and whether a proxy or a login page of the network is in the way.",
    )


def _explain_status(status: int, headers: Any, what: str, hub: str) -> DownloadError:
    code = headers.get("X-Error-Code")
    if status in (401, 403) and code == "GatedRepo":
        return DownloadError(
            f"{hub} refuses access to {what} (HTTP {status}): it is gated, its owner gives it to those who agree to "
            "terms.",
            f"Agree to them at {WEBSITE}/{what}, then log in with `hf auth login` or set HF_TOKEN.",
        )
    if status in (401, 403):
        return DownloadError(
            f"{hub} refuses access to {what} (HTTP {status}): it does not exist, or is not open to everybody.",
            "Check the name. If you have access, log in with `hf auth login` or set HF_TOKEN; else try another mirror.",
        )
    if status == 404 and code == "RevisionNotFound":
        return DownloadError(f"{what} has no such revision (HTTP 404).", "Give a branch, a tag or a commit of it.")
    if status == 404:
        return DownloadError(
            f"{what} is not on {hub} (HTTP 404).",
            "Check the name and HF_ENDPOINT, or update codegen-lsp: it may have moved.",
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
