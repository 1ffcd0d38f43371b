"""Tabby's dialect, by the exact bodies of its clients (clients/tabby-agent)."""

from __future__ import annotations

import json
from typing import Any

from tests import needs

needs.extra("serve")

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import exchange, played, played_service
from tests.http.conftest import RunningServer

BODY: dict[str, Any] = {
    "language": "python",
    "segments": {
        "prefix": "def read_lines(path):\n    with open(pa",
        "suffix": "\n",
        "filepath": "src/reading.py",
        "git_url": "https://git.invalid/project.git",
        "declarations": [{"filepath": "src/other.py", "body": "def open_lines(path): ..."}],
        "relevant_snippets_from_changed_files": [{"filepath": "src/a.py", "body": "x = 1", "score": 0.5}],
        "relevant_snippets_from_recently_opened_files": None,
    },
    "user": "me",
    "temperature": 0.1,
    "mode": "standard",
}


def test_segments_are_completed(http_server: RunningServer) -> None:
    answer = http_server.post("/v1/completions", BODY)
    assert set(answer) == {"id", "choices", "mode"}
    assert set(answer["choices"][0]) == {"index", "text"}
    assert answer["choices"][0]["text"].startswith("th")


async def test_snippets_and_language_reach_the_model() -> None:
    service = played_service(lambda _: ["th) as file:"])
    app = create_app(service, HttpConfig())
    await exchange(app, "POST", "/v1/completions", BODY)
    (asked,) = played(service).generated
    assert {"def open_lines(path): ...", "x = 1"} <= set(asked.related)


async def test_edits_are_refused() -> None:
    app = create_app(played_service(lambda _: []), HttpConfig())
    answer = await exchange(app, "POST", "/v1/completions", BODY | {"mode": "next_edit_suggestion"})
    assert answer.status == 501


def test_health_serves_tabby_and_llama_cpp(http_server: RunningServer) -> None:
    for method in ("GET", "POST"):
        status, content = http_server.ask(method, "/v1/health")
        body = json.loads(content)
        assert (status, body["status"]) == (200, "ok")
        assert {"device", "arch", "cpu_info", "cpu_count", "cuda_devices", "model"} <= set(body)
        numbers = body["version"]["git_describe"].removeprefix("v").split(".")
        assert tuple(map(int, numbers)) >= (0, 9, 0), "clients ask older ones for no settings"


def test_events_and_settings(http_server: RunningServer) -> None:
    event = {"type": "view", "completion_id": "cmpl-1", "choice_index": 0, "view_id": "view-1", "elapsed": 10}
    assert http_server.ask("POST", "/v1/events", event) == (200, b"")
    assert http_server.ask("POST", "/v1/events?select_kind=line", event | {"type": "select"})[0] == 200
    assert http_server.ask("GET", "/v1beta/server_setting") == (200, b'{"disable_client_side_telemetry":true}')


async def test_health_tells_nothing_of_the_machine_to_others() -> None:
    app = create_app(played_service(lambda _: []), HttpConfig(host="192.0.2.1"), guarded=False)
    body = (await exchange(app, "GET", "/v1/health")).json
    assert (body["status"], body["model"], body["arch"], body["cpu_info"], body["cpu_count"]) == ("ok", None, "", "", 0)
    assert body["version"]["git_sha"] == ""
