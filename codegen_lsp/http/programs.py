"""Programs of the users of the HTTP server: run in the sandbox, few at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from codegen_lsp.errors import CodegenError
from codegen_lsp.sandbox.sandbox import Limits, ProgramStoppedError, SandboxError
from codegen_lsp.synthesis.dialogue import Dialogue
from codegen_lsp.synthesis.examples import Example
from codegen_lsp.synthesis.running import ProgramRun, ProgramRunner, TurnRunner

LIMITS = Limits(seconds=10.0, memory_mb=2048, scratch_mb=64, output_bytes=0, file_bytes=8 << 20)
PROGRAMS_AT_ONCE = 2
"""Programs of all users that run at the same time; others wait. Each takes a core, and memory up to the limit."""


class SharedRunner:
    """Runs the programs of all users, in the order in which they are asked for."""

    def __init__(self, runner: ProgramRunner | None = None, at_once: int = PROGRAMS_AT_ONCE) -> None:
        self._runner = runner or TurnRunner(LIMITS)
        self._free = asyncio.Semaphore(at_once)
        self._works = False

    async def run_cancellable(self, dialogue: Dialogue, examples: Sequence[Example] = ()) -> ProgramRun:
        """Run a dialogue when it is its turn. Cancelling the caller ends the program.

        Raises: SandboxError when programs can't be confined on this system.
        """
        async with self._free:
            return await self._runner.run_cancellable(dialogue, examples)

    async def unavailable(self) -> str:
        """Return why programs can't be confined on this system; empty if they can. Runs one to find out."""
        if self._works:
            return ""
        try:
            await self.run_cancellable(Dialogue())
        except (SandboxError, ProgramStoppedError) as error:
            return _reason(error)
        self._works = True
        return ""


def _reason(error: CodegenError) -> str:
    """Return the message without the advice, which is for the command line."""
    return error.message
