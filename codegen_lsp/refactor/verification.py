"""Running what tests there are before and after a refactoring: doctests, and a test file found by convention.

Tests are somebody's programs, and the code under test may be a model's, so they run in the sandbox: no network, no
files but the project's and the interpreter's packages, read-only, and limits of time and memory. The changed text is
never written: the import of its file is what gets it. Tests that fail without the change say nothing about it.
"""

from __future__ import annotations

import ast
import json
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from attrs import frozen

from codegen_lsp.confinement.sandbox import Confinement, Limits, Verdict, run_program
from codegen_lsp.refactor.workspace import module_of

LIMITS = Limits(seconds=60.0, memory_mb=2048, scratch_mb=64)
_ROOTS = ("pyproject.toml", "setup.py", "setup.cfg", ".git", ".hg")
_SEARCHED = 2_000
"""Files looked at for a test file's name, at most."""


@frozen
class Verification:
    """What the tests say of a refactoring."""

    kind: Literal["passed", "failed", "fails_before", "nothing"]
    """`fails_before`: the tests fail without the change; `nothing`: there are no tests to run."""
    tests: list[str]
    """What was run: `doctests`, and the paths of test files."""
    detail: str = ""


@frozen
class Tests:
    """The tests of one file."""

    module: str
    """Dotted name under which the file is imported."""
    root: Path
    """What must be on the import path for that."""
    project: Path
    doctests: bool
    files: list[Path]

    @property
    def names(self) -> list[str]:
        """What there is, for a person."""
        return [*(["doctests"] if self.doctests else []), *(str(file.relative_to(self.project)) for file in self.files)]


def verify(
    path: Path,
    before: str,
    after: str,
    confinement: Confinement = "namespaces",
    others: Mapping[Path, str] | None = None,
) -> Verification:
    """Run the tests of a file with its text before and after a change. `others` are the texts of files that change
    along with it. Raises SandboxError."""
    tests = collected(path, before)
    if not tests.names:
        return Verification("nothing", [], "There are neither doctests nor a test file named after it.")
    verdict = _run({path: before}, tests, confinement)
    if verdict.kind != "passed":
        return Verification("fails_before", tests.names, verdict.detail)
    verdict = _run({**(others or {}), path: after}, tests, confinement)
    return Verification("passed" if verdict.kind == "passed" else "failed", tests.names, verdict.detail)


def collected(path: Path, text: str) -> Tests:
    """The doctests in a text and the test files of its path: `test_NAME.py` or `NAME_test.py` beside it, or below a
    folder `tests` or `test` of its project."""
    path = path.resolve()
    module, root = module_of(path)
    name = module.split(".")[-1].lstrip("_")
    project = project_of(path)
    wanted = {f"test_{name}.py", f"{name}_test.py"}
    files = sorted({file for file in _candidates(path.parent, project) if file.name in wanted and file != path})
    return Tests(module, root, project, has_doctests(text), files)


def project_of(path: Path) -> Path:
    """The folder of the project that a file belongs to, by the marks of one, else the one that its imports begin at."""
    _, root = module_of(path)
    return next((one for one in [root, *root.parents] if any((one / mark).exists() for mark in _ROOTS)), root)


def has_doctests(text: str) -> bool:
    """Whether a docstring has an example."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = (ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented))
    return any(">>> " in (text or "") for text in docs)


def _candidates(folder: Path, project: Path) -> Iterator[Path]:
    yield from folder.glob("*.py")
    seen = 0
    for base in [folder, *folder.parents]:
        for name in ("tests", "test"):
            for file in (base / name).rglob("*.py"):
                yield file
                seen += 1
                if seen >= _SEARCHED:
                    return
        if base == project:
            return


def _run(texts: Mapping[Path, str], tests: Tests, confinement: Confinement) -> Verdict:
    packages = Path(sysconfig.get_paths()["purelib"])
    request = {
        "texts": {str(path.resolve()): text for path, text in texts.items()},
        "module": tests.module if tests.doctests else "",
        "files": [str(file) for file in tests.files],
        "imports": [str(tests.root), str(tests.project), str(packages)],
        "project": str(tests.project),
    }
    program = f"REQUEST = {json.dumps(request)}\n{_PROGRAM}"
    return run_program(program, LIMITS, confinement, [tests.project, tests.root, packages])


_PROGRAM = """
import importlib
import importlib.machinery
import os
import sys

sys.path[:0] = REQUEST["imports"]
sys.dont_write_bytecode = True
os.environ["TMPDIR"] = os.environ["HOME"] = os.getcwd()

get_code = importlib.machinery.SourceFileLoader.get_code


def changed_code(self, name):
    path = self.get_filename(name)
    text = REQUEST["texts"].get(os.path.realpath(path))
    if text is not None:
        return compile(text, path, "exec", dont_inherit=True)
    return get_code(self, name)


importlib.machinery.SourceFileLoader.get_code = changed_code

if REQUEST["module"]:
    import doctest

    module = importlib.import_module(REQUEST["module"])
    found = doctest.testmod(module)
    assert not found.failed, f"{found.failed} of {found.attempted} doctests failed"
if REQUEST["files"]:
    import pytest

    options = ["-q", "-x", "-s", "-p", "no:cacheprovider", "-o", "addopts=", "--rootdir", REQUEST["project"]]
    # pytest reads test files itself to rewrite their assertions, and would not see those that are changed.
    code = pytest.main([*options, "--assert=plain", "--import-mode=importlib", *REQUEST["files"]])
    assert code == 0, f"the tests failed (pytest says {int(code)})"
"""
