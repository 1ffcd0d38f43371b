"""Log records: one printable line each, whatever text they quote."""

from __future__ import annotations

import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.log_format import LogFormatter, escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümlaut, 漢", "plain, ümlaut, 漢"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x9b0m\x7f\0", r"\x1b[2J\x9b0m\x7f\x00"),
        ("\u2028\u202e\u200b", r"\u2028\u202e\u200b"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_a_record_is_one_printable_line(text: str) -> None:
    record = logging.LogRecord("a", logging.WARNING, __file__, 1, "said %s", (text,), None)
    assert LogFormatter().format(record).isprintable()


def test_the_lines_of_a_traceback_can_not_be_taken_for_records() -> None:
    try:
        raise ValueError("first\ntouch ~/X\r2026-01-01")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    first, *rest = LogFormatter().format(record).split("\n")
    assert first.endswith("ERROR a: failed")
    assert rest[-1] == "  | 2026-01-01"
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)
