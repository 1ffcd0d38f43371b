"""Run an untrusted program that reports something, which the caller judges outside of its process."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict, run_program

MAX_REPORT = 1 << 22
"""Bytes of a report."""


def run_reporting(
    program: Callable[[int], str],
    limits: Limits,
    confinement: Confinement = "namespaces",
    shown: Sequence[Path] = (),
    *,
    hidden: Sequence[Path] = (),
) -> tuple[Verdict, bytes]:
    """Return the verdict on a program, and the bytes that it wrote to the file descriptor of which it is made.

    Of more than `MAX_REPORT` bytes, only the first are read. Raises: SandboxError.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read_all, ours)
        try:
            text = program(theirs.fileno())
            verdict = run_program(text, limits, confinement, shown, hidden=hidden, channel=theirs.fileno())
        finally:
            theirs.close()
            report = reading.result()
    return verdict, report


def _read_all(source: socket.socket) -> bytes:
    found = bytearray()
    with source:
        while len(found) < MAX_REPORT and (piece := source.recv(1 << 16)):
            found += piece
    return bytes(found)
