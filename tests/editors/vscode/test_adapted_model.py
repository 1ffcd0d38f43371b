"""A model that was adapted to a folder: offered once, used if the user says so, followed when it is removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.editors.adapted_build import BASE, put_adapted_build
from tests.editors.scenarios import STACK
from tests.editors.vscode.conftest import CodeServer, Window

pytestmark = pytest.mark.usefixtures("served_clone")
QUESTION = "was adapted to the code in"

Begin = Callable[..., Window]


def store_of(server: CodeServer) -> Path:
    return server.root / "home" / ".local" / "share" / "codegen-lsp" / "models"


def answers(server: CodeServer) -> list[tuple[str, bool]]:
    """Return the answers that are kept: the model, and whether it is to be used."""
    kept = server.root / "home" / ".config" / "codegen-lsp" / "workspace-models.json"
    return [(one["model"], one["use"]) for one in json.loads(kept.read_text())] if kept.exists() else []


def folder_with_a_model(server: CodeServer, embedded: Path, name: str, **settings: Any) -> tuple[Path, str]:
    """Make a folder and a model that was adapted to it; return both."""
    folder, model = server.root / name, f"{BASE}+{name}"
    (folder / ".vscode").mkdir(parents=True)
    (folder / ".vscode" / "settings.json").write_text(json.dumps({"codegen-lsp.threads": 2} | settings))
    put_adapted_build(embedded, store_of(server), model, folder)
    return folder, model


def runs(window: Window, model: str) -> None:
    """Wait until a model runs; the status bar shows its name, and after a suggestion its time."""
    window.until(lambda: window.status().split(" ")[0] == model, model, 4)


def choose(window: Window, answer: str) -> None:
    toast = window.page.locator(".notification-toast", has_text=QUESTION)
    toast.locator(".monaco-button", has_text=answer).click()
    window.until(lambda: QUESTION not in window.toasts(), "the question to go")


def asks_nothing_after_a_reload(window: Window, model: str) -> None:
    """The server asks before it answers a request, so once there is a suggestion, no question comes any more."""
    window.page.reload()
    window.edit("again.py", STACK)
    runs(window, model)
    window.type("        self.")
    window.suggestion()
    assert QUESTION not in window.toasts()


def test_offered_once_used_and_removed(open_window: Begin, code_server: CodeServer, embedded_build: Path) -> None:
    folder, model = folder_with_a_model(code_server, embedded_build, "accepted")
    window = open_window(folder)
    window.edit("a.py", STACK)
    window.until(lambda: QUESTION in window.toasts(), "the question", 4)
    assert model in window.toasts()
    assert str(folder) in window.toasts()
    runs(window, BASE)
    window.type("        self.")  # the question leaves the keys to the editor
    assert window.suggestion()
    choose(window, "Use the adapted model")
    runs(window, model)
    assert answers(code_server) == [(model, True)]
    asks_nothing_after_a_reload(window, model)
    environment = {"HOME": str(code_server.root / "home"), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "codegen_lsp.cli", "models", "remove", model]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"Editors use the model of your settings again in {folder}" in done.stdout
    window.until(lambda: f"{model} was removed. {BASE} is used in its place." in window.toasts(), "the word")
    runs(window, BASE)
    assert answers(code_server) == []
    assert not (store_of(code_server) / model).exists()
    window.edit("b.py", STACK)
    window.type("        self.")
    assert window.suggestion()


def test_declined_is_kept(open_window: Begin, code_server: CodeServer, embedded_build: Path) -> None:
    folder, model = folder_with_a_model(code_server, embedded_build, "declined")
    window = open_window(folder)
    window.edit("a.py", STACK)
    window.until(lambda: QUESTION in window.toasts(), "the question", 4)
    choose(window, "Keep the model as it is")
    window.until(lambda: (model, False) in answers(code_server), "the answer")
    asks_nothing_after_a_reload(window, BASE)


def test_the_setting_decides_without_a_question(
    open_window: Begin, code_server: CodeServer, embedded_build: Path
) -> None:
    folder = code_server.root / "decided"
    model = f"{BASE}+decided"
    folder_with_a_model(code_server, embedded_build, "decided", **{"codegen-lsp.model_by_folder": {str(folder): model}})
    window = open_window(folder)
    window.edit("a.py", STACK)
    runs(window, model)
    window.type("        self.")
    window.suggestion()
    assert QUESTION not in window.toasts()
    assert (model, True) not in answers(code_server)
