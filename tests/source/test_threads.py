"""Parsing in several threads at once, in a process of its own: a mistake here ends it with a segmentation fault.

It runs for a few seconds; CODEGEN_LSP_THREAD_SECONDS makes it longer.
"""

from __future__ import annotations

import os
import subprocess
import sys

SECONDS = os.environ.get("CODEGEN_LSP_THREAD_SECONDS", "3")

PROGRAM = """
import sys, threading, time
from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.parse_tree import edited, errors, parsed

sys.setswitchinterval(1e-5)
counts, failures = [0, 0], []


def parse(thread):
    text = "class A:\\n" + "".join(f"    def f{n}(self):\\n        return [{n}, (x,)]\\n" for n in range(300))
    end = time.monotonic() + float(sys.argv[1])
    try:
        while time.monotonic() < end:
            number = counts[thread]
            tree = parsed(f"{text}# {thread} {number}\\n", LANGUAGES["python"])
            assert tree is not None and errors(tree) == 0
            changed = edited(tree, 6, 7, "B" * thread + "(")
            assert changed is not None and errors(changed) > 0
            counts[thread] += 1
    except BaseException as error:
        failures.append(error)


threads = [threading.Thread(target=parse, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
print(*counts)
"""


def test_two_threads_parse_at_once() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM, SECONDS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert min(map(int, result.stdout.split())) > 0
