"""Learn everything of a repository's model that can be known before its weights are fetched.

Only the list of the files, and those that describe the model, are fetched for that: from config.json and the tokenizer,
or from the beginning of a GGUF file, follow whether the model can be used, its size, and the memory that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from codegen_lsp.checkpoints import store
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.build_names import checked_revision, name_for, repository_in
from codegen_lsp.checkpoints.card_metadata import read_card_metadata
from codegen_lsp.checkpoints.catalogue import Checkpoint, look_up, resolve
from codegen_lsp.checkpoints.hub import fetch_all, fetch_beginning, list_repository
from codegen_lsp.checkpoints.hub_errors import WEBSITE
from codegen_lsp.checkpoints.license_terms import LicenseTerms, terms_of
from codegen_lsp.checkpoints.repository_files import (
    RemoteFile,
    RemoteRepository,
    Selection,
    select_files,
    vocabulary_files,
)
from codegen_lsp.checkpoints.weights import index_of_shards
from codegen_lsp.errors import ConversionError, DownloadError, ModelError

HEADER_BYTES = (1 << 20, 1 << 23, 1 << 26, 1 << 28)
"""Bytes of the beginning of a GGUF file that are tried, one after the other, until they hold its header. The tokenizer
in it has about 6 MB where a vocabulary has 150,000 tokens."""

LEAST_BYTES, MOST_BYTES = 1.9, 4.2
"""Bytes of published float weights for each parameter: float16 and bfloat16 have two, float32 four."""
BUFFER_BYTES = 64 << 20
"""Bytes of other tensors that old checkpoints have for each layer, such as masks."""


@frozen
class Wanted:
    """A model that the user asks for."""

    repositories: tuple[str, ...]
    """The repository, and its other names."""
    entry: Checkpoint | None = None
    """The catalogue's entry for it; None for any other repository."""
    name: str = ""
    """Name of the build that the user chose; empty for the usual one."""
    revision: str = ""
    """Branch, tag or commit; empty for the catalogue's, or else the newest."""
    file: str = ""
    """GGUF file of the repository; empty for the usual choice."""
    group: int | None = None
    """Number of weights that share a scale, in 4 bits; None for int8."""

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return self.entry.name if self.entry else self.repositories[0]


@frozen
class Offer:
    """A model that a repository has, and that can be used here."""

    wanted: Wanted
    name: str
    """Of the build."""
    repository: RemoteRepository
    selection: Selection
    folder: Path
    """Where its files are fetched to; those that describe it are there."""
    architecture: Architecture
    license: LicenseTerms

    @property
    def download_bytes(self) -> int | None:
        """Return the bytes of all files that are fetched; None when the hub does not state them."""
        sizes = [file.size for file in self.selection.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def source(self) -> Path:
        """Return the source of the conversion: the folder, or the GGUF file in it."""
        if self.selection.form == "gguf":
            return self.folder / self.selection.weights[0].local_name
        return self.folder

    @property
    def conversion_disk_bytes(self) -> int:
        """Return the bytes on disk that the conversion needs beside the download, for build and dequantized weights."""
        dequantized = 4 * self.architecture.parameters if self.selection.form == "gguf" else 0
        return self.architecture.int8_bytes + dequantized

    @property
    def origin(self) -> str:
        """Return repository and commit, as build.json states them."""
        return f"{self.repository.name}@{self.repository.commit}"


def want(name: str, *, build_name: str = "", revision: str = "", file: str = "", group: int | None = None) -> Wanted:
    """Return what a name asks for: a checkpoint of the catalogue, or `ORG/NAME`, any repository.

    With a `build_name` of its own, a checkpoint of the catalogue counts as any repository. Raises ModelError when there
    is no such checkpoint, or the name or the revision can't be one.
    """
    revision = checked_revision(revision)
    repository = repository_in(name)
    entry = look_up(repository or name)
    if entry is None and repository is None:
        try:
            resolve(name)
        except ModelError as error:
            hint = "Any repository of the Hugging Face Hub is pulled by its owner and name, as ORG/NAME."
            raise ModelError(error.message, f"{error.advice} {hint}") from error
    if build_name and entry is not None and look_up(build_name) is not entry:
        repository, entry = entry.repository, None
    if entry is not None:
        return Wanted((entry.repository, *entry.aliases), entry, revision=revision, file=file, group=group)
    assert repository is not None
    return Wanted((repository,), name=build_name, revision=revision, file=file, group=group)


def examine(wanted: Wanted, hub: str, token: str | None, require: Callable[[str], None]) -> Offer:
    """Return what the hub has of a model, after checking that it can be used. No weights are fetched.

    `require` is called with the extra that is needed to read a GGUF file. Raises DownloadError, ConversionError, which
    names the reason why the model can't be used, ModelError, and the errors of huggingface_hub.
    """
    entry = wanted.entry
    repository = list_repository(
        wanted.repositories, hub, token, wanted.revision or (entry.revision if entry is not None else "")
    )
    repository = _pinned(repository, wanted)
    selection = select_files(repository, hub, wanted.file)
    selection = _with_vocabulary(selection, entry, hub, token)
    name = entry.name if entry is not None else name_for(repository.name, wanted.name)
    if selection.form == "gguf":
        require("export")
    folder = store.download_directory(name, repository.commit)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fetch_all(selection.small, folder, hub, token, lambda message, done: None)
        with _named(folder, repository.name):
            selection = _listed_shards(selection, folder, repository)
            if selection.form == "gguf":
                architecture = _declared_by_gguf(selection.weights[0], folder, hub, token, name)
            else:
                architecture = _declared(folder, name)
        _check_sizes(selection, architecture, repository)
    except (ConversionError, DownloadError):
        if entry is None:
            store.discard_downloads(name)
        raise
    return Offer(wanted, name, repository, selection, folder, architecture, _terms(entry, repository, folder))


def _terms(entry: Checkpoint | None, repository: RemoteRepository, folder: Path) -> LicenseTerms:
    if entry is None:
        return terms_of(read_card_metadata(folder).license, repository.name)
    return LicenseTerms(entry.license, entry.needs_consent, f"{WEBSITE}/{entry.repository}")


def _pinned(repository: RemoteRepository, wanted: Wanted) -> RemoteRepository:
    """Return the repository with the digests of the catalogue, which are those of the revision that it pins."""
    if wanted.entry is None or wanted.revision:
        return repository
    digests = wanted.entry.digests
    files = [
        RemoteFile(file.repository, file.commit, file.name, file.size, digests.get(file.name, file.digest))
        for file in repository.files
    ]
    return RemoteRepository(repository.name, repository.commit, tuple(files))


def _with_vocabulary(selection: Selection, entry: Checkpoint | None, hub: str, token: str | None) -> Selection:
    """Return the files with a vocabulary from another repository, where the catalogue says so and there is none."""
    if entry is None or not entry.vocabulary_from or len(vocabulary_files(selection.small)) == 2:
        return selection
    lent = vocabulary_files(list_repository((entry.vocabulary_from,), hub, token).files)
    return Selection(selection.form, (*selection.small, *lent), selection.weights, selection.index, selection.note)


def _listed_shards(selection: Selection, folder: Path, repository: RemoteRepository) -> Selection:
    """Return the selection with the files that the index of sharded weights names. Raises DownloadError."""
    if not selection.index:
        return selection
    named = set(index_of_shards(folder / selection.index).values())
    weights = tuple(file for file in selection.weights if file.name in named)
    if lacking := sorted(named - {file.name for file in weights}):
        raise DownloadError(
            f"{repository.name} lacks {lacking[0]:.200}, which its {selection.index} names.",
            "Choose another repository: this one is not complete.",
        )
    return Selection(selection.form, selection.small, weights, selection.index, selection.note)


def _declared(folder: Path, name: str) -> Architecture:
    """Return the architecture of a folder's model, after checking config.json and tokenizer. Raises ConversionError."""
    from codegen_lsp.checkpoints.architecture import read_architecture
    from codegen_lsp.checkpoints.checkpoint_source import read_source

    read_architecture(folder)
    return read_source(folder, name).architecture


def _declared_by_gguf(file: RemoteFile, folder: Path, hub: str, token: str | None, name: str) -> Architecture:
    """Return the architecture that the beginning of a GGUF file declares. Raises ConversionError, DownloadError."""
    from codegen_lsp.checkpoints.gguf_source.header import BeginningError, read_header
    from codegen_lsp.checkpoints.opening import describe_gguf

    for size in HEADER_BYTES:
        beginning = fetch_beginning(file, folder / file.local_name, hub, token, size)
        try:
            header = read_header(beginning, file.size)
            break
        except BeginningError:
            continue
    else:
        raise DownloadError(
            f"The header of {file.name} has more than {HEADER_BYTES[-1] / 1e6:.0f} MB.",
            "This is no GGUF file of a model that can be used. Choose another one.",
        )
    with describe_gguf(header) as described:
        return _declared(described.folder, name)


def _check_sizes(selection: Selection, architecture: Architecture, repository: RemoteRepository) -> None:
    """Raise DownloadError when the weights can't be those that config.json describes, by their size.

    A GGUF file's size was checked against its header.
    """
    sizes = [file.size for file in selection.weights]
    if selection.form == "gguf" or None in sizes:
        return
    found, parameters = sum(size or 0 for size in sizes), architecture.parameters
    most = MOST_BYTES * (parameters + architecture.rows * architecture.width) + BUFFER_BYTES * architecture.layers
    if not LEAST_BYTES * parameters <= found <= most:
        raise DownloadError(
            f"The weights of {repository.name} have {found / 1e6:,.0f} MB, which can't be the {parameters / 1e6:,.0f} "
            "million float16 or float32 numbers that its config.json describes.",
            "They may be quantized, or of a part of the model: use the repository that this one was made from.",
        )


@contextmanager
def _named(folder: Path, repository: str) -> Iterator[None]:
    """Name the repository, not the folder of the download, in errors on the content of files."""
    try:
        yield
    except ConversionError as error:
        advice = error.advice
        if advice.startswith("Fetch"):
            advice = "The repository itself is damaged: choose another revision with --revision, or another repository."
        message = error.message.replace(str(folder), repository)
        raise ConversionError(message, advice.replace(str(folder), repository)) from error
