"""Tables in the files that a turn wrote."""

from __future__ import annotations

import csv
import io

from codegen_lsp.synthesis.cells import CELL_CHARACTERS, TABLE_COLUMNS, TABLE_ROWS
from codegen_lsp.synthesis.printable import printable
from codegen_lsp.synthesis.running import ValueTable

CSV_CHARACTERS = 1 << 20
"""Characters of a file that are read."""


def csv_table(content: bytes) -> ValueTable | None:
    """Return the table in a file of comma-separated values, whose first line names the columns; None if it is none."""
    text = content.decode("utf-8-sig", "replace")[:CSV_CHARACTERS]
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error:
        return None
    if not lines:
        return None
    first, *rows = lines
    return ValueTable(_row(first), [_row(row) for row in rows[:TABLE_ROWS]], max(0, len(rows) - TABLE_ROWS))


def _row(values: list[str]) -> list[str]:
    short = [value if len(value) <= CELL_CHARACTERS else value[:CELL_CHARACTERS] + "…" for value in values]
    return [printable(value) for value in short[:TABLE_COLUMNS]]
