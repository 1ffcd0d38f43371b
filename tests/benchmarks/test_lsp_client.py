"""Positions of the protocol."""

from __future__ import annotations

import pytest

from codegen_lsp.benchmarks.lsp_client import offset_at, position_at, range_at

TEXT = "a = '🙂'\rb\r\nc\n"


@pytest.mark.parametrize(
    ("offset", "line", "character"),
    [(0, 0, 0), (6, 0, 7), (8, 1, 0), (9, 1, 1), (11, 2, 0), (13, 3, 0)],
)
def test_columns_are_utf_16_units_and_lines_end_as_in_the_protocol(offset: int, line: int, character: int) -> None:
    position = {"line": line, "character": character}
    assert position_at(TEXT, offset) == position
    assert offset_at(TEXT, position) == offset


def test_a_range() -> None:
    assert range_at("ab\ncd", 1, 4) == {"start": {"line": 0, "character": 1}, "end": {"line": 1, "character": 1}}
