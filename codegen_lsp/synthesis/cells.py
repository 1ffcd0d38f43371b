"""Run the turns of a program one after the other, inside the sandbox, and report each as it ends.

The source of this module is sent to the sandbox with a call of `run`, so it uses the standard library only. Reports are
lines of JSON in a file, so that those of the turns before a crash or a hang are kept.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import itertools
import json
import os
import sys
import traceback
from typing import Any

REPORTS = "reports.jsonl"
PRINTED = "printed.txt"
"""Name of the file with what the cell in progress has printed, for when it does not end."""
CODE = "<turn {}>"
"""Name of the file of a turn's code in tracebacks."""
NAMES = {"__name__": "__main__", "__file__": "program.py"}
RESERVED_BYTES = 1 << 18
"""Kept free for reports, so that they can be written when the program has filled its folder."""
VALUE_CHARACTERS, OUTPUT_CHARACTERS = 4_000, 20_000
TABLE_ROWS, TABLE_COLUMNS, CELL_CHARACTERS = 50, 20, 200
"""Limits of a value that is reported as a table."""
TOLERANCE = 1e-6


def run(cells: list[str], examples: list[tuple[str, str, str]]) -> None:
    """Run all cells in one namespace, then try the examples of the last one.

    The first cell is the head of the program, each other one a turn. Each example is setup, expression and expected
    value (`examples.Example`). The last cell may lack names that the examples' setups assign.
    """
    names: dict[str, Any] = dict(NAMES)
    # Of the module `site`, which the sandbox does not load.
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
    with open(REPORTS, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib need not be loaded here
        with contextlib.suppress(AttributeError, OSError):  # not on all systems
            os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)

        def report(**fields: object) -> None:
            file.write(json.dumps(fields) + "\n")
            file.flush()

        for number, cell in enumerate(cells):
            output = _Limited(PRINTED)
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                error, value = _run(cell, number, names)
            shown = "" if value is None else _shown(value)
            files = _save_figures(number)
            report(turn=number, output=output.text(), value=shown, error=error, files=files, table=_table(value))
            if error and (number < len(cells) - 1 or not examples):
                return
        for number, (setup, expression, expected) in enumerate(examples):
            with contextlib.redirect_stdout(_Limited()), contextlib.redirect_stderr(_Limited()):
                found = _try(cells, names, setup, expression, expected)
            report(example=number, found=found)
        file.truncate()


def _run(cell: str, number: int, names: dict[str, Any]) -> tuple[str, Any]:
    """Run one cell. Return an error, or an empty string, and the value of its last expression."""
    file = CODE.format(number)
    try:
        tree = ast.parse(cell, file)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            exec(compile(tree, file, "exec"), names)  # noqa: S102 - what the sandbox is for
            return "", None
        tree.body.pop()
        exec(compile(tree, file, "exec"), names)  # noqa: S102
        return "", eval(compile(ast.Expression(last.value), file, "eval"), names)  # noqa: S307
    except BaseException as error:
        return _described(error, file), None


def _described(error: BaseException, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = lines[-1] if lines else getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text[:500] + (f" (line {line})" if line else "")


def _try(cells: list[str], names: dict[str, Any], setup: str, expression: str, expected: str) -> str:
    """Return an empty string if an example holds, else what was found instead."""
    try:
        if expression:
            value = eval(expression, names)  # noqa: S307
        else:
            names = dict(NAMES)
            for number, cell in enumerate(cells[:-1]):
                _run(cell, number, names)
            exec(setup, names)  # noqa: S102
            output = _Limited()
            with contextlib.redirect_stdout(output):
                error, value = _run(cells[-1], len(cells) - 1, names)
            if error:
                return error
            if value is None:
                value = _result_of(cells[-1], names, output.text())
        wanted = eval(expected, names)  # noqa: S307
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:500]
    return "" if _equal(value, wanted) else _shown(value)


def _result_of(cell: str, names: dict[str, Any], output: str) -> Any:
    """Return the result of a cell without a last expression: what it printed, or the name that it assigned last."""
    if output.strip():
        last = output.strip().split("\n")[-1]
        try:
            return ast.literal_eval(last)
        except (ValueError, SyntaxError):
            return last
    for node in reversed(ast.parse(cell).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and target.id in names:
                return names[target.id]
    return None


def _equal(value: Any, wanted: Any) -> bool:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return abs(value - wanted) <= TOLERANCE * max(1.0, abs(wanted))
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(_equal, value, wanted))
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except BaseException as error:
        text = f"<{type(value).__name__}: its repr fails with {type(error).__name__}>"
    return text if len(text) <= VALUE_CHARACTERS else text[:VALUE_CHARACTERS] + "…"


def _table(value: Any) -> dict[str, Any] | None:
    """Return the heads and rows of a value that is a table, as texts; None for other values."""
    try:
        heads, rows, total = _rows_of(value)
    except BaseException:
        return None
    if not rows:
        return None
    return {
        "heads": [_cell(head) for head in heads[:TABLE_COLUMNS]],
        "rows": [[_cell(one) for one in row[:TABLE_COLUMNS]] for row in rows],
        "dropped": total - len(rows),
    }


def _rows_of(value: Any) -> tuple[list[Any], list[list[Any]], int]:
    """Return the heads, the first rows, and the number of rows of a value; nothing if it is no table.

    Tables are pandas' data frames, NumPy's matrices, lists of dictionaries or of equally long lists, and dictionaries
    of single values.
    """
    if hasattr(value, "columns") and hasattr(value, "itertuples"):
        rows = [list(row) for row in itertools.islice(value.itertuples(), TABLE_ROWS)]
        return ["", *value.columns], rows, len(value)
    if getattr(value, "ndim", 0) == 2 and hasattr(value, "tolist"):
        return [], value[:TABLE_ROWS].tolist(), len(value)
    if isinstance(value, dict) and len(value) > 1 and all(map(_is_single, value.values())):
        return [], [list(item) for item in itertools.islice(value.items(), TABLE_ROWS)], len(value)
    if not isinstance(value, list | tuple) or not value:
        return [], [], 0
    first = value[:TABLE_ROWS]
    if all(isinstance(row, dict) for row in value):
        heads = list(dict.fromkeys(key for row in first for key in row))
        return heads, [[row.get(head, "") for head in heads] for row in first], len(value)
    if all(isinstance(row, list | tuple) and len(row) == len(value[0]) for row in value) and len(value[0]) > 1:
        return [], [list(row) for row in first], len(value)
    return [], [], 0


def _is_single(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= CELL_CHARACTERS else text[:CELL_CHARACTERS] + "…"


def _save_figures(number: int) -> list[str]:
    """Save what Matplotlib has drawn, if it was loaded. Return the names of the files."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    names: list[str] = []
    with contextlib.suppress(Exception):
        for figure in pyplot.get_fignums() if pyplot else []:
            name = f"turn-{number}-figure-{figure}.png"
            pyplot.figure(figure).savefig(name)  # type: ignore[union-attr]
            names.append(name)
        if pyplot:
            pyplot.close("all")
    known = {REPORTS, *names}
    made = [one for one in os.listdir(".") if one.startswith("turn-") and one not in known]  # noqa: PTH208
    return [*names, *(one for one in made if one.startswith(f"turn-{number}-"))]


class _Limited(io.TextIOBase):
    """Keeps the beginning of what is written, in a file as well if one is given."""

    def __init__(self, file: str = "") -> None:
        self._file = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600) if file else None
        self._parts: list[str] = []
        self._left = OUTPUT_CHARACTERS
        self._dropped = 0

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> _Bytes:
        """The binary stream, as `sys.stdout` has one."""
        return _Bytes(self)

    def write(self, text: str) -> int:
        kept = text[: self._left]
        self._parts.append(kept)
        if self._file is not None and kept:
            with contextlib.suppress(OSError):  # the folder is full, or the program closed the file
                os.write(self._file, kept.encode("utf-8", "replace"))
        self._dropped += max(0, len(text) - self._left)
        self._left = max(0, self._left - len(text))
        return len(text)

    def text(self) -> str:
        text = "".join(self._parts)
        return f"{text}\n[{self._dropped} more characters]" if self._dropped else text


class _Bytes(io.RawIOBase):
    """Writes bytes as text."""

    def __init__(self, text: _Limited) -> None:
        self._text = text

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._text.write(bytes(data).decode("utf-8", "replace"))
        return len(data)
