"""Malformed messages by kind: broken framing, broken JSON, messages against JSON-RPC, params that don't fit.

Each has its number of answers: a request with a valid id is answered under that id, any other message that may be a
request is answered under the id null, and a notification or a response is not answered.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Literal

from attrs import frozen

Answered = Literal["by id", "null", "none"]


@frozen
class MalformedMessage:
    """Bytes to send, and how they must be answered."""

    kind: str
    data: bytes
    answered: Answered


def malformed(id: str, choose: random.Random) -> MalformedMessage:
    """Return a random malformed message. If it is a request, it has the id."""
    kind, make = choose.choice(KINDS)
    data, answered = make(id, choose)
    return MalformedMessage(kind, data, answered)


def framed(body: bytes) -> bytes:
    """Return a message with this body."""
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def _request(id: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":"%s","method":"codegen-lsp/explain"}' % id.encode()


def _framing(id: str, choose: random.Random) -> tuple[bytes, Answered]:
    body = _request(id)
    kind = choose.randrange(8)
    if kind == 0:
        return b"X-Header: 1\r\n\r\n", "none"
    if kind == 1:
        noise = choose.randbytes(choose.randint(1, 200)).replace(b"\n", b" ")
        return noise + b"\n", "none"
    if kind == 2:
        return b"Content-Length: %s\r\n\r\n%s" % (choose.choice((b"abc", b"-5", b"", b"0x10", b"1e3")), body), "none"
    if kind == 3:
        return b"Content-Length: %d\r\n\r\n%s" % (len(body) - choose.randint(1, len(body) - 1), body), "null"
    if kind == 4:
        swallowed = framed(_request(id))
        return b"Content-Length: %d\r\n\r\n%s%s" % (len(body) + len(swallowed), body, swallowed), "null"
    if kind == 5:
        return b"Content-Length: %d\r\n\r\n%s" % (choose.randint(2**31, 10**17), body), "null"
    if kind == 6:
        return b"Content-Length: 0\r\n\r\n", "null"
    if choose.random() < 0.01:
        return b"y" * 70_000 + b"\n", "none"
    return b"\r\n" * choose.randint(1, 9), "none"


BROKEN = (
    *(b"{", b"}", b"nul", b"'single'", b'{"jsonrpc": "2.0",}', b'{"a" 1}', b"\xff\xfe{}", b"\x00" * 9, b'"\\ud8"'),
    *(b'{"jsonrpc":"2.0","id":1,"method":"\xc3\x28"}', b"[" * 20_000, b'{"a":' * 5_000, b"9" * 5_000, b"1e99999"),
    *(b"[]", b"[1,2]", b"3", b"null", b"true", b'"text"', b"NaN", b'[{"jsonrpc":"2.0","id":1,"method":"shutdown"}]'),
)
_SMALL = tuple(body for body in BROKEN if len(body) < 1_000)


def _json(id: str, choose: random.Random) -> tuple[bytes, Answered]:
    return framed(choose.choice(BROKEN if choose.random() < 0.02 else _SMALL)), "null"


def _message(id: str, choose: random.Random) -> tuple[bytes, Answered]:
    message, answered = choose.choice(
        (
            ({"id": id, "method": "codegen-lsp/explain"}, "by id"),
            ({"jsonrpc": "1.0", "id": id, "method": "codegen-lsp/explain"}, "by id"),
            ({"jsonrpc": "2.0", "id": id}, "by id"),
            ({"jsonrpc": "2.0", "id": id, "method": choose.choice((1, None, [], {}, True))}, "by id"),
            ({"jsonrpc": "2.0", "id": choose.choice((None, True, [], {})), "method": "codegen-lsp/explain"}, "null"),
            ({"jsonrpc": "2.0", "id": id, "method": choose.choice(("", "none", "$/none", "textDocument/x"))}, "by id"),
            ({"jsonrpc": "2.0", "id": id, "method": "textDocument/didOpen", "params": {}}, "by id"),
            ({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {"capabilities": {}}}, "by id"),
            ({"jsonrpc": "2.0", "id": id, "method": "$/cancelRequest", "params": {"id": 1}}, "by id"),
            ({"jsonrpc": "2.0", "method": choose.choice(("", "none", "$/none"))}, "none"),
            ({"jsonrpc": "2.0", "method": "textDocument/inlineCompletion", "params": {}}, "none"),
            ({"jsonrpc": "2.0", "method": choose.choice((1, None, []))}, "none"),
            ({"jsonrpc": "2.0", "id": id, "result": choose.choice((None, 1, {}))}, "none"),
            ({"jsonrpc": "2.0", "id": id, "error": choose.choice((None, 1, {}, {"code": "x"}))}, "none"),
            ({}, "none"),
        )
    )
    return framed(json.dumps(message).encode()), answered  # type: ignore[return-value]


WRONG: tuple[Any, ...] = (None, 1, -1, 2.5, "x", True, [], {}, [[]], {"uri": 1}, {"line": -1, "character": "x"}, 2**70)
"""Values that don't fit where they are put, or that mean nothing there."""
REQUESTS: dict[str, dict[str, Any]] = {
    "textDocument/inlineCompletion": {
        "textDocument": {"uri": "file:///none.py"},
        "position": {"line": 0, "character": 0},
        "context": {"triggerKind": 1},
    },
    "textDocument/codeAction": {
        "textDocument": {"uri": "file:///none.py"},
        "range": {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}},
        "context": {"diagnostics": []},
    },
    "codeAction/resolve": {"title": "x", "kind": "refactor", "data": {}},
    "workspace/executeCommand": {"command": "none", "arguments": []},
    "codegen-lsp/explain": {"textDocument": {"uri": "file:///none.py"}, "origin": False},
}
NOTIFICATIONS: dict[str, dict[str, Any]] = {
    "textDocument/didOpen": {"textDocument": {"uri": "file:///none.py", "languageId": "python", "version": 1}},
    "textDocument/didChange": {
        "textDocument": {"uri": "file:///none.py", "version": 1},
        "contentChanges": [{"text": "x"}],
    },
    "textDocument/didClose": {"textDocument": {"uri": "file:///none.py"}},
    "textDocument/didSave": {"textDocument": {}},
    "notebookDocument/didChange": {
        "notebookDocument": {"uri": "file:///none.ipynb", "version": 1},
        "change": {"cells": {"structure": {"array": {"start": 3, "deleteCount": 9}}}},
    },
    "$/cancelRequest": {"id": "none"},
    "window/workDoneProgress/cancel": {"token": "none"},
    "workspace/didChangeWorkspaceFolders": {"event": {"added": 3, "removed": []}},
    "textDocument/willSave": {},
}


def _spoilt(params: dict[str, Any], choose: random.Random) -> object:
    """Return params with a random part replaced or missing."""
    kind = choose.random()
    if kind < 0.15 or not params:
        return choose.choice(WRONG)
    changed = dict(params)
    name = choose.choice(list(changed))
    if kind < 0.3:
        del changed[name]
    elif kind < 0.6 and isinstance(inner := changed[name], dict) and inner:
        changed[name] = inner | {choose.choice(list(inner)): choose.choice(WRONG)}
    else:
        changed[name] = choose.choice(WRONG)
    return changed


def _params(id: str, choose: random.Random) -> tuple[bytes, Answered]:
    method = choose.choice(list(REQUESTS))
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": _spoilt(REQUESTS[method], choose)}
    return framed(json.dumps(message).encode()), "by id"


def _notification(id: str, choose: random.Random) -> tuple[bytes, Answered]:
    method = choose.choice(list(NOTIFICATIONS))
    message = {"jsonrpc": "2.0", "method": method, "params": _spoilt(NOTIFICATIONS[method], choose)}
    return framed(json.dumps(message).encode()), "none"


Maker = Callable[[str, random.Random], tuple[bytes, Answered]]
KINDS: tuple[tuple[str, Maker], ...] = (
    ("malformed framing", _framing),
    ("malformed JSON", _json),
    ("malformed message", _message),
    ("malformed params", _params),
    ("malformed notification", _notification),
)
