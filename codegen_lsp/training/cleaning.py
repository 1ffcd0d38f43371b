"""Rules that decide which files enter the corpus, and the edits made to their text.

A file is rejected for its path (vendored, generated) or its content (generated, data table, not Python 3, too long).
Licence headers are removed; e-mail addresses and strings that look like secrets are replaced.
"""

from __future__ import annotations

import ast
import re
import warnings
from pathlib import PurePosixPath

VENDORED = frozenset(
    {
        "_vendor", "vendor", "vendored", "_vendored", "third_party", "thirdparty", "extern", "externals", "external",
        "_bundled", "dist", "_extern", "ext_libs", "site-packages", "dist-packages", "node_modules", "lib2to3",
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
BENCHMARK = re.compile(r"human_?eval|\bmtpb\b|has_close_elements", re.IGNORECASE)
"""Names of the benchmarks that models are evaluated on, and of HumanEval's first problem."""

MAX_BYTES = 120_000
MIN_BYTES = 200
MAX_LINE = 400

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


def rejection_by_path(path: str) -> str | None:
    """Return the reason to leave a file out for its path, or None."""
    parts = PurePosixPath(path).parts
    if VENDORED.intersection(parts) or any(part.startswith("_vendor") for part in parts):
        return "vendored"
    if GENERATED_NAMES.search(path):
        return "generated"
    if BENCHMARK.search(path):
        return "benchmark"
    if path.startswith("encodings/") or path.startswith("pydoc_data/"):
        return "data table"
    return None


def rejection_by_text(text: str, *, python: bool = True) -> str | None:
    """Return the reason to leave a file out for its content, or None. `python` tells whether it must be Python 3."""
    size = len(text)
    if size < MIN_BYTES:
        return "too short"
    if size > MAX_BYTES:
        return "too long"
    if GENERATED.search(text[:1500]):
        return "generated"
    if BENCHMARK.search(text):
        return "benchmark"
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
    if not python:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "not valid Python 3"
    return None


def decode(content: bytes) -> str | None:
    """Return the UTF-8 text with LF line ends and without byte order mark; None when it is not UTF-8 text."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_licence_header(text: str) -> str:
    """Remove the comment block at the top when it mentions copyright or a licence, and shebang and coding lines.

    Thousands of copies of the same licence text would otherwise dominate the beginnings of files.
    """
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
    """Replace e-mail addresses, keys, tokens, passwords and long encoded strings; the code keeps its form."""
    text = PRIVATE_KEY.sub(r"-----BEGIN \1\2-----...-----END \1\2-----", text)
    text = EMAIL.sub(_example_address, text)
    text = TOKENS.sub("REDACTED", text)
    text = ASSIGNED_SECRET.sub(r"\1REDACTED", text)
    return LONG_BLOB.sub(_unless_readable, text)


def _unless_readable(match: re.Match[str]) -> str:
    """Return REDACTED for a match that mixes letters and digits and has few slashes, unlike numbers and paths."""
    blob = match.group()
    mixed = any(map(str.isdigit, blob)) and any(map(str.isalpha, blob))
    return "REDACTED" if mixed and blob.count("/") <= len(blob) / 16 else blob


def _example_address(match: re.Match[str]) -> str:
    address = match.group()
    domain = address.rsplit("@", 1)[1].lower()
    return address if re.search(r"(?:^|\.)example(?:\.(?:com|org|net))?$", domain) else "user@example.com"


def normalise_blanks(text: str) -> str:
    """Remove trailing blanks, reduce runs of empty lines to two, and end the text with one line end."""
    text = re.sub(r"[ \t]+(?=\n)", "", text)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"
