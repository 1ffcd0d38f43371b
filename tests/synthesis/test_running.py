"""Turns in the sandbox, hostile ones among them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.examples import examples_in
from codegen_lsp.synthesis.running import LIMITS, ProgramRun, TurnRunner, ValueTable

RUNNER = TurnRunner(evolve(LIMITS, seconds=20.0))
BRIEF = TurnRunner(evolve(LIMITS, seconds=2.0, memory_mb=512, scratch_mb=2))


HANGS = "import time\nwhile True: time.sleep(60)"

pytestmark = pytest.mark.usefixtures("sandbox")


def run(*codes: str, request: str = "", head: str = "", runner: TurnRunner = RUNNER) -> ProgramRun:
    turns = [DialogueTurn(f"turn {number}", code) for number, code in enumerate(codes[:-1])]
    return runner.run(Dialogue(head, (*turns, DialogueTurn(request, codes[-1]))), examples_in(request))


def test_each_turn_tells_what_it_did() -> None:
    found = run("x = [1, 2]\nprint('made', x)", "sum(x) + y", head="y = 1")
    assert found.kind == "ran"
    assert [turn.text for turn in found.turns] == ["made [1, 2]", "4"]
    assert [turn.value for turn in found.turns] == ["", "4"]
    assert run("__name__, __file__").last.value == "('__main__', 'program.py')"


def test_examples_are_tried() -> None:
    assert run("def f(x):\n    return x * 2", request="f(2) → 4").kind == "right"
    found = run("def f(x):\n    return x * 3", request="f(2) → 4")
    assert (found.kind, found.reason) == ("contradicts", "f(2) → 4, but it gives 6")
    found = run("def f(x):\n    return x.y", request="f(2) → 4")
    assert found.reason.startswith("f(2) → 4, but it gives AttributeError")
    assert run("x = [5]", "sum(x)", request="`x = [1, 2]` → `3`").kind == "right"
    assert run("x = [5]", "total = sum(x)", request="`x = [1, 2]` → `3`").kind == "right"
    assert run("x = [5]", "print(sum(x))", request="`x = [1, 2]` → `3`").kind == "right"
    assert run("x = [5]", "sum(x) + 1", request="`x = [1, 2]` → `3`").kind == "contradicts"
    assert run("import numpy as np", "np.array(x) / 3", request="`x = [1, 2]` → `[1 / 3, 2 / 3]`").kind == "right"


def test_an_error_names_the_turn_and_the_line() -> None:
    found = run("x = 1", "y = 2\n\nx / 0")
    assert (found.kind, found.reason) == ("failed", "ZeroDivisionError: division by zero (line 3)")
    assert found.last.error == found.reason
    assert run("def f():\n    return g()", "f()").reason == "NameError: name 'g' is not defined (line 1)"
    assert run("x = (", "1").reason == "turn 1: SyntaxError: '(' was never closed (line 1)"
    found = run("1 / 0", "print('below')")
    assert (found.above, found.last.text) == (True, "turn 1: ZeroDivisionError: division by zero (line 1)")
    assert run("1", head="1 / 0").reason.startswith("above the first turn: ZeroDivisionError")


HOSTILE = {
    "while True: pass": "it ran for more than 2 s and was stopped",
    "import os\nwhile True: os.fork()": "BlockingIOError",
    "open('/etc/codegen-lsp', 'w')": "OSError",
    "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)": "OSError",
    "x = []\nwhile True: x.append(bytearray(1 << 24))": "MemoryError",
    "f = open('turn-1-x', 'wb', 0)\nwhile True: f.write(bytes(1 << 16))": "OSError",
    "import os\nos._exit(0)": "it ended the program",
    "import sys\nsys.exit(3)": "SystemExit: 3",
    "import ctypes\nctypes.string_at(0)": "it ended the program",
    "class A:\n    def __repr__(self): raise ValueError\nA()": "",
    "import sys\nsys.setrecursionlimit(10 ** 6)\ndef f(): f()\nf()": "",
}


@pytest.mark.parametrize("code", HOSTILE)
def test_a_turn_that_misbehaves_is_stopped_with_a_clear_word(code: str) -> None:
    found = run(code, runner=BRIEF)
    assert HOSTILE[code] in found.reason
    assert found.kind != "right"


def test_what_came_before_a_hang_is_kept() -> None:
    found = run("print('first')", "while True: pass", runner=BRIEF)
    assert found.kind == "timeout"
    assert [turn.text for turn in found.turns] == ["first", "it ran for more than 2 s and was stopped"]


def test_output_is_bounded() -> None:
    found = run("for _ in range(100_000): print('x' * 100)")
    assert found.kind == "ran"
    assert len(found.last.output) < 21_000
    assert "more characters" in found.last.output


def test_files_of_a_turn_are_returned(tmp_path: Path) -> None:
    found = run("open('turn-1-table.csv', 'w').write('a,b')", "open('other', 'w').write('x')")
    assert found.turns[0].files == {"turn-1-table.csv": b"a,b"}
    assert found.turns[1].files == {}


def test_plots_are_pictures() -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib (extra plot) is not installed")
    found = run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    (picture,) = found.last.files.values()
    assert picture.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("code", "heads", "rows"),
    [
        ("[{'a': 1, 'b': 'x'}, {'a': 2.5}]", ["a", "b"], [["1", "x"], ["2.5", ""]]),
        ("[(1, 'one'), (2, 'two')]", [], [["1", "one"], ["2", "two"]]),
        ("{'pears': 3, 'plums': None}", [], [["pears", "3"], ["plums", "None"]]),
        ("import numpy\nnumpy.eye(2)", [], [["1", "0"], ["0", "1"]]),
    ],
)
def test_values_that_are_tables(code: str, heads: list[str], rows: list[list[str]]) -> None:
    table = run(code).last.table
    assert table == ValueTable(heads, rows)


@pytest.mark.parametrize(
    "code", ["[1, 2]", "[[1], [2]]", "[[1, 2], [3]]", "{'a': 1}", "{'a': [1], 'b': 2}", "[]", "'ab'"]
)
def test_values_that_are_no_tables(code: str) -> None:
    assert run(code).last.table is None


def test_a_long_table_is_cut() -> None:
    table = run("[[n, 'x' * 300] + [0] * 40 for n in range(1000)]").last.table
    assert table is not None
    assert (len(table.rows), len(table.rows[0]), table.dropped) == (50, 20, 950)
    assert table.rows[0][1] == "x" * 200 + "…"


@pytest.mark.parametrize(
    "table", ["7", "{}", '{"heads": 1, "rows": [], "dropped": 0}', '{"heads": [], "rows": [1], "dropped": 0}']
)
def test_a_forged_table_is_none(table: str) -> None:
    report = f'{{"turn": 2, "error": "", "table": {table}}}\n'
    forged = f"import os\nopen('reports.jsonl', 'a').write({report!r})\nos._exit(0)"
    assert all(turn.table is None for turn in run("1", forged).turns)


async def test_a_cancelled_run_ends_its_program() -> None:
    running = asyncio.ensure_future(RUNNER.run_cancellable(Dialogue("", (DialogueTurn("wait", HANGS),))))
    while not (jails := [one for one in psutil.Process().children() if one.children()]):
        await asyncio.to_thread(time.sleep, 0.01)
    programs = jails[0].children()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await asyncio.to_thread(psutil.wait_procs, [*jails, *programs], 60))[1] == []


def test_forged_reports_do_no_harm() -> None:
    forged = "open('reports.jsonl', 'a').write('[' * 10**5 + chr(10) + '{\"turn\": 0}' + chr(10) + '7')"
    assert run(forged).kind in ("ran", "failed")
