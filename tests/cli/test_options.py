"""Options that several commands share."""

from __future__ import annotations

import pytest
import typer

from codegen_lsp.cli.options import current_engine, known_parts


def test_parts_are_known_by_former_names_too() -> None:
    assert known_parts(["threshold", "document_cache"]) == ["threshold", "ngrams"]
    assert known_parts(None) == []


def test_an_unknown_part_is_refused_with_the_list() -> None:
    with pytest.raises(typer.BadParameter, match=r"no part 'luck'; the parts are .*threshold"):
        known_parts(["threshold", "luck"])


def test_former_names_of_engines_are_accepted() -> None:
    assert current_engine("incremental") == "native"
    assert current_engine("ct2") == "ct2"


@pytest.mark.parametrize("arguments", [["--storage", "/shared"], ["--ray", "local", "--polite"]])
def test_adapt_refuses_options_that_would_have_no_effect(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from codegen_lsp.cli.app import app

    result = CliRunner().invoke(app, ["adapt", *arguments])
    assert result.exit_code == 2
    assert "Invalid value for --" in result.output
