"""Export a model to a new folder: check room, write to a temporary folder, compare with the source, move in place."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import psutil
from attrs import frozen

from codegen_lsp.checkpoints.export.blocks import exported_shapes
from codegen_lsp.checkpoints.export.checks import ExportCheck, check_gguf_file, check_transformers_folder
from codegen_lsp.checkpoints.export.gguf_vocabulary import gguf_vocabulary
from codegen_lsp.checkpoints.export.source import ExportSource, open_source
from codegen_lsp.checkpoints.export.transformers_folder import SHARD_BYTES, write_transformers_folder
from codegen_lsp.checkpoints.export.types import TORCH_TYPES, Target, checked_type, matrix_bytes
from codegen_lsp.errors import ConversionError
from codegen_lsp.progress import ProgressReport
from codegen_lsp.temporary_folder import TemporaryFolder

GIBIBYTE = 1 << 30
ROOM = 16 << 20
"""Bytes for the tokenizer's and other small files."""


@frozen
class Exported:
    """A finished export."""

    path: Path
    """The folder of transformers, or the GGUF file."""
    weights: str
    """Type of the matrices."""
    bytes: int
    check: ExportCheck | None
    """None if the model was not run in the other engine."""
    warnings: tuple[str, ...]


def export_model(
    model: str,
    target: Target,
    folder: Path,
    *,
    weights: str | None = None,
    name: str | None = None,
    verify: bool = True,
    progress: ProgressReport | None = None,
) -> Exported:
    """Export a checkpoint's folder or an installed build to a folder that must not exist, or be empty.

    `weights` is the type of the matrices, and `name` the model's name in the exported files. The folder appears
    complete, and compared with its source, or not at all. Raises: ConversionError when the folder is not empty, memory
    or disk do not suffice, or the exported model does not compute what its source computes; ModelError when there is no
    such model.
    """
    report = progress or (lambda message, fraction: None)
    output = folder.expanduser().absolute()
    _check_free(output)
    with open_source(model, name, report) as source:
        own = None if source.dequantized else source.weights[next(iter(exported_names(source)))].dtype
        kind = checked_type(target, weights, own)
        _check_room(source, target, kind, output, verify=verify)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryFolder(".exporting-", output.parent) as temporary:
                made = temporary / output.name
                made.mkdir()
                done = _write(source, target, made, kind, verify=verify, report=report)
                size = sum(file.stat().st_size for file in made.iterdir())
                _check_free(output)
                if output.exists():
                    output.rmdir()
                made.rename(output)
        except OSError as error:
            raise ConversionError(
                f"The model could not be exported to {output}: {error}.", "Make room there, or choose another folder."
            ) from error
    report("done", 1.0)
    path, check, warnings = done
    return Exported(output / path, kind, size, check, tuple(warnings))


def exported_names(source: ExportSource) -> list[str]:
    """Return the names of a source's matrices."""
    return [name for name, shape in source.architecture.shapes().items() if len(shape) == 2]


def _write(
    source: ExportSource, target: Target, folder: Path, kind: str, *, verify: bool, report: ProgressReport
) -> tuple[str, ExportCheck | None, list[str]]:
    """Write and check all files; return the name of the main one (empty for the folder), the check, and warnings."""
    warnings = []
    if source.dequantized:
        warnings.append(
            f"{source.info.name} is a build of {source.info.bits} bits: the exported weights are its rounded ones, not "
            "those of the checkpoint that it was made from."
        )
    for file in source.card_files:
        shutil.copyfile(file, folder / file.name)
    check: ExportCheck | None = None

    def on_weight(share: float) -> None:
        report("writing the weights", 0.2 + 0.5 * share)

    if target == "phi":
        write_transformers_folder(source, folder, kind, on_weight)
        if verify:
            report("comparing with transformers", 0.7)
            check = check_transformers_folder(source, folder, kind)
        return "", check, warnings
    from codegen_lsp.checkpoints.export.gguf_file import write_gguf_file

    vocabulary = gguf_vocabulary(source)
    path = folder / f"{source.info.name}-{kind}.gguf"
    write_gguf_file(source, vocabulary, path, kind, on_weight)
    if not vocabulary.exact:
        warnings.append(
            "llama.cpp has no pre-tokenizer like this model's: it cuts deep indentations into other tokens, which the "
            "model has seldom seen."
        )
    if source.info.infill == "suffix-first":
        warnings.append(
            "The model infills after `<fim_suffix>…<fim_prefix>…` and knows no `<fim_middle>`, which llama-server's "
            "/infill appends: send such a prompt to /completion instead."
        )
    if verify and importlib.util.find_spec("llama_cpp") is None:
        warnings.append("llama-cpp-python is not installed, so the file was not run in llama.cpp.")
    elif verify:
        report("comparing with llama.cpp", 0.7)
        threads = max(1, min(8, psutil.cpu_count(logical=False) or 1))
        check = check_gguf_file(source, path, kind, exact=vocabulary.exact, threads=threads)
    return path.name, check, warnings


def _check_free(output: Path) -> None:
    """Raise ConversionError when something would be overwritten."""
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() or output.is_symlink():
        raise ConversionError(f"{output} exists, and nothing is overwritten.", "Choose another folder, or remove it.")


def _check_room(source: ExportSource, target: Target, kind: str, output: Path, *, verify: bool) -> None:
    """Raise ConversionError when the disk or the memory does not suffice."""
    shapes = exported_shapes(source)
    if target == "gguf":
        size = sum(matrix_bytes(shape, kind) for shape in shapes.values())
    else:
        size = TORCH_TYPES[kind].itemsize * source.architecture.parameters
    place = next(folder for folder in (output, *output.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if size + ROOM > free:
        raise ConversionError(
            f"The exported model takes {size / GIBIBYTE:.1f} GiB on disk; {free / GIBIBYTE:.1f} are free in {place}.",
            "Make room there, or choose another folder.",
        )
    largest = max(shape[0] * shape[1] for shape in shapes.values() if len(shape) == 2)
    writing = 3 * 4 * largest + (min(size, SHARD_BYTES) if target == "phi" else 0)
    running = 4 * source.architecture.parameters if target == "phi" else size
    needed, available = max(writing, running if verify else 0), psutil.virtual_memory().available
    if needed > available:
        reason = "Comparing" if verify and running > available else "Writing"
        raise ConversionError(
            f"{reason} the exported model takes {needed / GIBIBYTE:.1f} GiB of memory, {available / GIBIBYTE:.1f} are "
            "free.",
            "Close other programs, or export it on a larger machine"
            + ("; --no-verify writes it without comparing it." if writing <= available else "."),
        )
