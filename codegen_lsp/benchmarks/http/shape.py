"""The throughput of this project's server on random weights in a model's shape, and of llama.cpp's server on the same.

llama.cpp gets the build as a GGUF file in Q8_0, the nearest to int8 that it has: blocks of 32 weights with one scale.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from codegen_lsp.benchmarks.http.served import ServedModel, llama_server_command, own_command, served
from codegen_lsp.benchmarks.http.throughput import PROMPT_TOKENS, WANTED, ThroughputFigures, measure_throughput
from codegen_lsp.benchmarks.memory import write_shape
from codegen_lsp.inference.engines.factory import default_threads
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

OURS, THEIRS = "codegen-lsp", "llama-server"
SLOT_TOKENS = 2 * (PROMPT_TOKENS + WANTED)
"""Context of each slot of llama.cpp's server; a prompt may have a few tokens more than were drawn."""


def measure_shape(
    shape: str,
    embedded: Path,
    llama_server: Path | None,
    *,
    requests: int,
    rounds: int,
    threads: int,
    report: ProgressReport,
) -> ThroughputFigures:
    """Measure a shape, or a build given by its folder, whose tokenizer is that of the embedded model.

    With `llama_server`, this program is measured as well. Raises: ModelError, ConversionError, RemoteError.
    """
    threads = threads or default_threads()
    with TemporaryFolder() as folder, contextlib.ExitStack() as stack:
        report(f"Writing a build of the shape {shape}", 0.0)
        place = folder / "build"
        place.mkdir()
        build = write_shape(shape, embedded, place)
        if llama_server is not None:
            report("Writing its weights for llama.cpp", 0.0)
            gguf = _export(build, folder / "gguf")
        own = own_command(str(build), threads)
        servers: list[ServedModel] = [stack.enter_context(served(OURS, own, own=True))]
        if llama_server is not None:
            command = llama_server_command(llama_server, gguf, threads, requests, SLOT_TOKENS)
            servers.append(stack.enter_context(served(THEIRS, command, own=False)))
        return measure_throughput(servers, build, requests, rounds, threads, report)


def _export(build: Path, folder: Path) -> Path:
    from codegen_lsp.checkpoints.export.export import export_model

    export_model(str(build), "gguf", folder, weights="q8_0", name="random", verify=False)
    return next(folder.glob("*.gguf"))
