"""The checkpoints that can be pulled by name, read from `models/catalogue.toml`."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import cattrs
from attrs import field, frozen

from codegen_lsp.checkpoints.architecture import Architecture, Family
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import InfillStyle

CATALOGUE = "catalogue.toml"

SHOWN_LANGUAGES = 6
"""Number of languages up to which a table names them; above, it shows their number."""


@frozen
class Checkpoint:
    """One entry of the catalogue."""

    name: str
    """Name of the checkpoint and of its build."""
    repository: str
    """Repository on the Hugging Face Hub."""
    family: Family
    variant: str
    """Kind of training data: `nl`, `multi`, `mono`, `instruct`, or empty."""
    good_for: str
    """Use for which it is good, in a few words."""
    license: str
    """SPDX identifier, `research-only`, or the name of another licence with restrictions."""
    needs_consent: bool
    """True if the user must agree to the licence before the checkpoint is fetched."""
    languages: tuple[str, ...]
    """LSP language identifiers; empty when it was not trained on particular programming languages."""
    architecture: Architecture
    download_mb: int
    """Estimated size of the published weights in MB (10**6 bytes); `pull` asks the hub for the exact size."""
    memory_mb: int
    """Memory to run the int8 build in MiB: `Architecture.memory_bytes`."""
    aliases: tuple[str, ...] = field(factory=tuple)
    """Other names of the repository."""
    vocabulary_from: str = ""
    """Repository with the vocabulary, when the checkpoint's own has none."""
    infill: InfillStyle | None = None
    """Infill format, where the special tokens do not tell it."""
    revision: str = ""
    """Commit of the repository that is fetched; empty for the newest, where no digests are known."""
    digests: Mapping[str, str] = field(factory=dict)
    """Known SHA-256 of files of that commit, which are fetched only with these."""


@frozen
class _Catalogue:
    checkpoint: tuple[Checkpoint, ...]


def bundled_directory() -> Path:
    """Return the folder of catalogue and bundled models: in an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "models"
    return installed if (installed / CATALOGUE).is_file() else package.parent / "models"


@cache
def checkpoints() -> tuple[Checkpoint, ...]:
    """Return all entries, in the catalogue's order. Raises ModelError when the catalogue can't be read."""
    return read_catalogue(bundled_directory() / CATALOGUE)


def read_catalogue(path: Path) -> tuple[Checkpoint, ...]:
    """Read the entries of a catalogue file. Raises ModelError, which names the problems of a damaged file."""
    advice = "Install codegen-lsp again."
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The catalogue of checkpoints {path} can't be read: {error}.", advice) from error
    converter = cattrs.Converter(forbid_extra_keys=True)
    try:
        return converter.structure(raw, _Catalogue).checkpoint
    except Exception as error:
        problems = "; ".join(cattrs.transform_error(error))
        raise ModelError(f"The catalogue of checkpoints {path} is damaged: {problems}.", advice) from error


def look_up(name: str) -> Checkpoint | None:
    """Return the entry for a name, in any case and with or without `Salesforce/` and `codegen-`, or None."""
    wanted = _key(name)
    for entry in checkpoints():
        if wanted in _keys(entry):
            return entry
    return None


def resolve(name: str) -> Checkpoint:
    """Return the entry for a name. Raises ModelError, which suggests similar names."""
    entry = look_up(name)
    if entry is not None:
        return entry
    near = suggestions(name, [])
    hint = f"Did you mean {' or '.join(near)}?" if near else "See `codegen-lsp models list`."
    raise ModelError(f"There is no checkpoint called {name!r}.", hint)


def suggestions(name: str, others: list[str]) -> list[str]:
    """Return up to three names close to `name`, from the catalogue and `others`."""
    keys = {key: entry.name for entry in checkpoints() for key in _keys(entry)} | {
        _key(other): other for other in others
    }
    close = difflib.get_close_matches(_key(name), keys, n=8, cutoff=0.6)
    return list(dict.fromkeys(keys[key] for key in close))[:3]


def markdown_table() -> str:
    """Return the table of `docs/models.md`."""
    lines = [
        "| name | good for | parameters | layers, heads, width | download | memory (int8) | languages | licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in checkpoints():
        shape = entry.architecture
        columns = (
            f"`{entry.name}`",
            entry.good_for,
            f"{shape.parameters / 1e9:.2f} B",
            f"{shape.layers}, {shape.heads}, {shape.width}",
            f"{entry.download_mb / 1000:.1f} GB",
            f"{entry.memory_mb / 1024:.1f} GiB",
            _short(entry.languages),
            entry.license + (", asks first" if entry.needs_consent else ""),
        )
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _short(languages: tuple[str, ...]) -> str:
    if len(languages) > SHOWN_LANGUAGES:
        return f"{len(languages)} languages"
    return ", ".join(languages) or "English"


def _keys(entry: Checkpoint) -> set[str]:
    repositories = (entry.repository, *entry.aliases)
    full = {_key(name) for name in (entry.name, *repositories, *(name.rpartition("/")[2] for name in repositories))}
    return full | {key.removeprefix("codegen-") for key in full}


def _key(name: str) -> str:
    """Return a name with variants of spelling unified: case, owner, `_P`, `3_7B` for 3.7B, `2.5` for 25."""
    key = name.strip().lower().removeprefix("salesforce/").removesuffix("_p").replace("_", ".")
    return key.replace("codegen2.5", "codegen25")
