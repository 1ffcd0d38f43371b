"""How the worker process is started: interpreter, environment, and its end with its parent."""

from __future__ import annotations

import ctypes
import os
import sys

GLIBC_TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=4294967296",
        "glibc.malloc.trim_threshold=8589934592",
    )
)
"""CTranslate2 allocates its growing key-value cache anew for each token. Kept in the heap and on huge pages instead of
mapped each time, a step takes about 4 % less (`docs/lab.md`)."""

WAIT_POLICY, SPIN_COUNT = "passive", "300"
"""How OpenMP's threads wait for each other: asleep; with GNU's OpenMP they look 300 times first, a few microseconds'
worth, which gains half of what spinning on does on an idle machine. When other programs need the cores, spinning on
makes each product last several times as long (`docs/lab.md`)."""


def worker_command() -> list[str]:
    """The command line of a worker. What lies in the folder that it is started in is not imported (`-P`)."""
    return [sys.executable, "-P", "-X", "utf8", "-m", "codegen_lsp.inference.worker"]


def worker_environment() -> dict[str, str]:
    """The environment of a worker: ours, tuned. What the user set goes first."""
    environment = dict(os.environ)
    environment.setdefault("GLIBC_TUNABLES", GLIBC_TUNABLES)
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = WAIT_POLICY
        environment.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def release_memory() -> None:
    """Give what is free in the heap back to the system, where the C library can (glibc).

    Loading leaves half of the weights' size free, which the heap would keep with the tunables above.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
