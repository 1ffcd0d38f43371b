"""A larger model whose weights stay as they are, and adapters in its linear layers, which are trained (LoRA).

An adapter adds the product of two narrow matrices to a weight (Hu et al., arXiv 2106.09685). They are in all linear
layers of attention and MLP: with attention alone, LoRA falls behind training all weights (Dettmers et al., QLoRA, arXiv
2305.14314; Biderman et al., arXiv 2405.09673). The library is peft, since it knows the layers of transformers' models,
and since its files are those that other programs read.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from codegen_lsp.checkpoints.architecture import Architecture
from codegen_lsp.errors import ConversionError
from codegen_lsp.training.adaptation.float_model import float_model
from codegen_lsp.training.model import TrainableModel, output_loss

ADAPTER_FILE = "adapter_model.safetensors"
RANK = 16
ALPHA = 32
"""Twice the rank, as in the experiments of Biderman et al. (arXiv 2405.09673)."""
TARGETS = {
    "codegen": ("qkv_proj", "out_proj", "fc_in", "fc_out"),
    "llama": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
"""Linear layers of attention and MLP, by the kind of block."""
DESCRIPTIONS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
"""Files of a checkpoint that a merged one has, too."""


@attrs.frozen
class AdapterShape:
    """Dimensions by which the checkpoint of another run is recognised."""

    block: str
    layers: int
    width: int
    vocabulary: int
    rank: int = RANK
    alpha: int = ALPHA


def target_matrices(architecture: Architecture) -> list[tuple[int, ...]]:
    """Return the shape of every weight that gets an adapter."""
    names = TARGETS[architecture.block]
    return [shape for name, shape in architecture.shapes().items() if name.removesuffix(".weight").endswith(names)
            and name.endswith(".weight")]  # fmt: skip


def adapter_parameters(architecture: Architecture) -> int:
    """Return the number of weights that are trained."""
    return sum(RANK * sum(shape) for shape in target_matrices(architecture))


def lora_config(architecture: Architecture, checkpoint: str | None = None) -> LoraConfig:
    """Return peft's description of the adapters."""
    return LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0.0,
        bias="none",
        target_modules=list(TARGETS[architecture.block]),
        base_model_name_or_path=checkpoint,
    )


class AdapterModel(TrainableModel):
    """A checkpoint's model with adapters, which alone are its parameters.

    The model itself is no submodule, so that checkpoints, averages and optimisers hold nothing of it. `dtype` is that
    of its weights; None for the checkpoint's. The adapters are float32, begin with no effect, and depend on the seed
    alone. Raises ConversionError as `float_model`.
    """

    def __init__(
        self,
        checkpoint: Path,
        architecture: Architecture,
        dtype: torch.dtype | None,
        device: torch.device,
        *,
        checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        from peft import get_peft_model

        model = float_model(checkpoint, architecture, dtype)
        model.to(device)
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # Newer versions of transformers 5 have another name for what peft and the older ones call so.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            if checkpointing:
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            wrapped: Any = get_peft_model(model, lora_config(architecture))
        wrapped.train()
        head: nn.Linear = model.get_output_embeddings()
        self.shape = AdapterShape(architecture.block, architecture.layers, architecture.width, architecture.rows)
        self._parts: dict[str, Any] = {"peft": wrapped, "body": getattr(model, model.base_model_prefix), "head": head}
        self._no_bias = torch.zeros(head.weight.shape[0], device=device)
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)

    def loss(self, ids: Tensor, targets: Tensor, gains: Tensor | None = None) -> Tensor:
        """Return the loss as `TrainableModel` says."""
        head = self._parts["head"]
        hidden = self._parts["body"](input_ids=ids, use_cache=False).last_hidden_state
        bias = self._no_bias if head.bias is None else head.bias.float()
        flat_gains = None if gains is None else gains.reshape(-1)
        return output_loss(hidden.reshape(-1, hidden.shape[-1]), head.weight, bias, targets.reshape(-1), flat_gains)

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """Map token ids (batch, length) to float32 logits (batch, length, rows)."""
        hidden = self._parts["body"](input_ids=ids, use_cache=False).last_hidden_state
        result: Tensor = self._parts["head"](hidden.to(self._parts["head"].weight.dtype)).float()
        return result

    def save_merged(self, checkpoint: Path, output: Path) -> None:
        """Add the adapters to the weights, and write them as a checkpoint's folder described as that in `checkpoint`.

        The model can't be used afterwards.
        """
        merged = self._parts["peft"].merge_and_unload()
        output.mkdir(parents=True, exist_ok=True)
        try:
            merged.save_pretrained(output)
        except SafetensorError as error:
            raise OSError(f"{output} can't be written to: {error}") from error
        for name in DESCRIPTIONS:
            if (checkpoint / name).is_file():
                shutil.copyfile(checkpoint / name, output / name)


def write_adapters(weights: Mapping[str, Tensor], architecture: Architecture, checkpoint: Path, folder: Path) -> None:
    """Write the weights of an `AdapterModel` in peft's format. They are named as being of `checkpoint`."""
    folder.mkdir(parents=True, exist_ok=True)
    lora_config(architecture, str(checkpoint)).save_pretrained(str(folder))
    named = {name.removesuffix("/default/weight").replace("/", ".") + ".weight": t for name, t in weights.items()}
    try:
        save_file({name: tensor.contiguous() for name, tensor in named.items()}, folder / ADAPTER_FILE)
    except SafetensorError as error:
        raise OSError(f"{folder} can't be written to: {error}") from error


def read_adapters(folder: Path) -> dict[str, Tensor]:
    """Return the weights that `write_adapters` wrote, by the names of an `AdapterModel`.

    Raises ConversionError when the file is damaged.
    """
    try:
        weights: Mapping[str, Tensor] = load_file(folder / ADAPTER_FILE)
    except SafetensorError as error:
        raise ConversionError(f"{folder / ADAPTER_FILE} is damaged: {error}.", "Adapt the model anew.") from error
    return {
        name.removesuffix(".weight").replace(".", "/") + "/default/weight": tensor for name, tensor in weights.items()
    }
