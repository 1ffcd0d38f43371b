"""Convert a checkpoint's folder, or a GGUF file, to a verified int8 CTranslate2 build.

`checkpoint_source` reads all but the weights. Of their possible interpretations the one that predicts code best is
written (`ct2_writer`), and the build compared with the float model.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
import psutil
import torch

from codegen_lsp.checkpoints import agreement, store
from codegen_lsp.checkpoints.architecture import CODEGENS, Architecture
from codegen_lsp.checkpoints.build_losses import native_logits
from codegen_lsp.checkpoints.card_metadata import read_card_metadata
from codegen_lsp.checkpoints.catalogue import look_up
from codegen_lsp.checkpoints.checkpoint_source import CheckpointSource, read_source
from codegen_lsp.checkpoints.ct2_writer import write_model
from codegen_lsp.checkpoints.infill_formats import begin_of, infill_format
from codegen_lsp.checkpoints.new_build import new_build, part_of
from codegen_lsp.checkpoints.opening import TERM_FILES, DescribedSource, describe_source, is_gguf
from codegen_lsp.checkpoints.quantize import install_made
from codegen_lsp.checkpoints.reference import float_logits
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.checkpoints.vocabulary import vocabulary_size
from codegen_lsp.checkpoints.weights import check_shapes
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import METADATA, BuildInfo, Verification, read_info, write_info
from codegen_lsp.progress import ProgressReport

GIBIBYTE = 1 << 30


def convert_checkpoint(
    source: Path,
    output: Path,
    *,
    name: str,
    progress: ProgressReport | None = None,
    origin: str | None = None,
    terms: Path | None = None,
) -> BuildInfo:
    """Convert a checkpoint's folder, or a GGUF file, to an int8 build at `output`, and verify it.

    `name` is the name of the build. Licence and languages are the catalogue's if it has that name, else those of the
    folder's model card (README.md), or for a GGUF file those of the card in the folder `terms`, if given. `origin` is
    the source that build.json states, by default the folder's name. The build appears complete or not at all, and
    replaces an existing one.

    Raises ConversionError when the folder is incomplete, damaged, or not a CodeGen model, when memory does not suffice,
    or when the build does not agree with the float model.
    """
    report = progress or (lambda message, fraction: None)
    report("reading the checkpoint", 0.0)
    with describe_source(source, terms) as described:
        return _convert(described, output, name, report, origin or source.name)


def _convert(source: DescribedSource, output: Path, name: str, report: ProgressReport, origin: str) -> BuildInfo:
    read = read_source(source.folder, name)
    check_memory(read.architecture)
    alternatives = read.alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    with new_build(output) as partial:
        with source.open_weights(read.architecture, scratch=output.parent) as weights:
            check_shapes(weights, read.architecture.shapes())
            running = part_of(report, "running the float model", 0.02, 0.4)
            logits = float_logits(weights, read.architecture, readings, running)
            chosen = agreement.choose_reading(readings, logits)
            agreement.check_checkpoint(logits[chosen], readings[chosen].ids, f"The checkpoint in {source.path}")
            read = alternatives[chosen]
            write_model(weights, read, partial, part_of(report, "quantizing", 0.4, 0.9))
        # The library has no class of its own for the error of a full disk.
        (partial / "tokenizer.json").write_text(read.tokenizer.to_str(pretty=True), encoding="utf-8")
        for file in TERM_FILES:
            if (source.folder / file).is_file():
                shutil.copyfile(source.folder / file, partial / file)
        report("comparing the build with the float model", 0.9)
        built = build_logits(partial, readings[chosen].ids)
        figures = agreement.compare(built, readings, logits, chosen, "The build")
        write_info(partial, describe(read, name, origin, figures))
    report("done", 1.0)
    return read_info(output)


def convert_into_store(
    source: Path, *, name: str | None = None, group: int | None = None, progress: ProgressReport | None = None
) -> InstalledBuild:
    """Convert a checkpoint's folder, or a GGUF file, and install the build in the user's store.

    By default it gets the folder's name, or the file's without its suffix. With `group` its weights have 4 bits, in
    groups of this many, and the default name ends accordingly.

    Raises ConversionError as `convert_checkpoint` and `quantize_build` do, and ModelError when the store can't be
    written to.
    """
    given = name or (source.stem if is_gguf(source) else source.resolve().name)
    given = given if group is None else store.int8_name(given)
    entry = look_up(given)
    chosen = store.checked_name(entry.name if entry else given)
    with store.workspace(chosen) as folder:
        convert_checkpoint(source, folder / "build", name=chosen, progress=progress)
        return install_made(folder / "build", chosen, group, progress)


def check_memory(architecture: Architecture) -> None:
    """Raise ConversionError when free memory does not suffice to convert a model of this architecture."""
    needed, available = architecture.conversion_bytes, psutil.virtual_memory().available
    if needed > available:
        raise ConversionError(
            f"Converting this model takes {needed / GIBIBYTE:.1f} GiB of memory, {available / GIBIBYTE:.1f} are free.",
            "Close other programs, or convert it on a larger machine and copy the build.",
        )


def describe(read: CheckpointSource, name: str, origin: str, figures: Verification | None) -> BuildInfo:
    """Return the content of build.json, but for the list of files."""
    card = read_card_metadata(read.directory)
    infill = infill_format(read.tokenizer, codegens=read.family in CODEGENS)
    return BuildInfo(
        name=name,
        family=read.family,
        source=origin,
        license=read.entry.license if read.entry else card.license,
        context_length=read.architecture.context,
        vocabulary_size=vocabulary_size(read.tokenizer),
        layers=read.architecture.layers,
        heads=read.architecture.heads,
        width=read.architecture.width,
        end_of_text=read.end,
        languages=list(read.entry.languages if read.entry else card.languages),
        infill=(read.entry.infill if read.entry else None) or infill.style,
        infill_end=infill.end,
        infill_marks=infill.marks,
        file_marks=infill.files,
        ends=infill.ends,
        begin=begin_of(read.tokenizer),
        kv_width=read.architecture.kv_width,
        converter=f"ctranslate2 {ctranslate2.__version__}",
        verification=figures,
    )


def build_logits(build: Path, ids: Sequence[int]) -> torch.Tensor:
    """Return float32 logits (tokens, rows) of a build, computed on the CPU by CTranslate2, or in 4 bits by the native
    engine.

    Raises ConversionError when CTranslate2 can't load or run the build, ModelError when the native engine can't.
    """
    if (build / METADATA).is_file() and read_info(build).bits != 8:
        return torch.from_numpy(native_logits(build, ids))
    threads = max(1, min(8, psutil.cpu_count(logical=False) or 1))
    try:
        generator = ctranslate2.Generator(str(build), device="cpu", compute_type="default", intra_threads=threads)
        output = np.array(generator.forward_batch([list(ids)]), dtype=np.float32)
    except (RuntimeError, ValueError) as error:
        raise ConversionError(f"{build} can't be run: {error}.", "Convert the checkpoint again.") from error
    return torch.from_numpy(output[0])
