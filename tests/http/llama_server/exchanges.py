"""The requests of which the answers of llama.cpp's server and of this project are compared in shape."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from attrs import frozen

FACTS = Path(__file__).with_name("facts.json")
"""Names and JSON types of the fields of llama.cpp's server, as `record.py` wrote them."""

CODE = "import os\n\n\ndef read_lines(path):\n"
INFILL: dict[str, Any] = {
    "input_prefix": CODE,
    "input_suffix": "\n",
    "prompt": "    with open(pa",
    "input_extra": [{"text": "def open_lines(path):\n    pass\n", "filename": "other.py"}],
    "n_predict": 8,
    "temperature": 0,
}
COMPLETION: dict[str, Any] = {"prompt": CODE, "n_predict": 4, "temperature": 0}
OPENAI: dict[str, Any] = {"model": "any", "prompt": CODE, "max_tokens": 4, "temperature": 0}
CHAT: dict[str, Any] = {
    "model": "any",
    "messages": [{"role": "user", "content": "Write a function that reads lines."}],
    "max_tokens": 4,
    "temperature": 0,
}
TIMINGS = ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "tokens_cached"]


@frozen
class SampleRequest:
    """A request, and whether its answer is a stream of events."""

    method: str
    path: str
    body: object = None

    @property
    def streams(self) -> bool:
        return isinstance(self.body, dict) and self.body.get("stream") is True


REQUESTS = {
    "health": SampleRequest("GET", "/health"),
    "props": SampleRequest("GET", "/props"),
    "slots": SampleRequest("GET", "/slots"),
    "models": SampleRequest("GET", "/v1/models"),
    "tokenize": SampleRequest("POST", "/tokenize", {"content": CODE}),
    "tokenize with pieces": SampleRequest("POST", "/tokenize", {"content": CODE + "日", "with_pieces": True}),
    "tokenize nothing": SampleRequest("POST", "/tokenize", {}),
    "detokenize": SampleRequest("POST", "/detokenize", {"tokens": [300, 301]}),
    "infill": SampleRequest("POST", "/infill", INFILL),
    "infill, several": SampleRequest("POST", "/infill", INFILL | {"n_cmpl": 2}),
    "infill, some fields": SampleRequest("POST", "/infill", INFILL | {"response_fields": TIMINGS}),
    "infill, warm-up": SampleRequest("POST", "/infill", INFILL | {"n_predict": 0, "response_fields": [""]}),
    "infill, streamed": SampleRequest("POST", "/infill", INFILL | {"stream": True}),
    "infill without a prefix": SampleRequest("POST", "/infill", {"input_suffix": "\n"}),
    "infill with a wrong extra": SampleRequest("POST", "/infill", INFILL | {"input_extra": 5}),
    "completion": SampleRequest("POST", "/completion", COMPLETION),
    "completion, probabilities": SampleRequest("POST", "/completion", COMPLETION | {"n_probs": 2}),
    "completion, tokens": SampleRequest("POST", "/completion", COMPLETION | {"return_tokens": True}),
    "completion of tokens": SampleRequest("POST", "/completion", COMPLETION | {"prompt": [300, 301, 302]}),
    "completion of several": SampleRequest("POST", "/completion", COMPLETION | {"prompt": [CODE, "import "]}),
    "completion, streamed": SampleRequest("POST", "/completion", COMPLETION | {"stream": True}),
    "completion, streamed probabilities": SampleRequest(
        "POST", "/completion", COMPLETION | {"stream": True, "n_probs": 2}
    ),
    "completion without a prompt": SampleRequest("POST", "/completion", {"n_predict": 4}),
    "completion that is no JSON": SampleRequest("POST", "/completion", b"{"),
    "openai completion": SampleRequest("POST", "/v1/completions", OPENAI),
    "openai completion, several": SampleRequest("POST", "/v1/completions", OPENAI | {"n": 2}),
    "openai completion, probabilities": SampleRequest("POST", "/v1/completions", OPENAI | {"logprobs": 2}),
    "openai completion, streamed": SampleRequest("POST", "/v1/completions", OPENAI | {"stream": True}),
    "openai completion, streamed with usage": SampleRequest(
        "POST", "/v1/completions", OPENAI | {"stream": True, "stream_options": {"include_usage": True}}
    ),
    "openai completion without a prompt": SampleRequest("POST", "/v1/completions", {"model": "any"}),
    "chat": SampleRequest("POST", "/v1/chat/completions", CHAT),
    "chat, streamed": SampleRequest("POST", "/v1/chat/completions", CHAT | {"stream": True}),
    "chat without messages": SampleRequest("POST", "/v1/chat/completions", {"model": "any"}),
    "no such path": SampleRequest("GET", "/no-such-path"),
}


def answer_shape(host: str, port: int, request: SampleRequest) -> dict[str, Any]:
    """Send a request; return status, content type and shape of the answer.

    Of a stream, that is the shape of all objects but the last, that of the last, and whether `[DONE]` ends it.
    """
    with closing(http.client.HTTPConnection(host, port, timeout=300)) as connection:
        body = request.body if isinstance(request.body, bytes | None) else json.dumps(request.body).encode()
        connection.request(request.method, request.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        kind = (answer.getheader("Content-Type") or "").split(";")[0]
        found: dict[str, Any] = {"status": answer.status, "type": kind}
    if kind != "text/event-stream":
        return found | {"body": shape(json.loads(content)) if kind == "application/json" else "text"}
    lines = [line.removeprefix("data: ") for line in content.decode().split("\n\n") if line]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    return found | {
        "events": shape(events[:-1]),
        "last": shape(events[-1]),
        "done": lines[-1] == "[DONE]",
    }


def shape(value: object) -> Any:
    """Return a JSON value with the names of its types instead of texts, numbers and truth values.

    The items of an array are merged into one; a field that only some of them have counts as a field of each.
    """
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        merged: Any = None
        for item in value:
            merged = shape(item) if merged is None else _merged(merged, shape(item))
        return [] if merged is None else [merged]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, str) else "number"


def _merged(first: Any, second: Any) -> Any:
    """Return the shape of either of two values."""
    if isinstance(first, dict) and isinstance(second, dict):
        names = [*first, *(name for name in second if name not in first)]
        return {
            name: _merged(first[name], second[name])
            if name in first and name in second
            else first.get(name, second.get(name))
            for name in names
        }
    if isinstance(first, list) and isinstance(second, list):
        return [_merged(first[0], second[0])] if first and second else first or second
    if first == second:
        return first
    kinds = {*str(first).split(" or "), *str(second).split(" or ")} if _plain(first) and _plain(second) else None
    return " or ".join(sorted(kinds)) if kinds else [first, second]


def _plain(value: Any) -> bool:
    return isinstance(value, str)


def differences(theirs: Any, ours: Any, path: str = "") -> set[str]:
    """Return the fields in which two shapes differ: `-a.b` is missing in ours, `+a.b` is ours alone, `a.b: string,
    number` has another type. Empty arrays agree with any array, and null with any type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = {f"-{path}{name}" for name in theirs if name not in ours}
        found |= {f"+{path}{name}" for name in ours if name not in theirs}
        for name in theirs:
            if name in ours:
                found |= differences(theirs[name], ours[name], f"{path}{name}.")
        return found
    if isinstance(theirs, list) and isinstance(ours, list):
        return differences(theirs[0], ours[0], f"{path[:-1]}[].") if theirs and ours else set()
    if theirs == ours or "null" in (theirs, ours):
        return set()
    if _plain(theirs) and _plain(ours) and set(ours.split(" or ")) <= {*theirs.split(" or "), "null"}:
        return set()
    return {f"{path[:-1]}: {_kind(theirs)}, {_kind(ours)}"}


def _kind(value: Any) -> str:
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else str(value)
