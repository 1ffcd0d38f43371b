"""Message bodies between a server and a worker that several servers may share."""

from __future__ import annotations

from attrs import frozen


@frozen
class HandshakeParams:
    """The first message of a server to a shared worker."""

    digest: str
    """Digest of everything that must be equal on both sides (`client.shared_worker.digest_of`)."""


@frozen
class HandshakeResult:
    """The answer to `HandshakeParams`."""

    pid: int
    clients: int
    """Number of connected servers, this one included."""
    socket_inode: int
    """Inode of the socket that the worker listens on."""


@frozen
class ClientCount:
    """Notification to all servers when one connects or disconnects."""

    clients: int
