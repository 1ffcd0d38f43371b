"""Judge a program of the Multi-Turn Programming Benchmark: the part inside the sandbox, and the part outside.

Inside, the program is run, and the value that it prints is reported. `report`, which does that, is sent to the sandbox
as the source of this module, so it uses the standard library only, and NumPy and pandas where the program loaded them.
Outside, `complaint_about` compares the value with the expected one, which the program therefore can't see.

The rules are those of the benchmark's own judge (Nijkamp et al., 2023; `mtpb_exec.py` of the CodeGen repository): if
the last statement prints nothing, its value is printed; then the first argument of the last call of `print` is
converted to the type of the expected value and compared with it. The program may fail after it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

TOLERANCE = 1e-6
"""Difference of two floats that counts as none."""


def report(program: str, expected_type: str) -> dict[str, Any]:
    """Run the program. Return the value that it prints, converted to a type, and its text, or why there is none."""
    printed: list[object] = []

    def recording_print(*values: object, **options: Any) -> None:
        if values:
            printed.append(values[0])
        builtins.print(*values, **options)  # noqa: T201 - the program's

    failure = ""
    names: dict[str, object] = {"__name__": "__main__", "print": recording_print}
    try:
        exec(compile(with_print(program), "<program>", "exec"), names)  # noqa: S102 - what the sandbox is for
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    if not printed:
        return {"failure": failure or "it prints nothing"}
    return {"value": converted(printed[-1], expected_type), "text": f"{printed[-1]!r:.80}"}


def write_report(program: str, expected_type: str, encode: Callable[[Any], Any], descriptor: int) -> None:
    """Write the report as JSON to a file descriptor."""
    import json

    found = report(program, expected_type)
    if "value" in found:
        found["value"] = encode(found["value"])
    line = json.dumps(found).encode()
    while line:
        line = line[os.write(descriptor, line) :]


def complaint_about(found: dict[str, Any], expected: object) -> str:
    """Return why a report shows no right program; empty if it does. Its value is decoded."""
    if "value" not in found:
        return str(found.get("failure", "it prints nothing"))
    if is_equal(found["value"], expected):
        return ""
    return f"it prints {found.get('text', '')!s:.80}, not {expected!r:.80}"


def with_print(program: str) -> str:
    """Return the program with the value of its last statement printed, if that has one and is no call of `print`."""
    try:
        tree = ast.parse(program)
    except (SyntaxError, ValueError):
        return program
    last = tree.body[-1] if tree.body else None
    value = getattr(last, "value", None)
    if last is None or not isinstance(value, ast.expr):
        return program
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id.startswith("print"):
        return program
    last.value = ast.Call(ast.Name("print", ast.Load()), [value], [])  # type: ignore[attr-defined]
    return ast.unparse(ast.fix_missing_locations(tree))


def converted(printed: Any, expected_type: str) -> Any:
    """Return a printed value as one of Python, of the type with that name if it can be converted."""
    printed = _plain(printed)
    if type(printed).__name__ == expected_type or expected_type == "NoneType":
        return printed
    if expected_type == "bool":
        return str(printed)  # bool("False") is true
    with contextlib.suppress(Exception):
        return getattr(builtins, expected_type)(printed)
    return printed


def is_equal(value: Any, expected: Any) -> bool:
    """Return whether a converted value counts as the expected one."""
    if isinstance(expected, bool) and isinstance(value, str):
        return value == str(expected)
    if isinstance(expected, float) and isinstance(value, float):
        return abs(value - expected) < TOLERANCE
    return type(value) is type(expected) and bool(value == expected)


def _plain(value: Any) -> Any:
    """Return a value of NumPy or pandas as one of Python, and a list of tuples as one of lists."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.Series):
        value = value.to_numpy()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return value.tolist()
    if numpy is not None and isinstance(value, numpy.integer | numpy.floating | numpy.bool_):
        return value.item()
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return [list(part) for part in value]
    return value
