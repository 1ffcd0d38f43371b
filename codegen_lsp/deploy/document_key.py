"""The key of a request's document, by which a replica is chosen.

Requests with the same key go to the same replica, whose KV cache holds the document's beginning. Few clients name the
document; but all send text that begins where the document, or their window of it, begins. A KV cache holds a prefix as
long as its first tokens are the same, so the first lines identify what can be reused: where they change, there is
nothing to reuse.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

KEY_LINES = 8
"""Lines of a text that count. While a document has fewer, its key changes with each new line, at little cost, since the
prefill of so short a text takes a few milliseconds."""
COMMENT_STARTS = ("#", "//", "/*", "*", "--", ";", "%")
"""Lines that begin like this are left out: files of one project often begin with the same licence."""
NAMES = ("document", "filename", "filepath")
TEXTS = ("input_prefix", "prompt", "prefix", "content", "text")
CONTAINERS = ("segments", "messages", "params")
"""Fields in which the dialects of the HTTP server send names and texts, and those that contain them."""


def document_key(body: bytes, client: str) -> str:
    """Return the key of a request: the client, and the name or the first lines of its document.

    `client` is the address of the client; the field `user` of a body, if there is one, takes its place, since several
    users may share an address. A language server that uses the server's model (field `client`) keeps to one replica
    with all of its documents, since it notices a change of the server. A body that is no JSON object has the key of its
    client.
    """
    values = _read(body)
    server = values.get("client")
    if isinstance(server, str) and server:
        return _digest(server)
    user = values.get("user")
    owner = user if isinstance(user, str) and user else client
    named = next((name for table in _tables(values) for name in _strings(table, NAMES)), "")
    texts = (text for table in _tables(values) for text in _strings(table, TEXTS))
    identity = named or "\n".join(next((lines for text in texts if (lines := first_lines(text))), []))
    return _digest(f"{owner}\0{identity}")


def first_lines(text: str) -> list[str]:
    """Return the first complete lines of a text that are neither blank nor comments, at most `KEY_LINES`."""
    found: list[str] = []
    start = 0
    while len(found) < KEY_LINES and (end := text.find("\n", start)) >= 0:
        line = text[start:end].strip()
        start = end + 1
        if line and not line.startswith(COMMENT_STARTS):
            found.append(line)
    return found


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _tables(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the body itself and the objects that its containers hold."""
    yield values
    for name in CONTAINERS:
        inner = values.get(name)
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                yield item


def _strings(table: dict[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the strings of these fields; of a list, its first element, if that is one."""
    for name in names:
        value = table.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value:
            yield value
