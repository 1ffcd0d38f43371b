"""Messages between a language server and an HTTP server of this project that runs the model for it.

The bodies are those of `messages`, as JSON, in an envelope with the number of the protocol. Both ends import this
module: `client.remote` sends the requests, `codegen_lsp.http.remote_model` answers them.
"""

from __future__ import annotations

from typing import Any

import cattrs
from attrs import frozen

from codegen_lsp.inference.rpc.connection import RequestFailure
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.version import __version__

PROTOCOL = 1
"""Number of this protocol. It is increased when a message changes so that the other version would misread it: a field
is removed, renamed, or changes its type or meaning. New fields with a default are compatible, since unknown ones are
ignored."""
PATH = "/codegen-lsp/remote"
"""Path of the endpoints below the server's address; a method's name follows."""
HANDSHAKE, GENERATE, WARM, SCORE = "handshake", "generate", "warm", "score"
MAX_CLIENT_CHARACTERS = 64
"""Length of the name by which a client's requests are told from those of others."""


@frozen
class RemoteHandshake:
    """The answer to the method `handshake`."""

    version: str
    """Version of the server's program."""
    instance: str
    """A random name of the server's process. Each reply has it, too: when it changes, the model may be another one."""
    model: ModelDescription


@frozen
class RemoteRequest:
    """The envelope of a request."""

    protocol: int
    version: str
    """Version of the client's program."""
    client: str
    """A random name of the client: a request supersedes older ones of the same client and document only."""
    params: Any = None
    """Body of the method, not structured yet."""


def request_body(client: str, params: object) -> dict[str, Any]:
    """Return the JSON of a request."""
    envelope = RemoteRequest(PROTOCOL, __version__, client, cattrs.unstructure(params))
    body: dict[str, Any] = cattrs.unstructure(envelope)
    return body


def version_failure(protocol: object, version: object) -> RequestFailure | None:
    """Return why a request of another version is refused; None if it speaks this protocol."""
    if protocol == PROTOCOL:
        return None
    return RequestFailure(
        "version",
        f"The server runs codegen-lsp {__version__} (protocol {PROTOCOL}), and this program is "
        f"{str(version)[:20]} (protocol {str(protocol)[:20]}).",
        "Install the same version on both machines.",
    )
