"""Tests of a refactored file, found by convention and run in the sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.confinement.sandbox import SandboxError, run_program
from codegen_lsp.refactor.verification import collected, has_doctests, verify

GOOD = 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n    return a + b\n'
BAD = GOOD.replace("a + b", "a - b")
PLAIN = "def add(a, b):\n    return a + b\n"


@pytest.fixture(autouse=True)
def _sandbox() -> None:
    try:
        run_program("")
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "tests" / "inner").mkdir(parents=True)
    return tmp_path


def file_of(project: Path, text: str) -> Path:
    path = project / "package" / "sums.py"
    path.write_text(text)
    return path


def test_doctests_pass(project: Path) -> None:
    found = verify(file_of(project, GOOD), GOOD, GOOD.replace("a + b", "b + a"))
    assert (found.kind, found.tests) == ("passed", ["doctests"])


def test_doctests_fail(project: Path) -> None:
    found = verify(file_of(project, GOOD), GOOD, BAD)
    assert found.kind == "failed"
    assert "1 of 1 doctests failed" in found.detail


def test_doctests_that_failed_before_say_nothing(project: Path) -> None:
    assert verify(file_of(project, BAD), BAD, GOOD).kind == "fails_before"


def test_a_test_file_is_found_and_imports_the_changed_text(project: Path) -> None:
    path = file_of(project, PLAIN)
    test = project / "tests" / "inner" / "test_sums.py"
    test.write_text("from package.sums import add\n\n\ndef test_add(tmp_path):\n    assert add(1, 2) == 3\n")
    found = verify(path, PLAIN, PLAIN.replace("+", "*"))
    assert (found.kind, found.tests) == ("failed", ["tests/inner/test_sums.py"])
    assert verify(path, PLAIN, PLAIN.replace("a + b", "b + a")).kind == "passed"
    assert path.read_text() == PLAIN


def test_nothing_to_run(project: Path) -> None:
    assert verify(file_of(project, PLAIN), PLAIN, PLAIN + "\n").kind == "nothing"


def test_a_loop_without_end_is_a_failure(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen_lsp.refactor import verification

    monkeypatch.setattr(verification, "LIMITS", verification.Limits(seconds=2.0))
    looping = GOOD.replace("return a + b", "while True: pass")
    assert verify(file_of(project, GOOD), GOOD, looping).kind == "failed"


def test_names_and_places(project: Path) -> None:
    path = file_of(project, GOOD)
    tests = collected(path, GOOD)
    assert (tests.module, tests.root, tests.project, tests.doctests) == ("package.sums", project, project, True)
    (project / "package" / "sums_test.py").touch()
    assert collected(path, PLAIN).names == ["package/sums_test.py"]


@pytest.mark.parametrize(("text", "has"), [(GOOD, True), (PLAIN, False), ("x = '>>> '", False), ("def (", False)])
def test_doctests_are_seen(text: str, has: bool) -> None:
    assert has_doctests(text) is has
