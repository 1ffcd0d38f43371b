"""A measurement with chosen numbers, and models to advise about."""

from __future__ import annotations

from attrs import evolve

from codegen_lsp.advice.measurement import MachineMeasurement, MeasurementParams
from codegen_lsp.advice.speed import MachineSpeed, PassSpeed
from codegen_lsp.checkpoints.catalogue import Checkpoint, resolve


def speed_of(bandwidth: float, operations: float) -> MachineSpeed:
    """A machine that reads `bandwidth` bytes of weights a second, and multiplies `operations` weights a second."""
    step = PassSpeed(1 / bandwidth, 0, 0, 0, 0)
    return MachineSpeed(step=step, typed=evolve(step, layer=1e-5), prompt=PassSpeed(1 / operations, 0, 0, 0, 0))


def measurement(bandwidth: float = 40e9, operations: float = 500e9, **changes: object) -> MachineMeasurement:
    """A measurement of such a machine."""
    made = MachineMeasurement(
        key=MeasurementParams().key,
        finished="2026-01-02T03:04:05+00:00",
        engine="native",
        device="cpu",
        threads=2,
        speeds={"8": speed_of(bandwidth, operations)},
        processors=2,
    )
    return evolve(made, **changes)


def entries(*names: str) -> list[Checkpoint]:
    """These entries of the catalogue."""
    return [resolve(name) for name in names]
