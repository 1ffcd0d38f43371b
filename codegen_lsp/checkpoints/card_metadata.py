"""Metadata of a model card (README.md): licence and languages of a checkpoint that is not in the catalogue."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

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
    """Licence (`unknown` when not stated) and LSP language identifiers (empty when not stated)."""

    license: str = "unknown"
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
    return CardMetadata(data.license if isinstance(data.license, str) else "unknown", tuple(languages))
