"""Patterns of excluded files."""

from __future__ import annotations

import pytest

from codegen_lsp.workspace.ignore import excluding_pattern

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
