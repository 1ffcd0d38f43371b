"""`TextModel` itself: how speed is measured, and what is kept. The tests of the service and the engines run it."""

from __future__ import annotations

import inspect
import tracemalloc

import pytest

from codegen_lsp.inference import text_model
from codegen_lsp.inference.build import BuildInfo
from codegen_lsp.inference.engines.base import Engine
from codegen_lsp.inference.text_model import RELATED_KEPT, TextModel
from codegen_lsp.inference.tokenizer import Tokenizer


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


def test_tokens_of_related_texts_are_kept_compactly(info: BuildInfo, tokenizer: Tokenizer, engine: Engine) -> None:
    model = TextModel(info, tokenizer, engine)
    texts = ["".join(f"x_{number} = {first * number}\n" for number in range(2000)) for first in range(RELATED_KEPT)]
    tracemalloc.start()
    try:
        kept = [model._encode_related(text) for text in texts]
        memory, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [list(ids) for ids in kept] == [tokenizer.encode(text) for text in texts]
    assert kept[0] is model._encode_related(texts[0])
    assert memory < 6 * sum(map(len, kept))
