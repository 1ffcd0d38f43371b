"""Judge a program of the Multi-Turn Programming Benchmark, inside the sandbox.

The source of this module is sent to the sandbox with a call of `judge`, so it uses the standard library only, and NumPy
and pandas where the program loaded them. The rules are those of the benchmark's own judge (Nijkamp et al.,
2023; `mtpb_exec.py` of the CodeGen repository): if the last statement prints nothing, its value is printed; then the
first argument of the last call of `print` is converted to the type of the expected value and compared with it. The
program may fail after it.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import sys
from typing import Any

TOLERANCE = 1e-6
"""Difference of two floats that counts as none."""


def judge(program: str, expected: object) -> None:
    """Run the program. Raises AssertionError when it prints another value than `expected`, or none."""
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
    assert printed, failure or "it prints nothing"
    assert is_equal(printed[-1], expected), f"it prints {printed[-1]!r:.80}, not {expected!r:.80}"


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


def is_equal(printed: Any, expected: Any) -> bool:
    """Return whether a printed value counts as the expected one."""
    printed = _plain(printed)
    if type(printed) is not type(expected):
        if isinstance(expected, bool):
            printed, expected = str(printed), str(expected)  # bool("False") is true
        elif expected is None:
            return False
        else:
            with contextlib.suppress(Exception):
                printed = type(expected)(printed)
    if isinstance(expected, float) and isinstance(printed, float):
        return abs(printed - expected) < TOLERANCE
    return type(printed) is type(expected) and bool(printed == expected)


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
