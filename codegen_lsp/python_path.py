"""The environment of child processes that run Python: without the folder in which they happen to be started.

An empty or relative entry of PYTHONPATH stands for the current folder, most often the user's project. Python runs a
`sitecustomize.py` that it finds there, and imports any module of it in place of an installed one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

VARIABLE = "PYTHONPATH"
HINT = (
    f"{VARIABLE} is set: packages of another Python there take the place of this one's. Unset it where your editor is "
    "started."
)


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment, by default this process's, with only absolute folders in PYTHONPATH."""
    found = dict(os.environ if given is None else given)
    if VARIABLE in found:
        kept = [folder for folder in found[VARIABLE].split(os.pathsep) if Path(folder).is_absolute()]
        del found[VARIABLE]
        if kept:
            found[VARIABLE] = os.pathsep.join(kept)
    return found


def prefer_own_packages() -> None:
    """Let the packages of this environment take precedence over those of PYTHONPATH.

    The modules for robots and clusters set PYTHONPATH for another Python, whose compiled packages can't be loaded here.
    What is only there is still found. To be called before anything else is imported.
    """
    named = {Path(folder).absolute() for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder}
    last = [entry for entry in sys.path if entry and Path(entry).absolute() in named]
    sys.path[:] = [entry for entry in sys.path if entry not in last] + last


def hint(lines: Iterable[str]) -> str:
    """Return advice if the output of a process that failed looks as if PYTHONPATH were to blame, else an empty text."""
    blamed = any("ImportError" in line or "ModuleNotFoundError" in line for line in lines)
    return HINT if blamed and os.environ.get(VARIABLE) else ""
