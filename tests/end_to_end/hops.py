"""Follows a request through the modules of codegen_lsp, in both processes.

A hop is a call from one module into another, or the first entry into a module. No hops are: continuing a coroutine,
starting a task or a thread within a module that was entered before, and calling a local function that was handed down.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType

import codegen_lsp

PACKAGE = str(Path(codegen_lsp.__file__).parent)


class HopRecorder:
    """A profile function that records the functions by which modules are entered from other modules."""

    def __init__(self) -> None:
        self.hops: list[str] = []
        """As `package.module:Class.function`, in order."""
        self._entered: set[str] = set()
        self._frames: dict[int, FrameType] = {}
        """Frames that were seen. They are kept, so that an id stands for one frame."""

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or id(frame) in self._frames:
            return
        module = module_of(frame)
        if module is None or "<" in frame.f_code.co_qualname:
            return
        self._frames[id(frame)] = frame
        caller = frame.f_back
        while caller is not None and module_of(caller) is None:
            caller = caller.f_back
        came_from = module_of(caller) if caller is not None else None
        if came_from != module and (came_from is not None or module not in self._entered):
            self._entered.add(module)
            self.hops.append(f"{module}:{frame.f_code.co_qualname}")

    def start(self) -> None:
        """Record in this thread, and in those that are started later."""
        threading.setprofile(self)
        sys.setprofile(self)

    def stop(self) -> None:
        """Record no longer in this thread."""
        threading.setprofile(None)
        sys.setprofile(None)


def module_of(frame: FrameType) -> str | None:
    """Return the module below codegen_lsp that a frame belongs to; None for other code."""
    path = frame.f_code.co_filename
    return path[len(PACKAGE) + 1 : -len(".py")].replace("/", ".") if path.startswith(PACKAGE) else None
