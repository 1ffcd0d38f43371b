"""The measurements for Prometheus, as its own parser reads them."""

from __future__ import annotations

import asyncio

import pytest

from tests import needs

needs.extra("serve")

from prometheus_client.parser import text_string_to_metric_families

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.http.metrics import ServerMetrics
from tests.http.asgi import Exchange, exchange, played, played_service
from tests.http.conftest import RunningServer


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_path_and_status() -> None:
    """Paths that a client invents share one label."""
    app = create_app(played_service(lambda params: ["x"]), HttpConfig())
    await exchange(app, "POST", "/completion", {"prompt": "a"})
    await exchange(app, "POST", "/completion", {"prompt": 1})
    for number in range(3):
        await exchange(app, "GET", f"/{number}")
    answer = await exchange(app, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = samples(answer.body.decode())
    requests = {key[1]: value for key, value in found.items() if key[0] == "codegen_http_requests_total"}
    assert requests == {
        (("path", "/completion"), ("status", "200")): 1,
        (("path", "/completion"), ("status", "400")): 1,
        (("path", "other"), ("status", "404")): 3,
    }
    assert found["codegen_http_request_seconds_count", (("path", "/completion"),)] == 2
    assert found["codegen_http_open_requests", ()] == 1, "the one for the measurements"
    # The played model reports 100 tokens of prompt, 60 of them cached, and 12 generated.
    assert found["codegen_cached_prompt_tokens_total", ()] == 60
    assert found["llamacpp:prompt_tokens_total", ()] == 40
    assert found["llamacpp:tokens_predicted_total", ()] == 12


async def test_a_client_that_left_is_counted() -> None:
    service = played_service(lambda params: ["x"])
    app, into = create_app(service, HttpConfig()), Exchange()
    played(service).gate.clear()
    asking = asyncio.ensure_future(exchange(app, "POST", "/completion", {"prompt": "a"}, into=into))
    while not played(service).generated:  # noqa: ASYNC110 - by the application
        await asyncio.sleep(0)
    into.disconnected.set()
    await asking
    found = samples((await exchange(app, "GET", "/metrics")).body.decode())
    assert found["codegen_http_requests_total", (("path", "/completion"), ("status", "499"))] == 1
    assert found["codegen_cancelled_generations_total", ()] == 1
    assert found["codegen_busy_slots", ()] == 0


@pytest.mark.parametrize(
    "name",
    [
        *("llamacpp:prompt_tokens_total", "llamacpp:prompt_seconds_total", "llamacpp:prompt_tokens_seconds"),
        *("llamacpp:tokens_predicted_total", "llamacpp:tokens_predicted_seconds_total"),
        *("llamacpp:predicted_tokens_seconds", "llamacpp:requests_processing"),
    ],
)
def test_the_names_of_llama_cpp(http_server: RunningServer, name: str) -> None:
    http_server.post("/completion", {"prompt": "import ", "n_predict": 4})
    status, content = http_server.ask("GET", "/metrics")
    assert status == 200
    assert samples(content.decode())[name, ()] >= 0


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=x", "text/plain;q=", "\xff", "," * 1_000])
def test_a_malformed_header_accept_gets_plain_text(accept: str) -> None:
    body, media_type = ServerMetrics().exposition(accept)
    assert media_type.startswith("text/plain")
    assert b"codegen_http_open_requests" in body
