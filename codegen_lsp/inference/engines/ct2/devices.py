"""Devices and compute types that CTranslate2 supports on this machine."""

from __future__ import annotations

import ctranslate2
from attrs import frozen

from codegen_lsp.errors import ModelError


@frozen
class Capabilities:
    """Compute types that CTranslate2 supports here, by device, and the number of CUDA devices."""

    cpu: list[str]
    cuda: list[str]
    gpus: int


def capabilities() -> Capabilities:
    """Ask CTranslate2 for the capabilities of this machine."""
    gpus: int = ctranslate2.get_cuda_device_count()
    cuda = sorted(ctranslate2.get_supported_compute_types("cuda")) if gpus else []
    return Capabilities(sorted(ctranslate2.get_supported_compute_types("cpu")), cuda, gpus)


def resolve_device(device: str) -> str:
    """Return `cpu` or `cuda` for `auto`, `cpu` or `cuda`.

    Raises: ModelError when CUDA is asked for and there is no CUDA device.
    """
    gpus = ctranslate2.get_cuda_device_count()
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise ModelError("No CUDA device was found.", "Set `device` to `auto` or `cpu`, or install the CUDA driver.")
    return device


def resolve_compute_type(compute_type: str, device: str) -> str:
    """Return the compute type to use: for `auto`, int8, on CUDA with float16 around it.

    Raises: ModelError when the device does not support the type.
    """
    supported = ctranslate2.get_supported_compute_types(device)
    if compute_type == "auto":
        return "int8_float16" if device == "cuda" and "int8_float16" in supported else "int8"
    if compute_type not in supported:
        raise ModelError(
            f"The compute type {compute_type!r} is not supported on {device} here.",
            f"Set `compute_type` to `auto` or one of: {', '.join(sorted(supported))}.",
        )
    return compute_type
