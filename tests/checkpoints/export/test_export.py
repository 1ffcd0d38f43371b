"""Exports to transformers: every family computes the same there, and nothing half made or overwritten is left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests import needs

needs.extra("export")

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, CodeGenConfig, CodeGenForCausalLM, LlamaForCausalLM

from codegen_lsp.checkpoints import convert
from codegen_lsp.checkpoints.catalogue import checkpoints
from codegen_lsp.checkpoints.export import blocks, export
from codegen_lsp.checkpoints.export.blocks import partial_rotary_factor
from codegen_lsp.checkpoints.export.checks import SAMPLES
from codegen_lsp.checkpoints.export.export import export_model
from codegen_lsp.checkpoints.export.source import open_source
from codegen_lsp.checkpoints.export.transformers_folder import write_transformers_folder
from codegen_lsp.cli.app import app
from codegen_lsp.errors import CodegenError, ConversionError, ModelError

MakeCheckpoint = Callable[..., Path]
FAMILIES = ("codegen", "codegen2", "codegen25")


def silent(message: str, fraction: float) -> None:
    pass


def original_logits(small: SimpleNamespace, family: str, ids: list[int]) -> torch.Tensor:
    """Return the logits of transformers' own class for the checkpoint that `make_checkpoint` writes."""
    shape = small.SHAPES[family]
    state = small.random_state(shape)
    config = small.config_of(shape)
    if family == "codegen25":
        model = LlamaForCausalLM(LlamaForCausalLM.config_class(**config))
    else:
        model = CodeGenForCausalLM(CodeGenConfig(**{key: value for key, value in config.items() if key != "head_dim"}))
        state = small.regrouped(state, shape.qkv_groups, 4)  # transformers' class knows four groups only
    missing = model.load_state_dict(state, strict=False).missing_keys
    assert not [name for name in missing if name.endswith(("weight", "bias")) and "causal_mask" not in name]
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_computes_the_same_in_transformers(
    family: str, make_checkpoint: MakeCheckpoint, small: SimpleNamespace, tmp_path: Path
) -> None:
    source = make_checkpoint(family)
    done = export_model(str(source), "phi", tmp_path / "out")
    assert done.weights == "f32"
    assert done.check is not None
    assert done.check.error < 1e-5
    ours = Tokenizer.from_file(str(source / "tokenizer.json"))
    ids = ours.encode(SAMPLES[0], add_special_tokens=False).ids[:200]
    found = AutoModelForCausalLM.from_pretrained(done.path, dtype=torch.float32)
    expected = original_logits(small, family, ids)
    with torch.no_grad():
        logits = found.eval()(torch.tensor([ids])).logits[0]
    vocabulary = len(ours.get_vocab())
    assert logits.shape == (len(ids), vocabulary)  # no rows without a token
    torch.testing.assert_close(logits, expected[:, :vocabulary], atol=2e-5, rtol=0)
    assert type(found).__name__ == ("LlamaForCausalLM" if family == "codegen25" else "PhiForCausalLM")
    tokenizer = AutoTokenizer.from_pretrained(done.path)
    assert [tokenizer.encode(text, add_special_tokens=False) for text in SAMPLES] == [
        ours.encode(text, add_special_tokens=False).ids for text in SAMPLES
    ]
    assert tokenizer.eos_token == "<|endoftext|>"
    assert (done.path / "LICENSE").read_text() == "Do as you like.\n"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_build_is_exported_with_its_rounded_weights(
    family: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    source = make_checkpoint(family)
    build = tmp_path / "build"
    convert.convert_checkpoint(source, build, name="build")
    done = export_model(str(build), "phi", tmp_path / "out", weights="f32")
    assert done.check is not None
    assert done.check.error < 1e-5
    assert any("build of 8 bits" in warning for warning in done.warnings)
    with open_source(str(build), None, silent) as rounded, open_source(str(source), None, silent) as exact:
        ids = exact.tokenizer.encode(SAMPLES[0])[:200]
        expected = convert.build_logits(build, ids)[:, : exact.info.vocabulary_size]
        difference = (rounded.logits(ids) - expected).norm() / expected.norm()
        assert difference < 0.05  # CTranslate2 rounds the activations to int8, too
        assert 0 < (rounded.logits(ids) - exact.logits(ids)).norm() / expected.norm() < 0.05


def test_large_models_are_written_to_several_files(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    with open_source(str(make_checkpoint()), "small", silent) as source:
        for folder, limit in (("whole", 1 << 30), ("parts", 100_000)):
            (tmp_path / folder).mkdir()
            write_transformers_folder(source, tmp_path / folder, "f32", lambda share: None, shard_bytes=limit)
        ids = source.tokenizer.encode(SAMPLES[0])[:50]
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    files = sorted(tmp_path.glob("parts/model-*.safetensors"))
    assert len(files) > 3
    index = json.loads((tmp_path / "parts" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {file.name for file in files}
    whole, parts = (AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("whole", "parts"))
    with torch.no_grad():
        assert torch.equal(whole(torch.tensor([ids])).logits, parts(torch.tensor([ids])).logits)


def test_a_wrong_order_of_rows_is_noticed_and_nothing_is_left(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_checkpoint()
    monkeypatch.setattr(blocks, "pairs_to_halves", lambda matrix, heads, rotary: matrix)
    with pytest.raises(ConversionError, match="does not compute what the model computes"):
        export_model(str(source), "phi", tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "full folder", "link"])
def test_nothing_is_overwritten(kind: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(ConversionError, match="nothing is overwritten"):
        export_model(str(make_checkpoint()), "phi", out)


def test_an_empty_folder_is_filled(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (export_model(str(make_checkpoint()), "phi", tmp_path / "out").path / "config.json").is_file()


@pytest.mark.parametrize("lacking", ["disk", "memory"])
def test_room_is_checked_before_anything_is_written(
    lacking: str, make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if lacking == "disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr(export.psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(ConversionError, match=lacking):
        export_model(str(make_checkpoint()), "phi", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["phi", "gguf"])
def test_weights_that_a_type_lacks_are_refused(target: str, make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="has no weights of the type"):
        export_model(str(make_checkpoint()), target, tmp_path / "out", weights="q4")


def test_values_beyond_f16_are_refused(make_checkpoint: MakeCheckpoint, small: SimpleNamespace, tmp_path: Path) -> None:
    state = small.random_state(small.SHAPES["codegen"])
    state["transformer.h.0.mlp.fc_in.weight"][3, 5] = 1e6
    source = make_checkpoint(state=state)
    with pytest.raises(ConversionError, match="f16 can't represent"):
        export_model(str(source), "phi", tmp_path / "out", weights="f16")
    assert not (tmp_path / "out").exists()


def test_the_exported_model_can_have_another_name(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint()
    build = tmp_path / "build"
    convert.convert_checkpoint(source, build, name="build")
    for number, model in enumerate((source, build)):
        done = export_model(str(model), "gguf", tmp_path / str(number), name="mine", verify=False)
        assert done.path == tmp_path / str(number) / "mine-f16.gguf"
        with pytest.raises(ModelError, match="can't be the name of a model"):
            export_model(str(model), "gguf", tmp_path / "out", name="../mine", verify=False)


def test_files_can_be_read_by_others(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    """A server often runs as another user."""
    done = export_model(str(make_checkpoint()), "phi", tmp_path / "out", verify=False)
    assert {file.stat().st_mode for file in done.path.iterdir()} == {(done.path / "config.json").stat().st_mode}


@pytest.mark.parametrize("name", ["no-such-model", "empty"])
def test_what_is_no_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((ModelError, CodegenError)):
        export_model(str(tmp_path / name), "phi", tmp_path / "out")


@pytest.mark.parametrize("entry", checkpoints(), ids=lambda entry: entry.name)
def test_the_rotated_share_of_a_head_is_read_back_exactly(entry: SimpleNamespace) -> None:
    shape = entry.architecture
    assert int(shape.head_width * partial_rotary_factor(shape.rotary, shape.head_width)) == shape.rotary


def test_every_possible_share_is_read_back_exactly() -> None:
    for head_width in range(2, 513, 2):
        for rotary in range(2, head_width + 1, 2):
            assert int(head_width * partial_rotary_factor(rotary, head_width)) == rotary


def test_the_command_says_where_it_is_and_what_was_compared(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    source = make_checkpoint()
    run = CliRunner()
    result = run.invoke(app, ["models", "export", str(source), str(tmp_path / "a"), "--to", "phi"])
    assert result.exit_code == 0, result.output
    assert "Compared in transformers" in result.stdout
    assert str(tmp_path / "a") in result.stdout
    result = run.invoke(
        app, ["models", "export", str(source), str(tmp_path / "b"), "--to", "phi", "--no-verify", "--json"]
    )
    answer = json.loads(result.stdout)
    assert (answer["path"], answer["check"]) == (str(tmp_path / "b"), None)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (tmp_path / "a" / "model.safetensors").read_bytes()
