"""Answers have the shape of those of llama.cpp's server, field by field, but for the listed differences."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests import needs

needs.extra("serve")

from tests.http.conftest import RunningServer
from tests.http.llama_server.exchanges import FACTS, REQUESTS, answer_shape, differences, shape

SAMPLERS = "settings of samplers, grammars and chats that this server lacks"
OPENAI = "OpenAI's own API has it in this form; llama.cpp's server differs from it"

REASONS: dict[tuple[str, str], str] = {
    ("*", "-*generation_settings.*"): SAMPLERS,
    ("*", "+*generation_settings.n_ctx"): "llama.vscode reads it there, without a check",
    ("*", "+*generation_settings.model"): "older versions of llama.cpp's server have it",
    ("*", "+*generation_settings.n_indent"): "it was in force",
    ("*", "+*timings.draft_n*"): "llama.cpp's server has it where it drafts, as this one always does",
    ("props", "+body.default_generation_settings.*"): "older versions have a slot there, and clients read it",
    ("props", "-body.chat_template_caps"): "there is no template of chats",
    ("props", "-body.media_marker"): "there are no images or sounds",
    ("props", "-body.?os_token"): "the special tokens of the model never reach a text",
    ("props", "-body.model_ftype"): "all models are int8",
    ("props", "-body.ui*"): "settings of its own page",
    ("props", "-body.cors_proxy_enabled"): "it forwards nothing",
    ("props", "-body.endpoint_metrics"): "/metrics is always there",
    ("slots", "+body[[]].*"): "shown with --slots details in older versions",
    ("models", "-body.models"): "a list in Ollama's form, which is another dialect",
    ("models", "-body.data[[]].meta.*"): "sizes that no client reads",
    ("openai*", "-*.system_fingerprint"): "it would change with each version, and nothing else",
    ("chat*", "-*.system_fingerprint"): "it would change with each version, and nothing else",
    ("openai*", "-*.timings"): "an addition of llama.cpp's server to OpenAI's form",
    ("chat*", "-*.timings"): "an addition of llama.cpp's server to OpenAI's form",
    ("openai completion, probabilities", "?body.choices[[]].logprobs.*"): OPENAI,
    ("openai completion, streamed", "-last.usage"): OPENAI,
    ("openai completion, streamed with usage", "+events[[]].usage"): OPENAI,
    ("openai*", "+body.error.param"): OPENAI,
    ("chat*", "+body.error.param"): OPENAI,
    ("chat*", "+*.choices[[]].logprobs"): OPENAI,
    ("chat", "+body.choices[[]].message.refusal"): OPENAI,
    ("chat, streamed", "+last.choices[[]].delta.content"): "an empty text",
}
"""Differences (`exchanges.differences`) by patterns of the request's name and of the difference, with their reasons."""


def served_facts() -> dict[str, Any]:
    answers: dict[str, Any] = json.loads(FACTS.read_text(encoding="utf-8"))["answers"]
    return answers


@pytest.fixture(scope="module")
def found(http_server: RunningServer) -> dict[str, dict[str, Any]]:
    """The shape of each answer."""
    return {name: answer_shape(http_server.host, http_server.port, request) for name, request in REQUESTS.items()}


def reason_of(request: str, difference: str) -> str | None:
    for (name, pattern), reason in REASONS.items():
        if fnmatchcase(request, name) and fnmatchcase(difference, pattern):
            return reason
    return None


def test_the_facts_are_of_these_requests() -> None:
    assert set(served_facts()) == set(REQUESTS)


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer_has_the_fields_of_llama_cpps_server(name: str, found: dict[str, dict[str, Any]]) -> None:
    theirs = served_facts()[name]
    if found[name]["status"] == 404 != theirs["status"]:
        pytest.skip("no dialect serves this path")
    unlisted = {one for one in differences(theirs, found[name]) if reason_of(name, one) is None}
    assert unlisted == set()


def test_every_listed_difference_is_there(found: dict[str, dict[str, Any]]) -> None:
    """A difference that is mended leaves the list."""
    facts = served_facts()
    served = {name for name, answer in found.items() if answer["status"] == facts[name]["status"]}
    present = [(name, one) for name in served for one in differences(facts[name], found[name])]
    for name, pattern in REASONS:
        if any(fnmatchcase(request, name) for request in REQUESTS if request not in served):
            continue
        assert any(fnmatchcase(request, name) and fnmatchcase(one, pattern) for request, one in present), pattern


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ({"a": 1, "b": "x"}, {"a": 2, "c": None}, {"-b", "+c"}),
        ({"a": {"b": 1}}, {"a": {"b": "x"}}, {"a.b: number, string"}),
        ({"a": [{"b": 1}, {"c": 2}]}, {"a": [{"b": 1}]}, {"-a[].c"}),
        ({"a": []}, {"a": [1]}, set()),
        ({"a": None}, {"a": "x"}, set()),
        ({"a": [1, "x"]}, {"a": [1]}, set()),
        ({"a": [1]}, {"a": [1, "x"]}, {"a[]: number, number or string"}),
        ({"a": {}}, {"a": []}, {"a: object, array"}),
        ({"a": True}, {"a": 1}, {"a: boolean, number"}),
    ],
)
def test_shapes_are_compared_field_by_field(theirs: object, ours: object, expected: set[str]) -> None:
    assert differences(shape(theirs), shape(ours)) == expected
