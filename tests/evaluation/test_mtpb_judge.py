"""The judge of MTPB: which value is looked at, and when it counts as the expected one."""

from __future__ import annotations

import json
from collections import OrderedDict

import numpy as np
import pytest

from codegen_lsp.evaluation.mtpb_judge import complaint_about, converted, is_equal, report, with_print
from codegen_lsp.sandbox.remote_call import decode, encode

LAST_STATEMENTS = [
    ("x = 1\nprint(x)", "x = 1\nprint(x)"),
    ("def f():\n    return 1\nf()", "def f():\n    return 1\nprint(f())"),
    ("a.b['c'].d()", "print(a.b['c'].d())"),
    ("x = [1]", "x = print([1])"),
    ("x: int = 1", "x: int = print(1)"),
    ("pprint(x)", "print(pprint(x))"),
    ("print_it(x)", "print_it(x)"),
    ("def f():\n    return 1", "def f():\n    return 1"),
    ("for x in y:\n    x", "for x in y:\n    x"),
    ("import os", "import os"),
    ("x = (", "x = ("),
    ("", ""),
    ("# a comment", "# a comment"),
]


@pytest.mark.parametrize(("program", "expected"), LAST_STATEMENTS)
def test_the_last_value_is_printed(program: str, expected: str) -> None:
    assert with_print(program) == expected


EQUAL = [
    (1, 1),
    (1.0, 1),
    ("1", 1),
    (2.9, 2),
    (np.int64(3), 3),
    (np.float32(0.5), 0.5),
    (1.0000004, 1.0),
    (np.array([1, 2]), [1, 2]),
    ((1, 2), [1, 2]),
    ([(1, 2), (3, 4)], [[1, 2], [3, 4]]),
    ("abc", ["a", "b", "c"]),
    (5, "5"),
    (True, True),
    ("True", True),
    (np.bool_(False), False),
    ({"a": 1}, {"a": 1}),
    (OrderedDict(a=np.int64(1)), {"a": 1}),
    ([np.int64(1), np.float32(0.5)], [1, 0.5]),
    (range(3), [0, 1, 2]),
    (10**30, 10**30),
    (None, None),
]
DIFFERENT = [
    (1, 2),
    (1.1, 1.0),
    (1.000002, 1.0),
    ("x", 1),
    ([1, 2], [2, 1]),
    ([0.1 + 0.2], [0.3]),
    ("False", True),
    (1, True),
    (0, None),
    (None, "x"),
    ({"a": 1}, {"a": 2}),
    (np.array([1.0, np.nan]), [1.0, 2.0]),
]


def reported_as_equal(printed: object, expected: object) -> bool:
    """As between the sandbox and the judge."""
    return is_equal(decode(json.loads(json.dumps(encode(converted(printed, type(expected).__name__))))), expected)


@pytest.mark.parametrize(("printed", "expected"), EQUAL)
def test_values_that_count_as_equal(printed: object, expected: object) -> None:
    assert reported_as_equal(printed, expected)


@pytest.mark.parametrize(("printed", "expected"), DIFFERENT)
def test_values_that_do_not(printed: object, expected: object) -> None:
    assert not reported_as_equal(printed, expected)


@pytest.mark.parametrize(
    "program",
    [
        "print(7)",
        "print(7, 8, sep='')",
        "print(1)\nprint(7)",
        "def show():\n    print(7)\nshow()\nprint(7)",
        "print(7)\n1 / 0",
        "print(7)\nprint()",
        "7",
        "x = 3 + 4",
        "print(7)\nexit()",
    ],
)
def test_programs_that_print_it(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint_about(report(program, "int"), 7) == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(8)", "it prints 8, not 7"),
        ("x = 1\nif x: pass", "it prints nothing"),
        ("1 / 0", "ZeroDivisionError"),
        ("print(", "SyntaxError"),
        ("import sys\nsys.stdout.write('7')\nx = None", "it prints None"),
    ],
)
def test_programs_that_do_not(program: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reason in complaint_about(report(program, "int"), 7)
