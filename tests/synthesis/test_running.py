"""Turns in the sandbox, hostile ones among them."""

from __future__ import annotations

import asyncio
import sysconfig
import time
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.examples import examples_in
from codegen_lsp.synthesis.running import LIMITS, ProgramRun, TurnRunner, ValueTable
from tests.children import running_jails

RUNNER = TurnRunner(evolve(LIMITS, seconds=20.0))
SMALL = TurnRunner(evolve(LIMITS, seconds=60.0, memory_mb=512, scratch_mb=2))
BRIEF = TurnRunner(evolve(LIMITS, seconds=5.0, memory_mb=512, scratch_mb=2))


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


STOPPED = {
    "while True: pass": "it ran for more than 5 s and was stopped",
    "import time\ntime.sleep(60)": "it ran for more than 5 s and was stopped",
    "import signal\nsignal.pause()": "it ran for more than 5 s and was stopped",
    "while True: print('x' * 1000)": "it ran for more than 5 s and was stopped",
    "class A:\n    def __repr__(self):\n        while True: pass\nA()": "it ran for more than 5 s and was stopped",
    "import os\nwhile True: os.fork()": "it tried to start another process or thread",
    "import subprocess\nsubprocess.run(['ls'])": "it tried to start another process or thread",
    "import threading\nthreading.Thread(target=print).start()": "it tried to start another process or thread",
    "import multiprocessing\nmultiprocessing.Pool(2)": "it tried to share memory with another process",
    "open('/etc/codegen-lsp', 'w')": "it tried to write outside its own folder",
    "import shutil\nshutil.rmtree('/usr')": "it tried to write outside its own folder",
    "open('/home/somebody/.ssh/id_rsa')": "there is no such file in the sandbox, where your files are hidden",
    "import os\nopen(os.path.expanduser('~/x'), 'w')": "there is no such file in the sandbox",
    "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)": "it tried to use the network",
    "import socket\nsocket.create_connection(('example.com', 22), 1)": "it tried to use the network",
    "import urllib.request\nurllib.request.urlopen('http://example.com')": "it tried to use the network",
    "import os\nos.chroot('/')": "it tried something that the sandbox does not allow",
    "x = []\nwhile True: x.append(bytearray(1 << 24))": "it needs more than the 512 MiB of memory",
    "x = 'a' * (1 << 45)": "it needs more than the 512 MiB of memory",
    "f = open('turn-1-x', 'wb', 0)\nwhile True: f.write(bytes(1 << 16))": "it wrote more than the 2 MiB of files",
    "import os\nos._exit(0)": "it ended the program (by a crash, or by os._exit)",
    "import os\nos.abort()": "it ended the program (by a crash, or by os._exit)",
    "import os\nos.closerange(0, 100)": "it ended the program (by a crash, or by os._exit)",
    "import os\nos.execv('/bin/sh', ['sh'])": "it ended the program (by a crash, or by os._exit)",
    "import ctypes\nctypes.string_at(0)": "it ended the program (by a crash, or by os._exit)",
    "import sys\nsys.exit(3)": "it ended the program: SystemExit: 3 (line 2)",
    "class E(Exception):\n    def __str__(self): raise ValueError\nraise E": "it ended the program",
    "raise KeyboardInterrupt": "KeyboardInterrupt (line 1)",
    "input('Name? ')": "it asked for input, but nobody can type into a program in the sandbox",
    "def f(): return f()\nf()": "a function calls itself without an end, or too deeply",
    "x = []\nfor _ in range(10 ** 5): x = [x]\nrepr(x)": "a function calls itself without an end, or too deeply",
}
"""Programs, and the beginning of the reason for which they failed."""


@pytest.mark.parametrize("code", STOPPED)
def test_a_turn_that_misbehaves_is_stopped_with_a_clear_word(code: str) -> None:
    found = run(code, runner=BRIEF if "s and was stopped" in STOPPED[code] else SMALL)
    assert found.reason.startswith(STOPPED[code])
    assert found.kind == ("timeout" if "s and was stopped" in found.reason else "failed")


HARMLESS = {
    "class A:\n    def __repr__(self): raise ValueError\nA()": "<A: its repr fails with ValueError>",
    "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)": "",
    "import sys\nsys.stdin.read()": "''",
    "import os\nos.system('ls') != 0": "True",
    "print('\\x1b[2J\\x1b]0;title\\a\\x9b31m')": "\\x1b[2J\\x1b]0;title\\x07\\x9b31m",
    "print('shown\\rimport os')": "import os",
    "print('a\\r\\nb\\r\\u202ec\\ud800')": "a\n\\u202ec\\ud800",
    "print('a\\x0cb\\x00')": "a\\x0cb\\x00",
}
"""Programs that go on, and their texts."""


@pytest.mark.parametrize("code", HARMLESS)
def test_a_turn_can_not_change_what_reads_its_output(code: str) -> None:
    found = run(code, runner=SMALL)
    assert (found.kind, found.last.text) == ("ran", HARMLESS[code])


def test_an_error_can_not_break_out_of_a_comment() -> None:
    found = run("raise ValueError('\\x1b[31m\\rimport os')", runner=SMALL)
    assert found.last.text == found.reason == "ValueError: \\x1b[31m\\rimport os (line 1)"


def test_what_came_before_a_hang_is_kept() -> None:
    found = run("print('first')", "while True: pass", runner=BRIEF)
    assert found.kind == "timeout"
    assert [turn.text for turn in found.turns] == ["first", "it ran for more than 5 s and was stopped"]


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
    while not (jails := running_jails()):
        await asyncio.to_thread(time.sleep, 0.01)
    programs = jails[0].children()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await asyncio.to_thread(psutil.wait_procs, [*jails, *programs], 60))[1] == []


def test_packages_are_found_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(sysconfig.get_paths()["purelib"])
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path / "link")})
    runner = TurnRunner(RUNNER.limits)
    assert run("import numpy as np", "int(np.eye(2).sum())", runner=runner).last.value == "2"


def test_forged_reports_do_no_harm() -> None:
    forged = "open('reports.jsonl', 'a').write('[' * 10**5 + chr(10) + '{\"turn\": 0}' + chr(10) + '7')"
    assert run(forged).kind in ("ran", "failed")


STOPPED_AFTER_PRINTING = {
    "print('before')\nwhile True: pass": "before\nit ran for more than 5 s and was stopped",
    "print('before')\nimport os\nos._exit(0)": "before\nit ended the program (by a crash, or by os._exit)",
    "print('\\x1b[2J\\rbefore')\nwhile True: pass": "before\nit ran for more than 5 s and was stopped",
}


@pytest.mark.parametrize("code", STOPPED_AFTER_PRINTING)
def test_what_a_stopped_turn_printed_is_kept(code: str) -> None:
    assert run("print('above')", code, runner=BRIEF).last.text == STOPPED_AFTER_PRINTING[code]


def test_of_a_stopped_flood_the_beginning_is_kept() -> None:
    output = run("while True: print('x' * 1000)", runner=BRIEF).last.output
    assert output.startswith("x" * 1000 + "\n")
    assert output.endswith("\n[and more]")
    assert len(output) < 20_100


FILLS = "file = open('data', 'wb', buffering=0)\ntry:\n    while True: file.write(b'x' * 1024)\nexcept OSError: pass\n"
FILES = {
    "for n in range(40): open(f'data-{n}.csv', 'w').write('1')\n": RUNNER,
    "open('data.bin', 'wb').write(bytes(20 << 20))\n": RUNNER,
    FILLS: SMALL,
}


@pytest.mark.parametrize("code", FILES)
def test_files_of_a_program_do_not_hide_what_it_did(code: str) -> None:
    found = run(f"{code}'done'", runner=FILES[code])
    assert (found.kind, found.last.value) == ("ran", "'done'")


def test_pictures_of_the_last_turn_come_first() -> None:
    above = "for n in range(40): open(f'turn-1-{n}.csv', 'w').write('1')"
    assert list(run(above, "open('turn-2-x.csv', 'w').write('1')").last.files) == ["turn-2-x.csv"]


@pytest.mark.parametrize("code", ["exit()", "quit()"])
def test_leaving_early_is_explained(code: str) -> None:
    assert run(code).reason == "it ended the program: SystemExit (line 1)"


def test_bytes_can_be_printed() -> None:
    assert run("import sys\nsys.stdout.buffer.write(b'caf\\xc3\\xa9\\n')\nNone").last.text == "café"
