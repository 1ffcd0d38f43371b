"""The menu and the refusals of Python where the code is extreme."""

from __future__ import annotations

import pytest

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python.python_backend import PythonBackend
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import EXTRACT_FUNCTION

LONG = " + ".join(["a"] * 1500)


def test_code_that_is_nested_deeply_is_refused() -> None:
    text = f"def f(a):\n    b = {LONG}\n    return b\n"
    start, end = text.index("b ="), text.index("\n    return")
    backend = PythonBackend()
    names = [entry.kind.name for entry in backend.menu(SelectedSource(text, start, end))]
    assert "extract-function" not in names
    with pytest.raises(RefactorError):
        backend.prepare(EXTRACT_FUNCTION, SelectedSource(text, start, end))
