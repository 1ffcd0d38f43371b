"""Open a source of weights for conversion: the folder of a checkpoint, or a GGUF file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.weights import CheckpointWeights, Weights
from codegen_lsp.errors import ConversionError
from codegen_lsp.temporary_folder import TemporaryFolder

if TYPE_CHECKING:
    from codegen_lsp.checkpoints.gguf_source.header import GgufHeader, Metadata


TERM_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "README.md")
"""Files with the terms of a checkpoint."""


@frozen
class DescribedSource:
    """A source of weights, with the files that describe them."""

    path: Path
    """The folder, or the GGUF file."""
    folder: Path
    """Folder with config.json, the tokenizer's files and, for a checkpoint's folder, the weights."""
    header: GgufHeader | None = None

    def open_weights(self, architecture: Architecture, scratch: Path | None = None) -> CheckpointWeights:
        """Open the weights.

        With `scratch`, a folder, weights that had to be dequantized are kept in temporary files there until they are
        closed. Raises ConversionError when weights are damaged, or that folder's disk is too full.
        """
        if self.header is None:
            return Weights(self.folder)
        from codegen_lsp.checkpoints.gguf_source.weights import GgufWeights

        return GgufWeights(self.header, architecture, scratch)


def is_gguf(source: Path) -> bool:
    """Return whether a source is a single file, which has to be in GGUF."""
    return source.is_file()


@contextmanager
def describe_source(source: Path, terms: Path | None = None) -> Iterator[DescribedSource]:
    """Yield a source with the folder that describes it.

    A checkpoint's folder describes itself; for a GGUF file see `describe_gguf`. Raises ConversionError when the file is
    damaged, or its model is not supported.
    """
    if not is_gguf(source):
        yield DescribedSource(source, source)
        return
    from codegen_lsp.checkpoints.gguf_source.header import read_header

    with describe_gguf(read_header(source), terms) as described:
        yield described


@contextmanager
def describe_gguf(header: GgufHeader, terms: Path | None = None) -> Iterator[DescribedSource]:
    """Yield a GGUF file with a temporary folder that describes it.

    That has what the file declares: config.json, tokenizer.json, tokenizer_config.json, and a model card. With `terms`,
    the card and the licence are those in that folder. Errors name the file. Raises ConversionError when its model is
    not supported, or the temporary folder can't be written to.
    """
    from codegen_lsp.checkpoints.gguf_source.description import declared_config
    from codegen_lsp.checkpoints.gguf_source.tokenizer import declared_tokenizer, end_token

    source = header.path
    config, tokenizer, end = declared_config(header), declared_tokenizer(header), end_token(header)
    # The library has no class of its own for the error of a full disk, so it does not write the file.
    texts = {
        "config.json": json.dumps(config),
        "tokenizer.json": tokenizer.to_str(),
        "README.md": _card(header.metadata),
    }
    if end is not None:
        texts["tokenizer_config.json"] = json.dumps({"eos_token": end})
    with _temporary_folder(source) as folder:
        with _errors_of_the_disk(source):
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            if terms is not None:
                for name in filter(lambda name: (terms / name).is_file(), TERM_FILES):
                    shutil.copyfile(terms / name, folder / name)
        try:
            yield DescribedSource(source, folder, header)
        except ConversionError as error:
            message, advice = (text.replace(str(folder), str(source)) for text in (error.message, error.advice))
            raise ConversionError(message, advice) from error


@contextmanager
def _temporary_folder(source: Path) -> Iterator[Path]:
    """Yield a temporary folder, which is deleted afterwards. Raises ConversionError when there can't be one."""
    with _errors_of_the_disk(source):
        folder = TemporaryFolder()
    with folder:
        yield folder.path


@contextmanager
def _errors_of_the_disk(source: Path) -> Iterator[None]:
    """Raise ConversionError in place of an OSError while the description of a GGUF file is written."""
    try:
        yield
    except OSError as error:
        raise ConversionError(
            f"The description of {source} could not be written to the folder of temporary files: {error}.",
            "Make room there, or set TMPDIR to another folder.",
        ) from error


def _card(metadata: Metadata) -> str:
    """Return a model card that states licence and tags of a GGUF file. JSON is YAML."""
    stated = {"license": metadata.get("general.license"), "tags": metadata.get("general.tags")}
    name = " ".join(str(metadata.get("general.name", "A model")).split())
    return f"---\n{json.dumps(stated)}\n---\n# {name}\n\nConverted from a GGUF file.\n"
