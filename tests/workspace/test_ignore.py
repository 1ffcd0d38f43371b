"""Patterns of excluded files."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from codegen_lsp.workspace.ignore import MAX_ALTERNATIVES, excluding_pattern, without_backtracking

ROOT = "file:///home/me/project"


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        # a name, anywhere
        ("*.gen.py", "src/a.gen.py", True),
        ("*.gen.py", "src/a.py", False),
        ("generated", "src/generated/a.py", True),
        ("a?.py", "ab.py", True),
        ("a?.py", "a.py", False),
        ("a*", "b/ca.py", False),
        # a path from the workspace folder on
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/deep/a.py", False),
        ("src/**/*.py", "src/deep/er/a.py", True),
        ("src/**/*.py", "src/a.py", True),
        ("src/**", "src/deep/a.py", True),
        ("src/deep/", "src/deep/a.py", True),
        ("./src/a.py", "src/a.py", True),
        ("**/deep/**", "src/deep/a.py", True),
        ("**/a.py", "a.py", True),
        ("src", "other/a.py", False),
        # the whole path
        ("/home/me/project/src/**", "src/a.py", True),
        ("/home/you/**", "src/a.py", False),
        # either
        ("*.{js,ts}", "a.ts", True),
        ("*.{js,ts}", "a.py", False),
        ("{a,b/c}.py", "b/c.py", True),
        # what means nothing to patterns is itself
        ("a+(b).py", "a+(b).py", True),
        ("a.py", "aXpy", False),
        ("{a", "{a", True),
        ("a{b,c", "a{b,c", True),
        ("a}", "a}", True),
        ("[a].py", "a.py", False),
    ],
)
def test_patterns(pattern: str, path: str, excluded: bool) -> None:
    found = excluding_pattern(f"{ROOT}/{path.replace('{', '%7B').replace('}', '%7D')}", [ROOT], [pattern])
    assert found == (pattern if excluded else None)


def test_the_first_pattern_that_excludes_is_named() -> None:
    assert excluding_pattern(f"{ROOT}/a.py", [ROOT], ["b.py", "*.py", "a.py"]) == "*.py"


def test_without_workspace_folder_or_file() -> None:
    assert excluding_pattern("file:///x/src/a.py", [], ["src/*.py"]) is None
    assert excluding_pattern("file:///x/src/a.py", [], ["**/src/*.py"]) == "**/src/*.py"
    assert excluding_pattern("untitled:Untitled-1", [ROOT], ["*.py"]) is None
    assert excluding_pattern("untitled:Untitled-1", [ROOT], ["Untitled*"]) is None


def test_a_folder_with_spaces_and_several_folders() -> None:
    folders = ["file:///other", "file:///home/my%20project/"]
    assert excluding_pattern("file:///home/my%20project/src/a.py", folders, ["src/*"]) == "src/*"


PIECES = st.sampled_from(["a", "b", ".", "/", "*", "?", "**", "**/", "/**/", "{a,b}", "{a*,/b}"])
NAMES = st.lists(st.sampled_from(["a", "b", ".", "/"]), max_size=9).map("".join)


def plain_expression(pattern: str) -> str:
    """The regular expression of a pattern with all its backtracking, as it is defined."""
    pattern = re.sub(r"\*{3,}", "**", pattern)
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        start_of_name = at == 0 or pattern[at - 1] == "/"
        if pattern.startswith("**/", at) and start_of_name:
            parts.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        else:
            known = {"*": "[^/]*", "?": "[^/]"}
            parts.append(known.get(pattern[at]) or re.escape(pattern[at]))
            at += 1
    return "".join(parts)


@given(st.lists(PIECES, min_size=1, max_size=6).map("".join), NAMES)
@example("a*b*ab", "abbbab")
@example("**/a*/**/b", "ab/a/a/b")
@example("a**b*a", "a/b/aba")
def test_without_backtracking_the_same_files_are_excluded(pattern: str, name: str) -> None:
    pattern = "/x/" + pattern.lstrip("/")
    path = "/x/" + name
    parents = [path, *(path[:at] for at, character in enumerate(path) if character == "/" and at)]
    groups = [one[1:-1].split(",") if one.startswith("{") else [one] for one in re.split(r"({.*?})", pattern)]
    plain = ["".join(pieces).rstrip("/") for pieces in itertools.product(*groups)]
    wanted = any(re.fullmatch(plain_expression(one), parent) for one in plain for parent in parents)
    assert (excluding_pattern("file://" + path, [], [pattern]) is not None) == wanted


LINES = st.lists(st.sampled_from(["a", "b", "/", "*", "?", "**", "/**/", "[ab]", "\\*"]), min_size=1, max_size=7)


@given(LINES.map("".join), NAMES.filter(bool))
@example("*a*b*ab", "abbbab")
@example("**/a/**/b/**/b", "a/b/a/b/b")
@example("a/**/b*/**/b", "a/ba/x/b")
def test_without_backtracking_a_line_of_gitignore_means_the_same(line: str, path: str) -> None:
    try:
        patterns = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        return
    for pattern in patterns:
        if pattern.regex is not None:
            found = re.compile(without_backtracking(pattern.regex.pattern)).match(path)
            wanted = pattern.regex.match(path)
            assert (found and found.groupdict()) == (wanted and wanted.groupdict())


HOSTILE = [
    "*a" * 30 + "*b",
    "**/" + "*a" * 20 + "b",
    "**/a/" * 20 + "b",
    "**a" * 20 + "b",
    "?*" * 30 + "b",
    "a*/**/" * 20,
]


@pytest.mark.parametrize("pattern", [*HOSTILE, "{a,b}" * 30, "{" * 300 + "a,b" + "}" * 300, "{a,{" * 40])
def test_no_pattern_takes_for_ever(pattern: str) -> None:
    for name in ("a" * 250 + ".py", "a/" * 1_000 + "c.py", "a" * 4_000):
        excluding_pattern(f"{ROOT}/{name}", [ROOT], [pattern])


def test_a_pattern_with_too_many_alternatives_excludes_everything() -> None:
    pattern = "{" + ",".join(f"a{number}" for number in range(MAX_ALTERNATIVES + 2)) + "}"
    assert excluding_pattern(f"{ROOT}/b.py", [ROOT], [pattern]) == pattern


@pytest.mark.parametrize("line", HOSTILE)
def test_no_line_of_gitignore_takes_for_ever(line: str) -> None:
    for pattern in GitIgnoreSpec.from_lines([line]).patterns:
        if pattern.regex is not None:
            regex = re.compile(without_backtracking(pattern.regex.pattern))
            for name in ("a" * 250 + ".py", "a/" * 1_000 + "c.py"):
                regex.match(name)
