"""Start the process that measures this machine (`measuring`), read its progress, and keep its result.

It has the environment of a worker. It ends with the task that waits for it, or with this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import cattrs

from codegen_lsp.advice.measurement import MachineMeasurement, MeasurementParams, keep
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.client.launch import worker_environment
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

logger = logging.getLogger(__name__)

COMMAND = ("-P", "-X", "utf8", "-m", "codegen_lsp.advice.measuring")
LONGEST_LINE = 1 << 22


async def measure_machine(
    params: MeasurementParams, report: ProgressReport = lambda message, fraction: None, *, builds: bool = True
) -> MachineMeasurement:
    """Measure this machine in another process, and keep the result. Cancelling ends the process.

    Raises: ModelError when the machine can't be measured.
    """
    with TemporaryFolder() as folder:
        task = {"params": cattrs.unstructure(params), "folder": str(folder), "builds": builds}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *COMMAND),
                env=worker_environment(),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                limit=LONGEST_LINE,
            )
        except OSError as error:
            raise ModelError(
                f"The process that measures can't be started: {error}.", "Reinstall codegen-lsp."
            ) from error
        try:
            measured = await _result_of(process, json.dumps(task), report)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    await asyncio.to_thread(keep, measured)
    return measured


async def _result_of(process: Process, task: str, report: ProgressReport) -> MachineMeasurement:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{task}\n".encode())
    while line := await process.stdout.readline():
        try:
            read = json.loads(line)
            if "measurement" in read:
                return cattrs.structure(read["measurement"], MachineMeasurement)
            if "error" in read:
                raise ModelError(str(read["error"]), str(read.get("advice", "")))
            report(str(read["message"]), float(read["fraction"]))
        except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
            logger.warning("The process that measures wrote a line that is not understood: %s", error)
    code = await process.wait()
    raise ModelError(f"The process that measures this machine ended with status {code}.", "Measure again.")
