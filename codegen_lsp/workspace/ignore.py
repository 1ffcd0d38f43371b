"""Which files a user has excluded, by patterns as the protocol and `.gitignore` know them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from codegen_lsp.workspace.uris import path_of


def excluding_pattern(uri: str, folders: Iterable[str], patterns: Sequence[str]) -> str | None:
    """The first pattern that excludes the document, or None.

    A pattern without a slash speaks of the file's name or of any folder above it; one with a slash, of the path from a
    workspace folder on (`folders` are their URIs) or of the whole path. `*` and `?` stay within one name, `**` doesn't,
    `{a,b}` is either.
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
    """The path and the folders above it, so that a pattern of a folder holds for all that is in it."""
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
