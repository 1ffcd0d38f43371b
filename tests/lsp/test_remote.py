"""The setting `remote`: whose word counts for where text is sent, and what the editor is told."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from codegen_lsp.inference.rpc import remote
from codegen_lsp.lsp import remote_consent
from codegen_lsp.lsp.handlers.configuration import CONFIRM, DECLINE
from codegen_lsp.lsp.remote import KEY_VARIABLE, wanted_server
from codegen_lsp.lsp.remote_consent import confirm, confirmed, is_confirmed
from codegen_lsp.settings import RemoteSettings
from tests.lsp.conftest import Editor
from tests.scripted_http import ScriptedServer, scripted_server

ASK = "window/showMessageRequest"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with scripted_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_consent, "consent_file", lambda: tmp_path / "config" / "remote-servers.json")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


async def started(editor: Editor, reply: str | None = None, **settings: Any) -> None:
    editor.replies[ASK] = {"title": reply} if reply else None
    await editor.initialize(options={"remote": settings})
    await editor.until(lambda: bool(editor.states) and editor.states[-1] == "ready")


def message(editor: Editor) -> str:
    found: str = editor.notifications("codegen-lsp/status")[-1]["message"]
    return found


def questions(editor: Editor) -> list[dict[str, Any]]:
    return [message["params"] for message in editor.sent if message.get("method") == ASK]


async def test_nothing_is_sent_to_a_server_that_was_not_confirmed(editor: Editor, server: ScriptedServer) -> None:
    await started(editor, url=server.url)
    editor.open("a = ")
    await editor.complete(0, 4)
    assert len(editor.model.generated) == 1
    assert server.connections == 0
    (question,) = questions(editor)
    assert server.url in question["message"]
    assert [action["title"] for action in question["actions"]] == [CONFIRM, DECLINE]
    assert f"because {server.url} was not confirmed by you" in message(editor)
    assert f"codegen-lsp remote allow {server.url}" in message(editor)
    assert not remote_consent.consent_file().exists()


async def test_a_confirmed_server_is_used_from_then_on(editor: Editor, server: ScriptedServer) -> None:
    await started(editor, CONFIRM, url=server.url)
    await editor.until(lambda: message(editor).startswith("Connected to "))
    editor.open("a = ")
    await editor.complete(0, 4)
    assert server.asked(remote.GENERATE)
    assert stat.S_IMODE(remote_consent.consent_file().stat().st_mode) == 0o600
    assert len(questions(editor)) == 1
    again = Editor()
    try:
        await started(again, url=server.url)
        await again.until(lambda: message(again).startswith("Connected to "))
        assert questions(again) == []
    finally:
        await again.server.session.close()


async def test_a_server_that_was_declined_is_not_asked_about_again(editor: Editor, server: ScriptedServer) -> None:
    await started(editor, DECLINE, url=server.url)
    await editor.settle()
    for lines in (3, 4):
        editor.notify("workspace/didChangeConfiguration", {"settings": {"max_lines": lines}})
        await editor.settle()
    assert len(questions(editor)) == 1
    assert server.connections == 0


async def test_settings_that_were_changed_before_the_answer_are_not_confirmed_by_it(
    editor: Editor, server: ScriptedServer
) -> None:
    editor.silent_about.add(ASK)
    await started(editor, url=server.url)
    (asked,) = [message for message in editor.sent if message.get("method") == ASK]
    editor.notify("workspace/didChangeConfiguration", {"settings": {"remote": {"url": "https://evil.example"}}})
    await editor.settle()
    editor.send({"id": asked["id"], "result": {"title": CONFIRM}})
    await editor.settle()
    assert confirmed() == []
    assert server.connections == 0


CONFIRMED = RemoteSettings("https://team.example", "~/key", "~/ca.pem")


@pytest.mark.parametrize(
    ("changes", "is_allowed"),
    [
        ({}, True),
        ({"url": "https://team.example.evil.example"}, False),
        ({"url": "https://team.example/other"}, False),
        ({"key_file": "~/.netrc"}, False),
        ({"ca_file": "/tmp/evil.pem"}, False),
        ({"allow_http": True}, False),
        ({"send": "document+workspace"}, False),
    ],
)
def test_all_that_decides_where_text_goes_is_confirmed(changes: dict[str, Any], is_allowed: bool) -> None:
    confirm(CONFIRMED)
    assert is_confirmed(attrs.evolve(CONFIRMED, **changes)) is is_allowed


def test_less_text_than_was_confirmed_is_allowed() -> None:
    confirm(attrs.evolve(CONFIRMED, send="document+workspace"))
    assert is_confirmed(CONFIRMED)
    assert not is_confirmed(attrs.evolve(CONFIRMED, allow_http=True))


@pytest.mark.parametrize("content", ["", "{}", "[5]", "\x00", '[{"url": "https://team.example"', "[" * 10_000])
def test_a_damaged_file_confirms_nothing(content: str) -> None:
    confirm(CONFIRMED)
    remote_consent.consent_file().write_text(content)
    assert not is_confirmed(CONFIRMED)


def test_a_file_that_others_may_write_confirms_nothing() -> None:
    confirm(CONFIRMED)
    remote_consent.consent_file().chmod(0o666)
    assert not is_confirmed(CONFIRMED)


def test_forgetting() -> None:
    confirm(CONFIRMED)
    confirm(attrs.evolve(CONFIRMED, key_file=""))  # takes the place of the one before
    assert len(json.loads(remote_consent.consent_file().read_text())) == 1
    assert remote_consent.forget(CONFIRMED.url)
    assert not remote_consent.forget(CONFIRMED.url)
    assert confirmed() == []


def test_no_file_is_read_before_the_server_is_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen_lsp.lsp.remote.read_token", lambda path: pytest.fail("the key was read"))
    with pytest.raises(Exception, match="was not confirmed"):
        wanted_server(RemoteSettings("https://team.example", str(tmp_path / "key")))


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    settings = RemoteSettings("https://team.example", str(file))
    confirm(settings)
    for content, mode, problem in (
        ("0123456789abcdef\n", 0o644, "can be read or changed by other users"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END\n", 0o600, "holds no"),
        ("", 0o600, "holds no"),
        (None, 0, "No such file"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(content)
            file.chmod(mode)
        with pytest.raises(Exception, match=problem):
            wanted_server(settings)
    file.write_text("0123456789abcdef\n")
    file.chmod(0o600)
    found = wanted_server(settings)
    assert found is not None
    assert found.key == "0123456789abcdef"
    monkeypatch.setenv(KEY_VARIABLE, "of-the-environment")
    found = wanted_server(settings)
    assert found is not None
    assert found.key == "of-the-environment"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"url": "team.example"}, "is not the URL of a server"),
        ({"url": "http://team.example"}, "is not sent to team.example without encryption"),
        ({"url": "https://key@team.example"}, "must not hold a key"),
    ],
)
async def test_a_wrong_address_leaves_the_local_model_and_says_why(
    editor: Editor, settings: dict[str, Any], why: str
) -> None:
    await started(editor, CONFIRM, **settings)
    assert why in message(editor)
    assert questions(editor) == []
    assert editor.notifications("window/showMessage") == []
    editor.open("a = ")
    await editor.complete(0, 4)
    assert len(editor.model.generated) == 1


async def test_a_server_is_used_and_left_as_the_settings_say(editor: Editor, server: ScriptedServer) -> None:
    confirm(RemoteSettings(server.url))
    await started(editor)
    assert server.connections == 0
    editor.notify("workspace/didChangeConfiguration", {"settings": {"remote": {"url": server.url}}})
    await editor.until(lambda: message(editor).startswith("Connected to "))
    editor.notify("workspace/didChangeConfiguration", {"settings": {"remote": {"url": ""}}})
    await editor.until(lambda: message(editor) == "Ready.")
    editor.open("a = ")
    await editor.complete(0, 4)
    assert server.asked(remote.GENERATE) == []
    assert [model.closed for model in editor.models] == [1, 1, 0]


async def test_a_restart_uses_a_server_that_was_confirmed_meanwhile(editor: Editor, server: ScriptedServer) -> None:
    await started(editor, url=server.url)
    confirm(RemoteSettings(server.url))
    await editor.request("workspace/executeCommand", {"command": "codegen-lsp.restartWorker"})
    await editor.until(lambda: message(editor).startswith("Connected to "))


async def test_a_client_of_a_socket_names_no_server(editor: Editor, server: ScriptedServer) -> None:
    confirm(RemoteSettings(server.url))
    editor.server.session.configuration.may_name_remote = False
    await started(editor, url=server.url)
    (shown,) = editor.notifications("window/showMessage")
    assert "`codegen-lsp.remote` is ignored" in shown["message"]
    assert server.connections == 0


async def test_a_server_that_goes_away_is_no_message_box(editor: Editor, server: ScriptedServer) -> None:
    confirm(RemoteSettings(server.url))
    await started(editor, url=server.url)
    await editor.until(lambda: message(editor).startswith("Connected to "))
    await server.stop()
    editor.open("a = ")
    await editor.complete(0, 4)
    await editor.until(lambda: f"because {server.url}" in message(editor))
    assert editor.states[-1] in ("busy", "ready")
    assert not {"window/showMessage", "window/logMessage", ASK} & {one.get("method") for one in editor.sent}
