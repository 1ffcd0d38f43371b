"""`TextModel` itself: how speed is measured, and what is kept. The tests of the service and the engines run it."""

from __future__ import annotations

import inspect
import tracemalloc

import pytest
from attrs import evolve

from codegen_lsp.inference import text_model
from codegen_lsp.inference.build import BuildInfo, FileMarks
from codegen_lsp.inference.engines.base import CancellationToken, Engine
from codegen_lsp.inference.rpc.messages import GenerateParams, RelatedFile, RelatedFiles, StopRules, WarmParams
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


def test_other_files_are_read_once_while_the_user_types(info: BuildInfo, tokenizer: Tokenizer, engine: Engine) -> None:
    """They come first, so that a prompt that grows at its end finds them in the KV cache, as warming left them."""
    marks = FileMarks("# {path}\n{text}\n", "# {path}\n", "# {repository}\n")
    model = TextModel(evolve(info, file_marks=marks), tokenizer, engine)
    text = "".join(f"def price_of_{number}(basket):\n    return basket[{number}]\n" for number in range(12))
    files = RelatedFiles("shop", "main.py", [RelatedFile("prices.py", text)])
    typed = "def total(basket):\n    cheapest = price_of_3(basket)\n    return "
    model.warm(WarmParams("d", typed, files=files), CancellationToken())
    beginning = model.prompt(typed, "", 1_000, heal=True, files=files).files.stop
    assert beginning > 200
    for more in ("c", "ch", "chea"):
        params = GenerateParams("d", typed + more, stop=StopRules(max_tokens=4), files=files)
        assert model.generate(params, CancellationToken()).stats.cached_tokens >= beginning
    other = evolve(files, files=[RelatedFile("costs.py", text)])
    params = GenerateParams("d", typed, stop=StopRules(max_tokens=4), files=other)
    assert model.generate(params, CancellationToken()).stats.cached_tokens < 30


def test_other_files_are_a_source_of_ngrams_for_a_model_that_does_not_read_them(
    info: BuildInfo, tokenizer: Tokenizer, engine: Engine
) -> None:
    files = RelatedFiles("shop", "main.py", [RelatedFile("prices.py", "price = 1\n")])
    params = GenerateParams("d", "x", files=files)
    model = TextModel(info, tokenizer, engine)
    assert [list(ids) for ids in model._related(params)] == [tokenizer.encode("price = 1\n")]
    assert model.prompt("x", "", 100, heal=True, files=files) == model.prompt("x", "", 100, heal=True)
    reading = TextModel(evolve(info, file_marks=FileMarks("{path}{text}", "{path}")), tokenizer, engine)
    assert reading._related(params) == []
