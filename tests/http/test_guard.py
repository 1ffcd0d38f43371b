"""Who is admitted: keys, hosts, pages, and how many at once."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

from starlette.types import ASGIApp

from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import Exchange, exchange, played, played_service

KEY = "a-key-of-more-than-sixteen-characters"
OTHER_KEY = "another-key-of-more-than-sixteen"
BODY = {"prompt": "a"}
BEARER = {"authorization": f"Bearer {KEY}"}


def made(**options: Any) -> tuple[ASGIApp, CompletionService]:
    service = played_service(lambda params: ["x"])
    return create_app(service, HttpConfig(**options)), service


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n{KEY}\n\n{OTHER_KEY}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "headers",
    [
        *({"authorization": f"Bearer {key}"} for key in (KEY, OTHER_KEY)),
        {"authorization": f"bearer  {KEY} "},
        {"x-api-key": KEY},
        {"x-api-key": KEY, "authorization": "Bearer wrong"},
    ],
)
async def test_a_key_admits(key_file: Path, headers: dict[str, str]) -> None:
    app, _ = made(host="0.0.0.0", key_file=key_file)
    answer = await exchange(app, "POST", "/completion", BODY, {"host": "strong-machine:8012"} | headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer "},
        {"authorization": "Bearer # of the team"},
        {"x-api-key": ""},
        {"cookie": f"key={KEY}"},
    ],
)
async def test_without_a_key_there_is_nothing_but_health(key_file: Path, headers: dict[str, str]) -> None:
    app, service = made(host="0.0.0.0", key_file=key_file)
    paths = [route.path for route in app.routes]  # type: ignore[attr-defined]
    assert len(paths) > 10
    for path in [*paths, "/unknown", "/health/", "//health", "/health?x=/health"]:
        for method in ("GET", "POST", "HEAD", "PUT"):
            answer = await exchange(app, method, path, BODY if method == "POST" else None, headers)
            if path.partition("?")[0] in ("/health", "/v1/health") and method in ("GET", "HEAD"):
                assert answer.status == 200
            else:
                assert answer.status == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
    assert played(service).generated == []


async def test_the_page_that_asks_for_the_key_is_shown_to_this_machine_alone(key_file: Path) -> None:
    for host, status in (("127.0.0.1", 200), ("0.0.0.0", 401)):
        app, _ = made(host=host, key_file=key_file)
        assert (await exchange(app, "GET", "/")).status == status


async def test_a_key_in_the_url_is_none(key_file: Path) -> None:
    """Addresses are kept in histories and logs."""
    app, _ = made(key_file=key_file)
    assert (await exchange(app, "POST", f"/completion?key={KEY}&token={KEY}", BODY)).status == 401


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8012", "localhost.evil.example", "", "127.0.0.1.nip.io"),
        *("evil@127.0.0.1", "127.0.0.1/evil", "127.0.0.1#evil", "127.0.0.1?evil", "127.0.0.1\\evil"),
    ],
)
async def test_a_name_that_leads_here_is_not_this_server(host: str) -> None:
    """DNS rebinding: the page's own name resolves to this machine, so the browser calls it the same origin."""
    app, service = made()
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    for method, path in (("POST", "/completion"), ("GET", "/v1/models"), ("GET", "/metrics")):
        answer = await exchange(app, method, path, BODY if method == "POST" else None, headers)
        assert answer.status == 403
        assert "Host" in answer.json["error"]["message"]
    assert played(service).generated == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8012", "localhost:8012", "LOCALHOST", "[::1]:8012"])
async def test_the_names_of_this_server(host: str) -> None:
    app, _ = made()
    assert (await exchange(app, "POST", "/completion", BODY, {"host": host})).status == 200


async def test_a_host_can_be_allowed() -> None:
    app, _ = made(allowed_hosts=("strong-machine",))
    assert (await exchange(app, "POST", "/completion", BODY, {"host": "strong-machine:8012"})).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8012"},
        {"origin": "http://127.0.0.1:8012.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
async def test_a_page_of_another_origin_gets_nothing(headers: dict[str, str], key_file: Path) -> None:
    """Not even with the key, which a page could have been given by mistake."""
    for app, service in (made(), made(key_file=key_file)):
        for method, path in (("POST", "/completion"), ("GET", "/v1/models"), ("OPTIONS", "/completion")):
            answer = await exchange(app, method, path, BODY if method == "POST" else None, headers | BEARER)
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers
        assert played(service).generated == []


async def test_the_servers_own_page_is_admitted() -> None:
    app, _ = made()
    headers = {"origin": "http://127.0.0.1:8012", "sec-fetch-site": "same-origin"}
    answer = await exchange(app, "POST", "/completion", BODY, headers)
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


async def test_an_allowed_page_may_read_the_answers() -> None:
    app, _ = made(allowed_origins=("https://editor.example",))
    origin = {"origin": "https://editor.example"}
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = await exchange(app, "OPTIONS", "/completion", None, origin | ask)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://editor.example"
    answer = await exchange(app, "POST", "/completion", BODY, origin)
    assert answer.headers["access-control-allow-origin"] == "https://editor.example"
    assert (await exchange(app, "POST", "/completion", BODY, {"origin": "https://other.example"})).status == 403


async def test_too_many_requests_at_once() -> None:
    """Of one client, and of all; those of a client that has few are still answered."""
    app, service = made(max_requests=3, max_requests_of_client=2)
    model = played(service)
    model.gate.clear()

    def ask(client: str) -> asyncio.Task[Exchange]:
        return asyncio.ensure_future(exchange(app, "POST", "/completion", BODY, client=client))

    open_requests = [ask("10.0.0.1"), ask("10.0.0.1")]
    while len(model.generated) < 2:  # noqa: ASYNC110 - by the application
        await asyncio.sleep(0)
    refused = await ask("10.0.0.1")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    open_requests.append(ask("10.0.0.2"))
    while len(model.generated) < 3:  # noqa: ASYNC110 - by the application
        await asyncio.sleep(0)
    assert (await ask("10.0.0.3")).status == 503
    assert (await exchange(app, "GET", "/health", client="10.0.0.3")).status == 200
    model.gate.set()
    assert [(await one).status for one in open_requests] == [200] * 3
    assert (await ask("10.0.0.1")).status == 200


async def test_the_models_time_is_divided_among_keys_and_addresses(key_file: Path) -> None:
    app, service = made(key_file=key_file)
    for headers in (BEARER, {"x-api-key": OTHER_KEY}):
        await exchange(app, "POST", "/completion", BODY, headers)
    app, other = made()
    await exchange(app, "POST", "/completion", BODY, client="127.0.0.2")
    users = [params.user for one in (service, other) for params in played(one).generated]
    assert users == ["key 0", "key 1", "127.0.0.2"]


CHAT = {"messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize("client", ["10.0.0.1", None])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completion", BODY),
        ("/infill", {"input_prefix": "x = 1\n", "input_suffix": "\n"}),
        ("/v1/completions", BODY),
        ("/v1/chat/completions", CHAT),
        ("/api/generate", BODY | {"raw": True}),
        ("/api/chat", CHAT),
        ("/v1/completions", {"language": "python", "segments": {"prefix": "x = 1\n", "suffix": "\n"}}),
        ("/page/complete", {"before": "a", "after": "", "language": "python", "session": "s"}),
    ],
)
async def test_each_request_has_a_user(path: str, body: dict[str, Any], client: str | None) -> None:
    """Those without one are answered newest first, which is wrong for a server of many clients."""
    app, service = made()
    answer = await exchange(app, "POST", path, body, client=client)
    assert answer.status == 200, answer.body
    assert [params.user for params in played(service).generated] == [client or "local"]


async def test_a_request_takes_limited_time() -> None:
    app, service = made(request_seconds=0.0)
    played(service).gate.clear()
    for stream in (False, True):
        answer = await exchange(app, "POST", "/completion", BODY | {"stream": stream})
        assert (answer.status, answer.json["error"]["type"]) == (504, "timeout_error")
    assert played(service).cancelled == played(service).generated


async def test_a_body_is_limited_in_size_whatever_its_header_says() -> None:
    app, _ = made(max_body_bytes=1000)
    body = b'{"prompt":"' + b"a" * 2000 + b'"}'
    for claimed in ("2013", "5", "nonsense", "-1", "9" * 400):
        answer = await exchange(app, "POST", "/completion", body, {"content-length": claimed})
        assert answer.status == 413


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"])
async def test_a_compressed_body_is_refused(name: str) -> None:
    """Some kilobytes could become gigabytes."""
    app, service = made()
    content = gzip.compress(json.dumps(BODY).encode())
    answer = await exchange(app, "POST", "/completion", content, {"content-encoding": name})
    assert (answer.status, "compressed" in answer.json["error"]["message"]) == (415, True)
    assert (await exchange(app, "POST", "/completion", BODY, {"content-encoding": "identity"})).status == 200
    assert len(played(service).generated) == 1


async def test_two_lengths_of_a_body_are_refused() -> None:
    """A proxy that takes the other one passes on a request that hides in the body."""
    app, service = made()
    answer = await exchange(app, "POST", "/completion", BODY, {"transfer-encoding": "chunked"})
    assert (answer.status, "Content-Length" in answer.json["error"]["message"]) == (400, True)
    assert played(service).generated == []


@pytest.mark.parametrize("path", ["/unknown", "/infill/", "/v1", "/%2e%2e/etc/passwd", "/infill\x00"])
async def test_unknown_paths(path: str) -> None:
    app, _ = made()
    answer = await exchange(app, "GET", path)
    assert answer.status in (404, 307, 405)
    if answer.status != 307:
        assert "message" in answer.json["error"]


@pytest.mark.parametrize("headers", [{}, {"origin": "https://elsewhere.example"}])
async def test_a_refused_client_can_send_its_body_first(key_file: Path, headers: dict[str, str]) -> None:
    """A server that closes while a client still sends resets the connection, and the answer is lost."""
    app, _ = made(key_file=key_file)
    parts = iter([b"{" + b"x" * 1000, b"y" * 1000, b"}"])
    left = [3]
    statuses: list[tuple[int, int]] = []

    async def receive() -> dict[str, Any]:
        left[0] -= 1
        return {"type": "http.request", "body": next(parts), "more_body": left[0] > 0}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append((message["status"], left[0]))

    raw = [(b"host", b"127.0.0.1"), *((name.encode(), value.encode()) for name, value in headers.items())]
    scope = {"type": "http", "method": "POST", "path": "/completion", "raw_path": b"/completion", "query_string": b""}
    scope |= {"headers": raw, "client": ("127.0.0.1", 5), "scheme": "http", "http_version": "1.1", "root_path": ""}
    await app(scope, receive, send)
    ((status, unread),) = statuses
    assert status in (401, 403)
    assert unread == 0
