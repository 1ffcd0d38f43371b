from __future__ import annotations

from typing import Any

import pytest

from codegen_lsp.http.fields import Fields
from codegen_lsp.http.problems import RequestProblem
from codegen_lsp.http.turns import program_of, read_turns


def program(*messages: dict[str, Any], comment: str = "#") -> str:
    return program_of(read_turns([Fields(one) for one in messages]), comment)


def test_turns_become_comments_and_code() -> None:
    assert (
        program(
            {"role": "system", "content": "You write Python."},
            {"role": "user", "content": "Import os.\n\nNothing else."},
            {"role": "assistant", "content": "```python\nimport os\n```\n"},
            {"role": "user", "content": [{"type": "text", "text": "Complete this:\n```\ndef f():\n```"}]},
        )
        == "# You write Python.\n# Import os.\n# Nothing else.\nimport os\n\n# Complete this:\ndef f():\n"
    )


def test_the_last_turn_of_the_assistant_is_continued() -> None:
    assert program({"content": "Add."}, {"role": "assistant", "content": "x = "}, comment="//") == "// Add.\nx = "


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "tool", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": "x", "images": ["AA=="]}],
    ],
)
def test_what_is_no_text_is_refused(messages: list[dict[str, Any]]) -> None:
    with pytest.raises(RequestProblem):
        program(*messages)


def test_an_empty_turn_of_the_assistant_alone_is_nothing() -> None:
    assert program({"role": "assistant", "content": ""}) == ""
