"""The measurements behind the choices: `python -m codegen_lsp.training.measure tokenizers|throughput|loss`.

`tokenizers` learns each design from DIR's corpus and counts characters per token on held-out files. `throughput` times
training steps of a preset on random tokens, for several numbers of passes at once. `loss` is the whole held-out loss of
DIR's trained model, plain and infilling.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import torch

from codegen_lsp.training import corpus, data, pipeline, tokenizer, train
from codegen_lsp.training.model import TrainableCodeGen


def compare_tokenizers(folder: Path, vocabulary: int, files: int = 400, megabytes: float = 40.0) -> dict[str, float]:
    """Characters per token of each design on the first `files` held-out documents."""
    held_out = itertools.islice(corpus.documents(folder / "corpus" / "validation.jsonl"), files)
    texts = [document.text for document in held_out]
    found = {}
    for design in tokenizer.DESIGNS:
        sample = pipeline.texts(folder / "corpus" / "train.jsonl", megabytes)
        found[design] = tokenizer.characters_per_token(tokenizer.train(sample, vocabulary, design), texts)
    return found


def throughput(plan: train.Plan, steps: int) -> Iterator[float]:
    """Tokens per second of each of `steps` training steps on random tokens, the optimisers' part included."""
    device = train.choose_device(plan.device)
    model = TrainableCodeGen(plan.shape)
    model.initialise(torch.Generator().manual_seed(plan.seed))
    model.to(device)
    passes, optimisers = train.Passes(model, plan, device), train.optimisers(model, plan)
    ids = torch.randint(plan.shape.vocabulary, (plan.rows, plan.length + 1))
    for _ in range(steps):
        began = time.perf_counter()
        passes(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield plan.rows * plan.length / (time.perf_counter() - began)


def held_out_loss(folder: Path, plan: train.Plan, rows: int) -> dict[str, dict[str, float]]:
    """What `train.validate` gives for plain text and for infilling."""
    vocabulary = data.Vocabulary.of(tokenizer.load(folder / "tokenizer"))
    encoded = data.read(folder / "encoded", "validation")
    model = train.load_model(folder / "run").to(train.choose_device(plan.device))
    shares = {"plain": 0.0, "infilling": 1.0}
    return {name: train.validate(model, encoded, vocabulary, plan, share, rows) for name, share in shares.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print one measurement; the result is the exit status."""
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
    plan = pipeline.plan_of(pipeline.Job(Path(), preset, steps=1, device=options.device, threads=options.threads))
    if options.what == "tokenizers":
        for design, characters in compare_tokenizers(options.folder, preset.vocabulary).items():
            _say(f"{design}: {characters:.2f} characters per token")
    elif options.what == "throughput":
        for workers in range(1, options.threads + 1):
            best = max(throughput(attrs.evolve(plan, workers=workers), options.steps))
            _say(f"{workers} passes at once: {best:,.0f} tokens per second at best")
    else:
        for name, values in held_out_loss(options.folder, plan, options.rows).items():
            _say(f"{name}: {values['nats_per_token']:.4f} nats per token, {values['bits_per_byte']:.4f} bits per byte")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
