"""Measurements behind choices: `python -m codegen_lsp.training.measure tokenizers|throughput|loss`.

`tokenizers` learns each design from DIR's corpus and counts characters per token on held-out files. `throughput` times
training steps of a preset on random tokens, for several numbers of concurrent passes. `loss` is the loss of DIR's
trained model on all held-out files, plain and infilling.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import torch

from codegen_lsp.training import corpus, data, optimizer, pipeline, state, tokenizer
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.gradients import GradientPasses
from codegen_lsp.training.model import TrainableCodeGen
from codegen_lsp.training.train import choose_device
from codegen_lsp.training.validation import validate


def compare_tokenizers(folder: Path, vocabulary: int, files: int = 400, megabytes: float = 40.0) -> dict[str, float]:
    """Return the characters per token of each design on the first `files` held-out files."""
    held_out = itertools.islice(corpus.documents(folder / "corpus" / "validation.jsonl"), files)
    texts = [file.text for file in held_out]
    found = {}
    for design in tokenizer.DESIGNS:
        sample = pipeline.texts(folder / "corpus" / "train.jsonl", megabytes)
        found[design] = tokenizer.characters_per_token(tokenizer.train(sample, vocabulary, design), texts)
    return found


def throughput(config: TrainingConfig, length: int, steps: int) -> Iterator[float]:
    """Yield tokens per second of each of `steps` optimiser steps on random rows of `length` tokens."""
    device = choose_device(config.device)
    model = TrainableCodeGen(config.shape)
    model.initialise(torch.Generator().manual_seed(config.seed))
    model.untie()
    model.to(device)
    if device.type == "cuda":
        model.compile_blocks()
    passes = GradientPasses(model, config, device)
    optimizers = optimizer.build_optimizers(model, config.muon_rate, config.adam_rate, 0.999, config.weight_decay)
    ids = np.random.default_rng(0).integers(config.shape.vocabulary, size=(config.batch_tokens // length, length + 1))
    batch = data.Batch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]), None)
    for _ in range(steps):
        began = time.perf_counter()
        passes(batch, mixture=False)
        for each in optimizers:
            each.step()
            each.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield config.batch_tokens / (time.perf_counter() - began)


def held_out_loss(folder: Path, config: TrainingConfig, rows: int) -> dict[str, dict[str, float]]:
    """Return the loss of the trained model on at most `rows` held-out rows, for plain text and for infilling."""
    tables = data.TokenTables.of(tokenizer.load(folder / "tokenizer"))
    encoded = data.read(folder / "encoded", "validation")
    model = state.load_model(folder / "run").to(choose_device(config.device))
    shares = {"plain": 0.0, "infilling": 1.0}
    return {name: validate(model, encoded, tables, config, share, rows) for name, share in shares.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print one measurement and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training.measure", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("what", choices=("tokenizers", "throughput", "loss"))
    parser.add_argument("folder", type=Path, nargs="?", help="a folder made by codegen_lsp.training")
    parser.add_argument("--preset", choices=pipeline.PRESETS, default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of held-out text at most")
    options = parser.parse_args(arguments)
    if options.folder is None and options.what != "throughput":
        parser.error(f"{options.what} needs a folder")
    preset = pipeline.PRESETS[options.preset]
    job = pipeline.Job(Path(), preset, steps=1, device=options.device, threads=options.threads)
    config = pipeline.training_config(job)
    if options.what == "tokenizers":
        for design, characters in compare_tokenizers(options.folder, config.shape.vocabulary).items():
            _say(f"{design}: {characters:.2f} characters per token")
    elif options.what == "throughput":
        for (_, length), workers in itertools.product(config.row_lengths, range(1, options.threads + 1)):
            best = max(throughput(attrs.evolve(config, workers=workers), length, options.steps))
            _say(f"rows of {length}, {workers} concurrent passes: {best:,.0f} tokens per second at best")
    else:
        for name, values in held_out_loss(options.folder, config, options.rows).items():
            _say(f"{name}: {values['nats_per_token']:.4f} nats per token, {values['bits_per_byte']:.4f} bits per byte")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
