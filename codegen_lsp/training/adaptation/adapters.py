"""Adapters of a larger model as what an adaptation trains, from its float checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs
import psutil
import torch
from torch import Tensor

from codegen_lsp.checkpoints import agreement
from codegen_lsp.checkpoints.architecture import Architecture, read_architecture
from codegen_lsp.checkpoints.convert import build_logits
from codegen_lsp.checkpoints.reference import Reading
from codegen_lsp.checkpoints.snippet import SNIPPET
from codegen_lsp.checkpoints.store import InstalledBuild
from codegen_lsp.errors import ConversionError, ModelError
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.training import tokenizer as code_tokenizer
from codegen_lsp.training.adaptation.adapter_model import (
    ADAPTER_FILE,
    TARGETS,
    AdapterModel,
    adapter_parameters,
    read_adapters,
    write_adapters,
)
from codegen_lsp.training.adaptation.blending import blended
from codegen_lsp.training.adaptation.job import AdaptationJob
from codegen_lsp.training.adaptation.resources import RUNTIME_BYTES, check_disk, check_memory
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.data import EncodedCorpus, RowSampler, TokenTables
from codegen_lsp.training.model import GPU_LOSS_CHUNK, LOSS_CHUNK
from codegen_lsp.training.optimizer import beta2
from codegen_lsp.training.state import TrainingState
from codegen_lsp.training.train import choose_device

ADAPTERS = "adapters"
"""Folder of a build with its adapters, for `--refresh`."""
LEARNING_RATE = 2e-4
"""Of QLoRA for models of up to 13 billion parameters (Dettmers et al., arXiv 2305.14314, table 9)."""
COPIES = 8
"""Of the adapters, in float32: as in `resources`, and one that is validated."""
FLOAT, HALF = 4, 2


@attrs.frozen
class AdapterFit:
    """How a training fits into memory."""

    dtype: torch.dtype
    """Of the weights that are not trained."""
    checkpointing: bool
    """Compute the activations of a layer again in the backward pass, instead of keeping those of all layers."""
    bytes: int


@attrs.frozen(eq=False)
class AdapterTraining:
    """Adapters of the model of a checkpoint, from those in `earlier` on, if there are any."""

    checkpoint: Path
    architecture: Architecture
    end: int
    """Id of the token that ends a file."""
    device: str
    earlier: Mapping[str, Tensor] | None = None

    @property
    def positions(self) -> int:
        """The largest number of tokens that the model takes."""
        return self.architecture.context

    @property
    def float_checkpoint(self) -> str:
        """Path of the checkpoint."""
        return str(self.checkpoint)

    def check_resources(self, job: AdaptationJob, folder: Path) -> None:
        """Raise CorpusError where memory, or disk for the working files in `folder`, does not suffice."""
        device = choose_device(self.device)
        free = _free(device) // (1 if device.type == "cuda" else job.processes_here)
        fit = fitting(self.architecture, self._row(), free, on_cuda=device.type == "cuda")
        check_memory(fit.bytes, "Close other programs, or adapt a smaller model.", free)
        merged = FLOAT * self.architecture.parameters
        check_disk(merged + 2 * self.architecture.int8_bytes + COPIES * FLOAT * self._trained(), folder)

    def tables(self, tokenizer_folder: Path) -> TokenTables:
        """Return the tables of the model's tokenizer. There is no infilling: its format differs from model to model."""
        fast = code_tokenizer.load(tokenizer_folder)
        pieces = Tokenizer(fast, self.architecture.rows).all_bytes
        return TokenTables.of_pieces(fast, pieces, self.end)

    def configured(self, config: TrainingConfig) -> TrainingConfig:
        """Return the configuration for adapters: one pass at a time, since each would hold the whole model."""
        return attrs.evolve(
            config,
            shape=None,
            workers=1,
            infill=0.0,
            adam_rate=LEARNING_RATE,
            weight_decay=0.0,
            later_weight_decay=0.0,
            pass_tokens=config.row_lengths[0][1],
        )

    def begin(self, config: TrainingConfig, training: EncodedCorpus, tables: TokenTables) -> TrainingState:
        """Return the state before the first step."""
        device = choose_device(config.device)
        fit = fitting(self.architecture, self._row(), _free(device), on_cuda=device.type == "cuda")
        model = self._model(fit.dtype, device, checkpointing=fit.checkpointing, seed=config.seed)
        adam = torch.optim.AdamW(
            model.parameters(),
            lr=config.adam_rate,
            betas=(0.9, beta2(config.batch_tokens, config.beta2_half_life)),
            weight_decay=0.0,
            fused=True,
        )
        for group in adam.param_groups:
            group["base_lr"] = group["lr"]
        return TrainingState(model, [adam], RowSampler(training, tables, config.infill, config.seed))

    def blend(self, weights: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return adapters at `share` of the way from the base to trained ones.

        Beside earlier adapters the way is one of both matrices' entries, and so only about straight in the weights: a
        straight one would need twice the rank.
        """
        if self.earlier is not None:
            return blended(self.earlier, weights, share)
        return {name: tensor * share if "/lora_B/" in name else tensor for name, tensor in weights.items()}

    def write_checkpoint(self, weights: Mapping[str, Tensor], tokenizer_folder: Path, output: Path) -> None:
        """Write the folder of a float checkpoint with the adapters added to the weights, in the checkpoint's type."""
        model = self._model(None, torch.device("cpu"))
        model.load_state_dict(weights)
        shutil.rmtree(output, ignore_errors=True)
        model.save_merged(self.checkpoint, output)
        shutil.copyfile(tokenizer_folder / "tokenizer.json", output / "tokenizer.json")

    def keep(self, weights: Mapping[str, Tensor], build: Path) -> None:
        """Write the adapters into the build, in peft's format."""
        write_adapters(weights, self.architecture, self.checkpoint, build / ADAPTERS)

    def check_base(self, build: InstalledBuild) -> None:
        """Raise ModelError unless the checkpoint, with the earlier adapters, computes what a build computes."""
        ids = Tokenizer.from_build(build.path, build.info).encode(SNIPPET)[: self.positions]
        try:
            model = self._model(None, torch.device("cpu"))
        except ConversionError as error:
            raise ModelError(f"{self.checkpoint} can't be adapted: {error.message}", error.advice) from error
        reading = Reading(tuple(ids), self.architecture.qkv_groups)
        try:
            found = model.logits(torch.tensor([ids]))[0]
            agreement.compare(build_logits(build.path, ids), [reading], [found], 0, build.name)
        except (ConversionError, RuntimeError, IndexError) as error:
            raise ModelError(
                f"The checkpoint in {self.checkpoint} is not that of {build.name}: {error}",
                "Give the folder of the checkpoint that the model was converted from, with --checkpoint.",
            ) from error

    def _model(
        self, dtype: torch.dtype | None, device: torch.device, *, checkpointing: bool = False, seed: int = 0
    ) -> AdapterModel:
        model = AdapterModel(self.checkpoint, self.architecture, dtype, device, checkpointing=checkpointing, seed=seed)
        if self.earlier is not None:
            try:
                model.load_state_dict(self.earlier)
            except RuntimeError as error:
                raise ConversionError(
                    "The adapters of the model to refresh are those of another one.",
                    "Adapt it anew, without --refresh.",
                ) from error
        return model

    def _row(self) -> int:
        return min(1024, self.positions)

    def _trained(self) -> int:
        return adapter_parameters(self.architecture)


def adapters_of(checkpoint: Path, base: InstalledBuild, device: str, earlier: Path | None) -> AdapterTraining:
    """Return the training of adapters for a base, whose float checkpoint is in a folder.

    `earlier` is a folder with adapters to go on from. Raises ModelError when they can't be trained.
    """
    try:
        architecture = read_architecture(checkpoint)
    except ConversionError as error:
        raise ModelError(f"{checkpoint} can't be adapted: {error.message}", error.advice) from error
    if architecture.block not in TARGETS:
        raise ModelError(
            f"{checkpoint} can't be adapted: its blocks are {architecture.block}'s.",
            "Adapt a checkpoint with the block of CodeGen, Llama or Qwen2.",
        )
    if architecture.block == "codegen" and architecture.qkv_groups != 4:
        raise ModelError(
            f"{checkpoint} can't be adapted: its attention has {architecture.qkv_groups} groups of weights, and "
            "transformers' CodeGen computes with four.",
            "Adapt a checkpoint of CodeGen or CodeGen2.5.",
        )
    kept = None
    if earlier is not None:
        if not (earlier / ADAPTER_FILE).is_file():
            raise ModelError(f"{base.name} can't be refreshed: {earlier} is missing.", "Adapt it anew.")
        try:
            kept = read_adapters(earlier)
        except ConversionError as error:
            raise ModelError(f"{base.name} can't be refreshed: {error.message}", error.advice) from error
    return AdapterTraining(checkpoint, architecture, base.info.end_of_text, device, kept)


def fitting(architecture: Architecture, row: int, free: int, *, on_cuda: bool) -> AdapterFit:
    """Return the first way to train that fits into free memory, else the one that takes least.

    On a CPU the weights are float32 if they fit, since not every processor computes in bfloat16.
    """
    dtypes = (torch.bfloat16,) if on_cuda else (torch.float32, torch.bfloat16)
    ways = [
        AdapterFit(dtype, checkpointing, _needed(architecture, row, dtype, checkpointing, on_cuda=on_cuda))
        for dtype in dtypes
        for checkpointing in (False, True)
    ]
    return next((way for way in ways if way.bytes <= free), min(ways, key=lambda way: way.bytes))


def _needed(architecture: Architecture, row: int, dtype: torch.dtype, checkpointing: bool, *, on_cuda: bool) -> int:
    """Return the bytes to train with rows of `row` tokens, one at a time."""
    weights = dtype.itemsize * architecture.parameters
    trained = FLOAT * COPIES * adapter_parameters(architecture)
    # Of a layer, for the backward pass: norms, queries, keys, values, attention and its probabilities, and the MLP.
    wide = 6 * architecture.width + 2 * architecture.attention_width + 2 * architecture.kv_width
    layer = FLOAT * row * (wide + 4 * architecture.hidden + architecture.heads * row)
    inputs = FLOAT * row * architecture.width
    kept = layer + architecture.layers * inputs if checkpointing else architecture.layers * layer
    chunk = min(row, GPU_LOSS_CHUNK if on_cuda else LOSS_CHUNK)
    logits = 3 * FLOAT * chunk * architecture.rows + HALF * architecture.rows * architecture.width
    return weights + trained + kept + logits + RUNTIME_BYTES


def _free(device: torch.device) -> int:
    """Return the free bytes of a device; of the main memory, the part of this process among those of a cluster here.

    Ray Train tells their number as torch's own launcher does.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
