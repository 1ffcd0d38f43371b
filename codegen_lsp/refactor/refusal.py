"""The reasons why a refactoring has no result, or fewer results: the name of a rule for programs, text for people."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.errors import CodegenError


@frozen
class RejectedResult:
    """A result that is not offered."""

    label: str
    """Distinguishes the result from the others."""
    rule: str
    """Name of the check that the result failed."""
    reason: str


class RefactorError(CodegenError):
    """A refactoring can't be done here. `rule` names the reason; `rejected` are the results that failed a check."""

    def __init__(self, rule: str, message: str, advice: str = "", rejected: Sequence[RejectedResult] = ()) -> None:
        super().__init__(message, advice)
        self.rule = rule
        self.rejected = list(rejected)
