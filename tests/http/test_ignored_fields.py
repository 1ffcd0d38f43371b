"""Parameters of sampling that are not applied, as the answers tell."""

from __future__ import annotations

from typing import Any

import pytest

from tests import needs

needs.extra("serve")

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.ignored_fields import NEUTRAL
from tests.http.asgi import exchange, played_service

MESSAGES = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("path", "body", "ignored"),
    [
        ("/completion", {"prompt": "a", "repeat_penalty": 1.1, "min_p": 0.05}, "repeat_penalty, min_p"),
        ("/completion", {"prompt": "a", "stream": True, "mirostat": 2}, "mirostat"),
        ("/infill", {"input_prefix": "a", "input_suffix": "", "xtc_probability": 0.5}, "xtc_probability"),
        ("/v1/completions", {"prompt": "a", "presence_penalty": -0.5}, "presence_penalty"),
        (
            "/v1/completions",
            {"prompt": "a", "ignore_eos": True, "frequency_penalty": 1},
            "frequency_penalty, ignore_eos",
        ),
        ("/v1/chat/completions", {"messages": MESSAGES, "frequency_penalty": 0.1, "stream": True}, "frequency_penalty"),
        ("/api/generate", {"prompt": "a", "options": {"repeat_penalty": 1.2}}, "repeat_penalty"),
        ("/api/chat", {"messages": MESSAGES, "stream": False, "options": {"typical_p": 0.7}}, "typical_p"),
    ],
)
async def test_a_header_names_what_should_have_changed_the_text(path: str, body: dict[str, Any], ignored: str) -> None:
    answer = await exchange(create_app(played_service(lambda _: ["x"]), HttpConfig()), "POST", path, body)
    assert (answer.status, answer.headers["x-codegen-lsp-ignored"]) == (200, ignored)


@pytest.mark.parametrize("body", [{}, NEUTRAL, {"options": NEUTRAL}, {"options": {}}, {"min_p": None}, {"min_p": "x"}])
async def test_values_that_change_nothing_are_not_named(body: dict[str, Any]) -> None:
    app = create_app(played_service(lambda _: ["x"]), HttpConfig())
    answer = await exchange(app, "POST", "/completion", {"prompt": "a"} | body)
    assert answer.status == 200
    assert "x-codegen-lsp-ignored" not in answer.headers
