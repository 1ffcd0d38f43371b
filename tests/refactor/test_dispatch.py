"""The backend of each language."""

from __future__ import annotations

import pytest

from codegen_lsp.refactor.backend import Backend, PreparedRefactoring
from codegen_lsp.refactor.dispatch import BACKENDS, backend_for, menu
from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import COMPLETE_BODY, RENAME
from tests.refactor.conftest import ScriptedModel, source

EMPTY = {
    "python": "def f(a):\n    pass│\n",
    "c": "int f(int a) {│}\n",
    "cpp": "int f(int a) {│}\n",
    "go": "func f(a int) int {│}\n",
    "java": "class A {\n    int f(int a) {│}\n}\n",
    "javascript": "function f(a) {│}\n",
    "javascriptreact": "function f(a) {│}\n",
}


@pytest.mark.parametrize("language", BACKENDS)
def test_every_backend_prepares_what_its_menu_has(language: str) -> None:
    backend: Backend | None = backend_for(language)
    assert backend is not None
    selected = source(EMPTY[language], language)
    assert COMPLETE_BODY in [entry.kind for entry in backend.menu(selected)]
    prepared: PreparedRefactoring = backend.prepare(COMPLETE_BODY, selected)
    assert prepared.text == selected.text
    with pytest.raises(RefactorError) as refused:
        backend.prepare(RENAME, source(EMPTY[language].replace("│", "") + "\n│", language))
    assert refused.value.rule == "not_here"


async def test_other_languages_have_no_refactorings() -> None:
    selected = source("fn f() {│}\n", "rust")
    assert menu(selected) == []
    with pytest.raises(RefactorError) as refused:
        await perform(COMPLETE_BODY, selected, ScriptedModel([]).assistant(), lambda step, share: None)
    assert refused.value.rule == "not_here"
