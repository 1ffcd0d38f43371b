"""Ollama's dialect, asked by its own Python client, and by the exact bodies of editors' clients."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

import ollama

from tests.http.conftest import RunningServer

DOCUMENT = ("def read_lines(path):\n    with open(pa", "\n")


@pytest.fixture
def client(http_server: RunningServer) -> ollama.Client:
    return ollama.Client(host=f"http://{http_server.host}:{http_server.port}", timeout=120)


def test_a_prompt_is_continued(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 8, "seed": 1}
    whole = client.generate("any", "def add(a, b):\n    return", options=options, raw=True)
    assert whole.response.startswith(" a")
    assert (whole.done, whole.model) == (True, "any")
    assert whole.done_reason in ("stop", "length")
    assert (whole.eval_count or 0) > 0
    assert (whole.prompt_eval_count or 0) > 0
    assert (whole.total_duration or 0) > 0
    parts = list(client.generate("any", "def add(a, b):\n    return", options=options, raw=True, stream=True))
    assert "".join(part.response for part in parts) == whole.response
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) > 2


def test_a_suffix_makes_an_editors_request(client: ollama.Client) -> None:
    answer = client.generate("any", DOCUMENT[0], suffix=DOCUMENT[1], keep_alive=1800)
    assert answer.response.startswith("th")


def test_an_empty_prompt_loads_the_model(client: ollama.Client) -> None:
    answer = client.generate("any", "", keep_alive="5m")
    assert (answer.response, answer.done, answer.done_reason) == ("", True, "load")


def test_a_conversation_is_continued(client: ollama.Client) -> None:
    messages = [{"role": "user", "content": "Add two numbers.\n```\ndef add(a, b):\n```"}]
    options = {"temperature": 0, "num_predict": 10}
    whole = client.chat("any", messages, options=options)
    assert whole.message.role == "assistant"
    assert "return" in (whole.message.content or "")
    parts = list(client.chat("any", messages, options=options, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def test_the_model_is_listed_shown_and_running(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert listed.model is not None
    assert (listed.size or 0) > 1e6
    shown = client.show(listed.model)
    assert ".Suffix" in (shown.template or "")
    assert "insert" in (shown.capabilities or [])
    (running,) = client.ps().models
    assert running.model == listed.model


def test_the_version_is_one_of_ollama(http_server: RunningServer) -> None:
    status, content = http_server.ask("GET", "/api/version")
    assert status == 200
    assert tuple(map(int, json.loads(content)["version"].split("."))) >= (0, 6, 4), "Copilot Chat refuses older ones"


def test_tools_are_refused_in_ollamas_form(client: ollama.Client) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with pytest.raises(ollama.ResponseError, match="`tools` is not supported") as caught:
        client.chat("any", [{"role": "user", "content": "x"}], tools=tools)
    assert caught.value.status_code == 400


CLIENTS: dict[str, dict[str, Any]] = {
    # core/llm/llms/Ollama.ts, `_streamFim`
    "Continue": {
        "model": "m",
        "prompt": DOCUMENT[0],
        "suffix": DOCUMENT[1],
        "options": {"temperature": 0.01, "num_predict": 256, "stop": ["\n\n"], "num_ctx": 8192},
        "keep_alive": 1800,
    },
    # crates/edit_prediction/src/ollama.rs
    "Zed": {
        "model": "m",
        "prompt": f"<|fim_prefix|>{DOCUMENT[0]}<|fim_suffix|>{DOCUMENT[1]}<|fim_middle|>",
        "raw": True,
        "stream": False,
        "options": {"num_predict": 64, "temperature": 0.2, "stop": ["<|endoftext|>", "<|fim_prefix|>", "[SUFFIX]"]},
    },
    # src/extension/provider-options.ts
    "twinny": {
        "model": "m",
        "prompt": f"<PRE> \n\n# Language: Python (python) \n# File uri: file:///a.py (python) \n"
        f"{DOCUMENT[0]} <SUF> {DOCUMENT[1]} <MID>",
        "stream": True,
        "keep_alive": "5m",
        "options": {"temperature": 0.2, "num_predict": 512},
    },
}


@pytest.mark.parametrize("name", CLIENTS)
def test_editors_clients_get_the_text_at_the_cursor(http_server: RunningServer, name: str) -> None:
    status, content = http_server.ask("POST", "/api/generate", CLIENTS[name])
    assert status == 200
    lines = [json.loads(line) for line in content.splitlines()]
    assert "".join(line["response"] for line in lines).startswith("th")
    assert lines[-1]["done"]
    assert lines[-1]["created_at"].endswith("Z")
