"""A function that is judged by tests in another process: right ones pass, and no trick does."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from codegen_lsp.sandbox.function_tests import run_function_tests
from codegen_lsp.sandbox.remote_call import OpaqueValue, decode, encode
from codegen_lsp.sandbox.reporting import MAX_REPORT, run_reporting
from codegen_lsp.sandbox.sandbox import Limits, Verdict, run_program

LIMITS = Limits(seconds=60.0, memory_mb=512, scratch_mb=2)
BEFORE = "import math\n\ndef add(a, b):\n    pass\n\ndef twice(x):\n    return 2 * x\n"
TESTS = "def check(candidate):\n    for x in range(3):\n        assert candidate(x, twice(2)) == x + 4\ncheck(add)\n"


pytestmark = pytest.mark.usefixtures("sandbox")


def judge(program: str) -> Verdict:
    return run_function_tests(program, "add", BEFORE, TESTS, LIMITS)


def test_a_right_function_passes() -> None:
    assert judge("def add(a, b):\n    return a + b\n") == Verdict("passed")
    assert judge("import sys\nprint('noise')\ndef add(a, b):\n    print('more')\n    return a + b\n").kind == "passed"


EQUAL_TO_ALL = "class Equal:\n    def __eq__(self, other): return True\n    def __len__(self): return 0\n"
FRAMES = (
    "import sys\nframe = sys._getframe()\nwhile frame:\n"
    "    for name, value in list(frame.f_locals.items()):\n"
    "        if isinstance(value, bytes) and len(value) == 16: mark = value\n"
    "    frame = frame.f_back\n"
)
CHANNELS = "import os\nfor number in range(3, 64):\n    try: os.write(number, {})\n    except OSError: pass\n"
TRICKS = {
    "a result that equals everything": EQUAL_TO_ALL + "def add(a, b): return Equal()\n",
    "an integer that equals everything": (
        "class Equal(int):\n    def __eq__(self, other): return True\n    __ne__ = None\n"
        "def add(a, b): return Equal(0)\n"
    ),
    "its own check": "def check(candidate): pass\ndef add(a, b): return 0\n",
    "no assertions": "import builtins\nbuiltins.AssertionError = ZeroDivisionError\ndef add(a, b): return 0\n",
    "an overwritten compile": "import builtins\nbuiltins.exec = lambda *_: None\ndef add(a, b): return 0\n",
    "the mark in a frame": FRAMES + CHANNELS.format("mark") + "import os\nos._exit(0)\n",
    "bytes into all channels": CHANNELS.format("b'passed\\n'") + "def add(a, b): return 0\n",
    "a forged verdict": CHANNELS.format("""b'{"verdict": "passed", "detail": ""}'""") + "import os\nos._exit(0)\n",
    "forged answers": CHANNELS.format("""b'["returned", 4]\\n' * 3""") + "import os\nos._exit(0)\n",
    "an answer that never ends": CHANNELS.format("b'[' * (1 << 16)") * 3,
    "deep nesting": CHANNELS.format("b'[' * 60000 + b'\\n'") + "def add(a, b): return 0\n",
    "a value that is no value": CHANNELS.format("""b'["returned", ["os", "system"]]\\n'"""),
    "an early exit": "import sys\nsys.exit(0)\n",
    "an exit in the function": "def add(a, b):\n    import os\n    os._exit(0)\n",
    "an exit at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef add(a, b): return 0\n",
    "a fork": "import os\ndef add(a, b):\n    os.fork()\n    return a + b\n",
    "a full disk": "def add(a, b):\n    open('x', 'wb').write(bytes(1 << 26))\n    return a + b\n",
    "full memory": "def add(a, b):\n    return [0] * (1 << 40)\n",
    "a socket": "import socket\ndef add(a, b):\n    socket.create_connection(('127.0.0.1', 1))\n",
    "an endless list": "def add(a, b):\n    x = []\n    x.append(x)\n    return x\n",
    "the parent killed": "import os, signal\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)\ndef add(a, b): return 0\n",
    "a patched channel": (
        "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_globals['encode'] = lambda value: ['any']\n"
        "    frame = frame.f_back\ndef add(a, b): return 0\n"
    ),
    "nothing": "",
    "no program": "def add(a, b",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_no_trick_passes(trick: str) -> None:
    assert judge(TRICKS[trick]).kind == "failed"


@pytest.mark.slow
@pytest.mark.parametrize(
    "body", ["while True: pass", "import time; time.sleep(60)", "return iter(int, 1)", "import signal; signal.pause()"]
)
def test_a_function_that_hangs_is_ended(body: str) -> None:
    verdict = run_function_tests(f"def add(a, b):\n    {body}\n", "add", BEFORE, TESTS, Limits(seconds=1.0))
    assert verdict.kind in ("timeout", "failed")


def test_tests_and_expected_values_are_not_in_the_process_of_the_program(tmp_path: Path) -> None:
    """It looks for a text of the tests in its whole memory, where the sandbox shows it that, and in a hidden folder."""
    (tmp_path / "answers").write_text("x")
    program = (
        "import gc, os, sys\n"
        "known = [repr(one) for one in gc.get_objects() if isinstance(one, (str, list, dict, tuple))]\n"
        "text = ''.join(reversed('dlot si ti'))\n"
        f"seen = any(text in one for one in known) or os.path.exists({str(tmp_path / 'answers')!r})\n"
        "def seen_it(): return seen\n"
    )
    tests = "assert seen_it() is False, 'it is told'\n"
    assert run_function_tests(program, "seen_it", "", tests, Limits(seconds=30.0), hidden=[tmp_path]).kind == "passed"


def test_hidden_folders_are_empty() -> None:
    """For a folder that is no home and not temporary."""
    program = "import os\nassert os.listdir('/usr/share') == []\n"
    assert run_program(program).kind == "failed"
    assert run_program(program, hidden=[Path("/usr/share")]).kind == "passed"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(10**40), 10**5000, 1.5, float("inf"), "é\ud800\n", b"\x00", 1j),
        *([1, (2, {3})], {"a": [1], (1, 2): None}, frozenset({1}), Decimal("1.5"), Fraction(1, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_arrive(value: object) -> None:
    found = decode(json.loads(json.dumps(encode(value))))
    assert found == value
    assert type(found) is type(value)


def test_subclasses_arrive_as_what_they_extend() -> None:
    pair = namedtuple("pair", "a b")(1, 2)
    for value in (Counter("aab"), OrderedDict(a=1), pair):
        assert decode(encode(value)) == value
    assert type(decode(encode(pair))) is tuple


def test_other_values_arrive_as_their_items_and_text() -> None:
    found = decode(encode(range(3)))
    assert isinstance(found, OpaqueValue)
    assert (list(found), str(found), bool(found)) == ([0, 1, 2], "range(0, 3)", True)
    assert found != range(3)
    with pytest.raises(TypeError, match="not iterable"):
        list(decode(encode(object())))
    assert list(decode(encode(one for one in "ab"))) == ["a", "b"]


@pytest.mark.parametrize(
    "found", [["os", "system"], [1], {"a": 1}, ["list", 1], ["int", "x"], ["dict", [[["list", []], 1]]]]
)
def test_other_messages_are_refused(found: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        decode(found)


def test_exceptions_of_the_function_are_told_and_can_be_expected() -> None:
    tests = (
        "try:\n    add(1, 0)\nexcept ZeroDivisionError as error:\n    assert 'zero' in str(error)\nelse: assert False\n"
    )
    assert run_function_tests("def add(a, b): return a / b\n", "add", "", tests, LIMITS).kind == "passed"
    assert judge("def add(a, b): raise KeyError('k')\n").detail.startswith("KeyError")
    assert judge("class E(Exception): pass\ndef add(a, b): raise E('k')\n").detail == "RuntimeError: E: k"


def test_a_report_is_read_up_to_its_limit() -> None:
    verdict, report = run_reporting(lambda descriptor: f"import os\nos.write({descriptor}, b'abc')\n", LIMITS)
    assert (verdict.kind, report) == ("passed", b"abc")
    endless = "import os\nwhile True: os.write({}, bytes(1 << 16))\n"
    verdict, report = run_reporting(endless.format, LIMITS)
    assert verdict.kind == "failed"
    assert len(report) >= MAX_REPORT
