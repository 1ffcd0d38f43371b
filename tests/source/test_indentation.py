"""Leading white space as the file has it."""

from __future__ import annotations

import pytest

from codegen_lsp.source.indentation import columns, indent_unit, reindented


def test_columns_as_python_counts_them() -> None:
    assert [columns(line) for line in ("x", "    x", "\tx", "  \tx", "\t  x", "        ")] == [0, 4, 8, 8, 10, 8]


@pytest.mark.parametrize(
    ("source", "unit"),
    [
        ("a\n    b\n        c\n    d", "    "),
        ("a\n  b\n    c\n  d", "  "),
        ("a\n\tb\n\t\tc", "\t"),
        ("a\nb\n\nc", None),
        ("", None),
        ("a\n\tb\n\t\tc\n  d\n  e", None),
        ("/**\n * a\n */\n\tb\n\tc", "\t"),
        ("a\n   b\n      c", "   "),
    ],
)
def test_one_level(source: str, unit: str | None) -> None:
    assert indent_unit(source.split("\n")) == unit


@pytest.mark.parametrize(
    ("lines", "unit", "base", "expected"),
    [
        (["    a", "        b"], "\t", "", ["\ta", "\t\tb"]),
        (["        a"], "\t", "\t", ["\t\ta"]),
        (["  a", "    b"], "\t", "", ["\ta", "\t\tb"]),
        (["\ta", "\t\tb"], "    ", "", ["    a", "        b"]),
        (["\ta"], "\t", "", ["\ta"]),
        (["    a", "        b"], "  ", "", ["  a", "    b"]),
        (["  a", "    b"], "    ", "", ["    a", "        b"]),
        (["    a", "      b"], "  ", "", ["    a", "      b"]),
        (["", "    a", ""], "\t", "", ["", "\ta", ""]),
        ([" \ta"], "    ", "", [" \ta"]),
        (["a"], "\t", "", ["a"]),
    ],
)
def test_written_as_the_file_is(lines: list[str], unit: str, base: str, expected: list[str]) -> None:
    assert reindented(lines, unit, base) == expected
