"""The address of a server that runs the model for this one, and the rules that it must keep."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from attrs import field, frozen

from codegen_lsp.errors import SettingsError

DEFAULT_PORTS = {"http": 80, "https": 443}


@frozen
class RemoteServer:
    """A server that runs the model, and how to reach it."""

    scheme: str
    """`http` or `https`."""
    host: str
    port: int
    path: str = ""
    """Path of its endpoints, as behind a proxy; without a slash at the end."""
    key: str = field(default="", repr=False)
    ca_file: str = ""
    """File of the certificates that the server's must be signed by; empty for those of the system."""
    allow_http: bool = False
    """True if text may be sent to another machine without encryption."""
    send_workspace: bool = False
    """True if text of other files than the document may be sent."""

    @property
    def encrypted(self) -> bool:
        """True for https."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host and port, as the header `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def name(self) -> str:
        """The address, for messages."""
        return f"{self.scheme}://{self.authority}{self.path}"


def remote_server(
    url: str, *, key: str = "", ca_file: str = "", allow_http: bool = False, send_workspace: bool = False
) -> RemoteServer:
    """Return the server at a URL. Raises SettingsError when text must not be sent to it."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{url!r} is not a URL: {error}.") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise SettingsError(f"{url!r} is not the URL of a server.", "It begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise SettingsError("A URL must not hold a key or a password.", "Put the key into a file: `remote.key_file`.")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise SettingsError(f"{url!r} has parts that the URL of a server can't have.")
    if parts.scheme == "http" and not allow_http and not may_be_loopback(host):
        raise SettingsError(f"Text is not sent to {host} without encryption.", "Use https, or set `remote.allow_http`.")
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError("The key of the server has characters that a key can't have.")
    return RemoteServer(
        parts.scheme,
        host,
        port or DEFAULT_PORTS[parts.scheme],
        parts.path.rstrip("/"),
        key,
        ca_file,
        allow_http,
        send_workspace,
    )


def may_be_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or number; the connection's own address is checked later."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
