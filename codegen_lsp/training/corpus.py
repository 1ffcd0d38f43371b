"""From package names to clean Python source.

A small model learns what it is shown: so only code that people wrote and others may reuse goes in. Licences are read
from each package's own metadata; generated files, data tables, vendored copies and duplicates are left out; addresses
and secrets are scrubbed. Packages are held out whole, because files of one package resemble each other far more than
files of different ones, and a split by file would flatter the model.

Everything here is deterministic: the same packages give the same documents in the same order.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from email import message_from_bytes
from importlib import resources
from pathlib import Path, PurePosixPath

import attrs
import numpy as np

from codegen_lsp.errors import CorpusError

PERMISSIVE = frozenset(
    {
        "MIT", "MIT-0", "MIT-CMU", "X11", "BSD", "0BSD", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "APACHE-2.0", "APACHE",
        "PSF-2.0", "PYTHON-2.0", "PSF", "ISC", "ZLIB", "CC0-1.0",
    }
)  # fmt: skip
"""Licences, as SPDX identifiers in capitals, whose code may be in the corpus. Zlib, 0BSD and CC0 ask for less than MIT
does; numpy, for one, declares them for single files."""

COPYLEFT = re.compile(r"\b(?:A?GPL|LGPL|MPL|EPL|EUPL|CC-BY|GNU|Mozilla|copyleft)", re.IGNORECASE)

CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
    "zlib/libpng License": "Zlib",
}

FREE_TEXT = (
    (re.compile(r"^(?:the )?mit(?: license)?(?: \(mit\))?$", re.IGNORECASE), "MIT"),
    (
        re.compile(
            r"^apache(?: software)?(?: license)?,?(?:[ -]*(?:version )?2(?:\.0)?)?(?: license)?$", re.IGNORECASE
        ),
        "Apache-2.0",
    ),
    (re.compile(r"^(?:new |modified |revised )?bsd(?:[ -][23])?(?:[ -]clause)?(?: license)?$", re.IGNORECASE), "BSD"),
    (re.compile(r"^bsd[ -]?([23])[ -]clause(?: license)?$", re.IGNORECASE), "BSD"),
    (re.compile(r"^(?:psf|psf-2\.0|python software foundation license)$", re.IGNORECASE), "PSF-2.0"),
    (re.compile(r"^isc(?: license)?(?: \(iscl\))?$", re.IGNORECASE), "ISC"),
)

VENDORED = frozenset(
    {
        "_vendor", "vendor", "vendored", "_vendored", "third_party", "thirdparty", "extern", "externals", "external",
        "_bundled", "_extern", "ext_libs", "site-packages", "dist-packages", "node_modules", "lib2to3",
        "pythoncapi_compat",
    }
)  # fmt: skip
GENERATED = re.compile(
    r"auto[- ]?generated|generated (?:by|from|automatically|using|with)|do not (?:edit|modify)"
    r"|@generated|machine generated",
    re.IGNORECASE,
)
GENERATED_NAMES = re.compile(
    r"_pb2(?:_grpc)?\.py$|(?:^|/)migrations/\d{4}_|(?:^|/)versions/[0-9a-f]{10,}_|_parsetab\.py$|lextab\.py$"
)
TEST_PATH = re.compile(r"(?:^|/)(?:tests?|testing|_tests?)/|(?:^|/)test_[^/]*$|_tests?\.py$|(?:^|/)conftest\.py$")

MAX_BYTES = 120_000
MIN_BYTES = 200
MAX_LINE = 400
TEST_SHARE = 0.15
PACKAGE_SHARE = 0.04
"""No package makes up more of the corpus than this (the standard library: `STANDARD_LIBRARY_SHARE`)."""
STANDARD_LIBRARY_SHARE = 0.10
HELD_OUT = 1 / 16
NEAR_DUPLICATE = 0.7
PERMUTATIONS = 64
SHINGLE = 6

EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][A-Za-z0-9._%+-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b")
PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z ]*)(PRIVATE KEY|CERTIFICATE)-----.*?-----END \1\2-----", re.DOTALL)
TOKENS = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"  # Amazon access keys
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bgithub_pat_\w{20,}\b"
    r"|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|\bsk-[A-Za-z0-9_-]{20,}\b|\bhf_[A-Za-z0-9]{20,}\b|\bpypi-[\w-]{20,}"
    r"|\bAIza[\w-]{35}\b|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}"  # Google API keys, JSON web tokens
)
ASSIGNED_SECRET = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|access_?key|private_?key|credential)s?\w*[\"']?\s*[:=]\s*[\"'])"
    r"(?=[^\"'\n]*\d)[A-Za-z0-9+/=_\-.]{16,}(?=[\"'])"
)
LONG_BLOB = re.compile(r"(?<![\w+/.])(?:[0-9a-fA-F]{40,}|[A-Za-z0-9+/]{80,}={0,2})(?![\w+/=.])")


@attrs.frozen
class Source:
    """One package to read: a wheel, or (the standard library) a folder."""

    name: str
    version: str
    license: str
    path: Path


@attrs.frozen
class Document:
    """One file of source, cleaned."""

    package: str
    path: str
    text: str


def canonical_name(name: str) -> str:
    """The normal form of a project's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def permissive_license(expression: str | None, text: str | None, classifiers: Iterable[str]) -> str | None:
    """The licence under which a package may be used here, or None when it is copyleft, unclear or unknown.

    `expression`, `text` and `classifiers` are the metadata's License-Expression, License and Classifier fields. An
    expression decides alone. Of the older fields neither may speak of copyleft and one must name a known licence.
    """
    if expression and expression.strip():
        return expression.strip() if _allows(expression) else None
    licenses = [c.split(" :: ")[-1].strip() for c in classifiers if c.startswith("License ::")]
    licenses = [name for name in licenses if name != "OSI Approved"]
    line = (text or "").strip().split("\n")[0].strip()
    if any(COPYLEFT.search(name) for name in [*licenses, line]):
        return None
    if licenses and all(name in CLASSIFIERS for name in licenses):
        return " AND ".join(dict.fromkeys(CLASSIFIERS[name] for name in licenses))
    if line and _allows(line):
        return line
    return next((known for pattern, known in FREE_TEXT if pattern.match(line)), None)


def _allows(expression: str) -> bool:
    """Whether an SPDX expression (identifiers, AND, OR, parentheses) can be met with permissive licences alone."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    translated = []
    for word in words:
        upper = word.upper()
        if upper in ("AND", "OR"):
            translated.append(upper.lower())
        elif word in "()":
            translated.append(word)
        elif upper == "WITH" or not re.fullmatch(r"[A-Z0-9.+-]+", upper):
            return False
        else:
            translated.append(str(upper in PERMISSIVE))
    return _evaluate(translated)


def _evaluate(words: list[str]) -> bool:
    """AND binds tighter than OR (SPDX 2.3, annex D)."""
    position = 0

    def alternatives() -> bool:
        nonlocal position
        value = conjunction()
        while position < len(words) and words[position] == "or":
            position += 1
            value = conjunction() or value
        return value

    def conjunction() -> bool:
        nonlocal position
        value = atom()
        while position < len(words) and words[position] == "and":
            position += 1
            value = atom() and value
        return value

    def atom() -> bool:
        nonlocal position
        if position >= len(words):
            return False
        word = words[position]
        position += 1
        if word != "(":
            return word == "True"
        value = alternatives() and position < len(words)
        position += 1
        return value

    value = alternatives()
    return value and position >= len(words)


def wanted_packages(listing: Path | None = None) -> list[str]:
    """The `name==version` lines of a listing (by default the one that comes with this package)."""
    text = (
        listing.read_text(encoding="utf-8")
        if listing
        else resources.files("codegen_lsp.training").joinpath("packages.txt").read_text(encoding="utf-8")
    )
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def fetch(requirements: list[str], folder: Path, report: Callable[[str], None]) -> None:
    """Download the wheels that `folder` lacks with pip. Nothing is installed and no code of theirs runs.

    Raises CorpusError naming the packages that could not be had.
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
    """(canonical name, version) of a wheel, from its file name."""
    name, version = path.name.split("-")[:2]
    return canonical_name(name), version


def requirement_key(requirement: str) -> tuple[str, str]:
    """(canonical name, version) of a `name==version` line."""
    name, _, version = requirement.partition("==")
    return canonical_name(name.strip()), version.strip()


def wheel_source(path: Path) -> Source | None:
    """The package in a wheel, or None when its licence keeps it out.

    Raises CorpusError when the file is no wheel (truncated, say).
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
    return Source(canonical_name(str(fields["Name"])), str(fields["Version"]), license, path)


def standard_library() -> Source:
    """The running Python's own library, under the PSF licence."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Source("python-standard-library", version, "PSF-2.0", Path(sysconfig.get_paths()["stdlib"]))


def library_package(name: str) -> Source:
    """One package of the standard library, as a source of its own."""
    library = standard_library()
    return attrs.evolve(library, name=f"python-{name}", path=library.path / name)


def python_files(source: Source) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every .py file, in the order of the paths."""
    if source.path.is_file():
        with zipfile.ZipFile(source.path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".py")):
                yield name, archive.read(name)
        return
    for path in sorted(source.path.rglob("*.py")):
        relative = path.relative_to(source.path)
        if relative.parts[0] not in ("site-packages", "dist-packages"):
            yield relative.as_posix(), path.read_bytes()


def share_of(*parts: str) -> float:
    """A number in [0, 1) that depends on the parts alone: the dice of a deterministic choice."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def held_out(source: Source) -> bool:
    """Whether a package is kept for validation. The standard library never is: everybody's code calls it."""
    return source.name != "python-standard-library" and share_of("held out", source.name) < HELD_OUT


def refuse_path(path: str) -> str | None:
    """Why a file is left out for where it lies or what it is called, or None."""
    parts = PurePosixPath(path).parts
    if VENDORED.intersection(parts) or any(part.startswith("_vendor") for part in parts):
        return "vendored"
    if GENERATED_NAMES.search(path):
        return "generated"
    if TEST_PATH.search(path) and share_of("test", path) >= TEST_SHARE:
        return "tests beyond the share kept"
    if path.startswith("encodings/") or path.startswith("pydoc_data/"):
        return "data table"
    return None


def refuse_text(text: str) -> str | None:
    """Why a file is left out for what it says, or None."""
    size = len(text)
    if size < MIN_BYTES:
        return "too short"
    if size > MAX_BYTES:
        return "too long"
    if GENERATED.search(text[:1500]):
        return "generated"
    lines = text.split("\n")
    if max(map(len, lines)) > MAX_LINE:
        return "long lines"
    if sum(map(str.isdigit, text)) > 0.15 * size:
        return "data table"
    if sum(map(str.isalpha, text)) < 0.35 * size:
        return "data table"
    filled = [line.lstrip() for line in lines if line.strip()]
    if sum(line[0] in "\"'[({0123456789-" for line in filled) > 0.6 * len(filled):
        return "data table"
    if not text.isascii() and sum(not c.isascii() for c in text) > 0.1 * size:
        return "mostly not English"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "not valid Python 3"
    return None


def decode(content: bytes) -> str | None:
    """UTF-8 text with LF line ends and without a byte order mark, or None."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_licence_header(text: str) -> str:
    """The text without the comment block at its top, when that speaks of copyright, and without shebang and coding
    lines: thousands of copies of them would teach the model to write licences."""
    lines = text.split("\n")
    top = 0
    while top < len(lines) and (not lines[top].strip() or lines[top].startswith("#")):
        top += 1
    header = "\n".join(lines[:top])
    if re.search(r"copyright|licen[cs]e|spdx|\(c\)", header, re.IGNORECASE):
        return "\n".join(lines[top:])
    kept = [line for line in lines[:top] if not re.match(r"#!|#.*coding[:=]", line)]
    return "\n".join(kept + lines[top:]).lstrip("\n")


def scrub(text: str) -> str:
    """The text with addresses and what looks like a secret replaced; the shape of the code stays."""
    text = PRIVATE_KEY.sub(r"-----BEGIN \1\2-----...-----END \1\2-----", text)
    text = EMAIL.sub(_example_address, text)
    text = TOKENS.sub("REDACTED", text)
    text = ASSIGNED_SECRET.sub(r"\1REDACTED", text)
    return LONG_BLOB.sub(_unless_readable, text)


def _unless_readable(match: re.Match[str]) -> str:
    """Numbers, words and paths stay: a hash or an encoded secret mixes letters and digits and has few slashes."""
    blob = match.group()
    mixed = any(map(str.isdigit, blob)) and any(map(str.isalpha, blob))
    return "REDACTED" if mixed and blob.count("/") <= len(blob) / 16 else blob


def _example_address(match: re.Match[str]) -> str:
    address = match.group()
    domain = address.rsplit("@", 1)[1].lower()
    return address if re.search(r"(?:^|\.)example(?:\.(?:com|org|net))?$", domain) else "user@example.com"


def tidy(text: str) -> str:
    """No trailing blanks, at most two empty lines in a row, one line end at the end."""
    text = re.sub(r"[ \t]+(?=\n)", "", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


def shingles(text: str) -> np.ndarray:
    """Hashes of all runs of `SHINGLE` words, without repeats, as 32-bit numbers."""
    words = re.findall(r"\w+", text)
    codes = np.fromiter((int.from_bytes(hashlib.md5(w.encode(), usedforsecurity=False).digest()[:4], "big")
                         for w in words), dtype=np.uint64, count=len(words))  # fmt: skip
    if len(codes) < SHINGLE:
        return np.unique(codes)
    mixed = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : len(codes) - SHINGLE + 1 + offset]
    return np.unique(mixed >> np.uint64(32))


def read_package(source: Source) -> tuple[list[Document], dict[str, int]]:
    """The clean documents of one package, and how many files were left out for which reason."""
    documents, refused = [], Counter[str]()
    for path, content in python_files(source):
        reason = refuse_path(path)
        text = None if reason else decode(content)
        if text is None:
            refused[reason or "not UTF-8"] += 1
            continue
        text = tidy(without_licence_header(text))
        reason = refuse_text(text)
        if reason:
            refused[reason] += 1
            continue
        documents.append(Document(source.name, path, scrub(text)))
    return documents, dict(refused)


def without_duplicates(documents: Iterable[Document]) -> tuple[list[Document], Counter[str]]:
    """Exact and near duplicates removed, the first of each kind stays.

    Two documents are near when their shingles' Jaccard similarity, estimated by MinHash over `PERMUTATIONS`
    permutations, is at least `NEAR_DUPLICATE`.
    """
    from datasketch import MinHash, MinHashLSH

    kept: list[Document] = []
    refused = Counter[str]()
    seen: set[str] = set()
    index = MinHashLSH(threshold=NEAR_DUPLICATE, num_perm=PERMUTATIONS)
    blank = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=int)
    for document in documents:
        digest = hashlib.sha256(re.sub(r"\s+", "", document.text).encode()).hexdigest()
        if digest in seen:
            refused["exact duplicate"] += 1
            continue
        seen.add(digest)
        sketch = blank.copy()
        sketch.update_batch(shingles(document.text))
        if any(True for _ in index.query(sketch)):
            refused["near duplicate"] += 1
            continue
        index.insert(len(kept), sketch)
        kept.append(document)
    return kept, refused


def capped(documents: list[Document], shares: Callable[[str], float]) -> list[Document]:
    """Documents left out (the same ones every time) until no package has more than its share of the bytes."""
    sizes = Counter[str]()
    for document in documents:
        sizes[document.package] += len(document.text)
    limits = {name: float(size) for name, size in sizes.items()}
    for _ in range(100):
        total = sum(limits.values())
        over = [name for name in limits if limits[name] > shares(name) * total * 1.0001]
        if not over or len(limits) * max(map(shares, limits)) <= 1:
            break
        for name in over:
            limits[name] = shares(name) * total
    room = dict(limits)
    kept = []
    for document in sorted(documents, key=lambda d: share_of("cap", d.package, d.path)):
        if room[document.package] >= len(document.text):
            room[document.package] -= len(document.text)
            kept.append(document)
    return kept


def gather(sources: list[Source], output: Path, report: Callable[[str], None], workers: int = 2) -> None:
    """Write train.jsonl, validation.jsonl and manifest.json into `output`.

    The order of the documents is shuffled, the same way every time. Held-out packages go first through the search for
    duplicates, so that a training document that resembles a held-out one is the one to go.
    """
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(sources, key=lambda s: (not held_out(s), share_of("package", s.name)))
    read: list[Document] = []
    refused = Counter[str]()
    with ProcessPoolExecutor(workers) as pool:
        for source, (documents, reasons) in zip(sources, pool.map(read_package, sources), strict=True):
            read += documents
            refused.update(reasons)
            report(f"read {source.name} {source.version}: {len(documents)} files")
    report(f"looking for duplicates among {len(read)} files")
    unique, reasons_ = without_duplicates(read)
    refused.update(reasons_)
    outside = {s.name for s in sources if held_out(s)}
    validation = [d for d in unique if d.package in outside]
    training = capped([d for d in unique if d.package not in outside], _share_allowed)
    refused["beyond a package's share"] = len(unique) - len(validation) - len(training)
    if not training:
        raise CorpusError("No Python source is left after filtering.", "Give more packages.")
    for name, documents in (("train", training), ("validation", validation)):
        with (output / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for document in sorted(documents, key=lambda d: share_of("order", d.package, d.path)):
                file.write(json.dumps(attrs.asdict(document), ensure_ascii=False) + "\n")
    manifest = _manifest(sources, training, validation, refused)
    (output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _share_allowed(package: str) -> float:
    return STANDARD_LIBRARY_SHARE if package == "python-standard-library" else PACKAGE_SHARE


def _manifest(
    sources: list[Source], training: list[Document], validation: list[Document], refused: Counter[str]
) -> dict[str, object]:
    files, sizes = Counter[str](), Counter[str]()
    for document in training + validation:
        files[document.package] += 1
        sizes[document.package] += len(document.text.encode())
    packages = [
        {
            "name": s.name,
            "version": s.version,
            "license": s.license,
            "split": "validation" if held_out(s) else "train",
            "files": files[s.name],
            "bytes": sizes[s.name],
        }
        for s in sorted(sources, key=lambda s: s.name)
        if files[s.name]
    ]
    return {
        "packages": packages,
        "bytes": {
            "train": sum(len(d.text.encode()) for d in training),
            "validation": sum(len(d.text.encode()) for d in validation),
        },
        "files": {"train": len(training), "validation": len(validation)},
        "left out": dict(sorted(refused.items())),
    }


def documents(path: Path) -> Iterator[Document]:
    """The documents of a .jsonl written by `gather`."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Document(**json.loads(line))
