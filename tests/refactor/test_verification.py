"""When results are verified by tests, and how strictly."""

from __future__ import annotations

import pytest

from codegen_lsp.refactor.registry import COMMENT_TO_CODE, COMPLETE_BODY, KINDS, REWRITE, RefactoringKind
from codegen_lsp.refactor.verification import VerificationPolicy, policy_for


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_code_that_the_model_writes_is_verified(kind: RefactoringKind) -> None:
    policy = policy_for("auto", kind)
    if kind in (COMPLETE_BODY, COMMENT_TO_CODE, REWRITE):
        assert policy is not None
        assert not policy.required
    else:
        assert policy is None


@pytest.mark.parametrize("kind", KINDS)
def test_verification_can_be_turned_on_and_off(kind: RefactoringKind) -> None:
    assert policy_for("on", kind) == VerificationPolicy()
    assert policy_for("off", kind) is None
