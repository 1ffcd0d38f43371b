"""Sweep over configurations at equal training time: `python -m codegen_lsp.training.sweep NAME FOLDER`.

Every candidate is trained from scratch for the number of steps that this machine makes in the given time; its speed is
measured first, so that other programs do not distort the comparison. The schedule is fitted to these steps, and the
result is the loss on the same held-out files. The best size grows with the budget; hence several budgets.

FOLDER was made by `codegen_lsp.training` as far as `corpus`. Results are kept in its `sweep/`, so an interrupted sweep
continues.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch

from codegen_lsp.training import corpus, data, measure, model_card, pipeline, tokenizer
from codegen_lsp.training.config import TrainingConfig
from codegen_lsp.training.model import ModelShape
from codegen_lsp.training.state import load_model
from codegen_lsp.training.train import train
from codegen_lsp.training.validation import validate

Report = Callable[[str], None]

SPEED_STEPS = 6
"""Steps from which a candidate's speed is measured; the fastest counts."""
EVERY_NTH = 5
"""Of the held-out files every fifth is used."""


@attrs.frozen
class SweepCandidate:
    """A model shape with a tokenizer design and changes to the base configuration.

    Row lengths and the time of untying are shares of the budget here.
    """

    name: str
    shape: ModelShape
    design: str = "word"
    changes: dict[str, Any] = attrs.field(factory=dict)
    row_lengths: tuple[tuple[float, int], ...] = ((0, 256), (0.3, 512), (0.6, 1024))
    untie: float = 2 / 3

    @property
    def tokenizer_name(self) -> str:
        """Name of the tokenizer, which candidates may share."""
        return f"{self.design}-{self.shape.vocabulary}"


def _sized(layers: int, width: int, design: str = "word", vocabulary: int = 8192) -> SweepCandidate:
    shape = ModelShape(vocabulary=vocabulary, layers=layers, width=width, heads=4, rotary=32)
    name = f"{layers}x{width}" + ("" if (design, vocabulary) == ("word", 8192) else f"-{design}-{vocabulary}")
    return SweepCandidate(name, shape, design)


_BASE = _sized(4, 256)
SWEEPS: dict[str, tuple[SweepCandidate, ...]] = {
    "sizes": tuple(_sized(layers, width) for layers, width in ((2, 128), (2, 256), (4, 256), (4, 384))),
    "tokenizers": (_BASE, _sized(4, 256, "mark"), _sized(4, 256, vocabulary=16384)),
    "recipe": (
        _BASE,
        attrs.evolve(_BASE, name="rows-1024", row_lengths=((0, 1024),)),
        attrs.evolve(_BASE, name="untied", untie=0.0),
        attrs.evolve(_BASE, name="batch-4096", changes={"batch_tokens": 4096}),
        attrs.evolve(_BASE, name="muon-0.02", changes={"muon_rate": 0.02, "adam_rate": 0.004}),
        attrs.evolve(_BASE, name="half-life-1M", changes={"beta2_half_life": 1e6}),
    ),
}


@attrs.frozen
class SweepResult:
    """Result of one candidate at one budget; `minutes` are those of one processor thread."""

    candidate: str
    minutes: float
    parameters: int
    tokens: int
    tokens_per_second: float
    characters_per_token: float
    bits_per_byte: float


def run(
    folder: Path, candidates: Sequence[SweepCandidate], minutes: float, base: TrainingConfig, report: Report
) -> Iterator[SweepResult]:
    """Yield the result of each candidate, training those that have none yet; `base` holds all other settings."""
    for candidate in candidates:
        path = folder / "sweep" / f"{candidate.name}-{minutes:g}" / "result.json"
        if not path.exists():
            result = _train_candidate(folder, candidate, minutes, base, report)
            path.write_text(json.dumps(attrs.asdict(result)), encoding="utf-8")
        yield SweepResult(**json.loads(path.read_text(encoding="utf-8")))


def _train_candidate(
    folder: Path, candidate: SweepCandidate, minutes: float, base: TrainingConfig, report: Report
) -> SweepResult:
    encoded = folder / "sweep" / candidate.tokenizer_name
    learned = _tokenizer(folder, candidate, encoded)
    tables = data.TokenTables.of(learned)
    training, held_out = (data.read(encoded, name) for name in ("train", "validation"))
    config = attrs.evolve(base, shape=candidate.shape, **candidate.changes)
    speed = _speed(candidate, config, encoded.parent / f"{candidate.name}.speed.json")
    tokens = 60 * minutes * speed
    config = attrs.evolve(
        config,
        steps=max(2, int(tokens / config.batch_tokens)),
        row_lengths=tuple((share * tokens, length) for share, length in candidate.row_lengths),
        untie_tokens=candidate.untie * tokens,
    )
    report(f"{candidate.name}: {speed:,.0f} tokens per second, {config.steps} steps")
    made = folder / "sweep" / f"{candidate.name}-{minutes:g}"
    train(config, training, held_out, tables, made, report)
    loss = validate(load_model(made), held_out, tables, config, 0.0, 1_000_000)
    texts = itertools.islice(_held_out(folder), 100)
    return SweepResult(
        candidate=candidate.name,
        minutes=minutes,
        parameters=model_card.parameters(candidate.shape),
        tokens=(config.steps or 0) * config.batch_tokens,
        tokens_per_second=speed,
        characters_per_token=tokenizer.characters_per_token(learned, texts),
        bits_per_byte=loss["bits_per_byte"],
    )


def _speed(candidate: SweepCandidate, config: TrainingConfig, known: Path) -> float:
    """Return tokens per second over a training, averaged over its row lengths, measured once."""
    if not known.exists():
        ends = [*(share for share, _ in candidate.row_lengths[1:]), 1.0]
        seconds = sum(
            (end - begin) / max(measure.throughput(config, length, SPEED_STEPS))
            for (begin, length), end in zip(candidate.row_lengths, ends, strict=True)
        )
        known.write_text(json.dumps(1 / seconds), encoding="utf-8")
    return float(json.loads(known.read_text(encoding="utf-8")))


def _tokenizer(folder: Path, candidate: SweepCandidate, encoded: Path) -> Any:
    if not (encoded / "tokenizer.json").exists():
        sample = pipeline.texts(folder / "corpus" / "train.jsonl", 40.0)
        learned = tokenizer.train(sample, candidate.shape.vocabulary, candidate.design)
        texts = (file.text for file in corpus.documents(folder / "corpus" / "train.jsonl"))
        data.encode(learned, texts, encoded, "train")
        data.encode(learned, _held_out(folder), encoded, "validation")
        tokenizer.save(learned, encoded)
    return tokenizer.load(encoded)


def _held_out(folder: Path) -> Iterator[str]:
    files = corpus.documents(folder / "corpus" / "validation.jsonl")
    return (file.text for file in itertools.islice(files, 0, None, EVERY_NTH))


def table(results: Sequence[SweepResult]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| candidate | thread-minutes | million parameters | million tokens | characters per token | bits per byte |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {t.candidate} | {t.minutes:g} | {t.parameters / 1e6:.1f} | {t.tokens / 1e6:.2f} "
        f"| {t.characters_per_token:.2f} | {t.bits_per_byte:.3f} |"
        for t in results
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run a sweep, print its table and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training.sweep", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("name", choices=SWEEPS)
    parser.add_argument("folder", type=Path, help="a folder made by codegen_lsp.training")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.5, 8.0], help="budgets, of one thread each")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    job = pipeline.Job(options.folder, pipeline.PRESETS["small"], steps=1, device="cpu", threads=1)
    base = attrs.evolve(pipeline.training_config(job), validate_seconds=float("inf"), validation_rows=1)
    results = [
        result
        for minutes in options.minutes
        for result in run(options.folder, SWEEPS[options.name], minutes, base, _say)
    ]
    _say(table(results))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
