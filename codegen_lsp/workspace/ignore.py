"""Exclusion of files by glob patterns, in time that grows with the length of the path and not with its power.

Patterns come with a workspace, and Python's regular expressions backtrack: `*a*a*a*a*b` would take for ever. It is not
necessary to come back to a wildcard once the piece between it and the next one of its kind was found at its first
place: whatever follows there, the next wildcard reaches it as well. So each such piece is matched as an atomic group.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from codegen_lsp.workspace.uris import path_of

logger = logging.getLogger(__name__)

MAX_ALTERNATIVES = 100
"""Patterns that one with `{a,b}` may stand for."""


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
    """Return the regular expression of a pattern. One with too many alternatives matches every path."""
    alternatives = _alternatives(pattern)
    if alternatives is None:
        logger.warning("The pattern %r has too many alternatives; it excludes all files", pattern)
        return re.compile(".*", re.DOTALL)
    return re.compile("|".join(map(_expression, alternatives)), re.DOTALL)


def _alternatives(pattern: str) -> list[str] | None:
    """Return the patterns without `{a,b}` that a pattern stands for; None if they are more than `MAX_ALTERNATIVES`."""
    done: list[str] = []
    todo = [pattern]
    while todo:
        if len(todo) + len(done) > MAX_ALTERNATIVES:
            return None
        current = todo.pop()
        if (group := _first_group(current)) is None:
            done.append(current)
        else:
            start, choices, end = group
            todo += [current[:start] + choice + current[end:] for choice in choices]
    return done


def _first_group(pattern: str) -> tuple[int, list[str], int] | None:
    """Return the start, the choices and the end of the first `{a,b}` that is closed."""
    start = pattern.find("{")
    if start < 0 or "}" not in pattern[start:]:
        return None
    depth, begin, choices = 0, start + 1, []
    for at in range(start, len(pattern)):
        character = pattern[at]
        if character == "{" and "}" in pattern[at:]:
            depth += 1
        elif character == "}":
            depth -= 1
        if depth == 0 or (character == "," and depth == 1):
            choices.append(pattern[begin:at])
            begin = at + 1
        if depth == 0:
            return start, choices, at + 1
    # Open at the end of the pattern, where it counts as closed.
    return start, [*choices, pattern[begin:] + "}" * (depth - 1)], len(pattern)


def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern without alternatives."""
    gap, rest = "", re.sub(r"\*{3,}", "**", pattern)
    parts: list[str] = []
    while (at := rest.find("**")) >= 0:
        chunk, after = rest[:at], rest[at + 2 :]
        parts.append(f"(?>{_LAZY[gap]}{_lazy_last_star(_names(chunk))})")
        if after.startswith("/") and (chunk.endswith("/") or (not chunk and gap != _ANYTHING)):
            gap, rest = _FOLDERS, after[1:]
        else:
            gap, rest = _ANYTHING, after
    return "".join(parts) + gap + _names(rest)


_ANYTHING, _FOLDERS = ".*", "(?:.*/)?"
_LAZY = {"": "", _ANYTHING: ".*?", _FOLDERS: "(?:.*?/)??"}


def _names(glob: str) -> str:
    """Return the expression of a piece of a pattern without `**`."""
    wildcards = {"*": _STAR, "?": "[^/]"}
    return _atomic_stars("".join(wildcards.get(one) or re.escape(one) for one in glob))


def without_backtracking(regex: str) -> str:
    """Return a regular expression of pathspec, which has groups `(?:/.+)?` for `**`, with atomic groups."""
    gaps = re.split(r"(\(\?:/\.[+*]\)\?)", regex)
    first, *others = gaps
    pairs = list(zip(others[::2], others[1::2], strict=True))
    if not pairs:
        return _atomic_stars(first)
    begin = "^(?:.+/)?"
    if first.startswith(begin):
        parts = [f"^(?>(?:.+?/)??{_atomic_stars(first.removeprefix(begin))}(?=/))"]
    else:
        parts = [_atomic_stars(first)]
    for gap, chunk in pairs[:-1]:
        lazy = gap[:-2] + "?)??"
        parts.append(f"(?>{lazy}{_atomic_stars(chunk)}(?=/))")
    gap, chunk = pairs[-1]
    return "".join([*parts, gap, _atomic_stars(chunk)])


_STAR = "[^/]*"
_SINGLE = r"(?:\\.|\[\^?(?:\\.|\](?=[^\[]*\])|[^\]\\])+\](?![*+?])|[^/\\()\[\]*+?.|^$])"
"""A piece of a regular expression that matches one character: an escape, a set, or a character that is not special."""
_INNER_STAR = re.compile(rf"\[\^/\]\*({_SINGLE}+)(?=\[\^/\]\*)")


def _atomic_stars(regex: str) -> str:
    """Return an expression in which each `[^/]*` that is followed by another one is matched at its first place."""
    regex = re.sub(r"(?:\[\^/\]\*)+", lambda _: _STAR, regex)
    return _INNER_STAR.sub(r"(?>[^/]*?\1)", regex)


def _lazy_last_star(regex: str) -> str:
    at = regex.rfind(_STAR)
    return regex if at < 0 else f"{regex[:at]}[^/]*?{regex[at + len(_STAR) :]}"
