"""Child processes of this one by their command line: modules of tests that ran before have left others, servers say."""

from __future__ import annotations

import contextlib

import psutil

from codegen_lsp.sandbox.sandbox import JAIL


def children_with(word: str) -> list[psutil.Process]:
    """Return the children that have a word in their command line; none that has ended, waited for or not."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if word in child.cmdline():
                found.append(child)
    return found


def running_jails() -> list[psutil.Process]:
    """Return the jails of sandboxed programs that have started their program."""
    return [jail for jail in children_with(str(JAIL)) if jail.children()]
