"""Compile `decoder.c` once for each instruction set; also a script: `python …/native/compile_decoder.py`.

It runs while the package is built (`hatch_build.py`) and so imports nothing of it. The compiler is the one that `CC`
names, else `cc`, `gcc` or `clang`, else that of the package `ziglang`. Without a compiler, and on processors other than
x86-64, nothing is compiled, and the engine uses the kernels of torch.
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
"""Compiler flags of each instruction set, best first."""


def suits() -> bool:
    """Return whether the source supports this machine: x86-64, with POSIX threads."""
    return platform.machine() in ("x86_64", "AMD64") and os.name == "posix"


def compiler() -> list[str] | None:
    """Return the command of a C compiler; None when there is none."""
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
    """Return the path of the library for an instruction set, which may not have been compiled."""
    return SOURCE.with_name(f"decoder_{variant}.so")


def compiled() -> list[str]:
    """Return the instruction sets for which there is a library."""
    return [variant for variant in VARIANTS if library_of(variant).is_file()]


def build() -> list[Path]:
    """Compile all variants beside the source. Return the libraries; print errors for those that can't be compiled."""
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
