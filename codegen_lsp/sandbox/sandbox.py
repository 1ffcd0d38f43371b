"""Run untrusted Python programs, such as code that a model wrote, in a process confined by `jail`.

An untrusted program may loop for ever, fill memory and disk, start processes, delete files, or send them over the
network. Where the system has no namespaces (other systems than Linux, many containers), only limits of time, memory and
processes are available, and the caller has to ask for that.

A program can forge the verdict of `run_program`: it could find out from its own process how success is reported. Where
that matters, what it does is checked by another process (`function_tests`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.temporary_folder import TemporaryFolder

JAIL = Path(__file__).with_name("jail.py")
MEBIBYTE = 1 << 20
STOP_SECONDS = 0.05
"""Time between two looks at whether a program is to be stopped."""
END_SECONDS = 5.0
"""Time for a jail that was told to end, after which it is killed."""
NO_RESULT = "ended without a result"
"""Detail of a verdict on a program whose process ended before the program did; `jail` has the same text."""
BACKSTOP_SECONDS = 60.0
"""Seconds beyond the program's time after which the jail itself counts as stuck, and is killed."""

Confinement = Literal["namespaces", "limits"]
"""`namespaces`: no files, no network, no other processes, and limits. `limits`: limits of time, memory and processes
alone; such a program can reach the user's files and the network, and as root may start processes."""


class SandboxError(CodegenError):
    """This system can't confine programs."""


class ProgramStoppedError(CodegenError):
    """The caller stopped a program."""


@frozen
class Limits:
    """The resources that a program may use."""

    seconds: float = 3.0
    """Wall-clock time, by default that of HumanEval's own evaluation; the start of the interpreter is not counted."""
    memory_mb: int = 1024
    """Address space in MiB."""
    scratch_mb: int = 16
    """Size of the folder for files, in MiB."""
    output_bytes: int = 0
    """Limit of the printed text that is returned."""
    file_bytes: int = 0
    """Limit of the files that are returned, together."""


@frozen
class Verdict:
    """The result of running a program."""

    kind: Literal["passed", "failed", "timeout"]
    """`passed`: it ran to its end without an exception. Leaving early, for example by `exit()`, is a failure."""
    detail: str = ""
    output: str = ""
    """The beginning of what it printed."""
    files: dict[str, bytes] = field(factory=dict)
    """Content of the files that it left in its folder, by name; those that don't fit the limit are missing."""


def run_program(
    program: str,
    limits: Limits | None = None,
    confinement: Confinement = "namespaces",
    shown: Sequence[Path] = (),
    stop: threading.Event | None = None,
    *,
    hidden: Sequence[Path] = (),
    channel: int | None = None,
    awaits: bool = False,
    returned: Sequence[str] = ("",),
) -> Verdict:
    """Run the source of a Python program, which may use the standard library.

    The folders in `shown` are visible to it, read-only and at their own paths, even inside hidden folders. They are not
    on the path of its imports. Those in `hidden` are empty to it, beside the homes and temporary folders. Setting
    `stop`, from another thread, ends the program.

    It inherits the file descriptor `channel`. If it `awaits` the other end of that, its time begins with the first
    message. Of its files, those are returned whose names have one of the beginnings in `returned`, in this order, as
    long as they fit the limit.

    Raises ProgramStoppedError then. Raises SandboxError when the confinement is not available on this system, or when
    a folder in `shown` contains a home folder, with keys and passwords.
    """
    allowed = limits or Limits()
    homes = home_folders()
    visible = [path.resolve() for path in shown]
    for path in visible:
        if confinement == "namespaces" and any(home.is_relative_to(path) for home in homes):
            raise SandboxError(
                f"The program would see {path}, which contains private files of yours.",
                "Put the project into a folder of its own.",
            )
    if sys.platform == "win32" or (confinement == "namespaces" and not sys.platform.startswith("linux")):
        raise _unavailable(f"there are no namespaces on {sys.platform}")
    with TemporaryFolder() as folder:
        request = {
            "program": program,
            "seconds": allowed.seconds,
            "memory_bytes": allowed.memory_mb * MEBIBYTE,
            "scratch_bytes": allowed.scratch_mb * MEBIBYTE,
            "output_bytes": allowed.output_bytes,
            "file_bytes": allowed.file_bytes,
            "returned": list(returned),
            "folder": str(folder),
            "namespaces": confinement == "namespaces",
            "shown": [str(path) for path in visible],
            "hidden": [str(path) for path in sorted({*private_folders(), *_private(map(str, hidden))})],
            "awaited": channel if awaits else None,
        }
        try:
            done = _run_jail(json.dumps(request).encode(), allowed.seconds + BACKSTOP_SECONDS, stop, channel)
        except subprocess.TimeoutExpired:
            return Verdict("timeout", "the sandbox itself hung")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        trace = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _unavailable(trace[-1] if trace else f"the sandbox ended with exit code {done.returncode}") from None
    if answer["verdict"] == "unavailable":
        raise _unavailable(answer["detail"])
    files = {name: base64.b64decode(content) for name, content in answer["files"].items()}
    return Verdict(answer["verdict"], answer["detail"], answer["output"], files)


def _run_jail(
    request: bytes, seconds: float, stop: threading.Event | None, channel: int | None
) -> subprocess.CompletedProcess[bytes]:
    """Run the jail to its end. Raises: subprocess.TimeoutExpired, ProgramStoppedError."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", str(JAIL)]
    pipe = subprocess.PIPE
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        pass_fds=() if channel is None else (channel,),
    ) as process:
        try:
            sent: bytes | None = request
            while True:
                left = max(0.0, deadline - time.monotonic())
                try:
                    output, errors = process.communicate(sent, left if stop is None else min(left, STOP_SECONDS))
                    return subprocess.CompletedProcess(command, process.returncode, output, errors)
                except subprocess.TimeoutExpired:
                    if time.monotonic() >= deadline:
                        raise
                if stop is not None and stop.is_set():
                    raise ProgramStoppedError("The program was stopped.")
                sent = None
        except BaseException:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def home_folders() -> list[Path]:
    """Return the user's home folders: of the environment, and of the system's list of users."""
    named = [os.environ.get("HOME", "")]
    with contextlib.suppress(ImportError, KeyError, AttributeError):
        import pwd

        named.append(pwd.getpwuid(os.getuid()).pw_dir)
    return _private(named)


def private_folders() -> list[Path]:
    """Return the home folders and those of settings, state and temporary files."""
    named = [os.environ.get(name, "") for name in PRIVATE_VARIABLES]
    return sorted({*home_folders(), *_private([*named, tempfile.gettempdir()])})


def _private(named: Iterable[str]) -> list[Path]:
    """Return the folders among these paths that are none of the system's, which are the home of some users."""
    found = [Path(name).resolve() for name in named if Path(name).is_absolute()]
    return [path for path in found if not any(Path(used).is_relative_to(path) for used in SYSTEM)]


PRIVATE_VARIABLES = (
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
    *("GNUPGHOME", "CARGO_HOME", "DOCKER_CONFIG"),
)
"""Environment variables with folders that a program must not see."""
SYSTEM = ("/usr/bin", "/bin", "/lib", "/etc", "/proc", "/dev", "/sys", "/var/lib")


def _unavailable(reason: str) -> SandboxError:
    return SandboxError(
        f"Programs can't be confined on this system: {reason}.",
        "Run it on Linux where namespaces are allowed, or inside a virtual machine with --limits-only.",
    )
