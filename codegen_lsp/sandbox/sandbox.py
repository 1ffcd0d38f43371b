"""Runs programs that a model wrote, which nobody has read.

Such a program may loop for ever, fill memory and disk, start processes, delete files, or send them somewhere. So it
runs in a process of its own, tied down by `jail`. Where the system has no namespaces to be had (other systems than
Linux, many containers), limits of time, memory and processes are all there is, and the caller has to ask for that.

What is not defended against is a program that looks for its judge: it could find out from its own process how success
is reported. No completion does so by chance.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen

from codegen_lsp.errors import CodegenError

JAIL = Path(__file__).with_name("jail.py")
MEBIBYTE = 1 << 20
BACKSTOP_SECONDS = 60.0
"""After this long beyond the program's time the jail itself is taken for stuck, and killed."""

Confinement = Literal["namespaces", "limits"]
"""`namespaces`: no files, no network, no other processes, and limits. `limits`: limits of time, memory and processes
alone; such a program can reach the user's files and the network, and root's may start processes."""


class SandboxError(CodegenError):
    """This system can't confine programs."""


@frozen
class Limits:
    """What a program may use."""

    seconds: float = 3.0
    """Of wall-clock time, as in HumanEval's own evaluation; the interpreter's start is not counted."""
    memory_mb: int = 1024
    """Address space in MiB."""
    scratch_mb: int = 16
    """Files, in MiB."""


@frozen
class Verdict:
    """How a program ended."""

    kind: Literal["passed", "failed", "timeout"]
    """`passed`: it ran to its end without an exception. Leaving early, by `exit()` say, is a failure."""
    detail: str = ""


def run_program(
    program: str,
    limits: Limits | None = None,
    confinement: Confinement = "namespaces",
    shown: Sequence[Path] = (),
) -> Verdict:
    """Run the source of a Python program, which may use the standard library.

    It sees the files and folders in `shown`, too, read-only and where they are, although they lie among those that are
    hidden from it.

    Raises SandboxError when the system lacks what the confinement takes.
    """
    allowed = limits or Limits()
    if sys.platform == "win32" or (confinement == "namespaces" and not sys.platform.startswith("linux")):
        raise _unavailable(f"there are no namespaces on {sys.platform}")
    with tempfile.TemporaryDirectory(prefix="codegen-lsp-") as folder:
        request = {
            "program": program,
            "seconds": allowed.seconds,
            "memory_bytes": allowed.memory_mb * MEBIBYTE,
            "scratch_bytes": allowed.scratch_mb * MEBIBYTE,
            "folder": folder,
            "namespaces": confinement == "namespaces",
            "shown": [str(path.resolve()) for path in shown],
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-X", "utf8", str(JAIL)],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=allowed.seconds + BACKSTOP_SECONDS,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Verdict("timeout", "the sandbox itself hung")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        trace = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _unavailable(trace[-1] if trace else f"the sandbox ended with exit code {done.returncode}") from None
    if answer["verdict"] == "unavailable":
        raise _unavailable(answer["detail"])
    return Verdict(answer["verdict"], answer["detail"])


def _unavailable(reason: str) -> SandboxError:
    return SandboxError(
        f"Programs can't be confined on this system: {reason}.",
        "Run it on Linux where namespaces are allowed, or inside a virtual machine with --limits-only.",
    )
