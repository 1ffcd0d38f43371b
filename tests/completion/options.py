"""Options as the default settings give them, but for a threshold, which answers from a script would not pass."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from codegen_lsp.completion.options import Options
from codegen_lsp.settings import Settings
from codegen_lsp.suggest.options import options_for

_DEFAULTS = evolve(options_for(Settings(), "python", None), threshold=0.0)


def options(**changed: Any) -> Options:
    """Return the default options with some of them changed."""
    return evolve(_DEFAULTS, **changed)
