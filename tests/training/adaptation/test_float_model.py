"""The module of a float checkpoint: only dimensions and weights of its folder count, and damage is refused."""

from __future__ import annotations

from tests import needs

needs.extra("adapters")

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from codegen_lsp.checkpoints.architecture import read_architecture
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ConversionError, ModelError
from codegen_lsp.training.adaptation.adapter_model import ADAPTER_FILE
from codegen_lsp.training.adaptation.adapters import adapters_of
from codegen_lsp.training.adaptation.float_model import float_model
from tests.checkpoints.conftest import make_checkpoint, small_tokenizers

__all__ = ["make_checkpoint", "small_tokenizers"]

IDS = torch.tensor([[5, 99, 17, 230, 41, 7]])

DISTRACTIONS = {
    "kernels of the Hub": {"attn_implementation": "kernels-community/flash-attn2"},
    "kernels of somebody": {"_attn_implementation": "some/kernel", "_attn_implementation_internal": "some/kernel"},
    "a package that is missing": {"attn_implementation": "flash_attention_2"},
    "own code": {"auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}},
    "another file": {"transformers_weights": "../other.safetensors"},
    "a fusion": {"fusion_config": {"unknown": True}},
    "tuples": {"return_dict": False},
    "an unknown type": {"dtype": "float8"},
    "dropout": {"attn_pdrop": 0.9, "attention_dropout": 0.9, "resid_pdrop": 0.9, "embd_pdrop": 0.9},
}
"""Settings of config.json that transformers would follow, and that don't say what the model computes."""


def logits(checkpoint: Path) -> torch.Tensor:
    model = float_model(checkpoint, read_architecture(checkpoint), None)
    model.train()
    with torch.no_grad():
        result: torch.Tensor = model(IDS).logits
    return result


@pytest.mark.parametrize("family", ["codegen", "qwen2"])
def test_nothing_of_a_folder_counts_but_dimensions_and_weights(
    family: str, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint(family)
    expected = logits(checkpoint)
    declared = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/model"}')
    (checkpoint / "generation_config.json").write_text("{")
    for what, settings in DISTRACTIONS.items():
        (checkpoint / "config.json").write_text(json.dumps(declared | settings))
        assert torch.equal(logits(checkpoint), expected), what
    assert not (tmp_path / "ran").exists()


def without_a_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state.pop("model.norm.weight")
    save_file(state, folder / "model.safetensors")


class Program:
    """Runs a program where it is unpickled."""

    def __init__(self, written: Path) -> None:
        self._written = written

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._written}",)


def with_a_program(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Program(folder / "ran")}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def with_a_text_for_a_window(folder: Path) -> None:
    declared = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(declared | {"sliding_window": "all"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_a_weight, r"lacks the weight model\.norm\.weight"),
        (with_a_program, "would run code"),
        (truncated, "damaged or truncated"),
        (with_a_text_for_a_window, "does not accept the settings"),
    ],
)
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], None], message: str, make_checkpoint: Callable[..., Path]
) -> None:
    checkpoint = make_checkpoint("qwen2")
    damage(checkpoint)
    with pytest.raises(ConversionError, match=message):
        float_model(checkpoint, read_architecture(checkpoint), None)
    assert not (checkpoint / "ran").exists()


def test_damaged_adapters_are_refused(make_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    from codegen_lsp.checkpoints.convert import convert_checkpoint

    checkpoint, adapters = make_checkpoint("qwen2"), tmp_path / "adapters"
    info = convert_checkpoint(checkpoint, tmp_path / "base", name="base")
    base = InstalledBuild("base", tmp_path / "base", info, bundled=False)
    adapters.mkdir()
    (adapters / ADAPTER_FILE).write_bytes(b"")
    with pytest.raises(ModelError, match=r"base can't be refreshed: .* is damaged"):
        adapters_of(checkpoint, base, "cpu", adapters)
    save_file({"other.weight": torch.zeros(1)}, adapters / ADAPTER_FILE)
    with pytest.raises(ModelError, match="are those of another one"):
        adapters_of(checkpoint, base, "cpu", adapters).check_base(base)
    shutil.rmtree(checkpoint)
    with pytest.raises(ModelError, match="can't be adapted"):
        adapters_of(checkpoint, base, "cpu", None)
