"""Refactorings in a real VS Code: the menu, the preview, the edit, and one step to undo it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.editors.scenarios import AREA, EXTRACTED, LOOP, replace_json

ROOT = Path(__file__).parents[3]
SERVER = Path(__file__).parents[1] / "refactoring_server.py"
CHOSEN = "input:checked"
"""What will be applied, in a preview."""
STALE = "Actual command not found"
"""VS Code's message when it has made the actions of an open menu anew, and the chosen one is no longer there."""


class Answers:
    """What the model says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set()

    def set(self, *texts: str) -> None:
        replace_json(self.path, texts)


@pytest.fixture(scope="module")
def answers(code_server):
    return Answers(code_server.root / "answers.json")


@pytest.fixture(scope="module")
def refactoring_window(code_server, answers):
    folder = code_server.root / "refactoring"
    (folder / ".vscode").mkdir(parents=True)
    settings = {
        "codegen-lsp.server.command": [sys.executable, str(SERVER), f"@{answers.path}"],
        "codegen-lsp.server.environment": {"PYTHONPATH": str(ROOT)},
    }
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    window = code_server.window(folder)
    window.edit("first.py")
    window.ready()
    yield window
    window.close()


@pytest.fixture
def window(refactoring_window):
    """The window with no file open. No message may be left in its corner."""
    yield refactoring_window
    toasts = refactoring_window.toasts()
    refactoring_window.close_all()
    assert toasts == ""


def go(window, line: int, column: int) -> None:
    """Put the cursor somewhere; both count from 1."""
    window.select(line, column, line, column)


def select(window, line: int, column: int, chosen: str) -> None:
    """Select this text, which begins at a place."""
    *before, last = chosen.split("\n")
    window.select(line, column, line + len(before), len(last) + (1 if before else column))
    assert window.selection().endswith(f"({len(chosen)} selected)")


def menu(window) -> list[str]:
    """Open the menu of refactorings; what is in it."""
    rows = window.page.locator(".action-widget .monaco-list-row.action")
    # An entry that appears under the mouse takes the focus.
    window.page.mouse.move(5, 300)
    window.press_until("Control+Shift+r", rows.count, "the menu")
    return [text.strip() for text in rows.all_inner_texts()]


def leave_menu(window) -> None:
    rows = window.page.locator(".action-widget .monaco-list-row.action")
    window.press_until("Escape", lambda: rows.count() == 0, "the menu to close")


def act(window, title: str, key: str = "Enter") -> None:
    """Choose from the menu with the keyboard, and wait until something happens; again where the menu was stale."""
    before = window.text()
    choose(window, title, key)
    places = [window.page.locator(place) for place in (".panel .bulk-edit-panel", ".quick-input-widget")]

    def reacts() -> bool:
        return window.text() != before or window.toasts() != "" or any(place.is_visible() for place in places)

    window.until(reacts, f"an effect of {title}")
    if STALE in window.toasts():
        window.dismiss()
        act(window, title, key)


def choose(window, title: str, key: str) -> None:
    """Choose from the menu once, and wait until the menu is closed."""
    titles = menu(window)
    assert title in titles
    focused = window.page.locator(".action-widget .monaco-list-row.action.focused")
    for following in titles[1 : titles.index(title) + 1]:

        def reached(wanted: str = following) -> bool:
            return [text.strip() for text in focused.all_inner_texts()] == [wanted]

        window.press_until("ArrowDown", reached, following)
    rows = window.page.locator(".action-widget .monaco-list-row.action")
    window.press_until(key, lambda: rows.count() == 0, "the menu to close")


def extract(window, name: str, title: str = "Extract variable", key: str = "Enter") -> None:
    """Choose an action for `w * h`."""
    window.edit(name, AREA)
    select(window, 2, 11, "w * h")
    act(window, title, key)


def rewrite(window, name: str, more: str = "") -> None:
    window.edit(name, LOOP)
    select(window, 2, 1, "".join(LOOP.splitlines(keepends=True)[1:5]))
    act(window, f"Rewrite the selection as its comment says (preview){more}")


def undone(window, before: str) -> None:
    """Undo one step; the text must be as before, and not edited."""
    window.change("Control+z")
    window.until(lambda: window.text() == before, "the text as it was")
    window.page.locator(".tab.active.dirty").wait_for(state="detached")


def preview(window):
    """The panel with the difference."""
    shown = window.page.locator(".panel .bulk-edit-panel")
    shown.wait_for()
    window.until(lambda: shown.locator(".monaco-list-row").count() > 1, "the difference")
    return shown


def button(window, title: str) -> None:
    """Press a button of the panel; again where the click came while VS Code was at something else."""
    panel = window.page.locator(".panel .bulk-edit-panel")
    found = window.page.locator(".bulk-edit-panel .monaco-button", has_text=title)
    window.repeat(lambda: found.is_visible() and found.click(), panel.is_hidden, title)


def test_menu_apply_and_one_step_to_undo(window, answers, name):
    answers.set("surface")
    extract(window, name)
    window.until(lambda: window.text() == EXTRACTED, "the edit")
    assert (window.folder / name).read_text(encoding="utf-8") == AREA
    undone(window, AREA)
    window.change("Control+Shift+z")
    window.until(lambda: window.text() == EXTRACTED, "the edit again")
    window.saves(EXTRACTED)


def test_the_menu_has_what_applies(window, name):
    window.edit(name, AREA)
    select(window, 2, 11, "w * h")
    assert menu(window) == ["Extract variable", "Extract variable: choose…"]
    leave_menu(window)
    go(window, 1, 5)
    found = menu(window)
    assert "Write a docstring for 'area'" in found
    assert not any("Extract" in title for title in found)
    leave_menu(window)


def test_preview_of_any_action(window, answers, name):
    """VS Code shows any action's difference first, on request."""
    answers.set("surface")
    extract(window, name, key="Control+Enter")
    shown = preview(window)
    assert "surface = w * h" in shown.inner_text().replace("\u00a0", " ")
    assert shown.locator(CHOSEN).count() > 0
    assert window.text() == AREA
    button(window, "Apply")
    window.until(lambda: "    surface = w * h\n" in window.text(), "the edit")
    undone(window, AREA)


def test_choosing_a_name(window, answers, name):
    answers.set("surface", "size")
    extract(window, name, "Extract variable: choose…")
    window.choose("size")
    window.until(lambda: "    size = w * h\n" in window.text(), "the edit")
    undone(window, AREA)


def test_choosing_nothing(window, answers, name):
    answers.set("surface", "size")
    extract(window, name, "Extract variable: choose…")
    window.page.locator(".quick-input-list .monaco-list-row", has_text="surface").wait_for()
    window.press_until("Escape", window.page.locator(".quick-input-widget").is_hidden, "the list to close")
    window.page.wait_for_timeout(300)
    assert window.text() == AREA


@pytest.mark.parametrize("more", ["", ": choose…"])
def test_a_rewrite_is_previewed_and_never_chosen_by_default(window, answers, name, more):
    answers.set("out = [row.x for row in rows]")
    rewrite(window, name, more)
    shown = preview(window)
    said = shown.inner_text().replace("\u00a0", " ")
    assert "out = [row.x for row in rows]" in said
    assert "out.append(row.x)" in said
    assert shown.locator(CHOSEN).count() == 0
    assert window.text() == LOOP
    box = shown.locator(".edit-checkbox").first
    window.repeat(lambda: box.is_checked() or box.click(), box.is_checked, "the edit to be chosen")
    button(window, "Apply")
    window.until(lambda: "    out = [row.x for row in rows]\n    return out\n" in window.text(), "the edit")
    undone(window, LOOP)


def test_a_rewrite_is_discarded(window, answers, name):
    answers.set("out = [row.x for row in rows]")
    rewrite(window, name)
    preview(window)
    button(window, "Discard")
    assert window.text() == LOOP
    assert not window.page.locator(".tab.active.dirty").count()


def test_what_can_not_be_done_is_said(window, answers, name):
    answers.set("return a + nothing")
    window.edit(name, "def add(a, b):\n    pass\n")
    go(window, 1, 5)
    act(window, "Write the body of 'add'")
    window.until(lambda: "not defined: nothing" in window.toasts(), "the reason")
    assert window.text() == "def add(a, b):\n    pass\n"
    window.dismiss()
