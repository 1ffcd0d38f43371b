"""The model's life as the editor sees it: status, progress, commands, and what a user can do when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from codegen_lsp.errors import ModelError, WorkerError
from codegen_lsp.inference.client.client import WorkerState
from codegen_lsp.inference.rpc.messages import LoadProgress
from tests.lsp.conftest import URI, Editor

SHOWS_PROGRESS = {"window": {"workDoneProgress": True}}


async def command(editor: Editor, name: str, *arguments: Any) -> Any:
    return await editor.request(
        "workspace/executeCommand", {"command": f"codegen-lsp.{name}", "arguments": list(arguments)}
    )


async def refused_command(editor: Editor, name: str, *arguments: Any) -> dict[str, Any]:
    params = {"command": f"codegen-lsp.{name}", "arguments": list(arguments)}
    return await editor.refusal("workspace/executeCommand", params)


async def test_the_model_is_loaded_after_initialized_and_not_before(editor: Editor) -> None:
    await editor.request("initialize", {"capabilities": {}})
    await editor.settle()
    assert editor.model.loads == []
    editor.notify("initialized", {})
    await editor.settle()
    assert len(editor.model.loads) == 1


async def test_each_state_is_told_once(ready: Editor) -> None:
    assert ready.states == ["starting", "loading", "ready"]
    ready.open("a = ")
    await ready.complete(0, 4)
    assert ready.states == ["starting", "loading", "ready", "busy", "ready"]
    last = ready.notifications("codegen-lsp/status")[-1]
    assert last["model"]["name"] == "default"
    assert last["model"]["contextLength"] == 2048
    assert last["workerPid"] == 1
    ready.model.on_state(WorkerState("ready", "Ready.", model=ready.model.model, pid=1))
    assert len(ready.states) == 5


async def test_a_missing_model_is_a_status_with_advice_and_requests_get_an_empty_list(editor: Editor) -> None:
    await editor.initialize(options={"model": "missing"})
    status = editor.notifications("codegen-lsp/status")[-1]
    assert status["state"] == "error"
    assert "missing" in status["message"]
    assert "codegen-lsp models list" in status["advice"]
    (logged,) = editor.notifications("window/logMessage")
    assert "codegen-lsp models list" in logged["message"]
    assert editor.notifications("window/showMessage") == []
    editor.open("a = ")
    assert await editor.complete(0, 4) == []
    assert editor.model.loads == []


async def test_a_model_that_can_not_be_loaded(editor: Editor) -> None:
    editor.model.broken["default"] = ModelError("It is truncated.", "Pull it again.")
    await editor.initialize()
    status = editor.notifications("codegen-lsp/status")[-1]
    assert (status["state"], status["message"], status["advice"]) == ("error", "It is truncated.", "Pull it again.")
    editor.open("a = ")
    assert await editor.complete(0, 4) == []
    assert "Pull it again." in (await editor.explain())["message"]


async def test_a_missing_model_in_changed_settings_ends_the_one_before(ready: Editor) -> None:
    ready.notify("workspace/didChangeConfiguration", {"settings": {"model": "missing"}})
    await ready.settle()
    assert ready.states[-1] == "error"
    assert ready.models[0].closed == 1
    ready.notify("workspace/didChangeConfiguration", {"settings": {"model": "auto"}})
    await ready.settle()
    assert ready.states[-1] == "ready"


async def test_turning_it_off_ends_the_worker(ready: Editor) -> None:
    ready.notify("workspace/didChangeConfiguration", {"settings": {"enabled": False}})
    await ready.settle()
    assert ready.states[-1] == "disabled"
    assert ready.models[0].closed == 1
    assert ready.model.loads == []
    # What the worker before has left to say is no news.
    ready.models[0].on_state(WorkerState("ready", "Ready.", pid=1))
    assert ready.states[-1] == "disabled"
    ready.notify("workspace/didChangeConfiguration", {"settings": {"enabled": True}})
    await ready.settle()
    assert ready.states[-1] == "ready"
    assert len(ready.model.loads) == 1


async def test_off_from_the_start_starts_no_worker(editor: Editor) -> None:
    await editor.initialize(options={"enabled": False})
    assert editor.states == ["disabled"]
    assert editor.model.loads == []


async def test_a_worker_that_dies_and_comes_back(ready: Editor) -> None:
    ready.model.generate_error = WorkerError("The worker was killed.")
    ready.open("a = ")
    ready.model.on_state(WorkerState("starting", "The worker was killed.", "It is being restarted."))
    waiting = ready.begin_completion(0, 4)
    await ready.settle()
    assert ready.notifications("codegen-lsp/status")[-1]["advice"] == "It is being restarted."
    ready.model.generate_error = None
    ready.model.answer = lambda params: ["1"]
    ready.model.on_state(WorkerState("ready", "Ready.", model=ready.model.model, pid=2))
    assert len((await ready.answer(waiting))["result"]["items"]) == 1


async def test_a_worker_that_died_too_often(ready: Editor) -> None:
    ready.model.generate_error = WorkerError("It died.", "Restart the worker.")
    ready.model.on_state(WorkerState("failed", "It died.", "Restart the worker."))
    ready.open("a = ")
    assert await ready.complete(0, 4) == []
    assert "Restart the worker." in (await ready.explain())["message"]
    ready.model.generate_error = None
    await command(ready, "restartWorker")
    assert ready.states[-1] == "ready"


# Progress.


async def test_loading_shows_progress_from_begin_to_end(editor: Editor) -> None:
    editor.model.loading.clear()
    await editor.initialize(SHOWS_PROGRESS)
    create = await editor.wait_for(lambda message: message.get("method") == "window/workDoneProgress/create")
    await editor.settle()
    editor.model.loading.set()
    await editor.wait_for(lambda message: message.get("params", {}).get("state") == "ready")
    await editor.settle()
    reports = editor.notifications("$/progress")
    assert {report["token"] for report in reports} == {create["params"]["token"]}
    assert [report["value"]["kind"] for report in reports] == ["begin", "end"]
    assert reports[0]["value"]["percentage"] == 50


async def test_reports_after_begin(editor: Editor) -> None:
    editor.model.loading.clear()
    await editor.initialize(SHOWS_PROGRESS)
    await editor.settle()
    for fraction in (0.6, 0.4, 0.9):
        editor.model.on_progress(LoadProgress("Reading", fraction))
    editor.model.loading.set()
    await editor.settle()
    values = [report["value"] for report in editor.notifications("$/progress")]
    assert [value.get("percentage") for value in values] == [50, 60, 90, None]


async def test_each_load_has_a_token_of_its_own(editor: Editor) -> None:
    await editor.initialize(SHOWS_PROGRESS)
    await command(editor, "switchModel", "other")
    await editor.settle()
    reports = editor.notifications("$/progress")
    assert [report["value"]["kind"] for report in reports] == ["begin", "end"] * 2
    assert len({report["token"] for report in reports}) == 2


async def test_an_editor_that_shows_no_progress_is_sent_none(editor: Editor) -> None:
    await editor.initialize({"window": {"workDoneProgress": False}})
    await editor.settle()
    assert not [message for message in editor.sent if "rogress" in message.get("method", "")]


async def test_an_editor_that_refuses_progress(editor: Editor) -> None:
    editor.silent_about.add("window/workDoneProgress/create")
    await editor.initialize(SHOWS_PROGRESS)
    create = await editor.wait_for(lambda message: message.get("method") == "window/workDoneProgress/create")
    editor.send({"id": create["id"], "error": {"code": -32603, "message": "no"}})
    await editor.settle()
    assert editor.notifications("$/progress") == []
    assert editor.states[-1] == "ready"


# Commands.


async def test_commands_are_announced(editor: Editor) -> None:
    result = await editor.initialize()
    assert result["capabilities"]["executeCommandProvider"]["commands"] == [
        "codegen-lsp.accepted",
        "codegen-lsp.restartWorker",
        "codegen-lsp.switchModel",
        "codegen-lsp.refactor",
    ]


async def test_accepted_counts_each_suggestion_once(ready: Editor) -> None:
    ready.model.answer = lambda params: ["1"]
    ready.open("a = ")
    (item,) = await ready.complete(0, 4)
    params = {"command": item["command"]["command"], "arguments": item["command"]["arguments"]}
    assert await ready.request("workspace/executeCommand", params) is None
    assert await ready.request("workspace/executeCommand", params) is None
    explanation = await ready.explain()
    assert (explanation["shown"], explanation["accepted"]) == (1, 1)


async def test_a_suggestion_that_was_never_given_is_not_accepted(ready: Editor) -> None:
    await command(ready, "accepted", {"suggestion": 7})
    assert (await ready.explain())["accepted"] == 0


@pytest.mark.parametrize("arguments", [[], [None], [{}], [{"suggestion": "1"}], [{"suggestion": True}], ["x"]])
async def test_accepted_with_wrong_arguments(ready: Editor, arguments: list[Any]) -> None:
    assert (await refused_command(ready, "accepted", *arguments))["code"] == -32602


async def test_restarting_the_worker(ready: Editor) -> None:
    assert await command(ready, "restartWorker") == {"state": "ready"}
    assert ready.model.restarts == 1


async def test_switching_the_model_goes_before_the_setting_until_that_changes(ready: Editor) -> None:
    assert await command(ready, "switchModel", "other") == {"model": "other"}
    ready.notify("workspace/didChangeConfiguration", {"settings": {"candidates": 5}})
    await ready.settle()
    assert [params.build for params in ready.model.loads] == ["/models/default", "/models/other"]
    ready.notify("workspace/didChangeConfiguration", {"settings": {"model": "third"}})
    await ready.settle()
    assert ready.model.loads[-1].build == "/models/third"


async def test_switching_to_the_same_model_loads_nothing(ready: Editor) -> None:
    assert await command(ready, "switchModel", "default") == {"model": "default"}
    assert len(ready.model.loads) == 1


async def test_switching_to_a_missing_model_leaves_all_as_it_was(ready: Editor) -> None:
    error = await refused_command(ready, "switchModel", "missing")
    assert error["code"] == -32803
    assert "codegen-lsp models list" in error["message"]
    assert ready.states[-1] == "ready"
    assert len(ready.model.loads) == 1


async def test_switching_to_a_broken_model_brings_the_one_before_back(ready: Editor) -> None:
    ready.model.broken["other"] = ModelError("It is broken.", "Pull it again.")
    error = await refused_command(ready, "switchModel", "other")
    assert error["message"] == "It is broken. Pull it again."
    assert [params.build for params in ready.model.loads][-1] == "/models/default"
    assert ready.states[-1] == "ready"


async def test_switching_while_turned_off(editor: Editor) -> None:
    await editor.initialize(options={"enabled": False})
    assert "enabled" in (await refused_command(editor, "switchModel", "other"))["message"]
    assert editor.model.loads == []


@pytest.mark.parametrize("arguments", [[], [""], [5], ["a", "b"]])
async def test_switching_with_wrong_arguments(ready: Editor, arguments: list[Any]) -> None:
    assert (await refused_command(ready, "switchModel", *arguments))["code"] == -32602


async def test_an_unknown_command(ready: Editor) -> None:
    assert (await refused_command(ready, "nothing"))["code"] == -32602


async def test_another_model_knows_nothing_of_suggestions_of_the_one_before(ready: Editor) -> None:
    ready.model.answer = lambda params: ["1"]
    ready.open("a = ", uri=URI)
    await ready.complete(0, 4)
    await command(ready, "switchModel", "other")
    await ready.complete(0, 4)
    assert len(ready.model.generated) == 2


async def test_shutdown_ends_the_worker(ready: Editor) -> None:
    await ready.request("shutdown")
    await ready.settle()
    assert ready.model.closed == 1
