"""Saving the answers of an evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.measurements import save_answers


def test_answers_that_can_not_be_saved_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="can't be written"):
        save_answers([], tmp_path / "missing" / "answers.jsonl")
