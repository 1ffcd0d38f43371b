"""`codegen-lsp synth` in a real terminal: keys as a keyboard sends them, and what the terminal shows."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import TmuxTerminal

pytestmark = [
    pytest.mark.usefixtures("sandbox"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is missing"),
]

ANSWERS = {
    "Set x to [1, 2].": ["x = [1, 2]", "x = (1, 2)"],
    "Set x to [3].": ["x = [3]"],
    "Sum x. `x = [1, 2]` → `3`": ["max(x)", "sum(x)", "1 / 0"],
    "Print `y`.\ny is 2": ["print(2)"],
    "Double x.": ["x = x * 2"],
    "Make a table.": ["[{'name': 'a', 'age': 1}, {'name': 'bcd', 'age': 23}]"],
    "Show x.": ["x"],
    "Open a file outside.": ["open('/etc/x', 'w')"],
    "Loop.": ["while True: pass"],
    "Fork.": ["import os\nwhile True: os.fork()"],
    "Beep.": ["print('\\x1b]0;title\\x07\\x1b[31mred'); print('a\\rb')"],
    "Control.": ["x = '\x1b]0;title\x07'"],
}
PROBLEM = "# Set x to 2.\nx = 2\n\n# Double it as `y`. `x = 3` → `6`\ny = x * 2\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., TmuxTerminal]]:
    running: list[TmuxTerminal] = []

    def begin(*arguments: str) -> TmuxTerminal:
        (tmp_path / "answers.json").write_text(json.dumps(ANSWERS), encoding="utf-8")
        scripted = ["-m", "tests.cli.scripted_synth", "answers.json"]
        running.append(
            TmuxTerminal(
                tmp_path, [sys.executable, *(arguments[1:] if arguments[0] == "-" else [*scripted, *arguments])]
            )
        )
        return running[-1]

    yield begin
    for terminal in running:
        terminal.close()


def say(terminal: TmuxTerminal, text: str, step: int, *shown: str) -> str:
    """Type a text, and wait for what it shows and for the prompt of a step."""
    before = terminal.screen().count(f"\n{step} ›")
    terminal.type(text)
    terminal.sees(*shown)
    return terminal.until(lambda screen: screen.endswith(f"\n{step} ›") and screen.count(f"\n{step} ›") > before)


def leave(terminal: TmuxTerminal) -> None:
    terminal.type("/quit")
    terminal.until_ended()


def test_six_turns_are_asked_corrected_undone_and_gone_on_with(
    start: Callable[..., TmuxTerminal], tmp_path: Path
) -> None:
    path = tmp_path / "s.py"
    terminal = start("s.py")
    terminal.sees("1 ›")
    say(terminal, "Set x to [1, 2].", 2, "candidates: 1• 2•")
    say(terminal, "Sum x. `x = [1, 2]` → `3`", 3, "    sum(x)\n    3\n", "candidates: 1✓ 2✗ 3✗")
    terminal.type("Print `y`.")
    terminal.sees("Nothing above defines y. What is it, or what is it called?")
    say(terminal, "y is 2", 4, "    print(2)\n    2\n")
    say(terminal, "Double x.", 5)
    say(terminal, "Make a table.", 6, "name   age", "bcd    23")
    say(terminal, "Show x.", 7, "    x\n    [1, 2, 1, 2]")
    assert path.read_text().count("\n\n# ") == 5

    say(terminal, "/undo", 6, "5 steps now.")
    say(terminal, "/redo", 7, "6 steps now.")
    terminal.type("/edit 4")
    terminal.sees("edit › x = x * 2")
    terminal.press("BSpace")
    say(terminal, "3", 7, "4 › Double x.  (yours)\n    x = x * 3")
    assert "x = x * 3\n#: edited\n" in path.read_text()
    say(terminal, "/change 1 Set x to [3].", 7, "[3, 3, 3]")
    say(terminal, "/run", 7)
    # The history brings an earlier text back.
    terminal.press("Up", "Up")
    terminal.until(lambda screen: screen.endswith("7 › /change 1 Set x to [3]."))
    terminal.press("C-c")
    terminal.until(lambda screen: screen.endswith("nothing was changed. /quit leaves.\n\n7 ›"))
    leave(terminal)
    kept = path.read_text()

    again = start("s.py")
    screen = again.sees("\n7 ›")
    assert "4 › Double x.  (yours)" in screen
    say(again, "Show x.", 8, "[3, 3, 3]")
    say(again, "/remove 7", 7, "6 steps now.")
    leave(again)
    assert path.read_text() == kept


def test_what_misbehaves_is_stopped_with_a_clear_word_and_the_session_goes_on(
    start: Callable[..., TmuxTerminal], tmp_path: Path
) -> None:
    terminal = start("s.py")
    terminal.sees("1 ›")
    said = "it tried to write outside its own folder, which the sandbox does not allow"
    say(terminal, "Open a file outside.", 2, said, "No candidate is right.")
    say(terminal, "/undo", 1)
    terminal.type("Loop.")
    terminal.sees("…  Ctrl-C stops it")
    terminal.press("C-c")
    terminal.until(lambda screen: screen.endswith("Stopped; nothing was changed. /quit leaves.\n\n1 ›"))
    say(terminal, "Fork.", 2, "it tried to start another process or thread, which the sandbox does not allow")
    say(terminal, "/undo", 1)
    say(terminal, "Beep.", 2, "\\x1b]0;title\\x07\\x1b[31mred", "    b\n")
    say(terminal, "Control.", 3, "x = '\\x1b]0;title\\x07'")
    assert terminal.tmux("display-message", "-p", "#{pane_title}").strip() != "title"
    say(terminal, "Set x to [1, 2].", 4, "x = [1, 2]")
    leave(terminal)
    assert "#> \\x1b]0;title\\x07\\x1b[31mred\n#> b\n" in (tmp_path / "s.py").read_text()


def test_a_learner_solves_a_problem(start: Callable[..., TmuxTerminal], tmp_path: Path) -> None:
    (tmp_path / "double.py").write_text(PROBLEM)
    terminal = start("--tutor", "double.py")
    terminal.sees("1. Set x to 2.")
    say(terminal, "x = 2", 2, "2. Double it as `y`.")
    say(terminal, "y = x + 1", 2, "Not yet: x = 3 → 6, but it gives 4")
    say(terminal, "/hint", 2, "\ny\n")
    say(terminal, "/hint", 2, "\ny =\n")
    terminal.type("y = x * 2")
    screen = terminal.sees("Solved.")
    assert "yours" in screen
    assert "a solution" in screen
    leave(terminal)


@pytest.mark.slow
def test_six_turns_with_the_embedded_model(
    start: Callable[..., TmuxTerminal], embedded_build: Path, tmp_path: Path
) -> None:
    """Whatever the model writes, each step is in the file, can be replaced, run, undone, and gone on with."""
    line = ("-", "-m", "codegen_lsp.cli", "synth", "s.py", "-m", str(embedded_build), "--threads", "1")
    line += ("--candidates", "2", "--max-tokens", "16")
    path, requests = (
        tmp_path / "s.py",
        ("Import os.", "Set n to a list.", "Sort n.", "Show n.", "Import sys.", "Show m."),
    )
    terminal = start(*line)
    terminal.sees("1 ›")
    for number, request in enumerate(requests, 1):
        say(terminal, request, number + 1)
        if number == 2:
            terminal.type("/edit 2")
            terminal.sees("edit ›")
            terminal.press("C-e", "C-u")
            say(terminal, "n = ['b', 'a']", 3, "(yours)")
    assert re.findall(r"^# (.*)", path.read_text(), re.MULTILINE) == list(requests)
    before = path.read_text()
    say(terminal, "/undo", 6, "5 steps now.")
    say(terminal, "/redo", 7, "6 steps now.")
    say(terminal, "/run", 7)
    assert path.read_text() == before
    leave(terminal)
    again = start(*line)
    again.sees("2 › Set n to a list.  (yours)", "\n7 ›")
    say(again, "Show it again.", 8)
    leave(again)
    assert path.read_text().startswith(before)
