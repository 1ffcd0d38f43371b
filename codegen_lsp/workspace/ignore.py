"""Exclusion of files by the user's glob patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from codegen_lsp.workspace.uris import path_of


def excluding_pattern(uri: str, folders: Iterable[str], patterns: Sequence[str]) -> str | None:
    """Return the first pattern that excludes the document; None if there is none.

    A pattern without a slash is matched with the file's name and the names of all folders above it; one with a slash,
    with the path relative to a workspace folder (`folders` are their URIs) and with the whole path. `*` and `?` match
    within one name, `**` also across slashes, and `{a,b}` matches either.
    """
    if not patterns:
        return None
    path = _path(uri)
    roots = [root for folder in folders if path.startswith((root := _path(folder).rstrip("/")) + "/")]
    candidates = [path, *(path[len(root) + 1 :] for root in roots)]
    names = candidates[-1].split("/")
    for pattern in patterns:
        regex = _regex(pattern.removeprefix("./").rstrip("/"))
        if "/" not in pattern.rstrip("/"):
            if any(regex.fullmatch(name) for name in names):
                return pattern
        elif any(regex.fullmatch(part) for candidate in candidates for part in _with_parents(candidate)):
            return pattern
    return None


def _path(uri: str) -> str:
    return (path_of(uri) or uri).replace("\\", "/")


def _with_parents(path: str) -> list[str]:
    """Return the path and the folders above it, so that a pattern that matches a folder excludes all files in it."""
    ends = [at for at, character in enumerate(path) if character == "/" and at > 0]
    return [path, *(path[:end] for end in ends)]


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    depth = at = 0
    while at < len(pattern):
        character = pattern[at]
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 2
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 1
        elif character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "{" and "}" in pattern[at:]:
            depth += 1
            parts.append("(?:")
        elif character == "}" and depth:
            depth -= 1
            parts.append(")")
        elif character == "," and depth:
            parts.append("|")
        else:
            parts.append(re.escape(character))
        at += 1
    return re.compile("".join(parts) + ")" * depth)
