"""Settings with former names and values, which stay accepted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)

FORMER_NAMES: dict[str, str] = {"document_cache": "ngrams", "without": "ablate"}
"""Former names of settings, still accepted; options of the command line have them, too."""
FORMER_VALUES: dict[str, dict[str, str]] = {
    "engine": {"incremental": "native"},
    "ablate": {
        "document_cache": "ngrams",
        "elsewhere": "rest_of_document",
        "flight": "coalescing",
        "continuation": "prefetch",
    },
}
"""Former values, still accepted, for each setting with renamed values."""


def with_current_names(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested table of settings with current names and values in place of former ones, noted in the log.

    Where a setting stands under both names, the current one counts.
    """
    current: dict[str, Any] = {}
    for name, value in table.items():
        if name not in FORMER_NAMES:
            current[name] = current_value(name, value)
        elif FORMER_NAMES[name] not in table:
            _note(f"`codegen-lsp.{name}` is now called `codegen-lsp.{FORMER_NAMES[name]}`")
            current[FORMER_NAMES[name]] = current_value(FORMER_NAMES[name], value)
    return current


def current_value(name: str, value: Any) -> Any:
    """Return the value of a setting, or a list of values, with current words in place of former ones."""
    if isinstance(value, list):
        return [current_value(name, item) for item in value]
    former = FORMER_VALUES.get(name, {})
    if not isinstance(value, str) or value not in former:
        return value
    _note(f'"{value}" in `codegen-lsp.{name}` is now called "{former[value]}"')
    return former[value]


@cache
def _note(renamed: str) -> None:
    """Log a renaming, once per process."""
    logger.warning("%s; the former name is still accepted.", renamed)
