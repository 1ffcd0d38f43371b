"""In a real terminal: keys as a keyboard sends them, and what the terminal shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.editors.scenarios import PATIENCE

PLUGIN = Path(__file__).parents[3] / "editors" / "neovim"


class Terminal:
    """tmux, with a server of its own."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self.environment["TMUX_TMPDIR"] = str(folder)
        self.tmux("new-session", "-d", "-x", "80", "-y", "16", *command)

    def tmux(self, *arguments: str) -> str:
        line = ["tmux", "-L", "codegen", "-f", "/dev/null", *arguments]
        return subprocess.run(line, env=self.environment, check=True, capture_output=True, text=True).stdout

    def sees(self, *lines: str) -> None:
        """Wait until these lines stand on the screen, one below the other."""
        end = time.monotonic() + PATIENCE
        while "\n".join(lines) not in (screen := "\n".join(map(str.rstrip, self.screen().split("\n")))):
            assert time.monotonic() < end, f"waited in vain for {lines}:\n{screen}"
            time.sleep(0.05)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)


@pytest.fixture
def terminal(program, fake, tmp_path):
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing")
    before = f"vim.g.loaded_python3_provider = 0\nvim.opt.runtimepath:append({json.dumps(str(PLUGIN))})\n"
    (tmp_path / "init.lua").write_text(before + fake.setup() + "vim.o.shortmess = 'atI'", encoding="utf-8")
    names = [f"XDG_{name}_HOME={tmp_path / name.lower()}" for name in ("CONFIG", "DATA", "STATE", "CACHE")]
    line = ["env", *names, str(program), "-n", "-u", str(tmp_path / "init.lua"), "a.py"]
    terminal = Terminal(tmp_path, ["-c", str(tmp_path), *line])
    yield terminal
    terminal.tmux("kill-server")


def test_typed_through_taken_in_parts_and_undone(terminal, fake):
    fake.script("total = sum(\n    one,\n    two,\n)")
    terminal.sees("~")
    terminal.type("i")
    terminal.sees("-- INSERT --")
    terminal.type("tot")
    terminal.sees("total = sum(", "    one,", "    two,", ")")
    terminal.type("al =")
    terminal.sees("total = sum(", "    one,", "    two,", ")")
    terminal.press("C-j")
    terminal.press("Escape")
    terminal.sees("total = sum", "~")
    terminal.type("A")
    terminal.sees("total = sum(", "    one,", "    two,", ")")
    terminal.press("Tab")
    terminal.press("Escape")
    terminal.sees("total = sum(", "    one,", "    two,", ")", "~")
    terminal.type("u")
    terminal.sees("total = sum", "~")


def test_alternatives_by_keys_with_meta(terminal, fake):
    fake.script("def one()", "def two()")
    terminal.sees("~")
    terminal.type("idef")
    terminal.sees("def one()")
    terminal.press("M-]")
    terminal.sees("def two() (2/2)")
    terminal.press("Tab")
    terminal.press("Escape")
    terminal.sees("def two()", "~")
