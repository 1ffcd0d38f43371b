"""`codegen-lsp/modelAdvice`: which model suits this machine.

The machine is measured only when the params ask for it, by a command of the user: in another process, with low
priority, which the editor can cancel.
"""

from __future__ import annotations

import asyncio

from codegen_lsp.advice.advising import MachineAdvice, advise
from codegen_lsp.advice.measurement import MachineMeasurement, MeasurementParams, kept
from codegen_lsp.checkpoints.catalogue import checkpoints
from codegen_lsp.checkpoints.store import installed
from codegen_lsp.lsp.extensions import ModelAdviceParams
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.lsp.session import Session


async def model_advice(session: Session, params: ModelAdviceParams) -> MachineAdvice:
    """`codegen-lsp/modelAdvice`. Raises: ModelError when the machine can't be measured."""
    settings = session.settings
    asked = MeasurementParams(settings.engine, settings.device, settings.compute_type, settings.threads)
    async with session.measuring:
        measurement = None if params.measure == "again" else await asyncio.to_thread(kept, asked)
        if measurement is None and params.measure != "no":
            measurement = await _measure(session, asked)
    model = session.status.current.model
    return await asyncio.to_thread(_advise, measurement, model.name if model else None)


async def _measure(session: Session, params: MeasurementParams) -> MachineMeasurement:
    """Measure this machine, with a progress by which the user can cancel it."""

    def cancel() -> None:
        task.cancel()

    progress = WorkProgress(session.editor, session.background, "Measuring this machine", cancel)
    task = asyncio.ensure_future(session.measure_machine(params, progress.report))
    try:
        return await task
    finally:
        progress.end("")


def _advise(measurement: MachineMeasurement | None, running: str | None) -> MachineAdvice:
    import psutil

    free = psutil.virtual_memory().available / 2**20
    return advise(measurement, installed(), checkpoints(), free, running)
