"""Shared by the tests in VS Code and in Neovim: the texts that are edited, and the files of a scripted server."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

PATIENCE = float(os.environ.get("CODEGEN_LSP_TEST_PATIENCE", "60"))
"""Timeout of waits, in seconds."""
PICTURES = os.environ.get("CODEGEN_LSP_PICTURES")
"""Folder in which pictures for the README are stored; without it, they are made and removed."""

STACK = "import os\n\n\nclass Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"
"""The embedded model has a suggestion for `        self.` after it."""
PICTURED = """import sys


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file]


def count_words(path):
"""
"""Text in the pictures of the README, before the suggestion."""

AREA = "def area(w, h):\n    print(w * h + 1)\n"
"""`w * h` can be extracted."""
EXTRACTED = "def area(w, h):\n    surface = w * h\n    print(surface + 1)\n"
"""`AREA` with the extracted variable `surface`."""
LOOP = """def f(rows):
    # use a comprehension
    out = []
    for row in rows:
        out.append(row.x)
    return out
"""
"""The body can be rewritten as its comment says."""


def replace_json(path: Path, value: Any) -> None:
    """Write a value to a file that another process reads, in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value), encoding="utf-8")
    new.replace(path)


class ScriptedServer:
    """The files of a scripted server: `script.json`, which it reads, and `log.jsonl`, which it writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write_script(self, **script: Any) -> None:
        """Set the server's answers from now on."""
        replace_json(self.folder / "script.json", script)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Complete entries of the log."""
        path = self.folder / "log.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]
