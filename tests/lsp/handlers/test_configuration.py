"""Where settings come from, which win, and how wrong ones are reported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.lsp.logs import configure_logging
from codegen_lsp.settings import LogSettings
from tests.lsp.conftest import Editor

PULLS = {"workspace": {"configuration": True}}


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, pygls = logging.getLogger(), logging.getLogger("pygls")
    before = root.handlers[:], root.level, pygls.level
    yield
    root.handlers[:], root.level, pygls.level = before


async def ready(editor: Editor, **how: Any) -> Editor:
    await editor.initialize(how.get("capabilities"), how.get("options"))
    await editor.wait_for(lambda message: message.get("params", {}).get("state") in ("ready", "disabled", "error"))
    return editor


async def test_initialization_options(editor: Editor) -> None:
    await ready(editor, options={"candidates": 2, "model": "small", "threads": 3})
    assert editor.server.session.settings.candidates == 2
    assert editor.model.loads[-1].build == "/models/small"
    assert editor.model.loads[-1].threads == 3


async def test_an_editor_that_can_be_asked_is_asked_before_the_model_is_loaded(editor: Editor) -> None:
    editor.configuration = {"model": "asked", "threads": 2}
    await ready(editor, capabilities=PULLS, options={"model": "option", "candidates": 2})
    (request,) = [message for message in editor.sent if message.get("method") == "workspace/configuration"]
    assert request["params"] == {"items": [{"section": "codegen-lsp"}]}
    assert [params.build for params in editor.model.loads] == ["/models/asked"]
    assert editor.server.session.settings.candidates == 2


@pytest.mark.parametrize("answer", [None, [], 5])
async def test_an_editor_that_is_asked_and_knows_nothing(editor: Editor, answer: Any) -> None:
    editor.configuration = answer
    await ready(editor, capabilities=PULLS, options={"model": "option"})
    assert editor.model.loads[-1].build == "/models/option"


async def test_an_editor_that_does_not_answer_gets_completion_nevertheless(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codegen_lsp.lsp.client.SETTINGS_TIMEOUT", 0.01)
    editor.silent_about.add("workspace/configuration")
    await ready(editor, capabilities=PULLS, options={"model": "option"})
    assert editor.model.loads[-1].build == "/models/option"


@pytest.mark.parametrize(
    "settings",
    [
        {"codegen-lsp": {"candidates": 5}},
        {"codegen-lsp": {"candidates": 5}, "python": {"x": 1}},
        {"candidates": 5},
        {"codegen-lsp.candidates": 5},
    ],
)
async def test_settings_that_the_editor_sends(editor: Editor, settings: Any) -> None:
    await ready(editor, options={"max_lines": 4})
    editor.notify("workspace/didChangeConfiguration", {"settings": settings})
    await editor.settle()
    assert editor.server.session.settings.candidates == 5
    assert editor.server.session.settings.max_lines == 4
    assert editor.server.session.configuration.problems == []


async def test_settings_of_other_servers_are_not_ours(editor: Editor) -> None:
    await ready(editor)
    editor.notify("workspace/didChangeConfiguration", {"settings": {"python": {"analysis": True}}})
    await editor.settle()
    assert editor.server.session.configuration.problems == []


async def test_a_change_is_asked_for(editor: Editor) -> None:
    await ready(editor, capabilities=PULLS)
    editor.configuration = {"candidates": 5}
    editor.notify("workspace/didChangeConfiguration", {"settings": None})
    await editor.settle()
    assert editor.server.session.settings.candidates == 5


async def test_the_server_registers_for_changes_where_that_is_needed(editor: Editor) -> None:
    await ready(editor, capabilities={"workspace": {"didChangeConfiguration": {"dynamicRegistration": True}}})
    (request,) = [message for message in editor.sent if message.get("method") == "client/registerCapability"]
    (registration,) = request["params"]["registrations"]
    assert registration["method"] == "workspace/didChangeConfiguration"
    assert registration["registerOptions"] == {"section": "codegen-lsp"}


async def test_wrong_settings_are_reported_by_name_once(editor: Editor) -> None:
    await ready(editor, options={"threads": "many", "candidates": 2})
    (shown,) = editor.notifications("window/showMessage")
    assert shown["type"] == 2
    assert "`codegen-lsp.threads`" in shown["message"]
    assert "0 is used" in shown["message"]
    assert editor.server.session.settings.candidates == 2
    assert len((await editor.explain())["settingsProblems"]) == 1
    editor.notify("workspace/didChangeConfiguration", {"settings": {"candidates": 4}})
    await editor.settle()
    assert len(editor.notifications("window/showMessage")) == 1
    editor.notify("workspace/didChangeConfiguration", {"settings": {"candidates": 0}})
    await editor.settle()
    assert len(editor.notifications("window/showMessage")) == 2


async def test_right_settings_are_reported_by_nothing(editor: Editor) -> None:
    await ready(editor, options={"threads": 1})
    assert editor.notifications("window/showMessage") == []


@pytest.mark.parametrize("change", [{"model": "other"}, {"threads": 1}, {"cache": {"memory_mb": 5}}, {"device": "cpu"}])
async def test_settings_of_the_worker_load_the_model_anew(editor: Editor, change: Any) -> None:
    await ready(editor)
    editor.notify("workspace/didChangeConfiguration", {"settings": change})
    await editor.settle()
    assert len(editor.model.loads) == 2


async def test_other_settings_do_not_load_the_model_anew(editor: Editor) -> None:
    await ready(editor)
    editor.notify("workspace/didChangeConfiguration", {"settings": {"candidates": 5, "log": {"level": "error"}}})
    await editor.settle()
    assert len(editor.model.loads) == 1


async def test_a_change_forgets_suggestions_made_before(editor: Editor) -> None:
    await ready(editor)
    editor.model.answer = lambda params: ["1"]
    editor.open("a = ")
    await editor.complete(0, 4)
    editor.notify("workspace/didChangeConfiguration", {"settings": {"max_tokens": 5, "line_tokens": 3}})
    await editor.settle()
    await editor.complete(0, 4)
    asked = [params for params in editor.model.generated if not params.background]
    assert [params.stop.max_tokens for params in asked] == [160, 5]


async def test_the_log_goes_where_the_settings_say(tmp_path: Path, editor: Editor) -> None:
    path = tmp_path / "codegen.log"
    await ready(editor, options={"log": {"level": "debug", "file": str(path)}})
    logging.getLogger("codegen_lsp.lsp").debug("a line for the log")
    assert "a line for the log" in path.read_text()
    editor.notify("workspace/didChangeConfiguration", {"settings": {"log": {"level": "error"}}})
    await editor.settle()
    logging.getLogger("codegen_lsp.lsp").warning("not for the log")
    logging.getLogger("codegen_lsp.lsp").error("for the log")
    assert "not for the log" not in path.read_text()
    assert "for the log" in path.read_text()


async def test_a_log_that_can_not_be_written_is_reported(tmp_path: Path, editor: Editor) -> None:
    await ready(editor, options={"log.file": str(tmp_path / "missing" / "x.log")})
    (shown,) = editor.notifications("window/showMessage")
    assert "`codegen-lsp.log.file`" in shown["message"]


@pytest.mark.parametrize(("level", "documents"), [("info", False), ("debug", True)])
def test_the_text_of_documents_is_logged_at_debug_only(level: str, documents: bool) -> None:
    configure_logging(LogSettings(level=level))
    assert logging.getLogger("pygls.protocol.json_rpc").isEnabledFor(logging.INFO) is documents


async def test_what_is_asked_while_the_settings_are_asked_for_waits_for_them(editor: Editor) -> None:
    """An editor sends a request after a change of its settings, and the server asks for them in between."""
    editor.configuration = {"languages": {"python": False}}
    await ready(editor, capabilities=PULLS)
    editor.model.answer = lambda params: ["rn a + b"]
    editor.open("def add(a, b):\n    retu")
    assert await editor.complete(1, 8) == []
    editor.silent_about.add("workspace/configuration")
    editor.notify("workspace/didChangeConfiguration", {"settings": None})
    asked = editor.begin_completion(1, 8)
    await editor.settle()
    (*_, question) = [one for one in editor.sent if one.get("method") == "workspace/configuration"]
    assert not [one for one in editor.sent if one.get("id") == asked and "method" not in one]
    editor.send({"id": question["id"], "result": [{"languages": {"python": True}}]})
    (item,) = (await editor.answer(asked))["result"]["items"]
    assert item["insertText"] == "    return a + b"
