"""Requests that are wrong in some way: as HTTP, as JSON, by the types of their fields, or by hostile values.

The fields are those of the OpenAPI document of the server and of the recorded requests of clients, and each is tried on
every path: what one dialect ignores, another one reads.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import frozen

from codegen_lsp.http.infill_marks import FORMATS
from tests.http.llama_server.exchanges import REQUESTS

SECRET = "Zq7HiddenWord"
"""Is in the text of every request; the log must not have it."""
JSON_HEADER = b"Content-Type: application/json\r\n"

Leave = Literal["never", "after sending", "at the first byte"]


@frozen
class Attack:
    """Bytes to send on one connection, and what may come back."""

    kind: str
    parts: tuple[bytes, ...]
    """Sent one after the other, with other work between."""
    refused: bool = True
    """Every answer must have a status from 400 to 499, or 501 or 503."""
    may_close: bool = False
    """The connection may be closed without an answer: what was sent is no request, or not a whole one."""
    half_close: bool = False
    """The client sends the end of its side."""
    leave: Leave = "never"
    slow: bool = False
    """Wait for a moment between the parts."""
    at_once: int = 1
    """Number of connections on which this is sent at the same time."""


@frozen
class Targets:
    """What the server has, by its own description."""

    paths: tuple[str, ...]
    """Those that are posted to."""
    read_paths: tuple[str, ...]
    fields: tuple[str, ...]
    """Of all bodies."""
    bodies: dict[str, tuple[dict[str, Any], ...]]
    """Recorded bodies that are right, by path."""


def targets_of(description: Mapping[str, Any]) -> Targets:
    """Return the targets in an OpenAPI document, completed by the recorded requests."""
    posted, read, fields = [], [], {"messages", "segments", "params", "client", "session", "text", "before", "after"}
    for path, operations in description["paths"].items():
        if "get" in operations:
            read.append(path)
        if (operation := operations.get("post")) is not None:
            posted.append(path)
            fields |= set(operation["requestBody"]["content"]["application/json"]["schema"].get("properties", {}))
    bodies: dict[str, tuple[dict[str, Any], ...]] = dict.fromkeys(posted, ())
    for request in REQUESTS.values():
        if isinstance(request.body, dict):
            fields |= set(request.body)
            if request.path in bodies:
                bodies[request.path] += (request.body,)
    return Targets(tuple(posted), tuple(read), tuple(sorted(fields)), bodies)


def attack(targets: Targets, choose: random.Random) -> Attack:
    """Return a random attack."""
    (make,) = choose.choices([make for make, _ in KINDS], [weight for _, weight in KINDS])
    return make(targets, choose)


def posted(path: str, body: bytes, headers: bytes = JSON_HEADER) -> bytes:
    """Return a request in HTTP/1.1, whose connection is closed after its answer."""
    return b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s" % (
        path.encode(),
        headers,
        len(body),
        body,
    )


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def _split(data: bytes, choose: random.Random, most: int) -> tuple[bytes, ...]:
    cuts = sorted(choose.sample(range(1, len(data)), min(choose.randint(1, most), len(data) - 1)))
    return tuple(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))


SMALL = {"prompt": f"{SECRET} = 1\n", "n_predict": 1, "temperature": 0}
REQUEST_LINES = (
    *(b"GET\r\n", b"GET /\r\n", b"GET / HTTP/x\r\n", b"GET / HTTP/1.1 x\r\n", b"G@T / HTTP/1.1\r\n", b" / \r\n"),
    *(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 64,
        b"\x80\xff\r\n",
    ),
    *(b"POST /a b HTTP/1.1\r\n", b"GET /\xff HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n", b'{"prompt":1}\r\n\r\n'),
)
HEADER_LINES = (
    *(b"Content-Length: -1\r\n", b"Content-Length: 1, 2\r\n", b"Content-Length: 0x10\r\n", b"Content-Length: 1e3\r\n"),
    *(b"Content-Length: " + b"9" * 400 + b"\r\n", b"Content-Length: 1\r\nContent-Length: 2\r\n", b"No colon\r\n"),
    *(
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"A : b\r\n",
        b": b\r\n",
        b"A: \x00\r\n",
    ),
    *(
        b"Host: other\r\n",
        b"A: " + b"b" * 70_000 + b"\r\n",
        b"A: b\r\n" * 20_000,
        b"\xe9: \xe9\r\n",
    ),
)
CHUNKS = (
    *(
        b"zz\r\n",
        b"-1\r\nab\r\n",
        b"5\r\nab\r\n0\r\n\r\n",
        b"2\r\nabc\r\n",
        b"f" * 40 + b"\r\n",
        b"2;x=" + b"y" * 70_000,
    ),
    *(b"2\r\nab0\r\n\r\n", b"\r\n", b"0\r\nA\x00: b\r\n\r\n", b" 2\r\nab\r\n0\r\n\r\n"),
)


def _request_line(targets: Targets, choose: random.Random) -> Attack:
    line = choose.choice(REQUEST_LINES) if choose.random() < 0.7 else choose.randbytes(choose.randint(1, 300))
    return Attack("request line", (line + b"Host: 127.0.0.1\r\n\r\n",), may_close=True, half_close=True)


def _headers(targets: Targets, choose: random.Random) -> Attack:
    line = choose.choice(HEADER_LINES if choose.random() < 0.1 else [one for one in HEADER_LINES if len(one) < 500])
    start = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" % choose.choice(targets.paths).encode()
    return Attack("headers", (start + line + b"\r\n{}",), may_close=True, half_close=True)


def _chunked(targets: Targets, choose: random.Random) -> Attack:
    start = b"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    if choose.random() < 0.3:
        start = start.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n")
    return Attack("chunked body", (start, choose.choice(CHUNKS)), may_close=True, half_close=True)


def _length(targets: Targets, choose: random.Random) -> Attack:
    """A length that is not that of the body, whose client then sends the end."""
    body = encoded(SMALL)
    length = choose.choice((0, 1, len(body) - 1, len(body) + 1, len(body) * 1000, 10**10, 10**18))
    data = b"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (length, body)
    return Attack("length that lies", (data,), may_close=True, half_close=True)


def _pipelined(targets: Targets, choose: random.Random) -> Attack:
    last = posted("/tokenize", encoded({"content": SECRET}))
    first = last.replace(b"Connection: close\r\n", b"")
    if choose.random() < 0.5:
        return Attack("pipelined", (first * choose.randint(1, 20) + last,), refused=False)
    second = choose.choice((b"\x00garbage\r\n\r\n", first[: len(first) // 2], b"\r\n" * 9, b"GET\r\n\r\n"))
    return Attack("pipelined", (first + second,), refused=False, may_close=True, half_close=True)


def _slow(targets: Targets, choose: random.Random) -> Attack:
    return Attack("slow sender", _split(posted("/completion", encoded(SMALL)), choose, 12), refused=False, slow=True)


def _stalled(targets: Targets, choose: random.Random) -> Attack:
    """A part of a request, of which the rest never comes."""
    data = posted("/completion", encoded(SMALL))
    return Attack("stalled sender", (data[: choose.randrange(len(data))],), may_close=True)


def _half_closed(targets: Targets, choose: random.Random) -> Attack:
    return Attack(
        "half-closed", (posted("/completion", encoded(SMALL)),), refused=False, may_close=True, half_close=True
    )


BROKEN_JSON = (
    *(b"{", b"}", b"nul", b"'a'", b'{"prompt":"a",}', b'{"prompt" 1}', b"\xff\xfe{}", b"\x00" * 9, b'"\\ud8"', b"[]"),
    *(b"NaN", b'{"temperature":NaN}', b'{"n_predict":Infinity}', b'{"n_predict":-Infinity}', b"3", b"null", b'"text"'),
    *(b"[" * 100_000, b'{"a":' * 50_000, b'{"a":' + b"[]," * 30_000, b'{"n_predict":' + b"9" * 5_000 + b"}", b'{"a":"'),
    *(b'{"prompt":"\xc3\x28"}', b'{"prompt":"\x01"}', b'{"a":1}{"a":2}', b"\xef\xbb\xbf", b'{"prompt":"\\x"}'),
)


def _json(targets: Targets, choose: random.Random) -> Attack:
    body = choose.choice(BROKEN_JSON if choose.random() < 0.1 else [one for one in BROKEN_JSON if len(one) < 10_000])
    empty = not body.removeprefix(b"\xef\xbb\xbf")
    marked = body if empty else body + b" " * choose.randrange(3) + (b"" if body == b"{}" else SECRET.encode())
    return Attack("broken JSON", (posted(choose.choice(targets.paths), marked),), refused=not empty)


def _wrong_values(choose: random.Random) -> Any:
    return choose.choice(
        (
            *(
                None,
                0,
                1,
                -1,
                2.5,
                True,
                False,
                "",
                SECRET,
                [],
                {},
                [[]],
                [None],
                [1, "a"],
                [{}],
                {"a": {}},
                2**63,
                2**70,
            ),
            *(10**299, -(10**299), 1e308, -1e308, 5e-324, "1", "\ud800", "\x00", ["\udfff"], [True], [-1], [2**31 - 1]),
            *(
                {"text": 1},
                [{"text": 1}],
                [{"role": 1}],
                [{"role": "user", "content": [{}]}],
                {"prefix": []},
                [[[[[1]]]]],
            ),
        )
    )


def _fields(targets: Targets, choose: random.Random) -> Attack:
    """Values of wrong types for some fields of a body that is right, or of an empty one."""
    path = choose.choice(targets.paths)
    bodies = targets.bodies[path]
    body = dict(choose.choice(bodies)) if bodies and choose.random() < 0.8 else {}
    limits = dict.fromkeys(("n_predict", "max_tokens", "num_predict"), 1)
    body |= limits
    names = choose.sample(targets.fields, choose.randint(1, 3))
    body |= {name: _wrong_values(choose) for name in names if name not in limits or choose.random() < 0.1}
    return Attack("wrong fields", (posted(path, encoded(body)),), refused=False)


def _hostile(targets: Targets, choose: random.Random) -> Attack:
    """Right requests with values that cost much, or that look like something else."""
    path = choose.choice([path for path in targets.paths if targets.bodies[path]])
    body = dict(choose.choice(targets.bodies[path])) | {"n_predict": 2, "max_tokens": 2}
    body |= choose.choice(
        (
            {"n": 10**9, "n_cmpl": 10**9},
            {"stop": [f"{SECRET}{number}" for number in range(5_000)]},
            {"stop": ["x" * 100_000]},
            {"stop": [""]},
            {"prompt": "\x00\x1b[2J\x7f\r\u2028\ufeff" + SECRET},
            {"prompt": "".join(choose.choice(FORMATS).marks) + SECRET},
            {"prompt": choose.choice(FORMATS).prefix * 500},
            {"prompt": "\U0010ffff\u0301" * 500},
            {"prompt": "(" * 3_000, "input_prefix": "[" * 3_000, "input_suffix": "]" * 3_000},
            {"input_extra": [{"text": "a", "filename": "../../etc/passwd\x00"}] * 3_000},
            {"temperature": 1e308, "top_p": 0, "top_k": -1},
            {"n_probs": 10**9, "logprobs": 10**9, "top_logprobs": 10**9},
            {"response_fields": ["/" * 5_000, "timings//", ""] * 100},
            {"t_max_predict_ms": 1e-9},
            {"seed": 2**64},
            {"model": SECRET * 1_000, "user": SECRET * 1_000, "session": SECRET * 1_000, "client": SECRET * 1_000},
        )
    )
    return Attack("hostile values", (posted(path, encoded(body)),), refused=False)


def _large(targets: Targets, choose: random.Random) -> Attack:
    """A megabyte of text, or more than a body may have."""
    text = choose.choice((f"{SECRET} = [", "a", "\n", "(", "    ", "é", "if a:\n  ")) * 1_000_000
    body = {"n_predict": 1, "max_tokens": 1, "prompt": text[:1_000_000], "content": text[:1_000_000]}
    if choose.random() < 0.3:
        body |= {"input_prefix": text[:500_000], "input_suffix": text[:500_000], "prompt": ""}
    elif choose.random() < 0.2:
        return Attack("large", (posted("/completion", b" " * 9_000_000),), may_close=True)
    return Attack("large", (posted(choose.choice(targets.paths), encoded(body)),), refused=False)


def _vanishing(targets: Targets, choose: random.Random) -> Attack:
    path = choose.choice([path for path in targets.paths if targets.bodies[path]])
    body = dict(choose.choice(targets.bodies[path])) | {"stream": True, "n_predict": 200, "max_tokens": 200}
    leave: Leave = choose.choice(("after sending", "at the first byte"))
    return Attack("vanishing client", (posted(path, encoded(body)),), refused=False, leave=leave)


def _reading(targets: Targets, choose: random.Random) -> Attack:
    """Requests without a body, of paths, methods and headers that are odd."""
    path = choose.choice((*targets.read_paths, "/%00", "/%ff%fe", "//", "/../..", f"/{SECRET}", "/v1/" + "a" * 9_000))
    query = choose.choice(("", "?", f"?language={SECRET}", "?a=%ff&&&=&fail_on_no_slot=%00", "?" + "a&" * 5_000))
    method = choose.choice(("GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT", "POST", "get", "X" * 300))
    header = choose.choice(
        (
            *(b"", b"Accept: application/openmetrics-text; version=x; escaping=\xff\r\n", b"Upgrade: h2c\r\n"),
            *(b"X-Forwarded-For: %b\r\n" % SECRET.encode(), b"X-Forwarded-Proto: wss\r\n", b"Expect: 100-continue\r\n"),
            *(
                b"Origin: http://[::1\r\n",
                b"Authorization: Bearer \xff\r\n",
                b"Cookie: a=b\r\n",
                b"Range: bytes=0-\r\n",
            ),
            b"Accept: " + b"text/plain;q=" * 1_000 + b"\r\n",
        )
    )
    start = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" % (method.encode(), (path + query).encode())
    return Attack("odd reading", (start + header + b"\r\n",), refused=False)


def _pages(targets: Targets, choose: random.Random) -> Attack:
    """A page of another origin, or one whose name leads to this machine."""
    host, header = choose.choice(
        (
            (b"evil.example", b""),
            (b"127.0.0.1", b"Origin: http://evil.example\r\n"),
            (b"127.0.0.1", b"Origin: null\r\n"),
            (b"127.0.0.1", b"Sec-Fetch-Site: cross-site\r\n"),
            (b"[::1", b""),
            (b"localhost.evil.example", b""),
        )
    )
    data = posted(choose.choice(targets.paths), encoded(SMALL), JSON_HEADER + header)
    return Attack("page of another origin", (data.replace(b"Host: 127.0.0.1", b"Host: " + host),))


def _flood(targets: Targets, choose: random.Random) -> Attack:
    return Attack("flood", (posted("/completion", encoded(SMALL)),), refused=False, at_once=100)


Maker = Callable[[Targets, random.Random], Attack]
KINDS: tuple[tuple[Maker, float], ...] = (
    (_request_line, 12),
    (_headers, 12),
    (_chunked, 10),
    (_length, 8),
    (_pipelined, 4),
    (_slow, 1),
    (_stalled, 0.1),
    (_half_closed, 2),
    (_json, 16),
    (_fields, 14),
    (_hostile, 3),
    (_large, 0.1),
    (_vanishing, 2),
    (_reading, 12),
    (_pages, 4),
    (_flood, 0.02),
)
"""Kinds with their shares."""
