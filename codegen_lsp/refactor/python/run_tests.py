"""Run the tests of a file before and after a refactoring: its doctests, and the test files that are named after it.

Tests and the code under test are untrusted, so they run in the sandbox: without network, with read-only access to the
project and the interpreter's packages only, and with limits of time and memory. The changed text is never written: the
import system of the sandboxed process supplies it when the file is imported. Tests that fail without the change don't
count, except where the change gives a function its body: tests that call a function without a body are bound to fail.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult
from codegen_lsp.sandbox.packages import installed_packages
from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict, run_program
from codegen_lsp.workspace.sources import module_of, project_of

MEMORY_MB, SCRATCH_MB = 2048, 64
Texts = Mapping[Path, str]
"""New texts of files by path."""
_MOST_FILES = 2_000
"""Most files that are searched for test files."""


@frozen
class CollectedTests:
    """The tests of one file."""

    module: str
    """Dotted name under which the file is imported."""
    root: Path
    """The folder that must be on the import path for that."""
    project: Path
    doctests: bool
    files: list[Path]

    @property
    def names(self) -> list[str]:
        """The tests for display: `doctests`, and the paths of test files relative to the project."""
        return [*(["doctests"] if self.doctests else []), *(str(file.relative_to(self.project)) for file in self.files)]


def verify(
    path: Path,
    before: str,
    results: Sequence[Texts],
    policy: VerificationPolicy | None = None,
    marked: str | None = None,
) -> list[VerificationResult]:
    """Run the tests of a file with its text before a change, and with each result of the change.

    Args:
        path: the file.
        before: its text before the change.
        results: for each result the new texts of the file and of those that change along with it.
        policy: confinement and time limits.
        marked: the text before with `MARK` in the body that is to be written, if the change writes a body.

    Raises SandboxError.
    """
    policy = policy or VerificationPolicy()
    tests = collect_tests(path, before)
    if not tests.names:
        nothing = "There are neither doctests nor a test file named after it."
        return [VerificationResult("nothing", [], nothing) for _ in results]
    if marked is None:
        verdict = _run({path: before}, tests, policy.confinement, policy.seconds)
        if verdict.kind != "passed":
            return [VerificationResult("fails_before", tests.names, verdict.detail) for _ in results]
    elif _run({path: marked}, tests, policy.confinement, policy.seconds, find_mark=True).kind == "passed":
        return [VerificationResult("nothing", [], "No test calls the function.") for _ in results]
    verified = []
    deadline = time.monotonic() + 3 * policy.seconds
    for result in results:
        if time.monotonic() > deadline:
            verified.append(
                VerificationResult("nothing", tests.names, "The tests had taken too long to be run once more.")
            )
            continue
        verdict = _run(result, tests, policy.confinement, 2 * policy.seconds)
        verified.append(
            VerificationResult("passed" if verdict.kind == "passed" else "failed", tests.names, verdict.detail)
        )
    return verified


def with_marked_body(text: str, line: int) -> str:
    """Return the program with `MARK` as the body of the function at a line (from 1), below its docstring."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno == line:
            node.body = [*([node.body[0]] if ast.get_docstring(node) else []), *ast.parse(MARK).body]
    return ast.unparse(tree)


def collect_tests(path: Path, text: str) -> CollectedTests:
    """Find the doctests in the text of a file, and its test files.

    Test files are called `test_NAME.py` or `NAME_test.py` and lie beside the file or below a folder `tests` or `test`
    of its project.
    """
    path = path.resolve()
    module, root = module_of(path)
    name = module.split(".")[-1].lstrip("_")
    project = project_of(path)
    wanted = {f"test_{name}.py", f"{name}_test.py"}
    files = sorted({file for file in _candidates(path.parent, project) if file.name in wanted and file != path})
    return CollectedTests(module, root, project, has_doctests(text), files)


def has_doctests(text: str) -> bool:
    """Return whether a docstring has an example."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = (ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented))
    return any(">>> " in (text or "") for text in docs)


def _candidates(folder: Path, project: Path) -> Iterator[Path]:
    yield from folder.glob("*.py")
    looked_at = 0
    for base in [folder, *folder.parents]:
        for name in ("tests", "test"):
            for file in (base / name).rglob("*.py"):
                yield file
                looked_at += 1
                if looked_at >= _MOST_FILES:
                    return
        if base == project:
            return


def _run(
    texts: Texts, tests: CollectedTests, confinement: Confinement, seconds: float, *, find_mark: bool = False
) -> Verdict:
    """Run the tests in the sandbox: they all have to pass, or, with `find_mark`, never to execute `MARK`."""
    packages = installed_packages()
    request = {
        "texts": {str(path.resolve()): text for path, text in texts.items()},
        "module": tests.module if tests.doctests else "",
        "files": [str(file) for file in tests.files],
        "imports": [str(tests.root), str(tests.project), str(packages)],
        "project": str(tests.project),
    }
    program = f"REQUEST = {json.dumps(request)}\n{_PROGRAM}{_LOOK_FOR_MARK if find_mark else _RUN}"
    limits = Limits(seconds, MEMORY_MB, SCRATCH_MB)
    return run_program(program, limits, confinement, [tests.project, tests.root, packages])


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


def run_doctests():
    import doctest

    found = doctest.testmod(importlib.import_module(REQUEST["module"]))
    assert not found.failed, f"{found.failed} of {found.attempted} doctests failed"


def run_files(*further):
    import pytest

    options = ["-q", "-s", "-p", "no:cacheprovider", "-o", "addopts=", "--rootdir", REQUEST["project"], *further]
    # To rewrite assertions pytest reads test files itself, and would miss a changed text.
    code = pytest.main([*options, "--assert=plain", "--import-mode=importlib", *REQUEST["files"]])
    assert code == 0, f"the tests failed (pytest says {int(code)})"

"""
_RUN = """
if REQUEST["module"]:
    run_doctests()
if REQUEST["files"]:
    run_files("-x")
"""
_LOOK_FOR_MARK = """
import builtins

for there, run in ((REQUEST["module"], run_doctests), (REQUEST["files"], run_files)):
    try:
        if there:
            run()
    except BaseException:
        pass
assert not hasattr(builtins, "codegen_lsp_mark"), "the function was called"
"""
MARK = "import builtins; builtins.codegen_lsp_mark = True; raise NotImplementedError"
"""A statement that records its execution and fails."""
