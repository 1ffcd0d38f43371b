"""Compile `decoder.c` once for each instruction set; also a script: `python …/native/compile_decoder.py`.

Run while the package is built (`hatch_build.py`), with nothing of it installed. Takes the compiler that `CC` names,
else `cc`, else the one that the package `ziglang` carries. Without any, or on processors that are no x86-64, nothing
is made: the engine then uses torch's kernels.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("decoder.c")
FLAGS = ("-O3", "-ffp-contract=off", "-std=gnu17", "-shared", "-fPIC", "-fvisibility=default", "-Wall", "-Wextra")
VARIANTS = {
    "avx512": "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mamx-tile -mamx-int8 -mavx2 -mfma",
    "avxvnni": "-mavx2 -mfma -mavxvnni",
    "avx2": "-mavx2 -mfma",
}
"""What the compiler is told for each instruction set, best first."""


def suits() -> bool:
    """Whether this is a machine that the source is for: x86-64, with POSIX threads."""
    return platform.machine() in ("x86_64", "AMD64") and os.name == "posix"


def compiler() -> list[str] | None:
    """The command of a C compiler; None when there is none."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return None


def sources() -> list[Path]:
    """Return `decoder.c` and its headers."""
    return [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]


def library_of(variant: str) -> Path:
    """Where the library for an instruction set is, if it was compiled."""
    return SOURCE.with_name(f"decoder_{variant}.so")


def compiled() -> list[str]:
    """The instruction sets that there is a library for."""
    return [variant for variant in VARIANTS if library_of(variant).is_file()]


def build() -> list[Path]:
    """Compile every variant beside the source; gives those that could be made, and says why others could not."""
    command = compiler() if suits() else None
    if command is None:
        return []
    made = []
    for name, flags in VARIANTS.items():
        target = library_of(name)
        new = target.with_suffix(".new")
        run = subprocess.run(
            [*command, *FLAGS, *flags.split(), "-o", str(new), str(SOURCE), "-lpthread", "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            print(f"{SOURCE.name} was not compiled for {name}:\n{run.stderr}", file=sys.stderr)  # noqa: T201
            continue
        new.replace(target)
        made.append(target)
    return made


if __name__ == "__main__":
    for path in build():
        print(path)  # noqa: T201
