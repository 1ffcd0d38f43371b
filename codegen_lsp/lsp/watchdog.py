"""Ends the process when it can no longer end itself.

Two things keep a process from it: a thread that waits for ever, as for the end of a device, and code that keeps the
interpreter's lock, as a regular expression does; then no other Python code runs, signal handlers included. So the exit
does not wait for threads, the end of the input and signals start a timer of the kernel, and another one counts the
processor time since the event loop was last seen. (Wall time would also count while the process is suspended.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import NoReturn

EXIT_TIMEOUT = 10.0
"""Seconds from the end of the input, or a signal, to the end of the process; closing everything takes less."""
CPU_SECONDS = 60.0
"""Processor time without a turn of the event loop after which the kernel ends the process."""
HEARTBEAT = 5.0
"""Seconds between two turns that are reported to the kernel."""


def end_process(exit_code: int) -> NoReturn:
    """Exit without waiting for threads, which may never end."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(exit_code)


def end_process_later(seconds: float = EXIT_TIMEOUT) -> None:
    """End the process after some seconds, by a signal, unless it has ended before. May be called by any thread."""
    if hasattr(signal, "setitimer"):
        # Nothing handles SIGALRM, so the kernel ends the process.
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()


@contextlib.asynccontextmanager
async def guarded_event_loop() -> AsyncIterator[None]:
    """Have the kernel end the process if the event loop stands still for `CPU_SECONDS` of processor time."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    async def beat() -> None:
        while True:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            await asyncio.sleep(HEARTBEAT)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        signal.setitimer(signal.ITIMER_PROF, 0)
