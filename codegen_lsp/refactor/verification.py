"""Verification of results by the tests of the file: how it is done, and its outcome. Backends run the tests."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.sandbox.sandbox import Confinement

TEST_SECONDS = 60.0
"""Time limit for tests that the user asked for."""
DEFAULT_TEST_SECONDS = 10.0
"""Time limit for tests that are run by default."""


@frozen
class VerificationResult:
    """The outcome of the tests with one result."""

    kind: Literal["passed", "failed", "fails_before", "nothing"]
    """`fails_before`: the tests fail without the change; `nothing`: there are no tests to run, or no time."""
    tests: list[str]
    """The tests that were run: `doctests`, and the paths of test files."""
    detail: str = ""


@frozen
class VerificationPolicy:
    """How results are verified before they are offered."""

    confinement: Confinement = "namespaces"
    seconds: float = TEST_SECONDS
    """Time limit for the tests without the change. With the change it is twice that, and three times that for all
    results together."""
    required: bool = True
    """Refuse results where programs can't be confined, instead of offering them unverified."""


def policy_for(setting: str, kind: RefactoringKind) -> VerificationPolicy | None:
    """Return the policy that the setting `verify_refactorings` means for a refactoring; None for no verification."""
    if setting == "on":
        return VerificationPolicy()
    if setting == "auto" and kind.writes_code:
        return VerificationPolicy(seconds=DEFAULT_TEST_SECONDS, required=False)
    return None
