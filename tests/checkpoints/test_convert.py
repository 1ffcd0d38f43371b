"""Conversion: builds of all families, forms and shapes give the logits of transformers for the float model."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import ctranslate2
import numpy as np
import psutil
import pytest
import torch
from tokenizers import Tokenizer

from codegen_lsp.checkpoints import convert
from codegen_lsp.checkpoints.agreement import relative_error
from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.checkpoints.convert import convert_checkpoint, convert_into_store
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.verify import verify_build
from codegen_lsp.errors import ConversionError, ModelError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.tokenizer import Tokenizer as BuildTokenizer

INT8_ERROR = 0.06


def transformers_logits(config: dict[str, Any], state: dict[str, torch.Tensor], ids: list[int]) -> torch.Tensor:
    """Return logits of a model with four qkv groups, or a Llama."""
    import transformers

    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures", "head_dim")}
    if config["model_type"] == "llama":
        model: Any = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    else:
        model = transformers.CodeGenForCausalLM(transformers.CodeGenConfig(**settings))
    model.load_state_dict({name: weight.float() for name, weight in state.items()}, strict=True)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(torch.tensor([ids])).logits[0]
    return logits


def built_logits(build: Path, ids: list[int]) -> torch.Tensor:
    output = ctranslate2.Generator(str(build), intra_threads=2).forward_batch([ids])
    return torch.from_numpy(np.array(output, dtype=np.float32)[0])


def error_of(build: Path, shape: Architecture, state: dict[str, torch.Tensor], small: SimpleNamespace) -> float:
    ids = Tokenizer.from_file(str(build / "tokenizer.json")).encode(SNIPPET, add_special_tokens=False).ids
    four = small.regrouped(state, shape.qkv_groups, 4) if shape.qkv_groups == 8 else state
    return relative_error(built_logits(build, ids), transformers_logits(small.config_of(shape), four, ids))


@pytest.mark.parametrize("form", ["safetensors", "sharded-safetensors", "bin", "sharded-bin"])
@pytest.mark.parametrize("family", ["codegen", "codegen2", "codegen25"])
def test_every_family_in_every_form(
    family: str, form: str, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    shape = small.SHAPES[family]
    state = small.random_state(shape)
    source = make_checkpoint(family, form=form, state=state)
    messages: list[tuple[str, float]] = []
    info = convert_checkpoint(
        source, tmp_path / "build", name="mine", progress=lambda message, done: messages.append((message, done))
    )
    assert error_of(tmp_path / "build", shape, state, small) < INT8_ERROR
    assert info.family == family
    assert info.verification is not None
    assert info.verification.agreement > 0.8
    assert abs(info.verification.build_loss - info.verification.float_loss) < 0.1
    assert verify_build(tmp_path / "build", source) == info.verification
    fractions = [done for _, done in messages]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize(
    ("heads", "head_width", "groups"),
    [(4, 64, 4), (8, 64, 8), (4, 128, 4), (8, 128, 8), (4, 256, 4), (8, 256, 8), (16, 16, 8), (4, 80, 4)],
)
@pytest.mark.slow
def test_every_head_width_in_both_groupings(
    heads: int, head_width: int, groups: int, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """Head widths of 128 and 256 occur with four groups (CodeGen's 6B) and with eight (CodeGen2's 1B and 3.7B)."""
    width = heads * head_width
    shape = Architecture("codegen", 1, heads, width, 4 * width, min(64, head_width), 640, 512, 1e-5, groups)
    state = small.random_state(shape)
    family = "codegen2" if groups == 8 else "codegen"
    source = make_checkpoint(family, shape=shape, state=state)
    convert_checkpoint(source, tmp_path / "build", name="mine")
    assert error_of(tmp_path / "build", shape, state, small) < INT8_ERROR


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("family", ["codegen", "codegen25"])
def test_half_precision(
    family: str, form: str, dtype: torch.dtype, make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    shape = small.SHAPES[family]
    state = {name: weight.to(dtype) for name, weight in small.random_state(shape).items()}
    convert_checkpoint(make_checkpoint(family, form=form, state=state), tmp_path / "build", name="mine")
    assert error_of(tmp_path / "build", shape, state, small) < INT8_ERROR


def test_a_folder_that_transformers_saved(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    """A trained model is exported by `save_pretrained`, in shards when it is large."""
    from transformers import CodeGenConfig, CodeGenForCausalLM

    shape = small.SHAPES["codegen"]
    source = make_checkpoint()
    model = CodeGenForCausalLM(CodeGenConfig(**small.config_of(shape)))
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="300KB")
    assert (source / "model.safetensors.index.json").is_file()
    convert_checkpoint(source, tmp_path / "build", name="mine")
    state = {name: weight.detach() for name, weight in model.state_dict().items()}
    assert error_of(tmp_path / "build", shape, state, small) < INT8_ERROR


def test_build_json(make_checkpoint: Any, tmp_path: Path) -> None:
    info = convert_checkpoint(make_checkpoint("codegen2"), tmp_path / "build", name="mine", origin="somewhere@abc")
    tokenizer = Tokenizer.from_file(str(tmp_path / "build" / "tokenizer.json"))
    assert info == read_info(tmp_path / "build")
    assert (info.name, info.source, info.license) == ("mine", "somewhere@abc", "mit")
    assert info.languages == ["python", "cpp"]
    assert (info.layers, info.heads, info.width, info.context_length) == (2, 8, 128, 512)
    assert info.vocabulary_size == tokenizer.get_vocab_size() < 640
    assert (info.infill, info.infill_end) == ("mask", tokenizer.token_to_id("<eom>"))
    assert info.end_of_text == tokenizer.token_to_id("<|endoftext|>")
    assert info.quantization == "int8"
    assert ctranslate2.__version__ in info.converter
    assert {"model.bin", "config.json", "vocabulary.json", "tokenizer.json", "LICENSE"} == set(info.files)
    assert (tmp_path / "build" / "README.md").is_file()


def test_end_of_text_comes_from_the_tokenizer(make_checkpoint: Any, tmp_path: Path) -> None:
    """config.json of CodeGen names the ids 1 and 2, which are ordinary tokens."""
    info = convert_checkpoint(make_checkpoint(), tmp_path / "build", name="mine")
    config = json.loads((tmp_path / "build" / "config.json").read_text())
    vocabulary = json.loads((tmp_path / "build" / "vocabulary.json").read_text())
    assert config["eos_token"] == config["bos_token"] == config["unk_token"] == "<|endoftext|>"
    assert vocabulary[info.end_of_text] == "<|endoftext|>"
    assert config["layer_norm_epsilon"] == 1e-5
    generator = ctranslate2.Generator(str(tmp_path / "build"))
    result = generator.generate_batch([[vocabulary[5]]], max_length=4, end_token="<|endoftext|>")
    assert len(result[0].sequences_ids[0]) > 0


def test_vocabulary_keeps_ids_of_gaps_and_padding(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint("codegen2")
    raw = json.loads((source / "tokenizer.json").read_text())
    for token in raw["added_tokens"]:
        if token["content"].startswith("<mask"):
            token["id"] += 100
    (source / "tokenizer.json").write_text(json.dumps(raw))
    info = convert_checkpoint(source, tmp_path / "build", name="mine")
    vocabulary = json.loads((tmp_path / "build" / "vocabulary.json").read_text())
    tokenizer = Tokenizer.from_file(str(tmp_path / "build" / "tokenizer.json"))
    mask = tokenizer.token_to_id("<mask_1>")
    assert vocabulary[mask] == "<mask_1>"
    assert info.vocabulary_size == mask + 1
    assert len(vocabulary) == len(set(vocabulary)) == 640


def test_the_engines_tokenizer_reads_it(make_checkpoint: Any, tmp_path: Path) -> None:
    info = convert_checkpoint(make_checkpoint("codegen2"), tmp_path / "build", name="mine")
    tokenizer = BuildTokenizer.from_build(tmp_path / "build", info)
    for text in (SNIPPET, "x = '<mask_1> <eom>'\n", "a\r\n\tb  # é 🙂"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert info.infill_end in tokenizer.special_ids
    assert info.infill_end not in tokenizer.encode("<eom>")


def test_suffix_first_marks_make_an_infilling_model(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint()
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_special_tokens(["<fim_prefix>", "<fim_middle>", "<fim_suffix>"])
    tokenizer.save(str(source / "tokenizer.json"))
    info = convert_checkpoint(source, tmp_path / "build", name="mine")
    assert (info.family, info.infill, info.infill_end) == ("codegen", "suffix-first", None)


def test_a_trained_model_overrules_a_wrong_number_of_groups(
    learned: tuple[Architecture, Any], make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path
) -> None:
    """config.json says four groups, the weights are stored in eight: only the loss differs."""
    shape, state = learned
    source = make_checkpoint("codegen2", shape=shape, state=state, config={"head_dim": None})
    info = convert_checkpoint(source, tmp_path / "build", name="mine")
    assert info.verification is not None
    assert info.verification.float_loss < 0.5
    assert info.verification.build_loss < 0.6
    assert error_of(tmp_path / "build", shape, state, small) < INT8_ERROR
    (source / "config.json").write_text(json.dumps(small.config_of(shape)))
    assert verify_build(tmp_path / "build", source).float_loss == pytest.approx(info.verification.float_loss)


def test_a_trained_model_with_another_models_tokenizer_is_refused(
    learned: tuple[Architecture, Any], make_checkpoint: Any, tmp_path: Path
) -> None:
    shape, state = learned
    source = make_checkpoint("codegen2", shape=shape, state=state)
    raw = json.loads((source / "tokenizer.json").read_text())
    vocabulary = raw["model"]["vocab"]
    moved = dict(zip(vocabulary, [*list(vocabulary.values())[7:], *list(vocabulary.values())[:7]], strict=True))
    moved |= {"<|endoftext|>": moved["<|endoftext|>"]}
    raw["model"]["vocab"] = moved
    raw["added_tokens"][0]["id"] = moved["<|endoftext|>"]
    (source / "tokenizer.json").write_text(json.dumps(raw))
    with pytest.raises(ConversionError, match="confidently wrong"):
        convert_checkpoint(source, tmp_path / "build", name="mine")
    assert not (tmp_path / "build").exists()


def test_remote_code_never_runs(make_checkpoint: Any, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = make_checkpoint(
        config={
            "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model", "AutoTokenizer": "evil.T"}
        }
    )
    (source / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    convert_checkpoint(source, tmp_path / "build", name="mine")
    assert not marker.exists()


def test_damage_leaves_nothing_behind_and_keeps_the_old_build(make_checkpoint: Any, tmp_path: Path) -> None:
    output = tmp_path / "builds" / "mine"
    good = make_checkpoint(name="good")
    before = convert_checkpoint(good, output, name="mine")
    bad = make_checkpoint(name="bad")
    weights = bad / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ConversionError, match=r"model\.safetensors is damaged"):
        convert_checkpoint(bad, output, name="mine")
    assert [path.name for path in output.parent.iterdir()] == ["mine"]
    assert read_info(output) == before
    assert convert_checkpoint(good, output, name="mine").files == before.files


def test_a_full_disk(make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "write_info", full)
    with pytest.raises(ConversionError, match="No space left") as caught:
        convert_checkpoint(make_checkpoint(), tmp_path / "builds" / "mine", name="mine")
    assert "Make room" in caught.value.advice
    assert list((tmp_path / "builds").iterdir()) == []


def test_weights_that_do_not_fit_config_json(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    state = small.random_state(small.SHAPES["codegen"])
    del state["transformer.h.1.mlp.fc_in.bias"]
    with pytest.raises(ConversionError, match=r"lacks the weight transformer\.h\.1\.mlp\.fc_in\.bias"):
        convert_checkpoint(make_checkpoint(state=state), tmp_path / "build", name="mine")
    state["transformer.h.1.mlp.fc_in.bias"] = torch.zeros(3)
    with pytest.raises(ConversionError, match=r"fc_in\.bias is \(3,\)"):
        convert_checkpoint(make_checkpoint(state=state, name="other"), tmp_path / "build", name="mine")


def test_weights_that_are_not_numbers(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    state = small.random_state(small.SHAPES["codegen"])
    state["transformer.h.1.mlp.fc_in.weight"][0, 0] = float("nan")
    with pytest.raises(ConversionError, match="no finite predictions"):
        convert_checkpoint(make_checkpoint(state=state), tmp_path / "build", name="mine")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"model_type": "gpt2"}, "architecture 'gpt2'"),
        ({"n_head": None}, "incomplete"),
        ({"n_head": 3}, "not a multiple"),
        ({"activation_function": "relu"}, "relu"),
    ],
)
def test_other_models_are_refused(config: dict[str, Any], match: str, make_checkpoint: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=match):
        convert_checkpoint(make_checkpoint(config=config), tmp_path / "build", name="mine")


@pytest.mark.parametrize(
    "config",
    [
        {"num_key_value_heads": 3},
        {"rope_scaling": {"type": "dynamic", "factor": 2}},
        {"use_sliding_window": True},
        {"hidden_act": "gelu"},
    ],
)
def test_llamas_that_the_engines_cannot_run_are_refused(
    config: dict[str, Any], make_checkpoint: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConversionError, match=r"not a multiple|is not supported|not silu"):
        convert_checkpoint(make_checkpoint("codegen25", config=config), tmp_path / "build", name="mine")


def test_a_tokenizer_larger_than_the_embedding(make_checkpoint: Any, small: SimpleNamespace, tmp_path: Path) -> None:
    shape = attrs.evolve(small.SHAPES["codegen"], rows=300)
    with pytest.raises(ConversionError, match="do not belong together"):
        convert_checkpoint(make_checkpoint(shape=shape), tmp_path / "build", name="mine")


def test_the_name_of_another_checkpoint(make_checkpoint: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"is not codegen-350M-mono.*layers 2 instead of 20"):
        convert_checkpoint(make_checkpoint(), tmp_path / "build", name="codegen-350M-mono")


def test_too_little_memory(make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000, total=1000))
    with pytest.raises(ConversionError, match=r"GiB of memory") as caught:
        convert_checkpoint(make_checkpoint(), tmp_path / "build", name="mine")
    assert "larger machine" in caught.value.advice


def test_into_the_store(make_checkpoint: Any, store: Path) -> None:
    build = convert_into_store(make_checkpoint(name="my-model"))
    assert (build.name, build.path, build.bundled) == ("my-model", store / "my-model", False)
    assert convert_into_store(make_checkpoint(name="again"), name="my-model").path == build.path
    assert [path.name for path in store.iterdir()] == ["my-model"]
    with pytest.raises(ModelError, match="can't be the name"):
        convert_into_store(make_checkpoint(name="third"), name="../escape")


def test_without_a_card(make_checkpoint: Any, tmp_path: Path) -> None:
    source = make_checkpoint()
    (source / "README.md").write_text("---\nlicense: [unclosed\n---\n")
    (source / "LICENSE").unlink()
    info = convert_checkpoint(source, tmp_path / "build", name="mine")
    assert (info.license, info.languages) == ("unknown", [])
