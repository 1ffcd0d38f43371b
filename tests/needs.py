"""Skip tests that need an extra where it is not installed, so that the suite runs in a default installation, too.

A module whose imports need an extra calls `extra` before them; single tests have the mark that `mark` returns.
"""

from __future__ import annotations

import pytest

from codegen_lsp import extras


def extra(name: str) -> None:
    """Skip the test module or fixture that calls this, unless an extra is installed."""
    if extras.missing(name):
        pytest.skip(reason(name), allow_module_level=True)


def mark(name: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test unless an extra is installed."""
    return pytest.mark.skipif(bool(extras.missing(name)), reason=reason(name))


def reason(name: str) -> str:
    return f'needs the extra {name}: pip install "codegen-lsp[{name}]"'
