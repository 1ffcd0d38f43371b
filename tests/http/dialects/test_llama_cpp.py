"""llama.cpp's dialect, as llama.vim and llama.vscode speak it."""

from __future__ import annotations

import re

from tests import needs

needs.extra("serve")

from codegen_lsp.http.app import create_app
from codegen_lsp.http.config import HttpConfig
from tests.http.asgi import exchange, played, played_service
from tests.http.conftest import RunningServer


def test_a_completion_of_the_embedded_model(http_server: RunningServer) -> None:
    body = {
        "input_prefix": "import os\n\n\ndef read_lines(path):\n",
        "input_suffix": "\n",
        "prompt": "    with open(pa",
        "n_predict": 64,
    }
    assert http_server.post("/infill", body)["content"].startswith("th")


def test_the_answer_has_the_form_that_llama_vim_looks_for(http_server: RunningServer) -> None:
    status, content = http_server.ask("POST", "/infill", {"input_prefix": "def f(", "input_suffix": "):\n    pass\n"})
    assert status == 200
    assert re.match(rb"\s*{", content)
    assert re.search(rb'"content"\s*:"', content)


async def test_the_prompt_goes_between_prefix_and_suffix() -> None:
    service = played_service(lambda params: ["x)"])
    app = create_app(service, HttpConfig())
    body = {"input_prefix": "x = 1\n", "input_suffix": ")\n", "prompt": "print("}
    answer = await exchange(app, "POST", "/infill", body)
    assert answer.json["content"] == "x", "what stands after the cursor is not inserted again"
    assert played(service).generated[0].prefix == "x = 1\nprint("


async def test_a_wrong_field_is_named_in_the_form_of_the_dialect() -> None:
    app = create_app(played_service(lambda params: []), HttpConfig())
    answer = await exchange(app, "POST", "/infill", {"prompt": 5})
    assert answer.status == 400
    assert answer.json == {
        "error": {"code": 400, "message": "`prompt` must be a string.", "type": "invalid_request_error"}
    }
