"""The endpoints by which a language server uses this server's model."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import cattrs
import pytest

from codegen_lsp.errors import ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.rpc import remote
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    RelatedFile,
    RelatedFiles,
    ScoredText,
    ScoreParams,
    StopRules,
    WarmParams,
)
from codegen_lsp.version import __version__
from tests import needs

needs.extra("serve")

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import Exchange, exchange, played, played_service

PARAMS = GenerateParams("the-document", "def f(", "\n")


@pytest.fixture
def service() -> Any:
    return played_service(lambda _: ["a, b):"])


async def ask(service: Any, method: str, params: object = None, **how: Any) -> Exchange:
    body = remote.request_body("client-1", params) | how.pop("envelope", {})
    return await exchange(create_app(service, HttpConfig()), "POST", f"{remote.PATH}/{method}", body, **how)


async def test_a_handshake_describes_the_model(service: Any) -> None:
    answer = await ask(service, remote.HANDSHAKE)
    assert answer.status == 200
    shaken = cattrs.structure(answer.json["value"], remote.RemoteHandshake)
    assert (shaken.version, shaken.model) == (__version__, service.model)
    assert shaken.instance == answer.json["instance"]
    assert shaken.instance != (await ask(service, remote.HANDSHAKE)).json["instance"]  # of another process


async def test_requests_go_to_the_worker_with_a_key_of_the_client(service: Any) -> None:
    answer = await ask(service, remote.GENERATE, PARAMS)
    assert answer.json["value"]["candidates"][0]["text"] == "a, b):"
    (asked,) = played(service).generated
    assert asked == attrs.evolve(PARAMS, document="remote client-1 the-document", user="remote client-1")
    await ask(service, remote.GENERATE, PARAMS, envelope={"client": "client-2"})
    assert played(service).generated[1].document != asked.document
    await ask(service, remote.WARM, WarmParams("the-document", "def f("))
    assert played(service).warmed == [WarmParams("remote client-1 the-document", "def f(")]
    answer = await ask(service, remote.SCORE, ScoreParams("the-document", [ScoredText("a", "b")]))
    assert answer.json["value"]["scores"] == [{"log_probability": -1.0, "tokens": 3}]


async def test_no_index_of_this_machine_can_be_named(service: Any) -> None:
    """It is of another user's files."""
    files = RelatedFiles("r", "p", [RelatedFile("p", "t")])
    params = attrs.evolve(PARAMS, workspace="/home/other/project", excluded_files=["x"], snippets=["text"], files=files)
    await ask(service, remote.GENERATE, params)
    (asked,) = played(service).generated
    assert (asked.workspace, asked.excluded_files, asked.related, asked.files) == ("", [], ["text"], None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (SupersededError(), "superseded"),
        (ModelError("Bad", "Do"), "model"),
        (WorkerError("Down"), "unloaded"),
    ],
)
async def test_failures_are_replies(service: Any, error: Exception, kind: str) -> None:
    played(service).generate_error = error
    answer = await ask(service, remote.GENERATE, PARAMS)
    assert answer.status == 200
    assert answer.json["failure"]["kind"] == kind


async def test_a_server_without_a_model_says_so(service: Any) -> None:
    played(service).state = WorkerState("loading", "Loading the model.")
    answer = await ask(service, remote.HANDSHAKE)
    assert answer.json["failure"] == {"kind": "unloaded", "message": "Loading the model.", "advice": ""}


@pytest.mark.parametrize("protocol", [0, remote.PROTOCOL + 1, None, "1", [1]])
@pytest.mark.parametrize("method", [remote.HANDSHAKE, remote.GENERATE])
async def test_another_version_is_refused_with_both_named(service: Any, method: str, protocol: object) -> None:
    envelope = {"protocol": protocol, "version": "9.8.7"}
    answer = await ask(service, method, PARAMS, envelope=envelope)
    assert answer.status == 409
    failure = answer.json["failure"]
    assert failure["kind"] == "version"
    assert __version__ in failure["message"]
    assert "9.8.7" in failure["message"]
    assert played(service).generated == []


WRONG: dict[str, Any] = {
    "nothing": None,
    "a list": [],
    "no document": {"prefix": "x"},
    "candidates": attrs.evolve(PARAMS, candidates=10_000),
    "no candidates": attrs.evolve(PARAMS, candidates=0),
    "tokens": attrs.evolve(PARAMS, stop=StopRules(max_tokens=10**9)),
    "no tokens": attrs.evolve(PARAMS, stop=StopRules(max_tokens=0)),
    "no lines": attrs.evolve(PARAMS, stop=StopRules(max_lines=0)),
    "empty stop string": attrs.evolve(PARAMS, stop=StopRules(strings=[""])),
    "stop strings": attrs.evolve(PARAMS, stop=StopRules(strings=["x"] * 1000)),
    "temperature": attrs.evolve(PARAMS, temperature=-1.0),
    "top_p": attrs.evolve(PARAMS, top_p=0.0),
    "top_k": attrs.evolve(PARAMS, top_k=-1),
    "seed": attrs.evolve(PARAMS, seed=-1),
    "related": attrs.evolve(PARAMS, related=["x" * 150_000] * 2),
    "many related": attrs.evolve(PARAMS, related=["x"] * 1000),
}


@pytest.mark.parametrize("name", WRONG)
async def test_wrong_requests_are_refused(service: Any, name: str) -> None:
    answer = await ask(service, remote.GENERATE, WRONG[name])
    assert answer.status == 400
    assert "message" in answer.json["error"]
    assert played(service).generated == []


@pytest.mark.parametrize("texts", [[], [ScoredText("a", "")], [ScoredText("a", "b")] * 1000])
async def test_wrong_texts_to_score_are_refused(service: Any, texts: list[ScoredText]) -> None:
    assert (await ask(service, remote.SCORE, ScoreParams("d", texts))).status == 400
    assert played(service).scored == []


async def test_what_only_other_dialects_use_is_dropped(service: Any) -> None:
    await ask(service, remote.GENERATE, attrs.evolve(PARAMS, stream="x", top_logprobs=50_000, user="another"))
    (asked,) = played(service).generated
    assert (asked.stream, asked.top_logprobs, asked.user) == ("", None, "remote client-1")


async def test_lone_surrogates_do_not_reach_the_worker(service: Any) -> None:
    await ask(service, remote.GENERATE, attrs.evolve(PARAMS, prefix="a\ud800", related=["\udc00"]))
    (asked,) = played(service).generated
    assert asked.prefix == "a\ufffd"
    assert asked.related == ["\ufffd"]


async def test_a_client_that_leaves_cancels_its_request(service: Any) -> None:
    played(service).gate.clear()
    answer = Exchange()
    asking = asyncio.create_task(ask(service, remote.GENERATE, PARAMS, into=answer))
    while not played(service).generated:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    answer.disconnected.set()
    await asking
    assert len(played(service).cancelled) == 1
