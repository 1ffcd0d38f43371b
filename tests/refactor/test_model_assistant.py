"""The model's part in refactorings."""

from __future__ import annotations

import pytest

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.refactor.model_assistant import ModelAssistant, changed_part
from tests.completion.options import options
from tests.refactor.conftest import ScriptedModel


async def test_without_a_model_there_are_no_continuations_and_a_note() -> None:
    assistant = ModelAssistant.for_model(None, None, options(), "refactor file:///a.py")
    assert assistant.notes == ["No model was ready, so names come from the code alone."]
    assert await assistant.continuations("x = ", stop=StopRules(max_tokens=4)) == []
    assert await assistant.likelihoods([("", "a"), ("", "b")]) == [0.0, 0.0]


async def test_prompts_are_as_long_as_those_for_completion() -> None:
    model = ScriptedModel([["a"]])
    allowed = options(prefix_characters=3, suffix_characters=2, temperature=0.5)
    assistant = ModelAssistant.for_model(model, None, allowed, "refactor file:///a.py")
    await assistant.continuations("12345", "67890", stop=StopRules(max_tokens=4))
    (asked,) = model.asked
    assert (asked.document, asked.prefix, asked.suffix) == ("refactor file:///a.py", "345", "")
    assert assistant.notes == []


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("a\nb\nc\n", "a\nx\nc\n", ("a\n", "x\n")),
        ("a\nbar\n", "a\nbaz\n", ("a\n", "baz\n")),
        ("a\n", "a\nb\n", ("a\n", "b\n")),
    ],
)
def test_the_changed_part_is_made_of_whole_lines(old: str, new: str, part: tuple[str, str]) -> None:
    assert changed_part(old, new) == part
