"""Check that an installed wheel completes code where PATH is empty. Also a script for CI: `installed_wheel.py WHEEL`.

As a script it needs nothing but Python: it installs the wheel with its dependencies into an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

PROGRAM = """\
def area(width, height):
    \"\"\"Return the area of a rectangle.\"\"\"
    return wi
"""
NEEDED = ("SYSTEMROOT", "TEMP", "TMP")
"""Variables without which no program starts on Windows."""


def complete(python: Path, folder: Path) -> dict[str, Any]:
    """Complete code with the package of an environment, without a PATH, and return what the command prints as JSON.

    Raises: CalledProcessError when the command fails, AssertionError when nothing was completed by the native engine.
    """
    source = folder / "shapes.py"
    source.write_text(PROGRAM, "utf-8")
    command = python.with_name("codegen-lsp.exe" if os.name == "nt" else "codegen-lsp")
    home = {name: str(folder) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "XDG_RUNTIME_DIR")}
    environment = {name: os.environ[name] for name in NEEDED if name in os.environ} | home | {"PATH": ""}
    place = f"{source}:{PROGRAM.count(chr(10))}"
    run = subprocess.run(
        [command, "complete", place, "--json"], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    if run.returncode:
        print(run.stdout, run.stderr, file=sys.stderr)
        run.check_returncode()
    answer: dict[str, Any] = json.loads(run.stdout)
    assert answer["model"]["engine"] == "native", answer
    assert answer["items"], answer
    return answer


def libraries(python: Path) -> list[str]:
    """Return the instruction sets whose library an environment's Python can load."""
    program = (
        "from codegen_lsp.inference.engines.native import c_forward, compile_decoder, ngram_segment; "
        "assert ngram_segment.library(); "
        "print(*(name for name in compile_decoder.VARIANTS if c_forward.library((name,))))"
    )
    run = subprocess.run([python, "-P", "-c", program], capture_output=True, text=True, check=True)
    return run.stdout.split()


def main(wheel: str) -> None:
    """Install a wheel into an environment of its own and print what it completes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        venv.create(Path(folder, "env"), with_pip=True)
        python = Path(folder, "env", *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
        subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
        print("libraries that this processor runs:", *libraries(python))
        print(json.dumps(complete(python, Path(folder)), indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
