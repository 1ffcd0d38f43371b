"""Which size and which tokenizer learn most in the same time: `python -m codegen_lsp.training.study`.

Every candidate is trained from nothing for as many steps as this machine does in the time given, with the whole
schedule fitted to them, and judged by bits per byte on the same held-out files. Steps are counted, not minutes: the
speed of each candidate is measured first, so other programs on the machine don't decide. The best size for a short time
is smaller than the best one for a long time; hence several budgets, from whose winners the way it grows can be read.

FOLDER was made by `codegen_lsp.training` as far as `corpus`; results are kept in its `study/`, so an interrupted study
goes on where it ended.
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

from codegen_lsp.training import card, corpus, data, measure, pipeline, tokenizer
from codegen_lsp.training.model import Shape
from codegen_lsp.training.train import Plan, load_model, train, validate

Report = Callable[[str], None]

SPEED_STEPS = 6
"""Steps whose best one tells a candidate's speed."""
EVERY_NTH = 5
"""Of the held-out files, which stand in the order of their packages, every fifth is enough to compare by."""


@attrs.frozen
class Candidate:
    """A model and the tokenizer under it."""

    name: str
    shape: Shape
    design: str = "word"

    @property
    def vocabulary(self) -> str:
        """Name of the tokenizer, which candidates may share."""
        return f"{self.design}-{self.shape.vocabulary}"


def _of(layers: int, width: int, design: str = "word", vocabulary: int = 8192) -> Candidate:
    shape = Shape(vocabulary=vocabulary, layers=layers, width=width, heads=4, rotary=32)
    name = f"{layers}x{width}" + ("" if (design, vocabulary) == ("word", 8192) else f"-{design}-{vocabulary}")
    return Candidate(name, shape, design)


SIZES = tuple(_of(layers, width) for layers, width in ((2, 128), (2, 256), (4, 256), (4, 384)))
TOKENIZERS = (_of(4, 256), _of(4, 256, "mark"), _of(4, 256, vocabulary=16384))


@attrs.frozen
class Trial:
    """What a candidate came to in a budget."""

    candidate: str
    minutes: float
    """Of one processor thread."""
    parameters: int
    tokens: int
    tokens_per_second: float
    characters_per_token: float
    bits_per_byte: float


def run(folder: Path, candidates: Sequence[Candidate], minutes: float, base: Plan, report: Report) -> Iterator[Trial]:
    """A trial for each candidate, those made earlier as they were. `base` has all that is not the candidate's own."""
    for candidate in candidates:
        result = folder / "study" / f"{candidate.name}-{minutes:g}" / "trial.json"
        if not result.exists():
            trial = _trial(folder, candidate, minutes, base, report)
            result.write_text(json.dumps(attrs.asdict(trial)), encoding="utf-8")
        yield Trial(**json.loads(result.read_text(encoding="utf-8")))


def _trial(folder: Path, candidate: Candidate, minutes: float, base: Plan, report: Report) -> Trial:
    encoded = folder / "study" / candidate.vocabulary
    learned = _tokenizer(folder, candidate, encoded)
    vocabulary = data.Vocabulary.of(learned)
    training, held_out = (data.read(encoded, name) for name in ("train", "validation"))
    speed = _speed(candidate, base, encoded.parent / f"{candidate.name}.speed.json")
    per_step = base.rows * base.length
    plan = attrs.evolve(base, shape=candidate.shape, steps=max(2, int(60 * minutes * speed / per_step)))
    report(f"{candidate.name}: {speed:,.0f} tokens per second, {plan.steps} steps")
    made = folder / "study" / f"{candidate.name}-{minutes:g}"
    train(plan, training, held_out, vocabulary, made, report)
    judged = validate(load_model(made), held_out, vocabulary, plan, 0.0, 1_000_000)
    texts = itertools.islice(_held_out(folder), 100)
    return Trial(
        candidate=candidate.name,
        minutes=minutes,
        parameters=card.parameters(candidate.shape),
        tokens=(plan.steps or 0) * per_step,
        tokens_per_second=speed,
        characters_per_token=tokenizer.characters_per_token(learned, texts),
        bits_per_byte=judged["bits_per_byte"],
    )


def _speed(candidate: Candidate, base: Plan, known: Path) -> float:
    if not known.exists():
        plan = attrs.evolve(base, shape=candidate.shape)
        known.write_text(json.dumps(max(measure.throughput(plan, SPEED_STEPS))), encoding="utf-8")
    return float(json.loads(known.read_text(encoding="utf-8")))


def _tokenizer(folder: Path, candidate: Candidate, encoded: Path) -> Any:
    if not (encoded / "tokenizer.json").exists():
        sample = pipeline.texts(folder / "corpus" / "train.jsonl", 40.0)
        learned = tokenizer.train(sample, candidate.shape.vocabulary, candidate.design)
        data.encode(learned, (d.text for d in corpus.documents(folder / "corpus" / "train.jsonl")), encoded, "train")
        data.encode(learned, _held_out(folder), encoded, "validation")
        tokenizer.save(learned, encoded)
    return tokenizer.load(encoded)


def _held_out(folder: Path) -> Iterator[str]:
    documents = corpus.documents(folder / "corpus" / "validation.jsonl")
    return (document.text for document in itertools.islice(documents, 0, None, EVERY_NTH))


def table(trials: Sequence[Trial]) -> str:
    """The trials as Markdown."""
    lines = [
        "| candidate | thread-minutes | million parameters | million tokens | characters per token | bits per byte |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {t.candidate} | {t.minutes:g} | {t.parameters / 1e6:.1f} | {t.tokens / 1e6:.2f} "
        f"| {t.characters_per_token:.2f} | {t.bits_per_byte:.3f} |"
        for t in trials
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the study and print its table; the result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m codegen_lsp.training.study", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("what", choices=("sizes", "tokenizers"))
    parser.add_argument("folder", type=Path, help="a folder made by codegen_lsp.training")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.5, 8.0], help="budgets, of one thread each")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    small = pipeline.PRESETS["small"]
    base = attrs.evolve(
        pipeline.plan_of(pipeline.Job(options.folder, small, steps=1, device="cpu", threads=1)),
        validate_seconds=float("inf"),
        validation_rows=1,
    )
    candidates = {"sizes": SIZES, "tokenizers": TOKENIZERS}[options.what]
    trials = [trial for minutes in options.minutes for trial in run(options.folder, candidates, minutes, base, _say)]
    _say(table(trials))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
