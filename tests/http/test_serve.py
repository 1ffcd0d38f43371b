"""The process: addresses, keys, connections that send little, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests import needs

needs.extra("serve")

import uvicorn

from codegen_lsp.errors import AddressError
from codegen_lsp.http.completion import CACHED_PROMPTS, server_load_params
from codegen_lsp.http.config import HttpConfig, parse_address
from codegen_lsp.http.connections import protocol_class
from codegen_lsp.http.guard import PUBLIC_PATHS
from codegen_lsp.http.serve import listen
from codegen_lsp.settings import Settings
from tests.http.conftest import COMMAND, RunningServer, running_server


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8012", ("127.0.0.1", 8012)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:8012", ("::1", 8012)),
        ("strong-machine:65535", ("strong-machine", 65535)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":", ":80", "host", "host:", "80:host", "1:65536", "-1", "²", "8o12"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(AddressError):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("machine", False)],
)
def test_who_can_reach_an_address(host: str, loopback: bool) -> None:
    assert HttpConfig(host=host).is_loopback is loopback


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["0.0.0.0:0"], "must give a key"),
        (["0.0.0.0:0", "--api-key-file", "missing"], "missing can't be used"),
        (["0.0.0.0:0", "--api-key-file", "open"], "can be read or changed by other users"),
        (["0.0.0.0:0", "--api-key-file", "short"], "holds no token"),
        (["nowhere"], "no address"),
        (["127.0.0.1:0", "--model", "no-such-model"], "no-such-model"),
        (["127.0.0.1:0", "--token-file", "x"], "--token-file goes with"),
    ],
)
def test_what_is_not_started(tmp_path: Path, arguments: list[str], reason: str) -> None:
    (tmp_path / "open").write_text("k" * 40)
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "short").write_text("k" * 15)
    (tmp_path / "short").chmod(0o600)
    ended = subprocess.run(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"COLUMNS": "300"},
    )
    assert ended.returncode != 0
    assert reason in ended.stderr


def test_another_machine_needs_a_key(tmp_path: Path) -> None:
    """A machine that is asked by an address that is not the loopback's."""
    key = "a-key-of-more-than-sixteen-characters"
    path = tmp_path / "keys"
    path.write_text(key)
    path.chmod(0o600)
    with running_server(tmp_path, "--api-key-file", str(path), address="0.0.0.0:0") as server:
        outside = RunningServer(server.process, _outer_address(), server.port)
        outside.wait_until_ready()
        body = {"prompt": "import ", "n_predict": 2}
        bearer = {"Authorization": f"Bearer {key}"}
        described = json.loads(outside.ask("GET", "/openapi.json", headers=bearer)[1])["paths"]
        for path_asked in (*described, "/", "/page/script.js", "/unknown"):
            for method in ("GET", "POST", "HEAD", "PUT"):
                if (path_asked in PUBLIC_PATHS) and method in ("GET", "HEAD"):
                    continue
                status, content = outside.ask(method, path_asked, body if method == "POST" else None)
                assert status == 401, (method, path_asked)
                assert method == "HEAD" or json.loads(content)["error"]
        assert outside.post("/completion", body, bearer)["tokens_predicted"] > 0


def _outer_address() -> str:
    """Return an address of this machine that is not the loopback's; skip the test if there is none."""
    found = (one.address for many in psutil.net_if_addrs().values() for one in many if one.family == socket.AF_INET)
    if (outer := next((address for address in found if not address.startswith("127.")), None)) is None:
        pytest.skip("this machine has no network interface but the loopback")
    return outer


def test_an_address_in_use_is_reported(http_server: RunningServer) -> None:
    command = [*COMMAND, f"127.0.0.1:{http_server.port}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 1
    assert "can't be listened on" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("sent", [b"", b"POST /", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123"])
async def test_a_request_that_does_not_arrive_ends_its_connection(sent: bytes) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        while (await receive())["type"] != "http.disconnect":  # type: ignore[operator]
            pass

    config = uvicorn.Config(app, http=protocol_class(0.01), ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=server.server_state, app_state={}),  # type: ignore[call-arg,arg-type]
        "127.0.0.1",
        0,
    )
    async with listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("name", ["X-Forwarded-Proto", "X-Forwarded-Scheme", "Forwarded"])
def test_a_client_can_not_say_that_it_came_by_another_way(http_server: RunningServer, name: str) -> None:
    """As a proxy would: the address counts for the limits, and the scheme decides which page is the server's own."""
    host = f"{http_server.host}:{http_server.port}"
    value = "proto=https;for=10.0.0.1" if name == "Forwarded" else "https"
    headers = {"Origin": f"https://{host}", name: value, "X-Forwarded-For": "10.0.0.1"}
    assert http_server.ask("POST", "/tokenize", {"content": "a"}, headers)[0] == 403
    assert http_server.ask("POST", "/tokenize", {"content": "a"}, headers | {"Origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize("order", [1, -1])
def test_each_of_several_origins_must_be_admitted(http_server: RunningServer, order: int) -> None:
    host = f"{http_server.host}:{http_server.port}"
    origins = "".join(f"Origin: {one}\r\n" for one in (f"http://{host}", "http://evil.example")[::order])
    sent = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{origins}\r\n".encode()
    with socket.create_connection((http_server.host, http_server.port)) as connection:
        connection.sendall(sent)
        assert connection.makefile("rb").readline().split()[1] == b"403"


def test_nothing_of_a_request_is_logged(tmp_path: Path) -> None:
    secret = "VERY_SECRET_TEXT"
    with running_server(tmp_path) as server:
        server.wait_until_ready()
        server.post("/completion", {"prompt": secret, "n_predict": 2})
        server.post("/infill", {"input_prefix": secret, "input_suffix": secret})
        server.ask("POST", "/completion", {"prompt": secret, "n_predict": secret})
        server.ask("POST", "/completion", f"{{{secret}".encode())
        server.ask("GET", f"/{secret}?{secret}", headers={"X-Secret": secret})
        with socket.create_connection((server.host, server.port)) as connection:
            connection.sendall(f"{secret}\r\n\r\n".encode())
            assert connection.recv(1000)
    assert secret not in (tmp_path / "server.log").read_text()


async def test_the_message_of_an_unexpected_error_is_neither_logged_nor_sent(caplog: pytest.LogCaptureFixture) -> None:
    """It may quote the text of the request."""
    from codegen_lsp.http.app import create_app
    from tests.http.asgi import exchange, played, played_service

    service = played_service(lambda params: [])
    played(service).generate_error = KeyError("VERY_SECRET_TEXT")
    with caplog.at_level(logging.DEBUG):
        answer = await exchange(create_app(service, HttpConfig()), "POST", "/completion", {"prompt": "a"})
    assert answer.status == 500
    assert b"SECRET" not in answer.body
    assert "SECRET" not in caplog.text
    assert "KeyError" in caplog.text


async def test_answers_are_sent_at_once() -> None:
    """Without TCP_NODELAY, each answer takes 40 ms longer: its body waits for the acknowledgement of its headers."""
    found: list[int] = []

    class Watched(protocol_class(60.0)):  # type: ignore[misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            accepted = transport.get_extra_info("socket")
            found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError

    config = uvicorn.Config(app, host="127.0.0.1", port=0, http=Watched, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()
    serving = asyncio.create_task(server.serve([listening]))
    _, writer = await asyncio.open_connection(*listening.getsockname()[:2])
    while not found:  # noqa: ASYNC110 - a protocol sets no event
        await asyncio.sleep(0.005)
    assert found[0] != 0
    writer.close()
    server.should_exit = True
    await serving


def test_an_answer_does_not_wait_for_acknowledgements() -> None:
    """Clients that keep their connection would wait 40 ms for each answer."""
    with (
        listen(uvicorn.Config("unused", host="127.0.0.1", port=0)) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_cache_of_a_server_is_that_of_several_users(tmp_path: Path) -> None:
    """Users whose prompts push each other out of the cache compute their whole prompt at each key."""
    assert server_load_params(Settings(), tmp_path).cached_prompts == CACHED_PROMPTS
    assert CACHED_PROMPTS >= 8
