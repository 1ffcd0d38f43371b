"""Options that several commands share."""

from __future__ import annotations

import pytest
import typer

from codegen_lsp.cli.options import known_parts


def test_parts_are_known_by_former_names_too() -> None:
    assert known_parts(["threshold", "document_cache"]) == ["threshold", "ngrams"]
    assert known_parts(None) == []


def test_an_unknown_part_is_refused_with_the_list() -> None:
    with pytest.raises(typer.BadParameter, match=r"no part 'luck'; the parts are .*threshold"):
        known_parts(["threshold", "luck"])
