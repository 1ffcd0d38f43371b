"""Refactorings of several documents at once, whose work runs in threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from typing import Any

import pytest

from codegen_lsp.refactor.perform import perform
from codegen_lsp.refactor.python import rope_backend
from codegen_lsp.refactor.registry import RENAME
from tests.refactor.conftest import ScriptedModel, source


async def test_two_documents_at_once_leave_the_state_of_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """rope runs in one thread, without redirecting standard output or changing the filters of warnings."""
    threads, outputs, filters = set(), [], []

    class ObservedRename(rope_backend.Rename):  # type: ignore[misc]
        def get_changes(self, *args: Any, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            outputs.append(sys.stdout)
            filters.append(list(warnings.filters))
            return super().get_changes(*args, **kwargs)

    output, unchanged = sys.stdout, list(warnings.filters)
    monkeypatch.setattr(rope_backend, "Rename", ObservedRename)
    outcomes = await asyncio.gather(
        *(
            perform(
                RENAME,
                source(f"def f(path):\n    x│ = open(path)\n    return x.read({number})\n"),
                ScriptedModel([["stream"]]).assistant(),
                lambda step, share: None,
            )
            for number in range(8)
        )
    )
    assert [outcome.offers[0].text for outcome in outcomes] == [
        f"def f(path):\n    stream = open(path)\n    return stream.read({number})\n" for number in range(8)
    ]
    assert len(threads) == 1
    assert all(one is output for one in [*outputs, sys.stdout])
    assert all(one == unchanged for one in [*filters, list(warnings.filters)])
