"""A model that was adapted to a workspace is offered there once, and never chosen silently."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import attrs
import pytest

from codegen_lsp.checkpoints.adaptation_record import AdaptationRecord, write_record
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import BuildInfo, write_info
from codegen_lsp.lsp import workspace_models
from codegen_lsp.lsp.handlers import installed_models
from codegen_lsp.lsp.handlers.configuration import KEEP, USE
from codegen_lsp.lsp.workspace_models import ModelChoice, choices, keep, model_of_workspace, offer_for
from codegen_lsp.settings import Settings, structure_settings
from tests.lsp.conftest import Editor

ASK = "window/showMessageRequest"
SAY = "window/showMessage"
NAME = "codegen-lsp-python+mine"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace_models, "choices_file", lambda: tmp_path / "config" / "workspace-models.json")
    monkeypatch.setenv("CODEGEN_LSP_MODELS", str(tmp_path / "store"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "package").mkdir(parents=True)
    return tmp_path / "mine"


def install(root: Path, tmp_path: Path, name: str = NAME, finished: str = "2026-11-26") -> None:
    build = tmp_path / "store" / name
    build.mkdir(parents=True)
    write_info(build, BuildInfo(name, "codegen", "x", "apache-2.0", 2048, 8192, 6, 8, 512, 0))
    record = AdaptationRecord("codegen-lsp-python", {str(root): "c0ffee"}, {}, [], [], 1, 1.0, finished)
    write_record(build, record)


async def started(editor: Editor, folder: Path, reply: str | None = None, **settings: Any) -> None:
    editor.replies[ASK] = {"title": reply} if reply else None
    folders = [{"uri": folder.as_uri(), "name": folder.name}]
    await editor.request(
        "initialize",
        {
            "processId": None,
            "rootUri": folder.as_uri(),
            "workspaceFolders": folders,
            "capabilities": {"workspace": {"workspaceFolders": True}},
            "initializationOptions": settings,
        },
    )
    editor.notify("initialized", {})
    await editor.until(lambda: bool(editor.states) and editor.states[-1] == "ready")
    await editor.settle()


def questions(editor: Editor) -> list[dict[str, Any]]:
    return [message["params"] for message in editor.sent if message.get("method") == ASK]


def loaded(editor: Editor) -> str:
    """The build that was loaded last."""
    return Path(editor.model.loads[-1].build).name


async def test_an_adapted_model_is_used_after_the_user_said_so(editor: Editor, root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    await started(editor, root, USE)
    (question,) = questions(editor)
    assert NAME in question["message"]
    assert str(root) in question["message"]
    assert [action["title"] for action in question["actions"]] == [USE, KEEP]
    await editor.until(lambda: loaded(editor) == NAME)
    assert choices() == [ModelChoice(str(root), NAME, True)]
    again = Editor()
    try:
        await started(again, root)
        assert questions(again) == []
        assert loaded(again) == NAME
    finally:
        await again.server.session.close()


@pytest.mark.parametrize("reply", [KEEP, None])
async def test_without_consent_the_model_of_the_settings_runs(
    editor: Editor, root: Path, tmp_path: Path, reply: str | None
) -> None:
    install(root, tmp_path)
    await started(editor, root, reply)
    for lines in (3, 4):
        editor.notify("workspace/didChangeConfiguration", {"settings": {"max_lines": lines}})
        await editor.settle()
    await editor.until(lambda: reply is None or choices() == [ModelChoice(str(root), NAME, False)])
    assert len(questions(editor)) == 1
    assert loaded(editor) == "default"
    # A dismissed question is no answer: the next session asks again.
    assert bool(choices()) == (reply is not None)


async def test_elsewhere_it_is_not_offered(editor: Editor, root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    (tmp_path / "other").mkdir()
    await started(editor, tmp_path / "other", USE)
    assert questions(editor) == []
    assert loaded(editor) == "default"


async def test_a_folder_that_is_added_is_offered_its_model(editor: Editor, root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    (tmp_path / "other").mkdir()
    await started(editor, tmp_path / "other", USE)
    added = {"event": {"added": [{"uri": root.as_uri(), "name": "mine"}], "removed": []}}
    editor.notify("workspace/didChangeWorkspaceFolders", added)
    await editor.until(lambda: loaded(editor) == NAME)


@pytest.fixture
def stored(editor: Editor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editor:
    """An editor whose server looks for models in the store, often."""
    monkeypatch.setattr(installed_models, "WATCH_INTERVAL", 0.01)

    def find(name: str) -> Path:
        path = tmp_path / "store" / name
        if name not in ("auto", "codegen-lsp-python") and not (path / "build.json").exists():
            raise ModelError(f"There is no model called {name!r}.", "")
        return path

    editor.server.session.models._find_build = find
    return editor


def said(editor: Editor) -> list[str]:
    return [message["params"]["message"] for message in editor.sent if message.get("method") == SAY]


async def test_a_model_adapted_while_the_editor_is_open_is_offered(stored: Editor, root: Path, tmp_path: Path) -> None:
    await started(stored, root, USE)
    assert loaded(stored) == "auto"
    install(root, tmp_path)
    await stored.until(lambda: loaded(stored) == NAME)
    assert len(questions(stored)) == 1
    assert said(stored) == []


async def test_a_refreshed_model_is_loaded_again(stored: Editor, root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    await started(stored, root, USE)
    await stored.until(lambda: loaded(stored) == NAME and stored.states[-1] == "ready")
    before, clients = stored.model, len(stored.models)
    (tmp_path / "store" / NAME).rename(tmp_path / "store" / ".replaced")
    install(root, tmp_path, finished="2026-11-27")
    await stored.until(lambda: len(stored.models) > clients and stored.states[-1] == "ready")
    assert loaded(stored) == NAME
    assert before.closed == 1
    assert said(stored) == []
    assert len(questions(stored)) == 1


async def test_other_changes_of_the_store_load_nothing_again(stored: Editor, root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    await started(stored, root, KEEP)
    loads = len(stored.model.loads)
    followed: list[str] = []
    models = stored.server.session.models
    follow = models.follow_store

    async def noted() -> str:
        followed.append(await follow())
        return followed[-1]

    models.follow_store = noted  # type: ignore[method-assign]
    (tmp_path / "store" / "codegen-350M-mono").mkdir()
    await stored.until(lambda: followed == [""])
    assert len(stored.model.loads) == loads
    assert said(stored) == []


async def test_in_place_of_a_removed_model_that_of_the_settings_runs(
    stored: Editor, root: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from codegen_lsp.cli.app import app

    install(root, tmp_path)
    await started(stored, root, USE)
    await stored.until(lambda: loaded(stored) == NAME and stored.states[-1] == "ready")
    done = await asyncio.to_thread(CliRunner().invoke, app, ["models", "remove", NAME])
    assert f"Editors use the model of your settings again in {root}" in done.output
    await stored.until(lambda: loaded(stored) == "auto" and stored.states[-1] == "ready")
    await stored.until(lambda: said(stored) == [f"{NAME} was removed. auto is used in its place."])
    assert not workspace_models.choices_file().exists()
    install(root, tmp_path)
    await stored.until(lambda: len(questions(stored)) == 2)


async def test_a_model_chosen_by_command_that_was_removed_gives_way(stored: Editor, root: Path, tmp_path: Path) -> None:
    from codegen_lsp.checkpoints import store

    install(tmp_path / "elsewhere", tmp_path)
    await started(stored, root)
    await stored.request("workspace/executeCommand", {"command": "codegen-lsp.switchModel", "arguments": [NAME]})
    assert loaded(stored) == NAME
    store.remove(NAME)
    await stored.until(lambda: said(stored) == [f"{NAME} was removed. auto is used in its place."])
    assert loaded(stored) == "auto"


async def test_a_model_that_was_deleted_by_hand_is_reported_once(stored: Editor, root: Path, tmp_path: Path) -> None:
    keep(ModelChoice(str(root), NAME, True))
    keep(ModelChoice("/elsewhere", "other", True))
    await started(stored, root)
    await stored.until(lambda: len(said(stored)) == 1)
    assert said(stored)[0].startswith(f"{NAME}, which was to be used in {root}, is no longer installed.")
    assert loaded(stored) == "auto"
    await stored.until(lambda: choices() == [ModelChoice("/elsewhere", "other", True)])


def test_an_answer_that_can_t_be_written_leaves_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(ModelChoice("/a", "b", True))

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space"):
            keep(ModelChoice("/a", "c", True))
    folder = workspace_models.choices_file().parent
    assert [path.name for path in folder.iterdir()] == ["workspace-models.json"]


def settings(**values: Any) -> Settings:
    made, problems = structure_settings(values)
    assert problems == []
    return made


def test_the_settings_decide_without_a_question(root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    folders = [root.as_uri()]
    assert offer_for(folders, settings()) is not None
    assert offer_for([(root / "package").as_uri()], settings()) is not None
    assert offer_for(folders, settings(model="codegen-lsp-python")) is not None
    assert offer_for(folders, settings(model="codegen-350M-mono")) is None
    assert offer_for(folders, settings(model_by_folder={str(root): "auto"})) is None
    assert model_of_workspace(folders, settings(model_by_folder={str(tmp_path): "other"})) == "other"
    assert model_of_workspace(folders, settings(model_by_folder={"/elsewhere": "other"})) == "auto"
    keep(ModelChoice(str(root), NAME, True))
    assert model_of_workspace(folders, settings()) == NAME
    assert model_of_workspace(folders, settings(model="codegen-350M-mono")) == "codegen-350M-mono"
    assert model_of_workspace(folders, settings(model_by_folder={str(root): "codegen-lsp-python"})) == (
        "codegen-lsp-python"
    )


def test_a_model_that_was_removed_is_not_missed(root: Path, tmp_path: Path) -> None:
    from codegen_lsp.checkpoints import store

    install(root, tmp_path)
    keep(ModelChoice(str(root), NAME, True))
    store.remove(NAME)
    assert model_of_workspace([root.as_uri()], settings()) == "auto"


def test_a_newer_model_is_offered_although_an_older_one_was_declined(root: Path, tmp_path: Path) -> None:
    install(root, tmp_path)
    keep(ModelChoice(str(root), NAME, False))
    assert offer_for([root.as_uri()], settings()) is None
    install(root, tmp_path, NAME + "2", "2026-11-27")
    offer = offer_for([root.as_uri()], settings())
    assert offer is not None
    assert offer.model == NAME + "2"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}'])
def test_a_damaged_file_of_answers_holds_none(content: str) -> None:
    keep(ModelChoice("/a", "b", True))
    workspace_models.choices_file().write_text(content)
    assert choices() == []
    keep(ModelChoice("/a", "b", False))
    assert choices() == [attrs.evolve(ModelChoice("/a", "b", True), use=False)]
