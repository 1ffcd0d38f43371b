"""llama.cpp's dialect, as llama.vim and llama.vscode speak it."""

from __future__ import annotations

import asyncio
import json
import math
import re
import select
import socket
import time
from typing import Any

import pytest
from attrs import evolve

from tests import needs

needs.extra("serve")

from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import UNNAMED
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.dialects.llama_cpp_bodies import chosen_fields
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.rpc.messages import RelatedFile, RelatedFiles
from codegen_lsp.settings import PromptSettings, Settings
from tests.http.asgi import Exchange, exchange, played, played_service
from tests.http.conftest import RunningServer

LLAMA_VIM: dict[str, Any] = {
    "id_slot": 0,
    "input_prefix": "import os\n\n\ndef read_lines(path):\n",
    "input_suffix": "\n",
    "input_extra": [{"text": "def open_lines(path):\n    pass\n", "time": [1, 2], "filename": "other.py"}],
    "prompt": "    with open(pa",
    "n_predict": 128,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 250,
    "response_fields": [
        *("content", "timings/prompt_n", "timings/prompt_ms", "timings/prompt_per_token_ms"),
        *("timings/prompt_per_second", "timings/predicted_n", "timings/predicted_ms"),
        *("timings/predicted_per_token_ms", "timings/predicted_per_second", "truncated", "tokens_cached"),
    ],
}
"""A request of llama.vim (autoload/llama.vim of January 2026)."""
LLAMA_VSCODE = {name: value for name, value in LLAMA_VIM.items() if name != "response_fields"} | {"n_cmpl": 3}


def test_llama_vim_gets_what_it_reads(http_server: RunningServer) -> None:
    status, content = http_server.ask("POST", "/infill", LLAMA_VIM)
    assert status == 200
    assert re.match(rb"\s*{", content), "its first check of an answer"
    assert re.search(rb'"content"\s*:"', content), "its second check, which allows no blank after the colon"
    body = json.loads(content)
    assert list(body) == LLAMA_VIM["response_fields"]
    assert body["content"].startswith("th")
    for name in body:
        if name.endswith(("_ms", "_second")):
            assert isinstance(body[name], float), f"{name} goes to str2float"
            assert math.isfinite(body[name])


def test_llama_vscode_gets_an_array_with_what_its_status_bar_reads(http_server: RunningServer) -> None:
    answers = http_server.post("/infill", LLAMA_VSCODE)
    assert isinstance(answers, list)
    assert len({one["content"] for one in answers}) == len(answers) > 1
    for one in answers:
        assert one["generation_settings"]["n_ctx"] > 0
        assert one["timings"]["predicted_n"] > 0
        assert one["tokens_cached"] >= 0
        assert one["stop_type"] in ("eos", "limit", "word")


def test_a_warm_up_prefills_the_cache(http_server: RunningServer) -> None:
    """Its answer is ignored; the request that follows finds its prompt in the cache."""
    prefix = "".join(f"def function_{number}(value):\n    return value * {number}\n\n\n" for number in range(12))
    warm_up = LLAMA_VIM | {
        "input_prefix": prefix,
        "prompt": "",
        "n_predict": 0,
        "samplers": [],
        "temperature": 0.0,
        "t_max_prompt_ms": 1,
        "t_max_predict_ms": 1,
        "response_fields": [""],
    }
    assert http_server.post("/infill", warm_up) == {}
    body = http_server.post("/infill", LLAMA_VIM | {"input_prefix": prefix, "response_fields": ["timings"]})
    assert body["timings"]["cache_n"] > 100
    assert body["timings"]["prompt_n"] < 20


def test_a_stream_of_a_completion_ends_with_the_whole(http_server: RunningServer) -> None:
    body = {"prompt": "def add(a, b):\n    return", "n_predict": 12, "temperature": 0, "stream": True, "n_probs": 2}
    status, content = http_server.ask("POST", "/completion", body)
    assert status == 200
    events = [json.loads(line.removeprefix("data: ")) for line in content.decode().split("\n\n") if line]
    *parts, last = events
    assert len(parts) > 2
    assert not any(part["stop"] for part in parts)
    assert (last["stop"], last["content"]) == (True, "")
    whole = http_server.post("/completion", body | {"stream": False, "return_tokens": True})
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [id for part in parts for id in part["tokens"]] == whole["tokens"]
    assert len(whole["completion_probabilities"]) == len(whole["tokens"])
    for item in whole["completion_probabilities"]:
        assert len(item["top_logprobs"]) == 2
        assert bytes(item["bytes"]).decode("utf-8", "replace") == item["token"]
    assert whole["tokens_predicted"] == last["tokens_predicted"]


def test_a_stop_word_ends_a_completion_and_is_named(http_server: RunningServer) -> None:
    body = {"prompt": "for index in range(10):\n    print(", "n_predict": 40, "temperature": 0, "stop": ["\n"]}
    answer = http_server.post("/completion", body)
    assert (answer["stop_type"], answer["stopping_word"]) == ("word", "\n")
    assert "\n" not in answer["content"]
    assert not answer["has_new_line"]


def test_a_seed_repeats_a_sample(http_server: RunningServer) -> None:
    body = {"prompt": "def ", "n_predict": 24, "temperature": 1.2, "seed": 7}
    first, second = (http_server.post("/completion", body)["content"] for _ in range(2))
    assert first == second
    others = {http_server.post("/completion", body | {"seed": seed})["content"] for seed in (8, 9, 10)}
    assert others != {first}


def test_text_and_tokens(http_server: RunningServer) -> None:
    text = "naïve = '日本'\n"
    tokens = http_server.post("/tokenize", {"content": text})["tokens"]
    assert http_server.post("/detokenize", {"tokens": tokens}) == {"content": text}
    pieces = http_server.post("/tokenize", {"content": text, "with_pieces": True})["tokens"]
    assert [one["id"] for one in pieces] == tokens
    data = b"".join(p.encode() if isinstance(p := one["piece"], str) else bytes(p) for one in pieces)
    assert data == text.encode()
    same = {"n_predict": 6, "temperature": 0}
    by_tokens = http_server.post("/completion", same | {"prompt": tokens})
    assert by_tokens["content"] == http_server.post("/completion", same | {"prompt": text})["content"]


def test_several_prompts_are_answered_in_order(http_server: RunningServer) -> None:
    same = {"n_predict": 5, "temperature": 0}
    prompts = ["import nump", "def __init__(sel"]
    both = http_server.post("/completion", same | {"prompt": prompts})
    assert [one["index"] for one in both] == [0, 1]
    alone = [http_server.post("/completion", same | {"prompt": prompt})["content"] for prompt in prompts]
    assert [one["content"] for one in both] == alone


def test_the_model_is_described(http_server: RunningServer) -> None:
    (model,) = json.loads(http_server.ask("GET", "/v1/models")[1])["data"]
    described = json.loads(http_server.ask("GET", "/props")[1])
    assert described["default_generation_settings"]["n_ctx"] == model["meta"]["n_ctx"] > 0
    assert described["model_alias"] == model["id"]
    slots = json.loads(http_server.ask("GET", "/slots")[1])
    assert described["total_slots"] == len(slots) == NativeEngine.slots
    assert [slot["id"] for slot in slots] == list(range(len(slots)))


def test_a_client_that_disconnects_ends_its_generation(http_server: RunningServer) -> None:
    """Waiting for a whole answer, or reading a stream."""
    for stream in (False, True):
        while not disconnected_meanwhile(http_server, stream):
            pass
        while is_processing(http_server):
            time.sleep(0.01)


def disconnected_meanwhile(server: RunningServer, stream: bool) -> bool:
    """Begin a long generation and disconnect. Return false if it ended before it was seen."""
    body = {"prompt": "x = 1\n", "n_predict": 900, "temperature": 1.5, "stream": stream}
    content = json.dumps(body).encode()
    with socket.create_connection((server.host, server.port)) as connection:
        head = f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        while not is_processing(server):
            if select.select([connection], [], [], 0.01)[0]:
                return is_processing(server)
        if stream:
            assert connection.recv(10)
    return True


def is_processing(server: RunningServer) -> bool:
    return any(slot["is_processing"] for slot in json.loads(server.ask("GET", "/slots")[1]))


# In this process, with a played model


async def ask(answers: list[str], body: dict[str, Any], path: str = "/infill") -> Any:
    service = played_service(lambda params: answers)
    answer = await exchange(create_app(service, HttpConfig()), "POST", path, body)
    return answer.json


async def test_requests_beyond_the_slots_wait() -> None:
    service = played_service(lambda params: ["x"])
    service.client.state = evolve(service.client.state, model=evolve(service.model, slots=2))
    played(service).gate.clear()
    app, waiting = create_app(service, HttpConfig()), []
    for busy, free in ((0, 200), (1, 200), (2, 503), (3, 503)):
        while service.open_requests < busy:  # noqa: ASYNC110 - by the application
            await asyncio.sleep(0)
        slots = (await exchange(app, "GET", "/slots")).json
        assert [slot["is_processing"] for slot in slots] == [number < busy for number in range(2)]
        assert (await exchange(app, "GET", "/slots?fail_on_no_slot=1")).status == free
        waiting.append(asyncio.create_task(exchange(app, "POST", "/completion", {"prompt": "a"})))
    played(service).gate.set()
    assert [(await one).status for one in waiting] == [200] * 4


async def test_what_stands_after_the_cursor_is_not_inserted_again() -> None:
    body = {"input_prefix": "x = 1\n", "input_suffix": ")\n", "prompt": "print("}
    assert (await ask(["x)"], body))["content"] == "x"


async def test_a_blank_line_is_completed_from_its_first_column() -> None:
    """llama.vim sends nothing of a line of white space, and takes away what of it is there."""
    body = {"input_prefix": "def f(xs):\n    total = 0\n    for x in xs:\n", "input_suffix": "\n    return total\n"}
    content = (await ask(["        total += x"], body | {"prompt": ""}))["content"]
    assert content == "        total += x"


async def test_the_client_limits_the_answer() -> None:
    service = played_service(lambda params: [])
    body = {"input_prefix": "def f():\n", "input_suffix": "\n", "n_predict": 9, "stop": ["END", ""], "n_indent": 6}
    await exchange(create_app(service, HttpConfig()), "POST", "/infill", body | {"t_max_predict_ms": 250})
    (params,) = played(service).generated
    assert params.stop.max_tokens == 9
    assert "END" in params.stop.strings
    assert "" not in params.stop.strings
    assert params.stop.min_indent == 6
    assert params.deadline_seconds == 0.25
    assert params.temperature == 0


async def test_extra_texts_are_a_source_of_ngrams() -> None:
    service = played_service(lambda params: [])
    extra = [{"text": "first\r\n", "filename": "a.go"}, {"text": "second"}]
    body = {"input_prefix": "func f() {\n", "input_suffix": "\n", "input_extra": extra}
    await exchange(create_app(service, HttpConfig()), "POST", "/infill", body)
    (params,) = played(service).generated
    assert params.related[-2:] == ["first\n", "second"]


async def test_extra_texts_are_in_the_prompt_of_a_model_that_takes_files() -> None:
    service = played_service(lambda params: [])
    assert service.model is not None
    played(service).state = evolve(played(service).state, model=evolve(service.model, takes_files=True))
    service.settings = Settings(prompt=PromptSettings(related_files="on", related_characters=20))
    extra = [
        {"text": "first\r\n", "filename": "a.go"},
        {"text": "second"},
        {"text": "third\nthe fourth line\n", "filename": "b\n.go"},
    ]
    body = {"input_prefix": "func f() {\n", "input_suffix": "\n", "input_extra": extra}
    await exchange(create_app(service, HttpConfig()), "POST", "/infill", body)
    (params,) = played(service).generated
    files = [RelatedFile("a.go", "first\n"), RelatedFile("b .go", "third")]
    assert params.files == RelatedFiles("", UNNAMED, files)
    assert params.related[-2:] == ["second", "third\nthe fourth line\n"]


async def test_a_refusal_is_an_empty_answer_with_its_reason() -> None:
    answer = await ask([], {"input_prefix": "a = ", "input_suffix": "b + c\n"})
    assert answer["content"] == ""
    assert answer["refusal"]["rule"] == "middle_of_word"


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/infill", {"input_prefix": "", "input_suffix": "", "prompt": 5}, "prompt"),
        ("/infill", {"input_prefix": ""}, "input_suffix"),
        ("/infill", {"input_prefix": "", "input_suffix": "", "input_extra": [{"text": 3}]}, "input_extra[0].text"),
        ("/infill", {"input_prefix": "", "input_suffix": "", "n_predict": "many"}, "n_predict"),
        ("/completion", {}, "prompt"),
        ("/completion", {"prompt": []}, "prompt"),
        ("/completion", {"prompt": [True]}, "prompt"),
        ("/completion", {"prompt": "", "temperature": True}, "temperature"),
        ("/completion", {"prompt": ["a"] * 17}, "prompt"),
        ("/completion", {"prompt": "a", "response_fields": 1}, "response_fields"),
        ("/detokenize", {"tokens": ["a"]}, "tokens"),
    ],
)
async def test_a_wrong_field_is_named_in_the_form_of_the_dialect(path: str, body: object, named: str) -> None:
    answer = await exchange(create_app(played_service(lambda _: []), HttpConfig()), "POST", path, body)
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["code"], error["type"]) == (400, "invalid_request_error")
    assert f"`{named}`" in error["message"]


async def test_what_would_change_the_meaning_of_an_answer_is_refused() -> None:
    body = {"prompt": "a", "grammar": "root ::= [0-9]"}
    answer = await exchange(create_app(played_service(lambda _: []), HttpConfig()), "POST", "/completion", body)
    assert answer.status == 501
    assert "grammar" in answer.json["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnecting_cancels_the_request_to_the_worker(stream: bool) -> None:
    service = played_service(lambda params: ["x"])
    played(service).gate.clear()
    into = Exchange()
    body = {"prompt": "a", "stream": stream}
    asking = asyncio.ensure_future(exchange(create_app(service, HttpConfig()), "POST", "/completion", body, into=into))
    while not played(service).generated:  # noqa: ASYNC110 - by the application
        await asyncio.sleep(0)
    into.disconnected.set()
    await asking
    assert played(service).cancelled == played(service).generated
    assert service.open_requests == 0


async def test_a_server_without_a_model_says_so() -> None:
    service = played_service(lambda params: [])
    played(service).state = WorkerState("loading", "Loading the model.")
    app = create_app(service, HttpConfig())
    for method, path, body in [("GET", "/health", None), ("POST", "/completion", {"prompt": "a"})]:
        answer = await exchange(app, method, path, body)
        assert (answer.status, answer.json["error"]["type"]) == (503, "unavailable_error")


def test_chosen_fields_have_their_whole_path_as_name() -> None:
    body = {"content": "x", "timings": {"a": 1.5}, "nothing": None}
    assert chosen_fields(body, ["content", "timings/a", "timings/b", "missing", "", "nothing"]) == {
        "content": "x",
        "timings/a": 1.5,
        "nothing": None,
    }
    assert chosen_fields(body, None) == body
