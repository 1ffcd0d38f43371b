"""The client of a server that runs the model, against servers that answer well, wrongly, late, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from codegen_lsp.errors import ModelError, SettingsError, SupersededError
from codegen_lsp.inference.client import remote_client
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.client.http_connections import MAX_ANSWER_BYTES, RemoteError
from codegen_lsp.inference.client.remote_client import RELATED_CHARACTERS, RemoteClient
from codegen_lsp.inference.client.remote_server import RemoteServer, remote_server
from codegen_lsp.inference.rpc import messages, remote
from codegen_lsp.inference.rpc.connection import RequestFailure, failure_reply
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    RelatedFile,
    RelatedFiles,
    ScoredText,
    ScoreParams,
    WarmParams,
)
from codegen_lsp.version import __version__
from tests.scripted_http import (
    TEXT,
    Arrived,
    always,
    but,
    generated,
    never,
    response,
    scripted_server,
    shaken,
    value,
    well,
)

PARAMS = GenerateParams("file:///home/me/secret-project/main.py", "def f(", "\n")
Connect = Callable[..., Any]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes clients, which are closed at the end. `states` of each is the list of its states."""
    made: list[RemoteClient] = []

    def make(server: RemoteServer, *delays: float) -> RemoteClient:
        states: list[WorkerState] = []
        client = RemoteClient(server, on_state=states.append, delays=delays or (3600.0,))
        client.states = states  # type: ignore[attr-defined]
        made.append(client)
        return client

    yield make
    for client in made:
        await client.close()


async def until(client: RemoteClient, phase: str) -> None:
    async with asyncio.timeout(60):
        while client.state.phase != phase:  # noqa: ASYNC110 - states are not events
            await asyncio.sleep(0.005)


async def test_it_asks_over_one_connection(connect: Connect) -> None:
    async with scripted_server() as server:
        client = connect(server.address(key="the-key"))
        model = await client.load()
        assert model.name == "native-big"
        assert model.remote
        for _ in range(3):
            result = await client.generate(PARAMS)
            assert [one.text for one in result.candidates] == [TEXT]
        await client.warm(WarmParams(PARAMS.document, "def f("))
        scored = await client.score(ScoreParams("d", [ScoredText("a", "b"), ScoredText("a", "c")]))
        assert len(scored.scores) == 2
        assert server.connections == 1
        assert {one.headers["authorization"] for one in server.arrived} == {"Bearer the-key"}
        phases = [state.phase for state in client.states]
        assert phases == ["ready", *["busy", "ready"] * 3]


async def test_no_names_of_files_and_no_text_of_other_files_are_sent(connect: Connect) -> None:
    params = attrs.evolve(
        PARAMS,
        workspace="/home/me/secret-project",
        excluded_files=["main.py"],
        related=["rest"],
        snippets=["other"],
        files=RelatedFiles("secret-project", "main.py", [RelatedFile("names.py", "class User: pass\n")]),
    )
    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()
        await client.generate(params)
        await client.warm(WarmParams(params.document, "x", files=params.files))
        await client.score(ScoreParams(params.document, [ScoredText("a", "b")]))
        for name in ("secret-project", "main.py", "names.py", "class User"):
            assert not any(name in str(one.body) for one in server.arrived)
        (asked,) = server.asked(remote.GENERATE)
        assert asked.params["related"] == ["rest"]
        assert asked.params["snippets"] == []
        # The same document has the same key, which another client does not use for it.
        other = connect(server.address(send_workspace=True))
        await other.load()
        await other.generate(params)
        await client.generate(params)
        first, second, third = [one.params["document"] for one in server.asked(remote.GENERATE)]
        assert first == third != second
        assert server.asked(remote.GENERATE)[1].params["related"] == ["rest", "other"]


async def test_text_beside_the_prompt_is_limited(connect: Connect) -> None:
    half = RELATED_CHARACTERS // 2
    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()
        await client.generate(attrs.evolve(PARAMS, related=["a" * half, "b" * half, "c"]))
        (asked,) = server.asked(remote.GENERATE)
        assert [text[0] for text in asked.params["related"]] == ["a", "b"]


async def test_a_cancelled_request_closes_its_connection_and_another_is_opened(connect: Connect) -> None:
    async with scripted_server(but(remote.GENERATE, never)) as server:
        client = connect(server.address())
        await client.load()
        request = asyncio.create_task(client.generate(PARAMS))
        while not server.asked(remote.GENERATE):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        async with asyncio.timeout(60):
            await server.asked(remote.GENERATE)[0].left.wait()
            while server.connections < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        server.script = well
        await client.generate(PARAMS)
        assert server.connections == 2
        assert client.ready


async def test_a_connection_that_the_server_closed_while_it_was_idle_is_replaced(connect: Connect) -> None:
    async def once(request: Arrived) -> bytes:
        return shaken() if request.method == remote.HANDSHAKE else b""

    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()
        for writer in server._writers:
            writer.close()
        assert (await client.generate(PARAMS)).candidates[0].text == TEXT
        assert client.ready
        server.script = once  # a new connection that is closed before the answer is no idle one
        with pytest.raises(RemoteError):
            await client.generate(PARAMS)


def failed(*failure: Any) -> bytes:
    return response({"instance": "first"} | failure_reply(RequestFailure(*failure)))


FAILURES: dict[str, tuple[bytes, type[Exception], str]] = {
    "superseded": (failed("superseded", "x"), SupersededError, "superseded"),
    "model": (failed("model", "Bad", "Do"), ModelError, "Bad Do"),
    "too large": (response({}, 413), ModelError, "413"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_of_one_request_leave_the_server_in_use(connect: Connect, name: str) -> None:
    reply, kind, message = FAILURES[name]
    async with scripted_server(but(remote.GENERATE, always(reply))) as server:
        client = connect(server.address())
        await client.load()
        with pytest.raises(kind, match=message):
            await client.generate(PARAMS)
        assert client.ready


def with_candidate(**changes: Any) -> bytes:
    result = generated()
    return value(attrs.evolve(result, candidates=[attrs.evolve(result.candidates[0], **changes)]))


WRONG: dict[str, bytes] = {
    "no HTTP": b"hello\r\n\r\n",
    "no JSON": response(b"<html>"),
    "a list": response([]),
    "no value": response({}),
    "another type": response({"value": {"candidates": 5}}),
    "nested deeply": response(b"[" * 100_000 + b"]" * 100_000),
    "NaN": response(b'{"value": {"candidates": [], "stats": NaN}}'),
    "an unknown failure": response({"failure": {"kind": 5}}),
    "too many candidates": value(messages.GenerateResult([generated().candidates[0]] * 2, generated().stats)),
    "a lone surrogate": with_candidate(text="\ud800", steps=[]),
    "steps outside": with_candidate(steps=[(500, -1.0)]),
    "steps backwards": with_candidate(steps=[(5, -1.0), (3, -1.0)]),
    "infinite": with_candidate(log_probability=1e999),
    "too long": response(b" " * (MAX_ANSWER_BYTES + 1)),
    "endless": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * (MAX_ANSWER_BYTES + 1),
    "long headers": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    "cut off": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
    "redirect": response({}, 302, "location: http://elsewhere.example/\r\n"),
    "an error of the server": response({}, 500),
    "a full server": response({}, 503),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_answers_are_refused_and_the_server_counts_as_away(connect: Connect, name: str) -> None:
    async def answer(request: Arrived) -> bytes:
        return shaken() if request.method == remote.HANDSHAKE else WRONG[name]

    async with scripted_server(answer) as server:
        client = connect(server.address())
        await client.load()
        server.closes_after_answer = name == "cut off"
        with pytest.raises(RemoteError):
            await client.generate(PARAMS)
        assert client.state.phase == "failed"
        assert server.url in client.state.message


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (response({}, 401), "does not know the key (HTTP 401)"),
        (response({}, 404), "does not offer its model to language servers (HTTP 404)"),
        (
            response(failure_reply(remote.version_failure(99, "9.9") or RequestFailure("version", "")), 409),
            f"has another version (The server runs codegen-lsp {__version__} (protocol {remote.PROTOCOL})",
        ),
        (response(failure_reply(RequestFailure("unloaded", "The model is being loaded."))), "can't run its model"),
        (value(remote.RemoteHandshake("1", "first", attrs.evolve(_model := messages.ModelDescription(
            "\x1b[31m", "codegen", "native", "cpu", "int8", 1, 2048, False, [], 3.5, 0.1)))), "does not answer like"),
        (value(remote.RemoteHandshake("1", "first", attrs.evolve(_model, name="x", characters_per_token=0.0))),
         "does not answer like"),
    ],
)  # fmt: skip
async def test_a_handshake_that_fails_says_why(connect: Connect, reply: bytes, message: str) -> None:
    async with scripted_server(always(reply)) as server:
        client = connect(server.address(key="wrong-key"))
        with pytest.raises(RemoteError) as raised:
            await client.load()
        assert message in raised.value.message
        assert client.state.message == raised.value.message
        with pytest.raises(RemoteError):  # at once, without a request
            await client.generate(PARAMS)
        await client.warm(WarmParams("d", "x"))
        assert len(server.arrived) == 1


async def test_an_address_at_which_nothing_listens(connect: Connect) -> None:
    async with scripted_server() as server:
        address = server.address()
    client = connect(address)
    with pytest.raises(RemoteError, match=r"refuses connections|can't be reached"):
        await client.load()


async def test_a_silent_server_is_given_up(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_client, "ANSWER_TIMEOUT", 0.01)
    monkeypatch.setattr(remote_client, "PROBE_TIMEOUT", 60.0)
    async with scripted_server(but(remote.GENERATE, never)) as server:
        client = connect(server.address())
        await client.load()
        with pytest.raises(RemoteError, match="does not answer"):
            await client.generate(PARAMS)
        assert client.state.phase == "failed"


async def test_it_is_probed_until_it_is_back(connect: Connect) -> None:
    async with scripted_server() as server:
        client = connect(server.address(), 0.01)
        await client.load()
        await server.stop()
        with pytest.raises(RemoteError):
            await client.generate(PARAMS)
        await until(client, "failed")
        await server.start()
        await until(client, "ready")
        assert (await client.generate(PARAMS)).candidates


async def test_delays_between_probes_grow_until_an_answer_is_right(connect: Connect) -> None:
    async with scripted_server(always(response({}, 500))) as server:
        client = connect(server.address(), 0.0, 0.0, 3600.0)
        with pytest.raises(RemoteError):
            await client.load()
        while len(server.arrived) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.wait_for(_settled(client), 60)
        assert len(server.arrived) == 3  # the next one comes in an hour
        server.script = well
        await client.restart()
        assert client.ready


async def _settled(client: RemoteClient) -> None:
    while client._failures < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def test_a_server_that_was_started_again_is_asked_for_its_model(connect: Connect) -> None:
    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()

        async def other(request: Arrived) -> bytes:
            return shaken("other", "second") if request.method == remote.HANDSHAKE else value(generated(), "second")

        server.script = other
        await client.generate(PARAMS)
        async with asyncio.timeout(60):
            while client.state.model.name != "other":  # noqa: ASYNC110
                await asyncio.sleep(0.005)


async def test_requests_that_are_always_cancelled_do_not_hide_that_the_server_is_silent(connect: Connect) -> None:
    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()
        server.script = never
        async with asyncio.timeout(60):
            while client.state.phase != "failed":
                with contextlib.suppress(TimeoutError, RemoteError):
                    async with asyncio.timeout(0.05):
                        await client.generate(PARAMS)
        assert "does not answer" in client.state.message


async def test_a_server_that_was_late_while_it_was_checked_is_used_again(connect: Connect) -> None:
    """The check is the probe then: no other one is scheduled beside it."""
    gate = asyncio.Event()

    async def gated(request: Arrived) -> bytes:
        await gate.wait()
        return await well(request)

    async with scripted_server() as server:
        client = connect(server.address())
        await client.load()
        server.script = gated
        client._check_soon()
        while len(server.asked(remote.HANDSHAKE)) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        client.was_late(PARAMS, 1.0)
        assert client.state.phase == "failed"
        gate.set()
        await until(client, "ready")
        assert (await client.generate(PARAMS)).candidates


# Encryption.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_certificates_are_checked(connect: Connect, authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    async with scripted_server(tls=tls(authority)) as server:
        client = connect(server.address(key="the-key", ca_file=str(ca_file)))
        await client.load()
        assert (await client.generate(PARAMS)).candidates
        unknown = connect(server.address(key="the-key"))
        with pytest.raises(RemoteError, match=r"certificate of .* is not valid") as raised:
            await unknown.load()
        assert "remote.ca_file" in raised.value.advice
        missing = connect(server.address(ca_file=str(tmp_path / "missing.pem")))
        with pytest.raises(RemoteError, match="can't be read"):
            await missing.load()
        plain = connect(remote_server(f"http://localhost:{server.port}"))
        with pytest.raises(RemoteError):
            await plain.load()
    before = len(server.arrived)
    async with scripted_server(tls=tls(authority, "elsewhere.example")) as other:
        client = connect(other.address(ca_file=str(ca_file)))
        with pytest.raises(RemoteError, match=r"certificate of .* is not valid"):
            await client.load()
        assert other.arrived == []
    assert before == 2  # nothing was sent to a server whose certificate is not valid


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("codegen.example:8012", "is not the URL of a server"),
        ("ftp://codegen.example", "is not the URL of a server"),
        ("https://", "is not the URL of a server"),
        ("https://me:pw@codegen.example", "must not hold a key"),
        ("https://codegen.example/?key=x", "can't have"),
        ("https://codegen.example:99999", "is not a URL"),
        ("https://codegen\u0435.example", "can't have"),
        ("http://codegen.example:8012", "without encryption"),
        ("http://127.0.0.1.codegen.example", "without encryption"),
        ("http://[2001:db8::1]", "without encryption"),
    ],
)
def test_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        remote_server(url)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://127.0.0.1:8012", "127.0.0.1:8012"),
        ("http://[::1]:8012/", "[::1]:8012"),
        ("http://localhost", "localhost"),
        ("https://codegen.example/team/", "codegen.example"),
        ("https://codegen.example:8443", "codegen.example:8443"),
    ],
)
def test_urls_that_are_accepted(url: str, authority: str) -> None:
    server = remote_server(url)
    assert server.authority == authority
    assert server.name == url.rstrip("/")


def test_a_key_is_not_shown() -> None:
    assert "the-key" not in repr(remote_server("https://codegen.example", key="the-key"))


async def test_plain_http_to_a_name_that_leads_elsewhere_is_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is a name, and what it leads to is a matter of configuration."""
    async with scripted_server() as server:
        client = connect(server.address())
        monkeypatch.setattr("codegen_lsp.inference.client.http_connections._is_loopback", lambda peer: False)
        with pytest.raises(RemoteError, match="is not encrypted"):
            await client.load()
        assert server.arrived == []


async def test_measuring_a_server() -> None:
    async with scripted_server() as server:
        model, seconds = await remote_client.measure_server(server.address())
        assert model.name == "native-big"
        assert seconds > 0
        assert server.connections == 1
    with pytest.raises(RemoteError):
        await remote_client.measure_server(server.address())


# The protocol.


RECORDED = {
    "RemoteRequest": {"protocol": "int", "version": "str", "client": "str", "params": "Any"},
    "RemoteHandshake": {"version": "str", "instance": "str", "model": "ModelDescription"},
    "WarmParams": {"document": "str", "prefix": "str", "suffix": "str"},
    "ScoreParams": {"document": "str", "texts": "list[ScoredText]"},
    "ScoredText": {"before": "str", "text": "str"},
    "ScoreResult": {"scores": "list[Score]"},
    "Score": {"log_probability": "float", "tokens": "int"},
    "GenerateParams": {
        **{"document": "str", "prefix": "str", "suffix": "str", "stop": "StopRules", "candidates": "int"},
        **{"temperature": "float", "top_p": "float", "seed": "int | None", "heal": "bool", "background": "bool"},
        **{"workspace": "str", "excluded_files": "list[str]", "related": "list[str]", "snippets": "list[str]"},
    },
    "StopRules": {
        **{"max_tokens": "int", "max_lines": "int", "strings": "list[str]", "min_indent": "int | None"},
        **{"openers": "list[str]", "opened_lines": "int", "opened_indent": "int", "threshold": "float"},
    },
    "GenerateResult": {"candidates": "list[Candidate]", "stats": "GenerationStats"},
    "Candidate": {
        **{"text": "str", "tokens": "int", "log_probability": "float", "finish": "Finish"},
        **{"steps": "list[tuple[int, float]]"},
    },
    "ModelDescription": {
        **{"name": "str", "family": "str", "engine": "str", "device": "str", "compute_type": "str", "threads": "int"},
        **{"context_length": "int", "infill": "bool", "languages": "list[str]", "characters_per_token": "float"},
        **{"load_seconds": "float", "prefill_tokens_per_second": "float | None", "ngrams": "bool"},
        **{"parameters": "int | None", "small": "bool", "remote": "bool"},
    },
}
"""The messages of protocol 1. Fields may be added if they have a default; any other change is another protocol."""


@pytest.mark.parametrize("name", RECORDED)
def test_messages_change_only_with_the_number_of_the_protocol(name: str) -> None:
    cls = getattr(messages, name, None) or getattr(remote, name)
    fields = attrs.fields_dict(cls)
    assert remote.PROTOCOL == 1
    assert {field: cls.__annotations__[field] for field in RECORDED[name]} == RECORDED[name]
    assert all(fields[field].default is not attrs.NOTHING for field in fields.keys() - RECORDED[name].keys())


def test_the_longest_answer_fits() -> None:
    """8 candidates of 1,024 tokens, as the settings allow, are within the limit of an answer."""
    text = "x" * 4 * 1024
    steps = [(4 * at, -12.345678901234567) for at in range(1024)]
    result = messages.GenerateResult([Candidate(text, 1024, -1.0, "stop", steps)] * 8, generated().stats)
    assert len(value(result)) < MAX_ANSWER_BYTES
