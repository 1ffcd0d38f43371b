"""What is exported: the float weights of a checkpoint's folder, or of an installed build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from attrs import evolve, frozen
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from codegen_lsp.checkpoints import agreement, store
from codegen_lsp.checkpoints.architecture import CODEGENS, Architecture
from codegen_lsp.checkpoints.checkpoint_source import read_source
from codegen_lsp.checkpoints.convert import describe
from codegen_lsp.checkpoints.export.build_weights import BuildWeights
from codegen_lsp.checkpoints.opening import TERM_FILES
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.vocabulary import load_tokenizer
from codegen_lsp.checkpoints.weights import Weights, check_shapes
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import METADATA, BuildInfo
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.progress import ProgressReport


@frozen(eq=False)
class ExportSource:
    """A model to be exported."""

    directory: Path
    info: BuildInfo
    architecture: Architecture
    """Of the weights, with the number of groups by which they are stored."""
    weights: Mapping[str, Tensor]
    """By their names in the checkpoint."""
    fast: FastTokenizer
    dequantized: bool
    """True for a build, whose weights are those of the checkpoint rounded to int8 or 4 bits."""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer as this project uses it: special tokens spelt out in a text are ordinary text."""
        copy = FastTokenizer.from_str(self.fast.to_str())
        copy.encode_special_tokens = True
        return Tokenizer(copy, self.info.vocabulary_size)

    @property
    def card_files(self) -> list[Path]:
        """The files with the terms of the model."""
        return [self.directory / name for name in TERM_FILES if (self.directory / name).is_file()]

    def logits(self, ids: list[int]) -> Tensor:
        """Return the float32 logits (tokens, vocabulary) of the reference forward pass."""
        reading = Reading(tuple(ids), self.architecture.qkv_groups)
        return float_logits(self.weights, self.architecture, [reading])[0][:, : self.info.vocabulary_size]


@contextmanager
def open_source(name_or_folder: str, name: str | None, progress: ProgressReport) -> Iterator[ExportSource]:
    """Open a checkpoint's folder, an installed model, or the folder of a build.

    `name` is the name of the exported model, by default that of the model or the folder. Raises: ModelError when there
    is no such model, it is damaged, or the name can't be one; ConversionError when the folder is not a CodeGen
    checkpoint's.
    """
    folder = Path(name_or_folder).expanduser()
    if (folder / "config.json").is_file() and not (folder / METADATA).is_file():
        with _open_checkpoint(folder, store.checked_name(name or folder.resolve().name), progress) as source:
            yield source
        return
    build = store.find(name_or_folder)
    if build.info.family not in CODEGENS:
        raise _not_exportable(build.info.name)
    weights = BuildWeights(build.path, build.info)
    _check_exportable(weights.architecture, build.info.name)
    yield ExportSource(
        build.path,
        evolve(build.info, name=store.checked_name(name or build.info.name)),
        weights.architecture,
        weights,
        load_tokenizer(build.path / "tokenizer.json"),
        dequantized=True,
    )


@contextmanager
def _open_checkpoint(folder: Path, name: str, progress: ProgressReport) -> Iterator[ExportSource]:
    """Open a checkpoint's folder, in the interpretation that fits its weights best, as for a conversion."""
    progress("reading the checkpoint", 0.0)
    read = read_source(folder, name)
    _check_exportable(read.architecture, name)
    alternatives = read.alternatives()
    readings = [one.reading(SNIPPET) for one in alternatives]
    with Weights(folder) as weights:
        check_shapes(weights, read.architecture.shapes())
        logits = float_logits(
            weights, read.architecture, readings, lambda done: progress("running the float model", 0.2 * done)
        )
        chosen = agreement.choose_reading(readings, logits)
        agreement.check_checkpoint(logits[chosen], readings[chosen].ids, f"The checkpoint in {folder}")
        right = alternatives[chosen]
        info = describe(right, name, folder.name, None)
        yield ExportSource(folder, info, right.architecture, weights, right.tokenizer, dequantized=False)


def _check_exportable(architecture: Architecture, name: str) -> None:
    """Raise ConversionError unless the model has one of CodeGen's blocks."""
    if not architecture.is_codegens:
        raise _not_exportable(name)


def _not_exportable(name: str) -> ConversionError:
    return ConversionError(
        f"{name} is not one of CodeGen's models, which alone can be exported.",
        "Other engines can run its checkpoint as it is.",
    )
