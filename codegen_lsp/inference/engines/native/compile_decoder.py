"""Compile `decoder.c`, once for each instruction set, and `ngram_index.c`. Also a script without arguments.

It runs while the package is built (`hatch_build.py`) and so imports nothing of it. For this machine, the compiler is
the one that `CC` names, else `cc`, `gcc` or `clang`, else that of the package `ziglang`, which also compiles for all
other platforms (`TARGETS`). Without a compiler nothing is compiled, and the engine uses the kernels of torch.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("decoder.c")
INDEX_SOURCE = Path(__file__).with_name("ngram_index.c")
FLAGS = (
    "-O3", "-ffp-contract=off", "-std=gnu17", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra",
    "-Wno-psabi", "-s", "-falign-loops=64",
)  # fmt: skip
"""Loops are aligned, since a step took up to 8 % longer where a change elsewhere had moved those of its products."""


@dataclass(frozen=True)
class Variant:
    """Flags of an instruction set, for gcc and clang, and for zig where they differ."""

    flags: str
    zig_flags: str | None = None
    halves: bool = False
    """Whether its vectors have 128 bits (`simd_halves.h`): gcc's code for pairs of them is seven times slower."""


AVX512 = "-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mamx-tile -mamx-int8 -mavx2 -mfma -mf16c"
VARIANTS_OF = {
    "x86_64": {
        "avx512": Variant(AVX512),
        "avxvnni": Variant("-mavx2 -mfma -mf16c -mavxvnni"),
        "avx2": Variant("-mavx2 -mfma -mf16c"),
        "sse41": Variant("-msse4.1", halves=True),
    },
    "arm64": {
        "dotprod": Variant("-march=armv8.2-a+dotprod", "-mcpu=generic+dotprod", halves=True),
        "neon": Variant("", halves=True),
    },
}
"""The instruction sets of each processor architecture, best first."""


@dataclass(frozen=True)
class Target:
    """A platform that wheels are built for."""

    machine: str
    """Key of `VARIANTS_OF`."""
    zig: str
    """Its name for zig, with the oldest version of glibc or macOS that is supported."""
    tag: str
    """Platform tag of the wheel."""
    suffix: str = ".so"
    """Of the libraries' names; Python's own on macOS is `.so`, too."""


TARGETS = {
    "linux-x86_64": Target("x86_64", "x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64.manylinux2014_x86_64"),
    "linux-aarch64": Target("arm64", "aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64.manylinux2014_aarch64"),
    "macos-arm64": Target("arm64", "aarch64-macos.11.0", "macosx_11_0_arm64"),
    "macos-x86_64": Target("x86_64", "x86_64-macos.11.0", "macosx_11_0_x86_64"),
    "windows-x86_64": Target("x86_64", "x86_64-windows-gnu", "win_amd64", ".dll"),
}


def this_machine() -> str | None:
    """Return the name of this machine's target; None for one without, and for a 32-bit Python."""
    system = {"linux": "linux", "darwin": "macos", "win32": "windows"}.get(sys.platform)
    machine = platform.machine().lower()
    names = {"x86_64": "x86_64", "amd64": "x86_64", "arm64": "arm64", "aarch64": "arm64"}
    found = names.get(machine) if sys.maxsize > 2**32 else None
    name = f"{system}-{'aarch64' if (system, found) == ('linux', 'arm64') else found}"
    return name if name in TARGETS else None


_HERE = TARGETS.get(this_machine() or "")
VARIANTS = VARIANTS_OF[_HERE.machine] if _HERE else {}
"""The instruction sets of this machine's architecture, best first."""
SUFFIX = _HERE.suffix if _HERE else ".so"


def suits() -> bool:
    """Return whether the source supports this machine: 64-bit x86 or ARM, with Linux, macOS or Windows (x86 only)."""
    return this_machine() is not None


def compiler() -> list[str] | None:
    """Return the command of a C compiler for this machine; None when there is none."""
    if named := os.environ.get("CC"):
        return shlex.split(named)
    for name in () if sys.platform == "win32" else ("cc", "gcc", "clang"):
        if shutil.which(name):
            return [name]
    return zig()


def zig() -> list[str] | None:
    """Return the command of the compiler in the package `ziglang`; None where it is not installed."""
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


@cache
def is_clang(command: tuple[str, ...]) -> bool:
    """Return whether a compiler is clang, as zig's and Apple's are."""
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    return "clang" in run.stdout


def sources() -> list[Path]:
    """Return `decoder.c` and its headers."""
    return [SOURCE, *sorted(SOURCE.parent.glob("*.h"))]


def library_of(variant: str) -> Path:
    """Return the path of the library for an instruction set, which may not have been compiled."""
    return SOURCE.with_name(f"decoder_{variant}{SUFFIX}")


def index_library() -> Path:
    """Return where the library of `ngram_index.c` is, if it was compiled; the same code runs on every processor."""
    return INDEX_SOURCE.with_name(f"libngram_index{SUFFIX}")


def compiled() -> list[str]:
    """Return the instruction sets for which there is a library."""
    return [variant for variant in VARIANTS if library_of(variant).is_file()]


def needs_zig() -> bool:
    """Return whether this machine has no compiler, or on ARM, where all variants have halves, none but gcc."""
    command = compiler()
    return command is None or (VARIANTS is VARIANTS_OF["arm64"] and _for_halves(command) is None)


def build(directory: Path | None = None) -> list[Path]:
    """Compile all variants for this machine in parallel, beside the source by default. Return the libraries.

    Errors are printed. Variants with halves are left out where there is only gcc, except on ARM, which has no others.
    """
    command = compiler()
    if command is None:
        return []
    jobs = [(INDEX_SOURCE, index_library(), [*command, *_native(command)])]
    for name, variant in VARIANTS.items():
        own = _for_halves(command) if variant.halves else command
        if own is None and VARIANTS is VARIANTS_OF["x86_64"]:
            continue
        own = own or command
        jobs.append((SOURCE, library_of(name), [*own, *_native(own), *_flags(own, variant)]))
    if directory:
        jobs = [(source, directory / path.name, arguments) for source, path, arguments in jobs]
    return _compile_all(jobs)


def build_for(target: str, directory: Path) -> list[Path]:
    """Compile all variants for a target into a directory, with zig. Return the libraries.

    Raises: KeyError for an unknown target, RuntimeError when zig is missing or something can't be compiled.
    """
    known, command = TARGETS[target], zig()
    if command is None:
        raise RuntimeError("Compiling for a target needs the package `ziglang`.")
    command = [*command, "-target", known.zig]
    jobs = [(INDEX_SOURCE, directory / f"libngram_index{known.suffix}", command)]
    for name, variant in VARIANTS_OF[known.machine].items():
        jobs.append((SOURCE, directory / f"decoder_{name}{known.suffix}", [*command, *_flags(command, variant)]))
    made = _compile_all(jobs)
    if len(made) < len(jobs):
        raise RuntimeError(f"Not all libraries could be compiled for {target}.")
    return made


def _for_halves(command: list[str]) -> list[str] | None:
    """Return a compiler that is good at vectors of two halves: the given one if it is clang, else another, or None."""
    if is_clang(tuple(command)):
        return command
    return ["clang"] if shutil.which("clang") else zig()


def _native(command: Sequence[str]) -> list[str]:
    """Return the options by which a compiler makes code for this machine, but for any processor of its kind.

    zig, if it is not told a target, uses all instructions of this machine's processor.
    """
    here = this_machine()
    if here and "ziglang" in command:
        return ["-target", TARGETS[here].zig]
    return ["-mmacosx-version-min=11.0"] if here and here.startswith("macos") else []


def _flags(command: Sequence[str], variant: Variant) -> list[str]:
    zig_flags = variant.zig_flags if "ziglang" in command else None
    return (variant.flags if zig_flags is None else zig_flags).split()


def _compile_all(jobs: Sequence[tuple[Path, Path, list[str]]]) -> list[Path]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = pool.map(lambda job: _compile(*job), jobs)
        return [target for (_, target, _), made in zip(jobs, done, strict=True) if made]


def _compile(source: Path, target: Path, command: list[str]) -> bool:
    """Compile a source to a library, and say on standard error why it could not be done."""
    new = target.with_name(f"{target.stem}.new{target.suffix}")
    libraries = () if target.suffix == ".dll" else ("-lpthread", "-lm")
    run = subprocess.run(
        [*command, *FLAGS, "-o", str(new), str(source), *libraries], capture_output=True, text=True, check=False
    )
    if run.returncode:
        print(f"{source.name} was not compiled with {shlex.join(command)}:\n{run.stderr}", file=sys.stderr)  # noqa: T201
        return False
    new.replace(target)
    for beside in (new.with_suffix(".lib"), new.with_suffix(".pdb"), target.with_name(f"{source.stem}.lib")):
        beside.unlink(missing_ok=True)  # what linkers for Windows write, and nothing here needs
    return True


if __name__ == "__main__":
    for path in build():
        print(path)  # noqa: T201
