"""Run an untrusted function and its tests in two confined processes, so that the function can't forge the verdict.

The tests call the function over a pair of sockets, on which only plain values go. So the program that defines it sees
neither the tests nor the values that they expect, and what it changes in its own interpreter (builtins, the class of a
result, the streams) has no effect on them. It passes only by returning what the tests ask for.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import evolve

from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict, run_program

REMOTE_CALL = Path(__file__).with_name("remote_call.py")
TEST_SECONDS = 60.0
"""Seconds that tests may take beyond the time of the function, which also ends the tests."""


def run_function_tests(
    program: str,
    name: str,
    before: str,
    tests: str,
    limits: Limits,
    confinement: Confinement = "namespaces",
    *,
    hidden: Sequence[Path] = (),
) -> Verdict:
    """Return the verdict on the function `name` that `program` defines.

    `before` and `tests` are one program, in whose second part that name is bound to the function; the tests pass if it
    ends without an exception. The time limit is that of the function's program, its calls included. Its arguments are
    copies. Raises: SandboxError.
    """
    library = f"exec(compile({REMOTE_CALL.read_text('utf-8')!r}, 'remote_call', 'exec'), globals())\n"
    tests_end, program_end = socket.socketpair()
    with tests_end, program_end, ThreadPoolExecutor(1) as pool:
        served = f"{library}serve({program!r}, {name!r}, {program_end.fileno()})\n"
        # The greeting of `connect` begins the time of the program.
        asked = (
            f"{library}names = {{'__name__': '__main__'}}\n"
            f"exec(compile({before!r}, '<tests>', 'exec'), names)\n"
            f"names[{name!r}] = connect({tests_end.fileno()})\n"
            f"exec(compile({tests!r}, '<tests>', 'exec'), names)\n"
        )

        def run_tests() -> Verdict:
            with tests_end:  # the program ends when this is closed
                longer = evolve(limits, seconds=limits.seconds + TEST_SECONDS)
                return run_program(asked, longer, confinement, hidden=hidden, channel=tests_end.fileno())

        testing = pool.submit(run_tests)
        try:
            with program_end:
                ran = run_program(served, limits, confinement, hidden=hidden, channel=program_end.fileno(), awaits=True)
        finally:
            verdict = testing.result()
    return Verdict("timeout", ran.detail) if ran.kind == "timeout" and verdict.kind != "passed" else verdict
