"""Tables in files of comma-separated values."""

from __future__ import annotations

import pytest

from codegen_lsp.synthesis.running import ValueTable
from codegen_lsp.synthesis.tables import csv_table

FILES = {
    b"name,age\nAnn,30\n": ValueTable(["name", "age"], [["Ann", "30"]]),
    b"\xef\xbb\xbfa;b\r\n\r\n1;2\r\n": ValueTable(["a;b"], [["1;2"]]),
    b'a\n"x\n,y"\n\xff\n': ValueTable(["a"], [["x\n,y"], ["\ufffd"]]),
    b"a\n" + b"1\n" * 70: ValueTable(["a"], [["1"]] * 50, 20),
    b"," * 99: ValueTable([""] * 20, []),
    b"": None,
    b"x" * (1 << 18): None,
}


@pytest.mark.parametrize("content", FILES, ids=lambda content: repr(content[:12]))
def test_a_file_is_shown_as_a_table(content: bytes) -> None:
    assert csv_table(content) == FILES[content]
