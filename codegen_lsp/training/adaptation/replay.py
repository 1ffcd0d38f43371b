"""A sample of general code that is mixed into the training, so that the model keeps what it knew (rehearsal).

The text is read from the Python installation that runs this: its standard library and those installed packages whose
metadata names a permissive licence (`training.licences`). So nothing has to be shipped or downloaded, and no text
leaves the machine or is kept: the sample is thrown away with the other training data. Some packages are held out, to
measure how much is forgotten.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from attrs import frozen

from codegen_lsp.training.adaptation.sources import cleaned
from codegen_lsp.training.corpus import hash_fraction
from codegen_lsp.training.licences import permissive_license
from codegen_lsp.training.packages import standard_library

HELD_OUT = 0.15
"""Share of packages, and of the standard library's top-level modules and packages, that are held out."""
MAX_FILE = 120_000
"""Bytes of the largest file that is read."""


@frozen
class GeneralSample:
    """Texts of general code to train on, and of packages that are held out."""

    training: list[str]
    held_out: list[str]
    packages: list[str]
    """Names of the packages that texts were taken from."""


def general_sample(characters: int, held_out: int, seed: int = 0) -> GeneralSample:
    """Return files in random order until there are so many characters, to train on and held out."""
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    rooms = {False: characters, True: held_out}
    texts: dict[bool, list[str]] = {False: [], True: []}
    used: set[str] = set()
    files = list(_files())
    dice.shuffle(files)
    for package, path, name in files:
        outside = hash_fraction("general", package) < HELD_OUT
        if rooms[outside] <= 0:
            if max(rooms.values()) <= 0:
                break
            continue
        try:
            content = path.read_bytes() if path.stat().st_size <= MAX_FILE else b""
        except OSError:
            continue
        text, _ = cleaned(name, content)
        if text is not None:
            rooms[outside] -= len(text)
            texts[outside].append(text)
            used.add(package)
    return GeneralSample(texts[False], texts[True], sorted(used))


def _files() -> Iterator[tuple[str, Path, str]]:
    """Yield package, path, and path within the package of each file of general code, in a fixed order."""
    library = standard_library()
    for path in sorted(library.path.rglob("*.py")):
        name = path.relative_to(library.path)
        if name.parts[0] not in ("site-packages", "dist-packages", "test", "idlelib") and "tests" not in name.parts:
            yield name.parts[0], path, name.as_posix()
    for distribution in sorted(metadata.distributions(), key=lambda one: one.metadata["Name"] or ""):
        fields = distribution.metadata
        classifiers = fields.get_all("Classifier") or []
        license = permissive_license(_one(fields, "License-Expression"), _one(fields, "License"), classifiers)
        if license is None or fields["Name"] == "codegen-lsp":
            continue
        for file in sorted(distribution.files or [], key=str):
            if file.suffix == ".py" and ".." not in file.parts:
                yield fields["Name"], Path(str(file.locate())), file.as_posix()


def _one(fields: metadata.PackageMetadata, name: str) -> str | None:
    return next(iter(fields.get_all(name) or []), None)
