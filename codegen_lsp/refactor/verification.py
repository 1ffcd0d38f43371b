"""Running what tests there are before and after a refactoring: doctests, and a test file found by convention.

Tests are somebody's programs, and the code under test may be a model's, so they run in the sandbox: no network, no
files but the project's and the interpreter's packages, read-only, and limits of time and memory. The changed text is
never written: the import of its file is what gets it. Tests that fail without the change say nothing about it, unless
the change gives a function its body: tests that call a function without one are bound to fail.
"""

from __future__ import annotations

import ast
import json
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from attrs import frozen

from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict, run_program
from codegen_lsp.workspace.sources import module_of

SECONDS = 60.0
UNASKED_SECONDS = 10.0
"""Of tests that nobody asked for by name."""
MEMORY_MB, SCRATCH_MB = 2048, 64
Texts = Mapping[Path, str]
_ROOTS = ("pyproject.toml", "setup.py", "setup.cfg", ".git", ".hg")
_SEARCHED = 2_000
"""Files looked at for a test file's name, at most."""


@frozen
class VerificationResult:
    """What the tests say of a refactoring."""

    kind: Literal["passed", "failed", "fails_before", "nothing"]
    """`fails_before`: the tests fail without the change; `nothing`: there are no tests to run, or no time."""
    tests: list[str]
    """What was run: `doctests`, and the paths of test files."""
    detail: str = ""


@frozen
class VerificationPolicy:
    """How results are tried by tests before they are offered."""

    confinement: Confinement = "namespaces"
    seconds: float = SECONDS
    """For the tests without the change. With it they get twice that, and all results together three times."""
    required: bool = True
    """Whether results are refused where programs can't be confined, instead of being offered untried."""


@frozen
class CollectedTests:
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


def policy_for(verify: str, kind: RefactoringKind) -> VerificationPolicy | None:
    """What the setting `verify_refactorings` means for a kind: None for no trial."""
    if verify == "on":
        return VerificationPolicy()
    return (
        VerificationPolicy(seconds=UNASKED_SECONDS, required=False) if verify == "auto" and kind.writes_code else None
    )


def verify(
    path: Path,
    before: str,
    results: Sequence[Texts],
    policy: VerificationPolicy | None = None,
    unwritten: str | None = None,
) -> list[VerificationResult]:
    """Run the tests of a file with its text before a change, and with each result of it.

    A result has the new texts of the file and of those that change along with it. `unwritten` is the text before with
    `MARK` in the body that is to be written. Raises SandboxError.
    """
    how = policy or VerificationPolicy()
    tests = collected(path, before)
    if not tests.names:
        nothing = "There are neither doctests nor a test file named after it."
        return [VerificationResult("nothing", [], nothing) for _ in results]
    if unwritten is None:
        verdict = _run({path: before}, tests, how.confinement, how.seconds)
        if verdict.kind != "passed":
            return [VerificationResult("fails_before", tests.names, verdict.detail) for _ in results]
    elif _run({path: unwritten}, tests, how.confinement, how.seconds, marked=True).kind == "passed":
        return [VerificationResult("nothing", [], "No test calls the function.") for _ in results]
    said = []
    enough = time.monotonic() + 3 * how.seconds
    for result in results:
        if time.monotonic() > enough:
            said.append(VerificationResult("nothing", tests.names, "The tests had taken too long to be run once more."))
            continue
        verdict = _run(result, tests, how.confinement, 2 * how.seconds)
        said.append(VerificationResult("passed" if verdict.kind == "passed" else "failed", tests.names, verdict.detail))
    return said


def unwritten(text: str, line: int) -> str:
    """A program in which the body of the function at a line (from 1) notes that it was called, and fails."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno == line:
            node.body = [*([node.body[0]] if ast.get_docstring(node) else []), *ast.parse(MARK).body]
    return ast.unparse(tree)


def collected(path: Path, text: str) -> CollectedTests:
    """The doctests in a text and the test files of its path: `test_NAME.py` or `NAME_test.py` beside it, or below a
    folder `tests` or `test` of its project."""
    path = path.resolve()
    module, root = module_of(path)
    name = module.split(".")[-1].lstrip("_")
    project = project_of(path)
    wanted = {f"test_{name}.py", f"{name}_test.py"}
    files = sorted({file for file in _candidates(path.parent, project) if file.name in wanted and file != path})
    return CollectedTests(module, root, project, has_doctests(text), files)


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
    looked_at = 0
    for base in [folder, *folder.parents]:
        for name in ("tests", "test"):
            for file in (base / name).rglob("*.py"):
                yield file
                looked_at += 1
                if looked_at >= _SEARCHED:
                    return
        if base == project:
            return


def _run(
    texts: Texts, tests: CollectedTests, confinement: Confinement, seconds: float, *, marked: bool = False
) -> Verdict:
    """Whether all tests pass; when `marked`, whether none of them comes upon `MARK`."""
    packages = Path(sysconfig.get_paths()["purelib"])
    request = {
        "texts": {str(path.resolve()): text for path, text in texts.items()},
        "module": tests.module if tests.doctests else "",
        "files": [str(file) for file in tests.files],
        "imports": [str(tests.root), str(tests.project), str(packages)],
        "project": str(tests.project),
    }
    program = f"REQUEST = {json.dumps(request)}\n{_PROGRAM}{_LOOK_FOR_MARK if marked else _RUN}"
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
    # pytest reads test files itself to rewrite their assertions, and would not see those that are changed.
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
"""What notes that it was come upon."""
