"""A build: a directory with an int8 CTranslate2 model, its tokenizer, and its description, `build.json`.

`build.json` is written when a checkpoint is converted. It holds what engines and server need before the weights are
read (context length, infill format, ids that are padding), and the size of each file, so that a truncated copy is
recognised at once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import cattrs
from attrs import Factory, field, frozen

from codegen_lsp.errors import ModelError

METADATA = "build.json"
MIXING = "mixing.json"
"""Weights of the n-grams that were fitted on a user's files, if any (`engines.native.mixing_file`)."""
INT8_FORMAT, FORMAT = 1, 2
"""Formats of `build.json`: of int8 builds, and of those with 4-bit weights, which older versions can't run."""

DEFAULT_INCREASE = 0.01
"""Relative increase of the loss over int8, with its margin, below which a 4-bit build may be chosen by default."""

GROUPS = (32, 64)
"""Columns of a 4-bit matrix that share a scale."""

SMALL_MODEL_PARAMETERS = 100_000_000
"""Parameters below which a model counts as small. With the setting `auto`, a small model gets all of n-gram mixing,
whose gain shrinks as models grow (Hellendoorn and Devanbu, 2017), and no text after the cursor, which saves the
embedded model, of 7 million parameters, no keys. Both were measured for small models alone (`docs/lab.md`)."""

InfillStyle = Literal["none", "suffix-first", "mask", "prefix-first"]
"""Format of a prompt with the text after the cursor.

`suffix-first`: `<fim_suffix>` suffix `<fim_prefix>` prefix; the answer continues the prefix, so that typing only
appends. `mask`: CodeGen2's prefix `<mask_1>` suffix `<|endoftext|><sep><mask_1>`, answered up to `<eom>`."""

CONVERT_AGAIN = "Pull or convert the model again."


@frozen
class BuildFile:
    """Size and SHA-256 of one file of a build."""

    bytes: int
    sha256: str


@frozen
class Verification:
    """Comparison of the build with the float model, on a snippet of source code."""

    tokens: int
    agreement: float
    """Share of positions at which both have the same most likely next token; of a 4-bit build, with the int8 build."""
    float_loss: float
    """Mean cross-entropy in nats per token."""
    build_loss: float
    int8_loss: float | None = None
    """Of the int8 build that a 4-bit build was made from."""


@frozen
class InfillMarks:
    """The special tokens of an infill format that has one for each part."""

    prefix: str
    suffix: str
    middle: str
    """Precedes the answer."""


@frozen
class WeightFormat:
    """How the matrices of a build are stored."""

    bits: int
    """8 or 4."""
    group: int | None = None
    """Columns that share a scale, in 4 bits: one of `GROUPS`. Matrices that groups don't divide are int8."""


@frozen
class Int8Comparison:
    """Loss of a 4-bit build beside that of the int8 build, on source code: nats per token."""

    tokens: int
    int8_loss: float
    loss: float
    """Of the 4-bit build."""
    margin: float
    """Half of the 95 % interval of loss - int8_loss, from the differences of single tokens."""

    @property
    def increase(self) -> float:
        """Return the increase of the loss over int8, relative."""
        return self.loss / self.int8_loss - 1

    @property
    def increase_margin(self) -> float:
        """Return half of the 95 % interval of `increase`."""
        return self.margin / self.int8_loss


@frozen
class FileMarks:
    """The way in which a model was trained to read several files of a repository in one text.

    Each is a text with special tokens of the model; `{repository}`, `{path}` and `{text}` stand for the names and the
    text of a file, in which special tokens are ordinary text.
    """

    file: str
    """A whole other file."""
    document: str
    """Precedes the document, with its infill format."""
    repository: str = ""
    """Begins the prompt."""


@frozen
class BuildInfo:
    """Content of `build.json`.

    Token ids from `vocabulary_size` on are padding rows of the embedding. Their weights are noise, and they must never
    be generated.
    """

    name: str
    family: str
    """`codegen`, `codegen2`, `codegen25`, or another kind of model: `llama`, `qwen2`, `gpt_bigcode`."""
    source: str
    """Repository and revision, or the folder, of the checkpoint."""
    license: str
    context_length: int
    vocabulary_size: int
    layers: int
    heads: int
    width: int
    end_of_text: int
    """Id of the token that ends a document."""
    languages: list[str] = field(factory=list)
    infill: InfillStyle = "none"
    infill_end: int | None = None
    """Id of the token that ends an infilled span, if it is not `end_of_text`."""
    infill_marks: InfillMarks | None = None
    """Special tokens for infilling; None for those of CodeGen's families."""
    file_marks: FileMarks | None = None
    """Format of other files in a prompt; None for models without one."""
    ends: tuple[int, ...] = ()
    """Ids of further tokens that end an answer."""
    begin: int | None = None
    """Id of the token with which every prompt begins; None if there is none."""
    kv_width: int = Factory(lambda self: self.width, takes_self=True)
    """Entries of the keys of a token in one layer, and of its values: less than `width` where heads share them."""
    quantization: str = "int8"
    converter: str = ""
    files: dict[str, BuildFile] = field(factory=dict)
    verification: Verification | None = None
    weights: WeightFormat | None = None
    """None for int8."""
    int8_comparison: Int8Comparison | None = None
    """The price of 4 bits; None for int8."""
    format: int = INT8_FORMAT

    @property
    def bits(self) -> int:
        """Bits of a weight: 8, or 4."""
        return 8 if self.weights is None else self.weights.bits

    @property
    def suits_as_default(self) -> bool:
        """True unless the weights have 4 bits that raise the loss by `DEFAULT_INCREASE` or more, or by an unknown
        amount."""
        found = self.int8_comparison
        return self.bits == 8 or (found is not None and found.increase + found.increase_margin < DEFAULT_INCREASE)

    @property
    def bytes(self) -> int:
        """Size of all files on disk."""
        return sum(file.bytes for file in self.files.values())

    @property
    def token_values(self) -> int:
        """Keys and values of a token in all layers."""
        return 2 * self.layers * self.kv_width

    @property
    def parameters(self) -> int:
        """Approximate number of parameters: the matrices of the blocks, the embedding and the output layer."""
        return 12 * self.layers * self.width**2 + 2 * self.vocabulary_size * self.width

    @property
    def small(self) -> bool:
        """True if the model has fewer than `SMALL_MODEL_PARAMETERS`."""
        return self.parameters < SMALL_MODEL_PARAMETERS


def read_info(directory: Path) -> BuildInfo:
    """Read `build.json` of a build and check that its files exist with their full size.

    Raises: ModelError when the directory is not a build, was made by a newer version, or has a missing or truncated
    file.
    """
    path = directory / METADATA
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{directory} is not a model build: it has no {METADATA}.",
            "See what is installed with `codegen-lsp models list`, or make one with `codegen-lsp models convert`.",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read: {error}.", "Pull or convert the model again.") from error
    found = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(found, int) or found > FORMAT:
        raise ModelError(
            f"{path} has format {found!r}; this version reads up to {FORMAT}.",
            "Update codegen-lsp, or convert the model again.",
        )
    try:
        info = cattrs.structure(raw, BuildInfo)
    except Exception as error:
        raise ModelError(
            f"{path} is damaged: {'; '.join(cattrs.transform_error(error))}.", "Pull or convert the model again."
        ) from error
    _check_numbers(path, info)
    for name, expected in info.files.items():
        check_size(directory / name, expected.bytes)
    return info


def _check_numbers(path: Path, info: BuildInfo) -> None:
    """Raise ModelError unless the numbers of a description are possible."""
    sizes = (info.context_length, info.vocabulary_size, info.layers, info.heads, info.width, info.kv_width)
    ends = [info.end_of_text, *info.ends, *(id for id in (info.infill_end, info.begin) if id is not None)]
    if min(sizes) <= 0 or not all(0 <= end < info.vocabulary_size for end in ends):
        raise ModelError(f"{path} is damaged: its numbers are not those of a model.", CONVERT_AGAIN)
    weights = info.weights or WeightFormat(8)
    if weights not in (WeightFormat(8), *(WeightFormat(4, group) for group in GROUPS)):
        raise ModelError(
            f"{path} has weights of {weights.bits} bits in groups of {weights.group}; this version reads int8, and 4 "
            f"bits in groups of {' or '.join(map(str, GROUPS))}.",
            "Update codegen-lsp, or convert the model again.",
        )
    marks = info.file_marks
    if marks is not None and not ("{text}" in marks.file and "{path}" in marks.file and marks.document):
        raise ModelError(
            f"{path} has `file_marks` with a file without {{path}} and {{text}}, or without a document.",
            "Correct it, or remove `file_marks`.",
        )


def check_files(directory: Path, info: BuildInfo) -> None:
    """Raise ModelError unless the files of a build have the digests of its description."""
    for name, expected in info.files.items():
        try:
            found = digest(directory / name)
        except OSError as error:
            raise ModelError(f"{directory / name} can't be read: {error}.", CONVERT_AGAIN) from error
        if found != expected.sha256:
            raise ModelError(f"{directory / name} is damaged: it was changed.", CONVERT_AGAIN)


def check_size(path: Path, expected: int) -> None:
    """Raise ModelError unless the file exists with the expected number of bytes."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path} is missing from the build.", CONVERT_AGAIN) from error
    if size != expected:
        raise ModelError(
            f"{path} has {size} bytes instead of {expected}: it is truncated or was changed.",
            CONVERT_AGAIN,
        )


def write_info(directory: Path, info: BuildInfo) -> None:
    """Write `build.json`, with the sizes and digests of all other files of the directory."""
    files = {
        path.name: BuildFile(path.stat().st_size, digest(path))
        for path in sorted(directory.iterdir())
        if path.is_file() and path.name not in (METADATA, MIXING, "README.md")
    }
    raw = cattrs.unstructure(info) | {"files": cattrs.unstructure(files)}
    (directory / METADATA).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
