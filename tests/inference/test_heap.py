"""What happens to freed memory in a process with the environment of a worker."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from codegen_lsp.inference.client.launch import worker_environment

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")

PROGRAM = """
import threading
import numpy as np
import psutil
from codegen_lsp.inference import heap

process = psutil.Process()
def grown(): return (process.memory_info().rss - start) / 2**20

def use():  # arrays of growing sizes, each freed when the next one is full, as cached prefixes are
    kept = None
    for size in range(2, 24, 2):
        kept = np.ones(size * 2**17)

{before}
start = process.memory_info().rss
threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
freed = grown()
small = [np.ones(2**12) for _ in range(1500)]
kept = small[::50]
del small
scattered = grown()
heap.trim()
print(freed, scattered, grown())
"""


def measured(before: str = "") -> list[float]:
    program = PROGRAM.replace("{before}", before)
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=worker_environment(), capture_output=True, text=True, check=True)
    return [float(number) for number in result.stdout.split()]


def test_large_arrays_go_back_to_the_system_and_trimming_returns_the_rest() -> None:
    """In MiB: 22 are freed last; then 47 of small arrays, of which one in 50 is kept."""
    freed, scattered, trimmed = measured()
    assert freed < 8
    assert scattered > 40
    assert trimmed < scattered - 30


def test_ctranslate2_keeps_what_it_frees() -> None:
    freed, _, _ = measured("heap.keep_freed_memory()")
    assert freed > 15
