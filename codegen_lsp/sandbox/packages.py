"""Installed packages for programs in the sandbox, which by itself offers the standard library only."""

from __future__ import annotations

import sysconfig
from pathlib import Path


def installed_packages() -> Path:
    """Return the folder in which the packages beside this one are installed, to be shown to a program.

    It is resolved, as the sandbox resolves what it shows: a program does not see links on the way there.
    """
    return Path(sysconfig.get_paths()["purelib"]).resolve()


def prologue(packages: Path) -> str:
    """Return the beginning of a program that imports packages from this folder.

    Libraries of linear algebra must not start threads, which the sandbox forbids. Matplotlib draws into files, and
    needs a folder for its settings.
    """
    variables = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    variables |= {"MPLBACKEND": "Agg"}
    return (
        f"import os, sys\nos.environ.update({variables!r})\nos.environ['MPLCONFIGDIR'] = os.getcwd()\n"
        f"sys.path.append({str(packages)!r})\n"
    )
