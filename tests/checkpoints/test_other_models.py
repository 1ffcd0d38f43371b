"""Models with Llama's block that are not CodeGen's: converted, with their own infill format, and run."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from codegen_lsp.checkpoints import catalogue
from codegen_lsp.checkpoints.convert import convert_checkpoint
from codegen_lsp.checkpoints.verify import verify_build
from codegen_lsp.errors import ConversionError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.rpc.messages import LoadParams
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer

FORMS = {"qwen2": "sharded-safetensors", "deepseek": "bin", "granite": "safetensors"}


@pytest.fixture(params=FORMS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build(family: str, make_checkpoint: Any, tmp_path: Path) -> Path:
    convert_checkpoint(make_checkpoint(family, form=FORMS[family]), tmp_path / "build", name="mine")
    return tmp_path / "build"


@pytest.fixture
def model(build: Path) -> Any:
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    engine = open_engine(LoadParams(str(build), engine="native", threads=1), build, info, tokenizer)
    yield TextModel(info, tokenizer, engine)
    engine.close()


def test_the_infill_format_is_that_of_the_family(family: str, model: TextModel) -> None:
    encode, id_of = model.tokenizer.encode, model.tokenizer.id_of
    prefix, suffix, middle = {
        "qwen2": ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        "deepseek": ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        "granite": ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    }[family]
    begin = [id_of("<｜begin▁of▁sentence｜>")] if family == "deepseek" else []
    prompt = model.prompt("def f(x):\n", "    return y\n", 200, heal=False)
    before, after = encode("def f(x):\n"), encode("    return y\n")
    assert prompt.ids == [*begin, id_of(prefix), *before, id_of(suffix), *after, id_of(middle)]
    assert [prompt.ids[place] for place in prompt.before] == before
    assert [prompt.ids[place] for place in prompt.after] == after
    assert model.prompt("x = 1\n", "", 200, heal=False).ids == [*begin, *encode("x = 1\n")]
    assert max(len(model.prompt("x = 1\n" * 99, "y\n" * 99, room, heal=False).ids) - room for room in (40, 77)) <= 0


def test_an_entry_of_the_catalogue_states_the_order_of_a_prompt(
    make_checkpoint: Any, tmp_path: Path, small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for Mellum, whose special tokens are StarCoder's."""
    mellum = catalogue.resolve("mellum-4B-sft-python")
    assert mellum.infill == "suffix-first"
    entry = attrs.evolve(mellum, name="mine", architecture=small.OTHER_SHAPES["granite"])
    monkeypatch.setattr(catalogue, "checkpoints", lambda: (entry,))
    info = convert_checkpoint(make_checkpoint("granite"), tmp_path / "build", name="mine")
    assert (info.infill, info.license) == ("suffix-first", "Apache-2.0")
    tokenizer = Tokenizer.from_build(tmp_path / "build", info)
    ids = TextModel(info, tokenizer, SimpleNamespace(close=lambda: None)).prompt("a", "b", 99, heal=False).ids
    marks = [id for id in ids if id in tokenizer.special_ids]
    assert marks == [tokenizer.id_of(mark) for mark in ("<fim_suffix>", "<fim_prefix>", "<fim_middle>")]


def test_marks_in_a_text_are_text(model: TextModel) -> None:
    marks = model.info.infill_marks
    assert marks is not None
    special = {model.tokenizer.id_of(mark) for mark in (marks.prefix, marks.suffix, marks.middle)}
    assert special <= model.tokenizer.special_ids
    text = f"a = '{marks.prefix}{marks.middle}'\n"
    assert sorted(id for id in model.prompt(text, text, 300, heal=False).ids if id in special) == sorted(special)
    assert model.tokenizer.decode(model.tokenizer.encode(text)) == text
    assert not special & set(model.tokenizer.encode(text))


def test_a_build_is_verified_against_its_checkpoint(build: Path) -> None:
    assert verify_build(build, build.parent / "checkpoint").agreement > 0.8


def test_the_prefix_cache_holds_shared_keys_once(family: str, model: TextModel, small: SimpleNamespace) -> None:
    shape = small.OTHER_SHAPES[family]
    engine: Any = model.engine
    assert engine._forward_pass.weights.token_bytes == model.info.token_values * 4 == 8 * shape.layers * shape.kv_width


def test_other_scalings_are_refused(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("deepseek", config={"rope_scaling": {"rope_type": "dynamic", "factor": 4}})
    with pytest.raises(ConversionError, match="rope scaling of the kind dynamic, whose frequencies depend"):
        convert_checkpoint(source, tmp_path / "build", name="mine")


def test_a_tokenizer_that_is_not_byte_level_is_refused(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("granite")
    raw = json.loads((source / "tokenizer.json").read_text())
    raw["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    raw["decoder"] = raw["pre_tokenizer"]
    (source / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(ConversionError, match="does not give"):
        convert_checkpoint(source, tmp_path / "build", name="mine")
