"""Metadata of a model card (README.md): licence and languages of a checkpoint that is not in the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

UNKNOWN = "unknown"
"""Licence of a model that states none."""
LONGEST_LICENSE = 80
"""Characters of a licence that are kept."""

LANGUAGES = {
    "c": "c",
    "c++": "cpp",
    "cpp": "cpp",
    "c#": "csharp",
    "csharp": "csharp",
    "go": "go",
    "java": "java",
    "javascript": "javascript",
    "python": "python",
    "ruby": "ruby",
    "rust": "rust",
    "shell": "shellscript",
    "typescript": "typescript",
}
"""Language identifiers of the Language Server Protocol by the tags that model cards use."""


@frozen
class CardMetadata:
    """Licence (`unknown` when not stated, `other` with its name when it is none of the hub's list) and LSP language
    identifiers (empty when not stated)."""

    license: str = UNKNOWN
    languages: tuple[str, ...] = ()


def read_card_metadata(directory: Path) -> CardMetadata:
    """Read the model card of a checkpoint's folder. A missing or unreadable card states nothing."""
    from huggingface_hub import ModelCard

    path = directory / "README.md"
    if not path.is_file():
        return CardMetadata()
    try:
        data = ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # the YAML library's errors included
        return CardMetadata()
    tags = [tag.lower() for tag in data.tags or [] if isinstance(tag, str)]
    languages = dict.fromkeys(LANGUAGES[tag] for tag in tags if tag in LANGUAGES)
    return CardMetadata(_license(data), tuple(languages))


def _license(data: Any) -> str:
    """Return the licence that a card states, in one line without control characters."""
    if not isinstance(data.license, str):
        return UNKNOWN
    named = data.license_name if data.license.lower() == "other" else None
    stated = f"{data.license} ({named})" if isinstance(named, str) else data.license
    return "".join(filter(str.isprintable, stated)).strip()[:LONGEST_LICENSE] or UNKNOWN
