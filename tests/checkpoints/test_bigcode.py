"""GPTBigCode (StarCoder, SantaCoder): converted, verified and run by CTranslate2; the native engine refuses it."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.convert import build_logits, convert_checkpoint
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.reference import Reading, float_logits
from codegen_lsp.checkpoints.tune import tune
from codegen_lsp.checkpoints.verify import check_build, verify_build
from codegen_lsp.errors import ConversionError, ModelError, OtherEngineError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, Cancelled, SamplingParams
from codegen_lsp.inference.engines.ct2.engine import Ct2Engine
from codegen_lsp.inference.engines.factory import SMALL_CACHE_BYTES, default_cache_bytes, open_engine
from codegen_lsp.inference.loading import load_model
from codegen_lsp.inference.rpc.attribution import AttributionParams
from codegen_lsp.inference.rpc.messages import GenerateParams, LoadParams, ScoredText, StopRules
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer

NEAR_TIE = 0.15
"""Difference of two logits, in standard deviations, that rounding to int8 may turn around in models this small."""
SHORT = StopRules(max_tokens=8)


FAMILIES = pytest.mark.parametrize("family", ["starcoder", "starcoder 7B", "santacoder"])


@pytest.fixture
def family() -> str:
    return "starcoder"


@pytest.fixture
def build(family: str, make_checkpoint: Any, tmp_path: Path) -> Path:
    convert_checkpoint(make_checkpoint(family), tmp_path / "build", name="mine")
    return tmp_path / "build"


@pytest.fixture
def model(build: Path) -> Any:
    loaded, _ = load_model(LoadParams(str(build), threads=1), lambda message, share: None)
    yield loaded
    loaded.close()


@pytest.mark.parametrize("form", ["safetensors", "sharded-safetensors", "bin", "sharded-bin"])
def test_every_form_of_weights_is_converted_and_verified(form: str, make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("starcoder", form=form)
    info = convert_checkpoint(source, tmp_path / "build", name="mine")
    assert (info.family, info.infill, info.kv_width) == ("gpt_bigcode", "prefix-first", 16)
    assert info.verification is not None
    assert info.verification.build_loss == pytest.approx(info.verification.float_loss, abs=0.02)
    assert verify_build(tmp_path / "build", source).agreement > 0.9
    check_build(tmp_path / "build")


@FAMILIES
def test_logits_are_those_of_the_float_model(family: str, build: Path, small: SimpleNamespace) -> None:
    shape = small.OTHER_SHAPES[family]
    ids = torch.randint(0, 380, (shape.context,), generator=torch.Generator().manual_seed(4)).tolist()
    (expected,) = float_logits(small.random_state(shape), shape, [Reading(tuple(ids), 0)])
    rows, found = expected.numpy(), build_logits(build, ids).numpy()
    assert relative_error(torch.from_numpy(found), expected) < 0.05
    behind = (rows.max(-1) - rows[np.arange(len(ids)), found.argmax(-1)]) / rows.std(-1)
    assert (behind == 0).mean() > 0.9
    assert behind.max() < NEAR_TIE


@FAMILIES
def test_the_infill_format_is_that_of_the_family(family: str, model: TextModel) -> None:
    encode, id_of = model.tokenizer.encode, model.tokenizer.id_of
    dash = "-" if family == "santacoder" else "_"
    prefix, suffix, middle, pad = (f"<fim{dash}{part}>" for part in ("prefix", "suffix", "middle", "pad"))
    prompt = model.prompt("def f(x10):\n", "    return y\n", 200, heal=False)
    assert prompt.ids == [
        id_of(prefix), *encode("def f(x10):\n"), id_of(suffix), *encode("    return y\n"), id_of(middle)
    ]  # fmt: skip
    assert {id_of("<|endoftext|>"), id_of(pad)} <= model.end_tokens
    assert model.info.end_of_text == id_of("<|endoftext|>")


def test_marks_in_a_text_are_text_and_never_generated(model: TextModel) -> None:
    marks = model.info.infill_marks
    assert marks is not None
    special = {model.tokenizer.id_of(mark) for mark in (marks.prefix, marks.suffix, marks.middle)}
    assert special <= model.tokenizer.special_ids
    text = f"a = '{marks.prefix}{marks.middle}<|endoftext|>'\n"
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert not model.tokenizer.special_ids & set(model.tokenizer.encode(text))
    params = GenerateParams("a", text, stop=StopRules(max_tokens=40), candidates=3, distinct=False)
    for candidate in model.generate(params, CancellationToken()).candidates:
        assert not any(mark in candidate.text for mark in (marks.prefix, marks.suffix, marks.middle, "<|endoftext|>"))


def test_auto_says_why_ct2_runs_it(build: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        loaded, description = load_model(LoadParams(str(build), threads=1), lambda message, share: None)
    loaded.close()
    assert description.engine == "ct2"
    assert "learned positions" in description.engine_note
    assert (description.ngrams, description.slots) == (False, 1)
    assert "learned positions" in caplog.text


def test_native_refuses_it_and_names_the_setting(build: Path) -> None:
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    with pytest.raises(ModelError, match=r"native engine can't run .* learned positions") as caught:
        open_engine(LoadParams(str(build), engine="native"), build, info, tokenizer)
    assert caught.value.advice == "Set `engine` to `auto` or `ct2`."


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"multi_query": False}, "multi_query"),
        ({"activation_function": "quick_gelu"}, "activation_function quick_gelu"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
    ],
)
def test_variants_that_would_be_computed_wrongly_are_refused(
    config: dict[str, Any], word: str, make_checkpoint: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=word):
        convert_checkpoint(make_checkpoint("starcoder", config=config), tmp_path / "build", name="mine")


def greedy(engine: Any, prompt: list[int], wanted: int, **options: Any) -> tuple[list[list[int]], int]:
    """Return the tokens of each candidate, and the number of cached tokens."""
    params = SamplingParams(max_tokens=wanted, end_tokens=frozenset(), **options)
    found = engine.generate(prompt, params, CancellationToken(), lambda *_: False)
    return [made.tokens for made in found.completions], found.cached_tokens


def opened(build: Path, **options: Any) -> Ct2Engine:
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    engine = open_engine(LoadParams(str(build), threads=1, **options), build, info, tokenizer)
    assert isinstance(engine, Ct2Engine)
    return engine


def random_ids(count: int) -> list[int]:
    found: list[int] = torch.randint(0, 380, (count,), generator=torch.Generator().manual_seed(count)).tolist()
    return found


def test_the_prefix_cache_changes_no_answer(build: Path) -> None:
    """Keys and values of multi-query attention have another layout in CTranslate2; `static_prompt` copies them."""
    cold, warm = opened(build, cache_memory_mb=0), opened(build)
    hits = 0
    for size in (130, 400):
        prompt = random_ids(size)
        for tail, forced in (([5, 6], b""), ([7, 8, 9], b""), ([11], b"re"), ([11, 300], b"")):
            expected, none = greedy(cold, [*prompt, *tail], 20, candidates=2, forced=forced)
            found, cached = greedy(warm, [*prompt, *tail], 20, candidates=2, forced=forced)
            assert found == expected
            assert none == 0
            hits += cached > 0
        warm.warm([*prompt, *random_ids(90)], CancellationToken())
        assert greedy(warm, [*prompt, *random_ids(90), 3], 9)[0] == greedy(cold, [*prompt, *random_ids(90), 3], 9)[0]
    assert hits >= 6
    cold.close()
    warm.close()


def test_the_cache_is_counted_by_its_one_head(build: Path) -> None:
    info, engine = read_info(build), opened(build)
    engine.warm(random_ids(200), CancellationToken())
    token = info.layers * 2 * (info.width // info.heads) * 4
    assert engine.cache_bytes() == 199 * token
    engine.close()
    prompt = info.context_length * token
    assert default_cache_bytes(info, 1000) == max(1000 * prompt, SMALL_CACHE_BYTES)


def test_an_answer_may_fill_the_context(model: TextModel) -> None:
    """There is no position beyond the context: CTranslate2 would fail there."""
    text = "value = compute(first, second)\n" * 60
    for suffix in ("", "return value\n" * 60):
        prompt = model.prompt(text + "    retu", suffix, model.info.context_length - 30, heal=True)
        sampling = SamplingParams(max_tokens=31, end_tokens=frozenset(), forced=prompt.forced, candidates=2)
        made = model.engine.generate(prompt.ids, sampling, CancellationToken(), lambda *_: False)
        assert prompt.forced
        assert [len(completion.tokens) for completion in made.completions] == [31, 31]
    whole = model.score([ScoredText(text * 3, text)], CancellationToken()).scores
    assert whole[0].tokens > 400


def test_a_cancelled_generation_ends(model: TextModel) -> None:
    cancellation, seen = CancellationToken(), []

    def on_token(candidate: int, id: int, log_probability: float) -> bool:
        seen.append(id)
        cancellation.cancel()
        return False

    with pytest.raises(Cancelled):
        model.engine.generate(random_ids(100), SamplingParams(300, frozenset()), cancellation, on_token)
    assert len(seen) == 1


def test_what_needs_the_native_engine_says_so(build: Path, model: TextModel) -> None:
    before = "def f(x):\n    return "
    request = GenerateParams("a", before, stop=SHORT)
    plain = model.attribute(AttributionParams(request, "x + 1", before), CancellationToken())
    assert plain.tokens
    assert all(token.probability == token.model_probability > 0 for token in plain.tokens)
    with pytest.raises(OtherEngineError, match=r"does not show what the model attends to.*learned positions") as caught:
        model.attribute(AttributionParams(request, "x + 1", before, attention=True), CancellationToken())
    assert caught.value.advice == "Remedy that, or choose another model."
    texts = {f"{number}.py": "value = compute(first, second)\n" * 99 for number in range(9)}
    with pytest.raises(OtherEngineError, match=r"learned positions.*weights have no effect"):
        tune(build, [texts], seconds=1, threads=1, progress=lambda message, share: None)
    exported = open_source(str(build), None, lambda message, share: None)
    with pytest.raises(ConversionError, match="not one of CodeGen's models"), exported:
        pass
