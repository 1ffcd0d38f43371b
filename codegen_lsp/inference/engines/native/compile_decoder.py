"""Compile `decoder.c`, once for each instruction set, and `ngram_index.c`. Also a script without arguments.

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
INDEX_SOURCE = Path(__file__).with_name("ngram_index.c")
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


def index_library() -> Path:
    """Return where the library of `ngram_index.c` is, if it was compiled; the same code runs on every processor."""
    return INDEX_SOURCE.with_name("libngram_index.so")


def compiled() -> list[str]:
    """Return the instruction sets for which there is a library."""
    return [variant for variant in VARIANTS if library_of(variant).is_file()]


def build() -> list[Path]:
    """Compile all variants beside the source. Return the libraries; print errors for those that can't be compiled."""
    command = compiler() if os.name == "posix" else None
    if command is None:
        return []
    wanted = [(INDEX_SOURCE, index_library(), "")]
    if suits():
        wanted += [(SOURCE, library_of(name), flags) for name, flags in VARIANTS.items()]
    return [target for source, target, flags in wanted if _compile(command, source, target, flags)]


def _compile(command: list[str], source: Path, target: Path, flags: str) -> bool:
    """Compile a source to a library, and say on standard error why it could not be done."""
    new = target.with_suffix(".new")
    run = subprocess.run(
        [*command, *FLAGS, *flags.split(), "-o", str(new), str(source), "-lpthread", "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        print(f"{source.name} was not compiled with {flags or 'no flags'}:\n{run.stderr}", file=sys.stderr)  # noqa: T201
        return False
    new.replace(target)
    return True


if __name__ == "__main__":
    for path in build():
        print(path)  # noqa: T201
