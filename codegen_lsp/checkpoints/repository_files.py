"""The files of a repository on a hub, and the choice of those that are fetched.

A repository may hold the same weights in several forms. safetensors come first, since they can hold no code; a GGUF
file is the source where there is nothing else, or where the user asks for one. Names and sizes are those of the hub's
list: they are checked, since anybody can publish a repository, and no file outside of the patterns is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from attrs import frozen

from codegen_lsp.errors import DownloadError

WeightForm = Literal["safetensors", "pickle", "gguf"]

MEBIBYTE = 1 << 20
TERMS = re.compile(r"(LICENSE|NOTICE)(\.txt|\.md)?|README\.md", re.IGNORECASE)
SMALL_FILES = {
    re.compile(r"config\.json|tokenizer_config\.json"): 4 * MEBIBYTE,
    re.compile(r"tokenizer\.json|vocab\.json|merges\.txt|added_tokens\.json"): 64 * MEBIBYTE,
    TERMS: 4 * MEBIBYTE,
}
"""Files needed beside the weights, each with the bytes that it may have: several times what the largest published ones
have. A Python file is never fetched."""
LARGEST_INDEX = 64 * MEBIBYTE

FORMS: tuple[tuple[WeightForm, re.Pattern[str], str], ...] = (
    ("safetensors", re.compile(r"model\.safetensors"), ""),
    ("safetensors", re.compile(r"model-\d+-of-\d+\.safetensors"), "model.safetensors.index.json"),
    ("pickle", re.compile(r"pytorch_model\.bin"), ""),
    ("pickle", re.compile(r"pytorch_model-\d+-of-\d+\.bin"), "pytorch_model.bin.index.json"),
)
"""Forms in which weights are published, best first, each with the index that lists its files; one is fetched."""

VOCABULARY = re.compile(r"vocab\.json|merges\.txt")

GGUF = re.compile(r"(?:\w[\w.+-]*/)*\w[\w.+-]*\.gguf", re.IGNORECASE | re.ASCII)
GGUF_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf", re.IGNORECASE)
NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
"""Parts of the names of GGUF files that hold an image encoder, or statistics of activations."""

EIGHT_BITS = ("Q8_0", "F16", "BF16", "F32")
FEWER_BITS = (
    *("Q6_K", "Q5_K_M", "Q5_1", "Q5_K_S", "Q5_0", "Q4_K_M", "Q4_1", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_0"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)
GGUF_TYPES = (*EIGHT_BITS, *FEWER_BITS)
"""Types of weights that names of GGUF files state, best first. Q8_0 is half the download of F16, and its rounding, with
a scale for 32 weights, is finer than that of the build, with one for each row."""
GGUF_TYPE = re.compile(
    rf"(?<![A-Za-z0-9])({'|'.join(sorted(GGUF_TYPES, key=len, reverse=True))})(?![A-Za-z0-9_])", re.IGNORECASE
)

NAMES_SHOWN = 8
"""Names of files in a message."""
JOIN = "Join the parts with llama.cpp's `llama-gguf-split --merge`, then run `codegen-lsp models convert FILE.gguf`."
ELSEWHERE = "Run it with llama.cpp or another server and use that by the setting `remote.url`, or choose another model."


@frozen
class RemoteFile:
    """A file of a repository at one commit."""

    repository: str
    commit: str
    name: str
    size: int | None
    """Bytes; None when the hub does not say."""
    digest: str = ""
    """SHA-256, or git's blob id of 40 digits; of the catalogue, else of the hub's list; empty if neither has one."""

    @property
    def local_name(self) -> str:
        """Return the name of the fetched file, without the repository's folders."""
        return PurePosixPath(self.name).name


@frozen
class RemoteRepository:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[RemoteFile, ...]


@frozen
class Selection:
    """The files of a repository that are fetched."""

    form: WeightForm
    small: tuple[RemoteFile, ...]
    """Those needed beside the weights, with the index of sharded ones."""
    weights: tuple[RemoteFile, ...]
    index: str = ""
    """Name of the index that lists the files of the weights; empty if they are in one."""
    note: str = ""
    """Remark on the choice for the user; empty if there is none."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """Return all of them, weights last."""
        return (*self.small, *self.weights)


def is_safe(name: str) -> bool:
    """Return whether a name is a plain path inside a repository."""
    is_control = any(ord(character) < 0x20 or character == "\x7f" for character in name)
    return not is_control and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def select_files(repository: RemoteRepository, hub: str, wanted: str = "") -> Selection:
    """Return the files to fetch. `wanted` is the name of a GGUF file to take in place of other weights.

    Raises DownloadError when the repository has no weights that can be used, when it leaves open which file is meant,
    or when a file has an absurd size.
    """
    small = [file for file in repository.files if _limit(file.name) is not None]
    selection = None if wanted else _in_a_usual_form(repository.files, small)
    if selection is None:
        file, note = _gguf(repository, hub, wanted)
        # What describes the model is in the file itself; its terms are in the repository.
        small = [one for one in small if TERMS.fullmatch(one.name)]
        selection = Selection("gguf", tuple(small), (file,), note=note)
    for one in selection.small:
        check_size(one)
    return selection


def check_size(file: RemoteFile) -> None:
    """Raise DownloadError when one of the small files has more bytes than such files have."""
    limit = _limit(file.name) or LARGEST_INDEX
    if (file.size or 0) > limit:
        raise DownloadError(
            f"{file.name} of {file.repository} has {(file.size or 0) / 1e6:,.0f} MB; such a file has at most "
            f"{limit / 1e6:.0f}.",
            "This is no repository of a model that can be used. Choose another one.",
        )


def largest(file: RemoteFile) -> int | None:
    """Return the bytes that a file may have by its kind; None for weights."""
    return LARGEST_INDEX if file.name.endswith(".index.json") else _limit(file.name)


def vocabulary_files(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Return GPT-2's vocabulary and merges."""
    return sorted((file for file in files if VOCABULARY.fullmatch(file.name)), key=lambda file: file.name)


def _in_a_usual_form(files: Iterable[RemoteFile], small: list[RemoteFile]) -> Selection | None:
    """Return the best form of weights in transformers' formats; None if there are none."""
    named = {file.name: file for file in files}
    for form, pattern, index in FORMS:
        weights = sorted((file for file in files if pattern.fullmatch(file.name)), key=lambda file: file.name)
        if not weights or (index and index not in named):
            continue
        beside = sorted([*small, *([named[index]] if index else [])], key=lambda file: file.name)
        return Selection(form, tuple(beside), tuple(weights), index)
    return None


def _gguf(repository: RemoteRepository, hub: str, wanted: str) -> tuple[RemoteFile, str]:
    """Return the GGUF file to fetch, and a note on the choice. Raises DownloadError."""
    found = [file for file in repository.files if GGUF.fullmatch(file.name) and not NO_MODEL.search(file.name)]
    if wanted:
        return _wanted_gguf(repository, found, wanted), ""
    if not found:
        raise _without_weights(repository, hub)
    whole = [file for file in found if not GGUF_PART.search(file.name)]
    if not whole:
        raise DownloadError(
            f"{repository.name} has GGUF files in several parts only: {_listed(found)}.",
            f"Fetch them. {JOIN}",
        )
    typed = {file.name: _type(file.name) for file in whole}
    best = next((type for type in GGUF_TYPES if type in typed.values()), None)
    fitting = [file for file in whole if typed[file.name] == best]
    if len(fitting) > 1:
        raise DownloadError(
            f"{repository.name} leaves open which GGUF file is meant: {_listed(fitting)}.",
            "Choose one with --file NAME; prefer Q8_0 or F16, since the build keeps the errors of fewer bits.",
        )
    (file,) = fitting
    note = f"The repository has GGUF files only; {file.name} is taken."
    if best in FEWER_BITS:
        note += (
            f" Its weights were rounded to {best}, and the int8 build keeps their errors: prefer a file in Q8_0 or F16."
        )
    return file, note


def _wanted_gguf(repository: RemoteRepository, found: list[RemoteFile], wanted: str) -> RemoteFile:
    """Return the GGUF file that the user named. Raises DownloadError when the repository has no such file."""
    named = [file for file in found if wanted in (file.name, file.local_name)]
    if len(named) != 1:
        there = f"it has {_listed(found)}" if found else "it has none"
        raise DownloadError(
            f"{repository.name} has no GGUF file {wanted!r}; {there}.", "Give --file the name of a GGUF file of it."
        )
    if GGUF_PART.search(wanted):
        raise DownloadError(
            f"{wanted} is one of several parts.",
            JOIN,
        )
    return named[0]


def _without_weights(repository: RemoteRepository, hub: str) -> DownloadError:
    """Return the error for a repository without weights, in terms of what it has instead."""
    names = {file.name for file in repository.files}
    if "adapter_config.json" in names:
        return DownloadError(
            f"{repository.name} holds an adapter (LoRA) of another model, and has no weights of its own.",
            "Merge it into that model, then run `codegen-lsp models convert FOLDER`.",
        )
    endings = {PurePosixPath(name).suffix.lower() for name in names}
    others = {".onnx": "ONNX", ".h5": "TensorFlow", ".msgpack": "Flax", ".npz": "NumPy", ".pt": "PyTorch scripts"}
    if formats := [others[ending] for ending in sorted(others) if ending in endings]:
        return DownloadError(
            f"{repository.name} has no weights that can be read: they are for {' and '.join(formats)}, not in "
            "safetensors, PyTorch's format or GGUF.",
            ELSEWHERE,
        )
    return DownloadError(
        f"{repository.name} has no weights on {hub}.", "If HF_ENDPOINT names a mirror, try another one."
    )


def _type(name: str) -> str | None:
    """Return the type of weights that a file's name states."""
    found = GGUF_TYPE.findall(name)
    return found[-1].upper() if found else None


def _listed(files: list[RemoteFile]) -> str:
    names = [file.name for file in files]
    rest = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + rest


def _limit(name: str) -> int | None:
    return next((limit for pattern, limit in SMALL_FILES.items() if pattern.fullmatch(name)), None)
