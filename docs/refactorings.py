"""Update the examples in docs/refactoring.md: `python docs/refactorings.py`.

Each indented line `codegen-lsp refactor …` is followed by a block with the output of the command: a diff, or a message.
The commands run on the files in docs/examples with the embedded model, and change none of them.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("refactoring.md")
EXAMPLES = Path(__file__).with_name("examples")
COMMAND = re.compile(
    r"^    codegen-lsp (refactor [^\n]+)\n\n(```diff\n.*?^```|```\n.*?^```)\n", re.MULTILINE | re.DOTALL
)


def result(command: str) -> str:
    """Return a block with the output of a command: a diff without the names of the first file, or a message."""
    arguments = [sys.executable, "-m", "codegen_lsp.cli", *shlex.split(command)]
    done = subprocess.run(arguments, cwd=EXAMPLES, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"```\n{done.stderr.strip()}\n```"
    shown = re.sub(r"\A\s*---.*\n\+\+\+.*\n", "", done.stdout)
    return "```diff\n" + "".join(f"{line.rstrip()}\n" for line in shown.split("\n")).rstrip("\n") + "\n```"


def main() -> None:
    """Update the page."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        COMMAND.sub(lambda found: f"    codegen-lsp {found[1]}\n\n{result(found[1])}\n", text), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
