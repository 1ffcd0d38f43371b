"""Configuration of the HTTP server."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from attrs import frozen

from codegen_lsp.errors import AddressError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8012
"""Port 8012 is the one that clients of llama.cpp's server ask by default."""


@frozen(kw_only=True)
class HttpConfig:
    """Where the server listens, and its limits."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    key_file: Path | None = None
    """File with the keys that clients must give, one on each line."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may use the server."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which the server may be asked, beside its address."""
    workspaces: tuple[Path, ...] = ()
    """Folders whose files the page at `/` may count. No other request reads from them."""
    programs: bool = False
    """True if the page at `/sessions` may have programs run, in the sandbox."""
    session_seconds: float = 600.0
    """A request of a session that takes longer is ended: it may write many turns anew."""
    max_body_bytes: int = 8 * 2**20
    max_requests: int = 256
    """Requests at once; more are answered with status 503."""
    max_requests_of_client: int = 64
    """Requests at once of one address or key; more are answered with status 429."""
    request_seconds: float = 120.0
    """A request that takes longer is answered with status 504."""
    request_arrival_seconds: float = 20.0
    """Time in which a client must send its whole request, from its connection or the first byte."""
    answer_reading_seconds: float = 60.0
    """The connection of a client that reads nothing of an answer for this time is ended."""
    keep_alive_seconds: int = 75
    """Time between two requests of a connection, after which the server ends it. It is longer than clients and proxies
    keep one by default (5 and 60 seconds): a request that is sent while the server ends its connection is lost."""
    max_connections: int = 1024
    """More are answered with status 503."""

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach the server."""
        return self.host == "localhost" or (_is_address(self.host) and ip_address(self.host).is_loopback)

    def check_exposure(self) -> None:
        """Raise AddressError if other machines can reach the server and need no key."""
        if not self.is_loopback and self.key_file is None:
            raise AddressError(
                f"Other machines can reach {self.host}, so clients must give a key.",
                "Name a file with keys: `--api-key-file FILE`. To make one: "
                "`openssl rand -hex 32 > FILE; chmod 600 FILE`.",
            )


def parse_address(text: str) -> tuple[str, int]:
    """Return the host and the port of `[HOST:]PORT`. Raises: AddressError."""
    host, colon, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not number.isascii() or not number.isdigit() or int(number) > 65535 or (colon and not host):
        raise AddressError(f"{text!r} is no address to listen on.", "Give a port, or HOST:PORT.")
    return host or DEFAULT_HOST, int(number)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
