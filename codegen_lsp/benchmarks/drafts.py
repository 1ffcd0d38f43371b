"""Speculative decoding: tokens per second on real code with drafts and without, by the same engine in the same run.

Each place is continued twice from the same cached prompt, alternately first with and first without drafts; only
decoding is timed, from the first token on. The tokens must be the same, except where two are almost equally likely.

Run it in a process of its own (`python -m codegen_lsp.benchmarks.drafts`), with the environment of a worker. It reads
the texts around each cursor, and those of the workspaces, from its standard input, as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from attrs import frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.evaluation.figures import Figure, ratio
from codegen_lsp.evaluation.lines import LineStart, Packages
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.engines.base import CancellationToken, EngineConfig, SamplingParams
from codegen_lsp.inference.engines.factory import default_cache_bytes
from codegen_lsp.inference.engines.native.engine import NativeEngine
from codegen_lsp.inference.engines.native.mixing_file import weights_for
from codegen_lsp.inference.engines.native.mixing_weights import SMALL_MODEL
from codegen_lsp.inference.engines.native.ngram_index import FileVersion, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.text_model import TextModel
from codegen_lsp.inference.tokenizer import Tokenizer

WARM_UP = 3
"""Places that don't count: there the engine learns the cost of drafts and how often they are right."""


@frozen
class DraftBenchmark:
    """One run over the places of some files."""

    build: str
    ngrams: bool
    workspace: bool
    """The n-grams of the other files of the package are mixed in, and drafts come from them, too."""
    places: int
    tokens_per_second: float
    """Without drafts."""
    drafted_tokens_per_second: float
    gain: Figure | None
    """Speed with drafts over speed without."""
    accepted: Figure | None
    """Share of drafted tokens that were accepted."""
    guessed_per_token: Figure | None
    same: Figure | None
    """Share of tokens before the two outputs differ: all, except for near-ties."""


@frozen
class _Run:
    tokens: list[int]
    seconds: float
    """From the first token to the last."""
    drafted: int
    accepted: int


def measure(
    build: Path,
    starts: Sequence[LineStart],
    tokens: int,
    threads: int,
    *,
    ngrams: str,
    packages: Packages | None = None,
) -> DraftBenchmark:
    """Time continuations of `tokens` tokens at each cursor. Raises: ModelError.

    `packages` are the workspaces of the cursors' files: those files are left out.
    """
    info = read_info(build)
    tokenizer = Tokenizer.from_build(build, info)
    engine = NativeEngine(
        build,
        info,
        tokenizer,
        EngineConfig(
            device="cpu",
            compute_type="auto",
            threads=threads,
            cache_bytes=default_cache_bytes(info),
        ),
    )
    model = TextModel(info, tokenizer, engine)
    weights = weights_for(build, info, ngrams)
    plain: list[_Run] = []
    drafted: list[_Run] = []
    indexes = {name: _index(texts, tokenizer) for name, texts in (packages or {}).items()}
    for number, start in enumerate(starts):
        prompt = model.prompt(start.before, start.after, info.context_length - tokens, heal=True)
        for drafts in (False, True) if number % 2 else (True, False):
            sampling = SamplingParams(
                tokens,
                frozenset(),
                prompt.forced,
                ngrams=weights is not None,
                weights=weights or SMALL_MODEL,
                workspace=WorkspaceCounts(indexes[start.package], frozenset({start.path})) if indexes else None,
                drafts=drafts,
            )
            engine.warm(prompt.ids, CancellationToken())
            engine.forget_dropped()
            (drafted if drafts else plain).append(_timed(engine, prompt.ids, sampling))
    plain, drafted = plain[WARM_UP:], drafted[WARM_UP:]
    speeds = [sum(len(run.tokens) - 1 for run in runs) / sum(run.seconds for run in runs) for runs in (plain, drafted)]
    return DraftBenchmark(
        build=info.name,
        ngrams=weights is not None,
        workspace=bool(indexes),
        places=len(plain),
        tokens_per_second=speeds[0],
        drafted_tokens_per_second=speeds[1],
        gain=ratio([run.seconds for run in plain], [run.seconds for run in drafted]),
        accepted=ratio([run.accepted for run in drafted], [run.drafted for run in drafted]),
        guessed_per_token=ratio([run.drafted for run in drafted], [len(run.tokens) for run in drafted]),
        same=ratio(
            [_alike(one.tokens, other.tokens) for one, other in zip(plain, drafted, strict=True)],
            [len(run.tokens) for run in plain],
        ),
    )


def _index(texts: Mapping[str, str], tokenizer: Tokenizer) -> NgramIndex:
    index = NgramIndex(SMALL_MODEL.workspace)
    index.add((FileVersion(path, 0, len(text)), tokenizer.encode(text)) for path, text in texts.items())
    return index


def _timed(engine: NativeEngine, prompt: list[int], sampling: SamplingParams) -> _Run:
    seen: list[float] = []

    def on_token(candidate: int, id: int, log_probability: float) -> bool:
        seen.append(time.perf_counter())
        return False

    result = engine.generate(prompt, sampling, CancellationToken(), on_token)
    tokens = result.completions[0].tokens
    return _Run(tokens, seen[-1] - seen[0], result.drafted_tokens, result.accepted_tokens)


def _alike(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one, other, strict=True))
    return next((at for at, (first, second) in pairs if first != second), len(one))


def main() -> None:
    """Print one run as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("tokens", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("ngrams")
    given = parser.parse_args()
    read = json.load(sys.stdin)
    starts, packages = [LineStart(*start) for start in read["starts"]], read["packages"]
    try:
        found = measure(given.build, starts, given.tokens, given.threads, ngrams=given.ngrams, packages=packages)
    except CodegenError as error:
        sys.exit(json.dumps([error.message, error.advice]))
    sys.stdout.write(json.dumps(attrs.asdict(found)) + "\n")


if __name__ == "__main__":
    main()
