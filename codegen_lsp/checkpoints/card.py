"""What a model card (README.md) says of a checkpoint that is not in the catalogue: its licence and languages."""

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
"""Tags as model cards write them, to language identifiers of the Language Server Protocol."""


@frozen
class Card:
    """Licence (`unknown` when not stated) and LSP language identifiers (empty when not stated)."""

    license: str = "unknown"
    languages: tuple[str, ...] = ()


def read_card(directory: Path) -> Card:
    """The card of a checkpoint's folder. A missing or unreadable card is one that states nothing."""
    from huggingface_hub import ModelCard

    path = directory / "README.md"
    if not path.is_file():
        return Card()
    try:
        data = ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # of the YAML library, too; a card is only ever read for what it states
        return Card()
    tags = [tag.lower() for tag in data.tags or [] if isinstance(tag, str)]
    languages = dict.fromkeys(LANGUAGES[tag] for tag in tags if tag in LANGUAGES)
    return Card(data.license if isinstance(data.license, str) else "unknown", tuple(languages))
