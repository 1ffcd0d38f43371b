"""The jails of sandboxed programs among this process's children, which other tests have, too: servers, say."""

from __future__ import annotations

import contextlib

import psutil

from codegen_lsp.sandbox.sandbox import JAIL


def running_jails() -> list[psutil.Process]:
    """Return the jails of this process that have started their program."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if str(JAIL) in child.cmdline() and child.children():
                found.append(child)
    return found
