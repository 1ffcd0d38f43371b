"""`codegen-lsp adapt` as far as it is the command line's: what Ctrl-C does."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console

from codegen_lsp.cli.adapt import _interruptible


def test_the_first_interruption_is_answered_and_the_second_ends_at_once() -> None:
    shown = io.StringIO()
    before = signal.getsignal(signal.SIGINT)
    with _interruptible(Console(file=shown, width=200)) as stopped:
        assert not stopped.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stopped.is_set()
        assert "Ctrl-C again ends at once" in shown.getvalue()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
