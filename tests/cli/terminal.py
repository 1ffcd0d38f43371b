"""A real terminal for tests: tmux with a server of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.editors.scenarios import PATIENCE

ROOT = Path(__file__).parents[2]


class TmuxTerminal:
    """A program in a terminal of its own."""

    def __init__(self, folder: Path, command: Sequence[str], columns: int = 100, rows: int = 40) -> None:
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"}
        self.environment |= {"TMUX_TMPDIR": str(folder), "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "-c", str(folder), *command)

    def tmux(self, *arguments: str) -> str:
        line = ["tmux", "-L", "codegen", "-f", "/dev/null", *arguments]
        return subprocess.run(line, env=self.environment, check=True, capture_output=True, text=True).stdout

    def screen(self, *options: str) -> str:
        """Return the screen with what was scrolled out of it, without blanks at the ends of lines."""
        lines = self.tmux("capture-pane", "-p", "-J", "-S", "-", *options).split("\n")
        return "\n".join(map(str.rstrip, lines)).rstrip("\n")

    def until(self, holds: Callable[[str], bool], what: str = "") -> str:
        """Wait until something holds of the screen, and return the screen."""
        end = time.monotonic() + 2 * PATIENCE
        while not holds(screen := self.screen()):
            assert time.monotonic() < end, f"waited in vain{what}:\n{screen}"
            time.sleep(0.05)
        return screen

    def sees(self, *texts: str) -> str:
        """Wait until these texts are there, and return the screen."""
        return self.until(lambda screen: all(text in screen for text in texts), f" for {texts}")

    def until_ended(self) -> None:
        """Wait until the program has ended."""
        end = time.monotonic() + 2 * PATIENCE
        while not self.ended:
            assert time.monotonic() < end, f"it did not end:\n{self.screen()}"
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Type a text and Enter."""
        self.tmux("send-keys", "-l", text)
        self.tmux("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    @property
    def ended(self) -> bool:
        """True when the program has ended, and its terminal with it."""
        line = ["tmux", "-L", "codegen", "has-session"]
        return subprocess.run(line, env=self.environment, capture_output=True).returncode != 0

    def close(self) -> None:
        if not self.ended:
            self.tmux("kill-server")
