"""Construction of the training corpus: from packages to deduplicated, cleaned files in a training and a held-out part.

Packages are held out whole: files of one package resemble each other, so a split by file would flatter the model.
The result is deterministic: the same packages and the same Python give the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from codegen_lsp.errors import CorpusError
from codegen_lsp.training import cleaning, duplicates
from codegen_lsp.training.packages import STANDARD_LIBRARY, PackageSource, python_files
from codegen_lsp.training.processes import process_pool

PACKAGE_SHARE = 0.04
"""Largest share of the training text from one package."""
STANDARD_LIBRARY_SHARE = 0.10
"""Largest share of the training text from the standard library."""
HELD_OUT = 1 / 16
"""Share of packages that are held out for validation."""


@attrs.frozen
class CorpusFile:
    """One cleaned source file."""

    package: str
    path: str
    text: str


@attrs.frozen(eq=False)
class PackageFiles:
    """Cleaned files of one package with their duplicate keys, and the number of rejected files by reason."""

    files: list[CorpusFile]
    digests: list[bytes]
    signatures: list[NDArray[np.uint32]]
    rejected: dict[str, int]


def hash_fraction(*parts: str) -> float:
    """Return a number in [0, 1) that depends on the parts alone, for deterministic sampling."""
    value = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(value[:8], "big") / 2**64


def held_out(source: PackageSource) -> bool:
    """Return True for a package kept for validation; the standard library never is, since all code calls it."""
    return source.name != STANDARD_LIBRARY and hash_fraction("held out", source.name) < HELD_OUT


def read_package(source: PackageSource) -> PackageFiles:
    """Read and clean the Python files of one package."""
    files: list[CorpusFile] = []
    rejected = Counter[str]()
    for path, content in python_files(source):
        reason = cleaning.rejection_by_path(path)
        text = None if reason else cleaning.decode(content)
        if text is None:
            rejected[reason or "not UTF-8"] += 1
            continue
        text = cleaning.normalise_blanks(cleaning.without_licence_header(text))
        reason = cleaning.rejection_by_text(text)
        if reason:
            rejected[reason] += 1
            continue
        files.append(CorpusFile(source.name, path, cleaning.scrub(text)))
    return PackageFiles(
        files,
        [duplicates.digest(file.text) for file in files],
        [duplicates.signature(file.text) for file in files],
        dict(rejected),
    )


def without_duplicates(packages: Iterable[PackageFiles]) -> tuple[list[CorpusFile], Counter[str]]:
    """Return the first file of each group of duplicates, and the number of files removed by reason."""
    index = duplicates.DuplicateIndex()
    kept: list[CorpusFile] = []
    removed = Counter[str]()
    for package in packages:
        for file, digest, signature in zip(package.files, package.digests, package.signatures, strict=True):
            reason = index.add(digest, signature)
            if reason:
                removed[reason] += 1
            else:
                kept.append(file)
    return kept, removed


def limit_shares(files: list[CorpusFile], share_limit: Callable[[str], float]) -> list[CorpusFile]:
    """Drop files, chosen by hash, until no package exceeds its share of the characters.

    `share_limit` maps a package's name to its largest share.
    """
    sizes = Counter[str]()
    for file in files:
        sizes[file.package] += len(file.text)
    limits = {name: float(size) for name, size in sizes.items()}
    for _ in range(100):
        total = sum(limits.values())
        over = [name for name in limits if limits[name] > share_limit(name) * total * 1.0001]
        if not over or len(limits) * max(map(share_limit, limits)) <= 1:
            break
        for name in over:
            limits[name] = share_limit(name) * total
    room = dict(limits)
    kept = []
    for file in sorted(files, key=lambda f: hash_fraction("cap", f.package, f.path)):
        if room[file.package] >= len(file.text):
            room[file.package] -= len(file.text)
            kept.append(file)
    return kept


def gather(sources: list[PackageSource], output: Path, report: Callable[[str], None], workers: int = 2) -> None:
    """Write train.jsonl, validation.jsonl and manifest.json into `output`.

    Held-out packages enter the duplicate index first, so that of a training file and a held-out file that resemble
    each other the training file is removed. The order of the files is shuffled by hash. Raises CorpusError when no
    training file is left.
    """
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(sources, key=lambda s: (not held_out(s), hash_fraction("package", s.name)))
    packages: list[PackageFiles] = []
    with process_pool(workers) as pool:
        for source, package in zip(sources, pool.map(read_package, sources), strict=True):
            packages.append(package)
            report(f"read {source.name} {source.version}: {len(package.files)} files")
    rejected = Counter[str]()
    for package in packages:
        rejected.update(package.rejected)
    report(f"removing duplicates among {sum(len(package.files) for package in packages)} files")
    unique, removed = without_duplicates(packages)
    rejected.update(removed)
    outside = {source.name for source in sources if held_out(source)}
    validation = [file for file in unique if file.package in outside]
    training = limit_shares([file for file in unique if file.package not in outside], _share_limit)
    rejected["beyond a package's share"] = len(unique) - len(validation) - len(training)
    if not training:
        raise CorpusError("No Python source is left after filtering.", "Give more packages.")
    for name, files in (("train", training), ("validation", validation)):
        with (output / f"{name}.jsonl").open("w", encoding="utf-8") as stream:
            for file in sorted(files, key=lambda f: hash_fraction("order", f.package, f.path)):
                stream.write(json.dumps(attrs.asdict(file), ensure_ascii=False) + "\n")
    manifest = _manifest(sources, training, validation, rejected)
    (output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _share_limit(package: str) -> float:
    return STANDARD_LIBRARY_SHARE if package == STANDARD_LIBRARY else PACKAGE_SHARE


def _manifest(
    sources: list[PackageSource], training: list[CorpusFile], validation: list[CorpusFile], rejected: Counter[str]
) -> dict[str, object]:
    counts, sizes = Counter[str](), Counter[str]()
    for file in training + validation:
        counts[file.package] += 1
        sizes[file.package] += len(file.text.encode())
    packages = [
        {
            "name": s.name,
            "version": s.version,
            "license": s.license,
            "split": "validation" if held_out(s) else "train",
            "files": counts[s.name],
            "bytes": sizes[s.name],
        }
        for s in sorted(sources, key=lambda s: s.name)
        if counts[s.name]
    ]
    return {
        "packages": packages,
        "bytes": {
            "train": sum(len(file.text.encode()) for file in training),
            "validation": sum(len(file.text.encode()) for file in validation),
        },
        "files": {"train": len(training), "validation": len(validation)},
        "left out": dict(sorted(rejected.items())),
    }


def documents(path: Path) -> Iterator[CorpusFile]:
    """Yield the files of a .jsonl written by `gather`, in its order."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield CorpusFile(**json.loads(line))
