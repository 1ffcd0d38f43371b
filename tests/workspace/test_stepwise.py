"""Sorting in steps gives what `sorted` gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_lsp.workspace import stepwise
from codegen_lsp.workspace.stepwise import sorted_in_steps


@given(st.lists(st.tuples(st.integers(0, 9), st.integers()), max_size=40))
def test_it_is_sorted_and_stable(items: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepwise, "STEP", 3)
        assert list(sorted_in_steps(items, key=lambda item: item[0])) == sorted(items, key=lambda item: item[0])
