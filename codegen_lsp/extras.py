"""Extras: groups of packages that only some commands need, and that a default installation leaves out.

`pyproject.toml` lists them and the metadata of the installed package repeats them, so that nothing is listed twice. A
command that lacks an extra fails before it imports any of it; the command line offers to install it
(`cli/install.py`), into the environment that it runs in.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codegen_lsp.errors import InstallationError, MissingExtraError

PACKAGE = "codegen-lsp"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's package index for builds without CUDA; https://pytorch.org/get-started/locally."""
LINES_KEPT = 5
"""Last lines of pip's output in the message of an installation that failed."""


def known() -> list[str]:
    """Return the names of the extras, as the metadata of the installed package has them."""
    try:
        return metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


def requirements(extra: str) -> list[Requirement]:
    """Return what an extra requires on this machine, with what the extras that it contains require.

    Empty for an unknown extra: the metadata of an editable installation are those of the day on which it was made, and
    before there was the extra, all of its packages were required.
    """
    if extra not in known():
        return []
    found = []
    for text in metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        requirement.marker = None
        if canonicalize_name(requirement.name) == PACKAGE:
            found += [inner for name in sorted(requirement.extras) for inner in requirements(name)]
        else:
            found.append(requirement)
    return found


def missing(extra: str) -> list[Requirement]:
    """Return the requirements of an extra that are not installed, or in a version that does not suit."""
    return [requirement for requirement in requirements(extra) if not _is_installed(requirement)]


def require(extra: str, needed_by: str) -> None:
    """Raise MissingExtraError unless an extra is installed. `needed_by` names the command, as the user writes it."""
    if lacking := missing(extra):
        raise MissingExtraError(extra, needed_by, [str(requirement) for requirement in lacking])


def install(extra: str, *, cpu_only: bool, on_line: Callable[[str], None] | None = None) -> None:
    """Install an extra into the environment of this process.

    With `cpu_only`, torch comes without CUDA on Linux. `on_line` gets each line of pip's output; without it, pip writes
    to the standard error stream, with its progress bars on a terminal. Raises: InstallationError.
    """
    for command in commands(extra, cpu_only=cpu_only):
        status, last = _run(command, on_line)
        if status:
            raise InstallationError(
                f"The extra `{extra}` could not be installed into {sys.prefix}: {last or 'see above'}",
                f"Run this yourself: {' '.join(command)}",
            )
    importlib.invalidate_caches()
    if lacking := missing(extra):
        names = ", ".join(map(str, lacking))
        raise InstallationError(f"pip reports success, but {names} can't be found.", f"Look into {sys.prefix}.")


def commands(extra: str, *, cpu_only: bool) -> list[list[str]]:
    """Return the command lines that install an extra, one after the other. Raises: InstallationError.

    PyTorch's default package for Linux has CUDA and takes several GB. So where no CUDA device is, torch itself comes
    from PyTorch's index of CPU builds first; all else, what torch requires included, comes from the user's index.
    """
    installer = _installer()
    found = []
    torch = next((one for one in missing(extra) if canonicalize_name(one.name) == "torch"), None)
    if torch is not None and cpu_only and sys.platform == "linux":
        found.append([*installer, "--no-deps", "--index-url", CPU_INDEX, str(torch)])
    return [*found, [*installer, *map(str, requirements(extra))]]


def _installer() -> list[str]:
    """Return pip's command; uv's in an environment that uv made, which has no pip. Raises: InstallationError."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise InstallationError(f"There is no pip in {sys.prefix}.", f"Install it: {sys.executable} -m ensurepip")


def _is_installed(requirement: Requirement) -> bool:
    """Return true if a package is installed in a version that suits, with what its required extras require."""
    try:
        version, required = metadata.version(requirement.name), metadata.requires(requirement.name) or []
    except metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True) and all(
        _is_installed(inner) for extra in requirement.extras for inner in _required_for(extra, required)
    )


def _required_for(extra: str, requirements: list[str]) -> list[Requirement]:
    """Return those of a package's requirements that only an extra of it has, on this machine."""
    markers = [(inner, inner.marker) for inner in map(Requirement, requirements)]
    return [
        inner
        for inner, marker in markers
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
    ]


def _run(command: list[str], on_line: Callable[[str], None] | None) -> tuple[int, str]:
    """Run a command; return its exit status and, if they were read, the last lines of its output."""
    if on_line is None:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode, ""
    last: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.strip():
                last.append(text)
                on_line(text)
    return process.returncode, " ".join(last)
