"""A virtual environment with the default installation alone, made of links to the packages of this one."""

from __future__ import annotations

import os
import subprocess
import tomllib
import venv
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codegen_lsp import extras

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
TOOLS = ("pip",)
"""Distributions that are there beside the default installation's."""


def make(folder: Path, without: Collection[str] = ()) -> Path:
    """Make the environment, but for the distributions `without`, and return its Python.

    It is made of links: nothing that is in it may be upgraded.
    """
    if not up_to_date():
        pytest.skip("the metadata of the installed package are older than pyproject.toml: install it again")
    venv.create(folder, symlinks=os.name != "nt", with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    program = "import sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_path('scripts'))"
    printed = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    packages, scripts = map(Path, printed.splitlines())
    for name in {*closure(extras.PACKAGE), *TOOLS} - set(without):
        _link(metadata.distribution(name), packages, scripts)
    return python


def up_to_date() -> bool:
    """Return whether the metadata of the installed package name the extras of pyproject.toml."""
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    return set(extras.known()) == set(project["optional-dependencies"])


def closure(name: str, wanted: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of a distribution and of all that it requires here, without extras unless `wanted`."""
    found: set[str] = set()
    waiting = [(name, wanted)]
    seen = set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        found.add(canonicalize_name(one[0]))
        waiting += [(inner.name, frozenset(inner.extras)) for inner in _required(*one)]
    return found


def _required(name: str, wanted: frozenset[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
            yield requirement


def _link(distribution: metadata.Distribution, packages: Path, scripts: Path) -> None:
    """Link the top-level files and folders of a distribution, and its programs that are no scripts of Python."""
    files = distribution.files or []
    for name in {file.parts[0] for file in files} - {"..", "__pycache__"}:
        target = packages / name
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(name))))
    for file in files:
        if file.parts[0] == ".." and file.parent.name == scripts.name:
            source = Path(str(distribution.locate_file(file))).resolve()
            if source.read_bytes()[:2] != b"#!":  # a script names the Python of its environment
                (scripts / source.name).symlink_to(source)
