"""Parsing a suspicious text in a process of its own first, which can be killed.

tree-sitter asks every hundred operations whether to go on, but a single one may take minutes: at the end of the text,
the recovery from an error copies all that was skipped. It holds the interpreter's lock meanwhile, so no thread could
stop it.

`python -m codegen_lsp.source.trial GRAMMAR` parses its standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys

from codegen_lsp import python_path

CPU_SECONDS = 1
"""Processor time of a trial, with its start (0.1 s)."""
TIMEOUT = 10.0
"""Wall time, for a machine that is busy."""


def passes(raw: bytes, grammar: str) -> bool:
    """Return whether another process parses a text in good time."""
    command = [sys.executable, "-P", "-m", "codegen_lsp.source.trial", grammar]
    try:
        done = subprocess.run(
            command,
            input=raw,
            env=python_path.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> None:
    """Parse the standard input; the kernel ends the process if that takes too long."""
    with contextlib.suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    python_path.prefer_own_packages()
    import tree_sitter

    grammar = tree_sitter.Language(importlib.import_module(sys.argv[1]).language())
    tree_sitter.Parser(grammar).parse(sys.stdin.buffer.read())


if __name__ == "__main__":
    main()
