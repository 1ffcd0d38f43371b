"""A checkpoint's folder: its architecture, its tokenizer, and the entry of the catalogue, read without the weights."""

from __future__ import annotations

from pathlib import Path

import attrs
from tokenizers import Tokenizer

from codegen_lsp.checkpoints import agreement
from codegen_lsp.checkpoints.architecture import Architecture, Family, read_architecture
from codegen_lsp.checkpoints.catalogue import Checkpoint, look_up
from codegen_lsp.checkpoints.reference import Reading
from codegen_lsp.checkpoints.vocabulary import (
    build_tokenizers,
    check_tokenizer,
    end_of_text,
    family_of,
    without_additions,
)
from codegen_lsp.errors import ConversionError


@attrs.frozen
class CheckpointSource:
    """A checkpoint's folder, and the interpretation of its weights and tokens."""

    directory: Path
    architecture: Architecture
    family: Family
    tokenizers: tuple[Tokenizer, ...]
    """The declared tokenizer, then another possible one where the folder leaves it open."""
    entry: Checkpoint | None
    """The catalogue's entry for the checkpoint, if any."""

    @property
    def tokenizer(self) -> Tokenizer:
        return self.tokenizers[0]

    @property
    def end(self) -> int:
        """Id of the token that ends a document."""
        return end_of_text(self.tokenizer, self.directory)

    def alternatives(self) -> list[CheckpointSource]:
        """Return all possible interpretations of the checkpoint, this one first."""
        groupings = agreement.possible_groupings(self.architecture.qkv_groups, self.architecture.heads)
        return [
            attrs.evolve(self, architecture=attrs.evolve(self.architecture, qkv_groups=groups), tokenizers=(tokenizer,))
            for tokenizer in self.tokenizers
            for groups in groupings
        ]

    def reading(self, text: str) -> Reading:
        """Return the input of the reference forward pass for a text."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return Reading(tuple(ids), self.architecture.qkv_groups)


def read_source(source: Path, name: str) -> CheckpointSource:
    """Read everything but the weights of a checkpoint's folder.

    Raises ConversionError when it is not a checkpoint's, or not that of the catalogue's entry `name`.
    """
    entry = look_up(name)
    architecture = read_architecture(source)
    if entry is not None:
        declared = attrs.evolve(architecture, qkv_groups=entry.architecture.qkv_groups)
        if declared != entry.architecture:
            raise ConversionError(
                f"{source} is not {entry.name}: its config.json declares {_differences(declared, entry.architecture)}.",
                "Give the build another name with --name.",
            )
        architecture = declared
    tokenizers = build_tokenizers(source, architecture)
    if entry is not None and entry.variant == "nl":
        tokenizers = [without_additions(tokenizers[0])]
    family = family_of(architecture, tokenizers[0])
    if entry is not None and entry.family != family:
        raise ConversionError(
            f"{source} is not {entry.name}: its tokenizer is that of {family}.",
            "Use the tokenizer files of the checkpoint itself.",
        )
    for tokenizer in tokenizers:
        check_tokenizer(tokenizer, family, source, architecture.rows)
    return CheckpointSource(source, architecture, family, tuple(tokenizers), entry)


def _differences(found: Architecture, expected: Architecture) -> str:
    pairs = attrs.asdict(found).items() ^ attrs.asdict(expected).items()
    names = sorted({name for name, _ in pairs})
    return ", ".join(f"{name} {getattr(found, name)} instead of {getattr(expected, name)}" for name in names)
