"""OpenAI's dialect, asked by its own Python client, and by the exact bodies of editors' clients."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

import openai

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import Exchange, exchange, played, played_service
from tests.http.conftest import RunningServer

PROMPT = "def add(a, b):\n    return"
DOCUMENT = ("def read_lines(path):\n    with open(pa", "\n")


@pytest.fixture
def client(http_server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"http://{http_server.host}:{http_server.port}/v1", api_key="none", max_retries=0, timeout=120
    )


def test_a_completion_has_text_reason_and_usage(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="any", prompt=PROMPT, max_tokens=6, temperature=0, user="me")
    (choice,) = answer.choices
    assert (answer.object, choice.index, choice.logprobs) == ("text_completion", 0, None)
    assert choice.text.startswith(" a")
    assert choice.finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 7, "the last word of the prompt is tokenized anew"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 6


def test_stops_end_a_completion(client: openai.OpenAI) -> None:
    stop = ["\n", "<fim_prefix>", "<|endoftext|>", "never", "and never"]
    answer = client.completions.create(model="any", prompt=PROMPT, max_tokens=40, temperature=0, stop=stop)
    assert "\n" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_a_limit_below_zero_is_none(client: openai.OpenAI) -> None:
    """As llama.cpp's server has it, and other local ones."""
    stop = ["\n"]
    least = client.completions.create(model="any", prompt=PROMPT, max_tokens=-1, temperature=0, stop=stop)
    most = client.completions.create(model="any", prompt=PROMPT, max_tokens=400, temperature=0, stop=stop)
    assert least.choices[0].text == most.choices[0].text != ""


def test_several_prompts_and_choices_are_numbered(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="any", prompt=[PROMPT, "import "], n=2, best_of=3, max_tokens=4, temperature=0.8, seed=7
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    again = client.completions.create(
        model="any", prompt=[PROMPT, "import "], n=2, best_of=3, max_tokens=4, temperature=0.8, seed=7
    )
    assert [choice.text for choice in again.choices] == [choice.text for choice in answer.choices]


def test_a_stream_is_the_whole_in_parts(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "any", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "echo": True}
    whole = client.completions.create(**asked)
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *parts, last = chunks
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert whole.choices[0].text.startswith(PROMPT)
    assert len(parts) > 3
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert last.choices == []
    assert last.usage == whole.usage or last.usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[union-attr]


def test_logprobs_belong_to_the_text(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "any", "prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 3}
    choice = client.completions.create(**asked).choices[0]
    found = choice.logprobs
    assert found is not None
    assert "".join(found.tokens or ()) == choice.text
    assert [len(top) for top in found.top_logprobs or ()] == [3] * len(found.tokens or ())
    assert all(value <= 0 for value in found.token_logprobs or ())
    offsets = found.text_offset or []
    assert [choice.text[at:].startswith(token) for at, token in zip(offsets, found.tokens or (), strict=True)]
    parts = [part.choices[0] for part in client.completions.create(**asked, stream=True) if part.choices]
    assert [token for part in parts if part.logprobs for token in part.logprobs.tokens or ()] == found.tokens
    assert [at for part in parts if part.logprobs for at in part.logprobs.text_offset or ()] == offsets


def test_a_suffix_makes_an_editors_request(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="any", prompt=DOCUMENT[0], suffix=DOCUMENT[1], max_tokens=40)
    assert answer.choices[0].text.startswith("th")
    assert answer.choices[0].finish_reason == "stop"
    stream = client.completions.create(model="any", prompt=DOCUMENT[0], suffix=DOCUMENT[1], max_tokens=40, stream=True)
    assert "".join(part.choices[0].text for part in stream) == answer.choices[0].text


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"prompt": [1, 2, 3]}, "token ids"),
        ({"prompt": [[1, 2], [3]]}, "token ids"),
        ({}, "`prompt`"),
        ({"prompt": "x", "stop": 5}, "`stop`"),
        ({"prompt": "x", "logit_bias": {"1": 5}}, "`logit_bias`"),
        ({"prompt": "x", "echo": True, "logprobs": 1}, "`logprobs`"),
        ({"prompt": ["x"] * 9, "n": 2}, "choices"),
        ({"prompt": "x", "n": 10**9}, "`n` must be from 1 to 16"),
        ({"prompt": "x", "n": 0}, "`n` must be from 1 to 16"),
        ({"prompt": "x", "n": -1}, "`n` must be from 1 to 16"),
        ({"prompt": "x", "best_of": 17}, "`best_of` must be"),
        ({"prompt": "x", "grammar": "root ::= [0-9]"}, "`grammar`"),
        ({"prompt": "x", "guided_regex": "[0-9]"}, "`guided_regex`"),
        ({"prompt": "<fim_prefix>a<fim_suffix>b<fim_suffix>c<fim_middle>"}, "several times"),
        ({"prompt": "x", "stream": True, "best_of": 2}, "`best_of`"),
    ],
)
def test_a_wrong_request_is_refused_in_openais_form(
    http_server: RunningServer, client: openai.OpenAI, body: dict[str, Any], reason: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/completions", body={"model": "any"} | body, cast_to=object)
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert reason in caught.value.body["message"]


def test_a_conversation_is_continued_as_a_program(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "system", "content": "You write Python."},
        {"role": "user", "content": [{"type": "text", "text": "Import the modules os and sys."}]},
        {"role": "assistant", "content": "import os\nimport sys\n"},
        {"role": "user", "content": "Return the sum of a and b.\n```python\ndef add(a, b):\n```"},
    ]
    asked: dict[str, Any] = {"model": "any", "messages": messages, "max_completion_tokens": 10, "temperature": 0}
    answer = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    (choice,) = answer.choices
    assert (choice.message.role, answer.object) == ("assistant", "chat.completion")
    assert "return" in (choice.message.content or "")
    assert choice.logprobs is not None
    assert "".join(one.token for one in choice.logprobs.content or ()) == choice.message.content
    assert all(len(one.top_logprobs) == 2 for one in choice.logprobs.content or ())
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == choice.message.content
    assert chunks[-1].usage is not None
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == choice.finish_reason


def test_tools_are_refused(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "x"}], tools=tools)


def test_the_loaded_model_is_listed_and_found(client: openai.OpenAI) -> None:
    (listed,) = client.models.list().data
    assert client.models.retrieve(listed.id).id == listed.id
    with pytest.raises(openai.NotFoundError, match="not loaded"):
        client.models.retrieve("another/model")


def marked(prefix: str, suffix: str) -> str:
    return f"<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"


CLIENTS: dict[str, tuple[str, dict[str, Any], str]] = {
    # lua/minuet/backends/openai_fim_compatible.lua, with the defaults of its configuration.
    "minuet": (
        "/v1/completions",
        {"model": "m", "stream": False, "max_tokens": 56, "top_p": 0.9, "prompt": DOCUMENT[0], "suffix": DOCUMENT[1]},
        "text",
    ),
    # recipes.md: for llama.cpp, without a suffix.
    "minuet, llama.cpp": (
        "/v1/completions",
        {
            "model": "PLACEHOLDER",
            "stream": False,
            "max_tokens": 56,
            "top_p": 0.9,
            "prompt": f"<|fim_prefix|>{DOCUMENT[0]}<|fim_suffix|>{DOCUMENT[1]}<|fim_middle|>",
        },
        "text",
    ),
    # crates/edit_prediction/src/open_ai_compatible.rs
    "Zed": (
        "/v1/completions",
        {
            "model": "m",
            "prompt": marked(*DOCUMENT),
            "max_tokens": 256,
            "temperature": None,
            "stop": ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"],
            "environment": None,
        },
        "text",
    ),
    # CustomServiceCodeCompletionTemplate.kt
    "ProxyAI": (
        "/v1/completions",
        {
            "stream": False,
            "prompt": DOCUMENT[0],
            "suffix": DOCUMENT[1],
            "model": "m",
            "temperature": 0.0,
            "max_tokens": 24,
        },
        "text",
    ),
    # src/extension/provider-options.ts: LM Studio's, and LiteLLM's, which sends the prompt as a message.
    "twinny": (
        "/v1/completions",
        {
            "model": "m",
            "prompt": f"<PRE> \n\n# Language: Python (python) \n# File uri: file:///a.py (python) \n"
            f"{DOCUMENT[0]} <SUF> {DOCUMENT[1]} <MID>",
            "stream": False,
            "temperature": 0.2,
            "max_tokens": 512,
        },
        "text",
    ),
    "twinny, LiteLLM": (
        "/v1/chat/completions",
        {
            "messages": [{"content": marked(*DOCUMENT), "role": "user"}],
            "model": "m",
            "max_tokens": 512,
            "temperature": 0.0,
        },
        "content",
    ),
    # core/llm/llms/OpenAI.ts, `_streamFim`
    "Continue, FIM": (
        "/v1/fim/completions",
        {
            "model": "m",
            "prompt": DOCUMENT[0],
            "suffix": DOCUMENT[1],
            "max_tokens": 256,
            "temperature": 0.01,
            "top_p": None,
            "frequency_penalty": None,
            "presence_penalty": None,
            "stop": ["\n\n"],
        },
        "content",
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_editors_clients_get_the_text_at_the_cursor(http_server: RunningServer, name: str) -> None:
    path, body, field = CLIENTS[name]
    answer = http_server.post(path, body)
    choice = answer["choices"][0]
    text = choice["text"] if field == "text" else choice["message"]["content"]
    assert text.startswith("th"), text
    assert "<" not in text
    assert isinstance(answer["id"], str)
    status, content = http_server.ask("POST", path, body | {"stream": True})
    assert status == 200
    assert content.endswith(b"data: [DONE]\n\n")
    events = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
    chunks = [json.loads(event)["choices"][0] for event in events[:-1]]
    streamed = "".join(one["text"] if field == "text" else one["delta"]["content"] for one in chunks)
    assert streamed.startswith("th")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/completions", {"prompt": DOCUMENT[0], "suffix": DOCUMENT[1]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/api/generate", {"prompt": "x"}),
        ("/fim/completions", {"prompt": "x"}),
    ],
)
async def test_a_client_that_leaves_cancels(path: str, body: dict[str, Any], stream: bool) -> None:
    service = played_service(lambda _: ["answer"])
    model = played(service)
    model.gate.clear()
    leaving = Exchange()
    asking = asyncio.ensure_future(
        exchange(create_app(service, HttpConfig()), "POST", path, body | {"stream": stream}, into=leaving)
    )
    while not model.generated and not asking.done():
        await asyncio.wait({asking}, timeout=0.01)
    assert model.generated
    leaving.disconnected.set()
    await asking
    assert model.cancelled == model.generated
    assert leaving.body == b""


async def test_an_empty_message_of_the_assistant_alone_is_answered() -> None:
    app = create_app(played_service(lambda _: ["x"]), HttpConfig())
    body = {"messages": [{"role": "assistant", "content": ""}]}
    answer = await exchange(app, "POST", "/v1/chat/completions", body)
    assert (answer.status, answer.json["choices"][0]["message"]["content"]) == (200, "x")


@pytest.mark.parametrize("answer", ["return 1<fim_middle>junk", "return 1<|fim_suffix|>", "return 1<|file_sep|>a.py"])
async def test_no_mark_reaches_an_answer(answer: str) -> None:
    app = create_app(played_service(lambda _: [answer]), HttpConfig())
    whole = await exchange(app, "POST", "/v1/completions", {"prompt": "def f():\n    "})
    assert whole.json["choices"][0]["text"] == "return 1"
    assert whole.json["choices"][0]["finish_reason"] == "stop"
    streamed = await exchange(app, "POST", "/v1/completions", {"prompt": "def f():\n    ", "stream": True})
    assert "".join(event["choices"][0]["text"] for event in streamed.events[:-1]) == "return 1"
    raw = await exchange(app, "POST", "/completion", {"prompt": "def f():\n    "})
    assert raw.json["content"] == "return 1"
