"""Errors in plain words: those that Python really raises."""

from __future__ import annotations

import pytest

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.plain_errors import in_plain_words
from codegen_lsp.synthesis.running import TurnRunner

pytestmark = pytest.mark.usefixtures("sandbox")

MEANINGS = {
    "y": "nothing up to here defines y (line 1)",
    "import nothing_like_this": "the package nothing_like_this is not installed here (line 1)",
    "1\n1 / 0": "it divides by zero (line 2)",
    "[][1]": "it asks for an element beyond the end (line 1)",
    "{}['a']": "there is no entry 'a' (line 1)",
    "'a'.b": "a value of the type str has no b (line 1)",
    "import os\nos.b": "the package os has no b (line 2)",
    "x = (": "the code is not valid Python: '(' was never closed (line 1)",
    "assert 1 > 2": "something that it checks does not hold (line 1)",
    "1 + 'a'": "it does something that values of this type can't do: unsupported operand type(s)",
    "int('a')": "a value can't be used here: invalid literal for int()",
    "class A(Exception): pass\nraise A('b')": "",
}


@pytest.mark.parametrize("code", MEANINGS)
def test_an_error_is_explained(code: str) -> None:
    error = TurnRunner().run(Dialogue("", (DialogueTurn("", code),))).last.error
    assert error
    found = in_plain_words(error)
    assert found.startswith(MEANINGS[code])
    assert bool(found) == bool(MEANINGS[code])


def test_the_step_that_failed_is_named() -> None:
    turns = (DialogueTurn("", "1 / 0"), DialogueTurn("", "1"))
    assert (
        in_plain_words(TurnRunner().run(Dialogue("", turns)).last.error)
        == "step 1 fails, so this one did not run: it divides by zero (line 1)"
    )
    assert in_plain_words("turn 2: Strange: x") == ""
