"""Python packages as sources of text: wheels downloaded with pip, and the standard library.

Wheels only: downloading or reading a wheel runs none of its code, whereas a source distribution may run its set-up
script for its metadata.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from importlib import resources
from pathlib import Path

import attrs

from codegen_lsp.errors import CorpusError
from codegen_lsp.training.licences import permissive_license

STANDARD_LIBRARY = "python-standard-library"
"""Name of the standard library as a package."""


@attrs.frozen
class PackageSource:
    """One package to read: the path of a wheel, or of a folder of the standard library."""

    name: str
    version: str
    license: str
    path: Path


def canonical_name(name: str) -> str:
    """Return the normal form of a project's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted_packages(listing: Path | None = None) -> list[str]:
    """Return the `name==version` lines of a listing, by default of packages.txt beside this module."""
    text = (
        listing.read_text(encoding="utf-8")
        if listing
        else resources.files("codegen_lsp.training").joinpath("packages.txt").read_text(encoding="utf-8")
    )
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def fetch(requirements: list[str], folder: Path, report: Callable[[str], None]) -> None:
    """Download with pip the wheels missing from `folder`; nothing is installed.

    Raises CorpusError that names packages which could not be downloaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    have = {wheel_key(path) for path in folder.glob("*.whl")}
    missing = [r for r in requirements if requirement_key(r) not in have]
    failed = []
    for number, requirement in enumerate(missing, 1):
        report(f"fetching {requirement} ({number} of {len(missing)})")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run([*command, "--dest", str(folder), requirement], capture_output=True, text=True)
        if done.returncode:
            failed.append(f"{requirement} ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]})")
    if failed:
        raise CorpusError(
            f"{len(failed)} of {len(requirements)} packages could not be downloaded: {'; '.join(failed[:5])}",
            "Check the connection and run the same command again: what is there already is kept.",
        )


def wheel_key(path: Path) -> tuple[str, str]:
    """Return (canonical name, version) of a wheel from its file name."""
    name, version = path.name.split("-")[:2]
    return canonical_name(name), version


def requirement_key(requirement: str) -> tuple[str, str]:
    """Return (canonical name, version) of a `name==version` line."""
    name, _, version = requirement.partition("==")
    return canonical_name(name.strip()), version.strip()


def wheel_source(path: Path) -> PackageSource | None:
    """Return the package in a wheel, or None when its licence is not admitted.

    Raises CorpusError when the file is not a readable wheel.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
            fields = message_from_bytes(archive.read(names[0]))
    except (zipfile.BadZipFile, IndexError, OSError) as error:
        raise CorpusError(f"{path} can't be read as a wheel: {error}.", "Delete it and fetch it again.") from error
    text = fields["License"]
    license = permissive_license(
        fields["License-Expression"], None if text is None else str(text), map(str, fields.get_all("Classifier", []))
    )
    if license is None:
        return None
    return PackageSource(canonical_name(str(fields["Name"])), str(fields["Version"]), license, path)


def standard_library() -> PackageSource:
    """Return the running Python's standard library, under the PSF licence."""
    version = ".".join(map(str, sys.version_info[:3]))
    return PackageSource(STANDARD_LIBRARY, version, "PSF-2.0", Path(sysconfig.get_paths()["stdlib"]))


def library_package(name: str) -> PackageSource:
    """Return one package of the standard library as a source of its own."""
    library = standard_library()
    return attrs.evolve(library, name=f"python-{name}", path=library.path / name)


def python_files(source: PackageSource) -> Iterator[tuple[str, bytes]]:
    """Yield (path, content) of every .py file, sorted by path."""
    if source.path.is_file():
        with zipfile.ZipFile(source.path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".py")):
                yield name, archive.read(name)
        return
    for path in sorted(source.path.rglob("*.py")):
        relative = path.relative_to(source.path)
        if relative.parts[0] not in ("site-packages", "dist-packages"):
            yield relative.as_posix(), path.read_bytes()
