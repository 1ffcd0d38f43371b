"""Export of a trained model to a Hugging Face folder in the layout of CodeGen checkpoints.

The folder holds config.json, model.safetensors and the tokenizer's files. Query, value and key are packed in four
groups of heads, rotary pairs are interleaved. The result is loaded with transformers' `CodeGenForCausalLM`, and its
logits are compared with those of the trained model before the folder is put in place.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from codegen_lsp.errors import ConversionError
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.model import ModelShape, TrainableCodeGen

GROUPS = 4
"""Groups of heads in CodeGen's packing, fixed in transformers."""

TOLERANCE = 1e-4
"""Largest difference between logits allowed, relative to their standard deviation; both compute in float32."""


def interleaved(matrix: Tensor, shape: ModelShape) -> Tensor:
    """Reorder the rows of a query or key matrix (width, width) from two rotary halves to adjacent rotary pairs."""
    half = shape.rotary // 2
    order = torch.arange(shape.head_width)
    order[: shape.rotary : 2] = torch.arange(half)
    order[1 : shape.rotary : 2] = torch.arange(half) + half
    heads = matrix.view(shape.heads, shape.head_width, -1)
    return heads[:, order].reshape(matrix.shape)


def packed(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return the (3 * width, width) matrix that has for each group of heads its rows of query, value and key."""
    parts = zip(query.chunk(GROUPS), value.chunk(GROUPS), key.chunk(GROUPS), strict=True)
    return torch.cat([row for group in parts for row in group])


def codegen_state(model: TrainableCodeGen) -> dict[str, Tensor]:
    """Return the weights under the names and in the layout of `CodeGenForCausalLM`."""
    shape = model.shape
    state = {
        "transformer.wte.weight": model.embedding.weight,
        "transformer.ln_f.weight": model.norm.weight,
        "transformer.ln_f.bias": model.norm.bias,
        "lm_head.weight": model.output.weight,
        "lm_head.bias": model.output.bias,
    }
    trained = model.state_dict()
    for layer in range(shape.layers):
        here, there = f"blocks.{layer}.", f"transformer.h.{layer}."
        state |= {
            there + "ln_1.weight": trained[here + "norm.weight"],
            there + "ln_1.bias": trained[here + "norm.bias"],
            there + "attn.qkv_proj.weight": packed(
                interleaved(trained[here + "query.weight"], shape),
                interleaved(trained[here + "key.weight"], shape),
                trained[here + "value.weight"],
            ),
            there + "attn.out_proj.weight": trained[here + "attention_out.weight"],
            there + "mlp.fc_in.weight": trained[here + "up.weight"],
            there + "mlp.fc_in.bias": trained[here + "up.bias"],
            there + "mlp.fc_out.weight": trained[here + "down.weight"],
            there + "mlp.fc_out.bias": trained[here + "down.bias"],
        }
    return {name: tensor.detach().float().contiguous().clone() for name, tensor in state.items()}


def config_of(shape: ModelShape, end: int) -> dict[str, object]:
    """config.json of the exported model; `end` is the id of the end mark."""
    return {
        "architectures": ["CodeGenForCausalLM"],
        "model_type": "codegen",
        "vocab_size": shape.vocabulary,
        "n_positions": shape.positions,
        "n_ctx": shape.positions,
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": None,
        "rotary_dim": shape.rotary,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": end,
        "eos_token_id": end,
        "dtype": "float32",
    }


def export(model: TrainableCodeGen, tokenizer_folder: Path, output: Path) -> float:
    """Write the Hugging Face folder; the result is the largest relative difference of logits found (see `TOLERANCE`).

    The folder appears whole or not at all. Raises ConversionError when transformers computes something else from it
    than the trained model does.
    """
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer = code_tokenizer.load(tokenizer_folder)
    for file in sorted(tokenizer_folder.glob("*.json")):
        shutil.copyfile(file, partial / file.name)
    config = config_of(model.shape, code_tokenizer.token_id(tokenizer, code_tokenizer.END))
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    try:
        save_file(codegen_state(model), partial / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(f"{partial} can't be written to: {error}") from error
    (partial / "model.safetensors").chmod(0o644)
    difference = logits_difference(model, partial)
    if difference > TOLERANCE:
        raise ConversionError(
            f"The exported model's logits differ from the trained one's by {difference:.2g} of their spread.",
            f"Look at {partial}: the weights' layout no longer fits transformers' CodeGen.",
        )
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
    return difference


@torch.no_grad()
def logits_difference(model: TrainableCodeGen, folder: Path, length: int = 192) -> float:
    """Return the largest difference between both models' logits on random ids, in standard deviations of the logits."""
    from transformers import CodeGenForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it writes to the screen beside ours
    exported: nn.Module = CodeGenForCausalLM.from_pretrained(folder, dtype=torch.float32)
    exported.eval()
    length = min(length, model.shape.positions)
    ids = torch.randint(model.shape.vocabulary, (2, length), generator=torch.Generator().manual_seed(0))
    ours = model.float().eval().logits(ids)
    theirs = exported(ids).logits
    return float((ours - theirs).abs().max() / ours.std().clamp(min=1e-6))
