"""What `TextModel` does without a model; with one, the tests of the service and of the engines run it."""

from __future__ import annotations

import inspect

import pytest

from codegen_lsp.inference import text_model


def test_speed_is_measured_on_its_own_source_where_the_standard_library_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the embeddable distribution for Windows."""
    assert "wrap" in text_model.probe_text()

    def refuse(_: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", refuse)
    text = text_model.probe_text()
    assert "CHARACTERS_PER_TOKEN_BOUND" in text
    assert text.count("\n") == 249
