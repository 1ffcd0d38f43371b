"""The environment of a process that uses Ray, set before Ray is imported, since Ray reads a part of it then."""

from __future__ import annotations

import os
from pathlib import Path

from codegen_lsp.errors import ClusterError

TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
CLOSED_PROXY = "http://127.0.0.1:9"
"""The discard service's port, where nothing listens."""

QUIET = {
    # Ray's report of usage to its makers.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray Serve's proxy is uvicorn, which would believe `X-Forwarded-For` of clients on its own machine.
    "FORWARDED_ALLOW_IPS": "",
}
LOOPBACK = {
    # Ray binds to the loopback address where a cluster has one node only: always on macOS and Windows, and on Linux
    # with this variable, in spite of its name (ENABLE_RAY_CLUSTER in ray/_private/ray_constants.py).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
LOCAL = {
    # Even without the report, a process of Ray asks the metadata services of clouds at its start on which of them it
    # runs (ray/_common/usage/usage_lib.py). These requests follow the variables for proxies, and end on this machine.
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED_PROXY),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
    "RAY_AUTH_MODE": "token",
}


def prepare(address: str | None) -> None:
    """Set the environment of this process and of those that it starts, for the cluster at an address.

    None is a cluster of this process. Raises: ClusterError when Ray's token, which protects that, is turned off.
    """
    os.environ.update(QUIET)
    if address is None:
        if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
            raise ClusterError(
                "RAY_AUTH_MODE turns off the token of Ray's clusters. Without it, other users of this machine could "
                "run programs as you.",
                "Unset RAY_AUTH_MODE.",
            )
        os.environ.update(LOOPBACK | LOCAL)
        return
    if is_loopback(address):
        os.environ.update(LOOPBACK)  # else Ray would look for it at this machine's address in its network
    if has_token():  # as Ray's own commands do; a cluster without a token ignores it
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def has_token() -> bool:
    """Return true if the user has a token for Ray's clusters."""
    return any(os.environ.get(name) for name in TOKEN_VARIABLES) or token_path().is_file()


def token_path() -> Path:
    """Return where Ray keeps the user's token, unless a variable says otherwise."""
    return Path.home() / ".ray" / "auth_token"


def is_loopback(address: str) -> bool:
    """Return true if HOST:PORT is on this machine's loopback address."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return host in ("localhost", "::1") or host.startswith("127.")
