"""Tests of a refactored file, found by convention and run in the sandbox."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.python import run_tests
from codegen_lsp.refactor.python.run_tests import CollectedTests, collect_tests, has_doctests, verify
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import kind_named
from codegen_lsp.refactor.results import RefactoringOutcome
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult
from codegen_lsp.sandbox.sandbox import Confinement, SandboxError, Verdict, run_program
from tests.refactor.conftest import ScriptedModel

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


def verified(path: Path, before: str, after: str, policy: VerificationPolicy | None = None) -> VerificationResult:
    return verify(path, before, [{path: after}], policy)[0]


def test_doctests_pass(project: Path) -> None:
    found = verified(file_of(project, GOOD), GOOD, GOOD.replace("a + b", "b + a"))
    assert (found.kind, found.tests) == ("passed", ["doctests"])


def test_doctests_fail(project: Path) -> None:
    found = verified(file_of(project, GOOD), GOOD, BAD)
    assert found.kind == "failed"
    assert "1 of 1 doctests failed" in found.detail


def test_doctests_that_failed_before_say_nothing(project: Path) -> None:
    assert verified(file_of(project, BAD), BAD, GOOD).kind == "fails_before"


def test_a_test_file_is_found_and_imports_the_changed_text(project: Path) -> None:
    path = file_of(project, PLAIN)
    test = project / "tests" / "inner" / "test_sums.py"
    test.write_text("from package.sums import add\n\n\ndef test_add(tmp_path):\n    assert add(1, 2) == 3\n")
    found = verified(path, PLAIN, PLAIN.replace("+", "*"))
    assert (found.kind, found.tests) == ("failed", ["tests/inner/test_sums.py"])
    assert verified(path, PLAIN, PLAIN.replace("a + b", "b + a")).kind == "passed"
    assert path.read_text() == PLAIN


def test_nothing_to_run(project: Path) -> None:
    assert verified(file_of(project, PLAIN), PLAIN, PLAIN + "\n").kind == "nothing"


def test_a_loop_without_end_is_a_failure(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looping = GOOD.replace("return a + b", "while True: pass")
    path, run = file_of(project, GOOD), run_tests._run

    def brief(texts: dict[Path, str], tests: CollectedTests, confinement: Confinement, seconds: float) -> Verdict:
        return run(texts, tests, confinement, 1.0 if looping in texts.values() else seconds)

    monkeypatch.setattr(run_tests, "_run", brief)
    assert verified(path, GOOD, looping).kind == "failed"


STUBS = "def add(a, b):\n    pass\n\n\ndef other(a):\n    pass\n"
TESTS = "from package.sums import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"


async def done(
    project: Path, text: str, at: str, answers: list[str], policy: VerificationPolicy | None
) -> RefactoringOutcome:
    path, kind = file_of(project, text), kind_named("complete-body")
    assert kind is not None
    source = SelectedSource(text, text.index(at), text.index(at), "python", path)
    return await perform(kind, source, ScriptedModel([answers]).assistant(), lambda what, share: None, policy)


async def test_a_body_is_tried_by_the_tests_that_fail_without_it(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(TESTS)
    outcome = await done(project, STUBS, "add", ["return a * b", "return a + b"], VerificationPolicy())
    assert [offer.label for offer in outcome.offers] == ["return a + b"]
    assert [one.kind for one in outcome.verified] == ["passed"]
    assert [(one.label, one.rule) for one in outcome.rejected] == [("return a * b", "tests")]


async def test_so_is_the_body_of_a_head_that_has_none(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(TESTS)
    outcome = await done(project, "def add(a, b):\n", "add", ["return a * b", "return a + b"], VerificationPolicy())
    assert [offer.label for offer in outcome.offers] == ["return a + b"]


async def test_a_function_that_no_test_calls_is_not_judged_by_them(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(TESTS)
    outcome = await done(project, STUBS, "other", ["return a * 2"], VerificationPolicy())
    assert [one.kind for one in outcome.verified] == ["nothing"]


async def test_without_a_result_that_passes_there_is_an_error(project: Path) -> None:
    (project / "tests" / "test_sums.py").write_text(TESTS)
    with pytest.raises(RefactorError, match=r"tests/test_sums\.py") as refused:
        await done(project, STUBS, "add", ["return a * b"], VerificationPolicy())
    assert refused.value.rule == "tests"
    assert len((await done(project, STUBS, "add", ["return a * b"], None)).offers) == 1


async def test_where_nothing_can_be_confined_results_are_offered_unverified(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise SandboxError("No namespaces.", "")

    monkeypatch.setattr("codegen_lsp.refactor.python.run_tests.run_program", refuse)
    (project / "tests" / "test_sums.py").write_text(TESTS)
    outcome = await done(project, STUBS, "add", ["return a * b"], VerificationPolicy(required=False))
    assert outcome.notes == ["Tests were not run. No namespaces."]
    with pytest.raises(SandboxError):
        await done(project, STUBS, "add", ["return a * b"], VerificationPolicy())


def test_the_time_for_all_results_is_limited(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "tests" / "test_sums.py").write_text("def test_it():\n    pass\n")
    path = file_of(project, PLAIN)
    policy = VerificationPolicy()
    clock = iter([0.0, 3 * policy.seconds, 3 * policy.seconds + 1])
    monkeypatch.setattr(run_tests, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    results = verify(path, PLAIN, [{path: PLAIN}] * 2, policy)
    assert results[0].kind == "passed"
    assert (results[1].kind, results[1].tests) == ("nothing", ["tests/test_sums.py"])


def test_names_and_places(project: Path) -> None:
    path = file_of(project, GOOD)
    tests = collect_tests(path, GOOD)
    assert (tests.module, tests.root, tests.project, tests.doctests) == ("package.sums", project, project, True)
    (project / "package" / "sums_test.py").touch()
    assert collect_tests(path, PLAIN).names == ["package/sums_test.py"]


@pytest.mark.parametrize(("text", "has"), [(GOOD, True), (PLAIN, False), ("x = '>>> '", False), ("def (", False)])
def test_doctests_are_seen(text: str, has: bool) -> None:
    assert has_doctests(text) is has
