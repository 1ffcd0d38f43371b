"""Choice of the engine for a build, by name, platform and device. An engine is imported only when it is chosen."""

from __future__ import annotations

import ctypes
import logging
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from codegen_lsp.errors import ModelError, OtherEngineError
from codegen_lsp.inference.build import BuildInfo, check_files
from codegen_lsp.inference.engines.base import Engine, EngineConfig
from codegen_lsp.inference.engines.native import c_forward
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.tokenizer import Tokenizer

if TYPE_CHECKING:
    from codegen_lsp.inference.engines.ct2.engine import Ct2Engine
    from codegen_lsp.inference.engines.native.engine import NativeEngine

logger = logging.getLogger(__name__)

ENGINES = ("ct2", "native")
X86 = ("x86_64", "AMD64")
SMALL_CACHE_BYTES, CACHE_BYTES = 48 * 2**20, 256 * 2**20
"""Least size of the KV cache by default, for a small model and for others."""
MAX_THREADS = 8
"""Limit of the default. Decoding is bound by memory bandwidth, which fewer threads use up."""


def open_engine(params: LoadParams, directory: Path, info: BuildInfo, tokenizer: Tokenizer) -> Engine:
    """Open the engine that the parameters name; for `auto`, the faster one here that supports the model.

    Raises: ModelError when there is no such engine, or it can't run the build.
    """
    name = params.engine
    if name not in ("auto", *ENGINES):
        raise ModelError(f"There is no engine {name!r}.", f"Set `engine` to one of: auto, {', '.join(ENGINES)}.")
    cache_mb = params.cache_memory_mb
    config = EngineConfig(
        device=params.device,
        compute_type=params.compute_type,
        threads=params.threads or default_threads(),
        cache_bytes=default_cache_bytes(info, params.cached_prompts) if cache_mb is None else cache_mb * 2**20,
    )
    if name != "auto":
        return engine_class(name)(directory, info, tokenizer, config)
    only_native = info.bits != 8 and params.device in ("auto", "cpu")
    try:
        if only_native or suits_native(params.device):
            return engine_class("native")(directory, info, tokenizer, config)
    except OtherEngineError as error:
        if only_native:
            raise
        # Names and numbers that this engine does not know may also be damage, which CTranslate2 does not survive.
        check_files(directory, info)
        logger.warning("The engine is ct2, without n-grams: %s", error.message)
        engine = engine_class("ct2")(directory, info, tokenizer, config)
        engine.note = error.message
        return engine
    return engine_class("ct2")(directory, info, tokenizer, config)


def suits_native(device: str) -> bool:
    """Return whether the native engine is to run on this device: on a CPU that its library was compiled for.

    It is faster than CTranslate2 on x86-64 with AVX2 (`docs/lab.md`), and only it counts n-grams. It does not use CUDA.

    Raises: ModelError when the compiled library is that of another version.
    """
    if device not in ("auto", "cpu") or (device == "auto" and cuda_devices()):
        return False
    return c_forward.library() is not None or (platform.machine() in X86 and _torch_is_fast())


def _torch_is_fast() -> bool:
    """Return whether torch is installed and uses AVX2 or better. Only asked where there is no compiled library."""
    try:
        from codegen_lsp.inference.engines.native.torch_kernels import is_fast
    except ImportError:
        return False
    return is_fast()


def cuda_devices() -> int:
    """Return the number of CUDA devices that CTranslate2 finds, which is loaded only where there is a CUDA driver."""
    if not has_cuda_driver():
        return 0
    from codegen_lsp.inference.engines.ct2.devices import capabilities

    return capabilities().gpus


def has_cuda_driver() -> bool:
    """Return whether the library of NVIDIA's driver is installed. Without it no program can use CUDA."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def engine_class(name: str) -> type[Ct2Engine] | type[NativeEngine]:
    """Return the class of the engine of this name."""
    if name == "native":
        from codegen_lsp.inference.engines.native.engine import NativeEngine

        return NativeEngine
    from codegen_lsp.inference.engines.ct2.engine import Ct2Engine

    return Ct2Engine


def default_cache_bytes(info: BuildInfo, prompts: int = 0) -> int:
    """Return the default size of the KV cache, in bytes.

    It holds two prompts of the full context, at least 256 MiB and at most a quarter of the memory. A cache smaller than
    a prompt would make every request compute its whole prompt again. A small model computes a prompt in a fraction of a
    second, mostly while the user is idle, so its cache holds one, at least 48 MiB. Several users are never idle
    together: `prompts` is the number of prompts that it holds at least.
    """
    context = info.context_length * info.token_values * 4
    memory: int = psutil.virtual_memory().total
    wanted = max(context, SMALL_CACHE_BYTES) if info.small else max(2 * context, CACHE_BYTES)
    return min(max(wanted, prompts * context), memory // 4)


def default_threads() -> int:
    """Return the number of physical cores that this process may use, at most 8."""
    return max(1, min(usable_cores(), MAX_THREADS))


def usable_cores() -> int:
    """Return the number of physical cores, fewer if the process is bound to some of them."""
    cores: int = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    try:
        bound = len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no affinity
        return cores
    return min(cores, bound)
