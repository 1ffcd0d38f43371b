"""Say in plain English why the sandbox stopped a step."""

from __future__ import annotations

import re

from codegen_lsp.sandbox.sandbox import Limits

REASONS = (
    (r"MemoryError", "it needs more than the {memory} of memory that a program may use"),
    (r"BlockingIOError: \[Errno 11\]|RuntimeError: can't start new thread",
     "it tried to start another process or thread, which the sandbox does not allow"),
    (r"\w*Error: .*\[Errno 30\]", "it tried to write outside its own folder, which the sandbox does not allow"),
    (r"\w*Error: .*\[Errno (?:28|27)\]", "it wrote more than the {scratch} of files that a program may write"),
    (r"\w*[eE]rror: .*\[Errno (?:101|-2|-3)\]", "it tried to use the network, which the sandbox does not allow"),
    (r"PermissionError: \[Errno (?:1|13)\]", "it tried something that the sandbox does not allow"),
    (r"FileNotFoundError: \[Errno 2\] No such file or directory(?: \(line|$)",
     "it tried to share memory with another process, which the sandbox does not allow"),
    (r"FileNotFoundError: \[Errno 2\].*'", "there is no such file in the sandbox, where your files are hidden"),
    (r"EOFError: EOF when reading a line", "it asked for input, but nobody can type into a program in the sandbox"),
    (r"SystemExit", "it ended the program"),
    (r"RecursionError", "a function calls itself without an end, or too deeply"),
)  # fmt: skip
"""By a pattern at the beginning of an error's text, the reason; the first that fits counts. The numbers are those of
`errno` and of `socket.EAI_…` on Linux."""


def why_stopped(error: str, limits: Limits) -> str:
    """Return why the sandbox or its limits caused an error, as a sentence without its period; empty if they did not."""
    for pattern, reason in REASONS:
        if re.match(pattern, error):
            return reason.format(memory=_size(limits.memory_mb), scratch=_size(limits.scratch_mb))
    return ""


def _size(mebibytes: int) -> str:
    return f"{mebibytes >> 10} GiB" if mebibytes and not mebibytes % 1024 else f"{mebibytes} MiB"
