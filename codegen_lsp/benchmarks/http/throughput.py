"""Tokens a second of HTTP servers for one request alone and for several at once, in one run and in turn.

Each round sends new prompts, then the same once more. The second time a server has them in its cache and only decodes;
the difference is the time of the prompts. Weights and sampled tokens are random, so that speculative drafts are never
right.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from codegen_lsp.benchmarks.http.served import ServedModel
from codegen_lsp.benchmarks.memory import sources
from codegen_lsp.errors import ModelError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.client.http_connections import HttpConnections
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.progress import ProgressReport

PROMPT_TOKENS, WANTED = 256, 64
SETTLE_SECONDS = 0.3
"""Pause before each measurement, since the threads of the one before may spin."""
TEXTS, TEXT_CHARACTERS = 20, 20_000
"""Modules of the standard library that the prompts are cut from."""


@frozen
class Batch:
    """Requests that were sent at once."""

    seconds: float
    """Until the last answer."""
    prompt_tokens: int
    """Those that were computed."""
    tokens: int
    accepted: int
    """Tokens that came from drafts."""


@define
class Rounds:
    """The batches of one server, one of each kind in each round."""

    alone: list[Batch] = field(factory=list)
    """One new prompt."""
    alone_again: list[Batch] = field(factory=list)
    at_once: list[Batch] = field(factory=list)
    at_once_again: list[Batch] = field(factory=list)


@frozen
class Throughput:
    """Medians over the rounds of one server. Tokens are generated ones unless they are named prompt tokens."""

    command: list[str]
    alone: float
    """Tokens a second with the time of the prompt."""
    at_once: float
    decode_alone: float
    """Tokens a second where the prompt is cached."""
    decode_at_once: float
    prompt_alone: float
    """Prompt tokens a second."""
    prompt_at_once: float
    gain: float
    """Tokens a second at once, by those alone."""
    decode_gain: float
    accepted: float
    """Share of the tokens that came from drafts."""
    memory_mb: float


@frozen
class ThroughputFigures:
    """The figures of one run."""

    build: str
    requests: int
    """Requests at once."""
    rounds: int
    threads: int
    servers: dict[str, Throughput]
    ratios: dict[str, float]
    """Medians over the rounds of the first server's tokens a second by those of the second, of each kind."""


def measure_throughput(
    servers: Sequence[ServedModel],
    build: Path,
    requests: int,
    rounds: int,
    threads: int,
    report: ProgressReport | None = None,
) -> ThroughputFigures:
    """Measure servers that run the build's shape, in turn. Raises: ModelError, RemoteError."""
    found = asyncio.run(_measure(servers, build, requests, rounds, report))
    names = [server.name for server in servers]
    summaries = {server.name: summary(server.command, found[server.name], server.memory_mb()) for server in servers}
    ratios = compare(found[names[0]], found[names[1]]) if len(names) > 1 else {}
    return ThroughputFigures(read_info(build).name, requests, rounds, threads, summaries, ratios)


async def _measure(
    servers: Sequence[ServedModel], build: Path, requests: int, rounds: int, report: ProgressReport | None
) -> dict[str, Rounds]:
    prompts = draw_prompts(build)
    found = {server.name: Rounds() for server in servers}
    for number in range(rounds + 1):  # the first is the warm-up
        for server in servers:
            if report:
                report(f"{server.name}, round {number} of {rounds}", number / (rounds + 1))
            batches = []
            for count in (1, requests):
                drawn = [next(prompts) for _ in range(count)]
                for _ in range(2):
                    await asyncio.sleep(SETTLE_SECONDS)
                    batches.append(await send_at_once(server, drawn))
            if number:
                kept = found[server.name]
                for place, batch in zip(
                    (kept.alone, kept.alone_again, kept.at_once, kept.at_once_again), batches, strict=True
                ):
                    place.append(batch)
    return found


def draw_prompts(build: Path) -> Iterator[str]:
    """Yield texts of about `PROMPT_TOKENS` tokens from different places of the standard library. Raises: ModelError."""
    tokenizer = Tokenizer.from_build(build, read_info(build))
    dice = random.Random(0)  # noqa: S311 - any places will do
    texts = sources(TEXT_CHARACTERS, TEXTS)
    while True:
        text = dice.choice(texts)
        start = dice.randrange(len(text) - TEXT_CHARACTERS // 2)
        ids = tokenizer.encode(text[start : start + TEXT_CHARACTERS // 2])
        yield tokenizer.decode(ids[:PROMPT_TOKENS])


async def send_at_once(server: ServedModel, prompts: Sequence[str]) -> Batch:
    """Send a request for each prompt, and wait for all answers. Raises: ModelError, RemoteError."""
    connections = HttpConnections(server.address)
    try:
        started = time.perf_counter()
        bodies = [json.dumps(completion_body(prompt, slot)).encode() for slot, prompt in enumerate(prompts)]
        answers = await asyncio.gather(*(connections.post("/completion", body) for body in bodies))
        seconds = time.perf_counter() - started
    finally:
        connections.close()
    if failed := [answer for answer in answers if answer.status != 200]:
        raise ModelError(
            f"{server.name} answered with status {failed[0].status}: {failed[0].body[:200].decode('utf-8', 'replace')}",
            "Ask for fewer requests at once.",
        )
    timings = [json.loads(answer.body)["timings"] for answer in answers]
    return Batch(
        seconds,
        sum(one["prompt_n"] for one in timings),
        sum(one["predicted_n"] for one in timings),
        sum(one.get("draft_n_accepted", 0) for one in timings),
    )


def completion_body(prompt: str, slot: int) -> dict[str, Any]:
    """Return a request for random tokens after a prompt, in a form that both servers read alike."""
    return {
        "prompt": prompt,
        "n_predict": WANTED,
        "temperature": 1.0,
        "top_k": 40,
        "top_p": 1.0,
        "min_p": 0.0,
        "samplers": ["top_k", "temperature"],
        "seed": slot,
        "ignore_eos": True,
        "cache_prompt": True,
        "id_slot": slot,
        "response_fields": ["content", "timings"],
    }


def summary(command: list[str], rounds: Rounds, memory_mb: float) -> Throughput:
    """Return the medians of a server's rounds."""
    batches = [*rounds.alone, *rounds.alone_again, *rounds.at_once, *rounds.at_once_again]
    return Throughput(
        command=command,
        alone=statistics.median(map(_speed, rounds.alone)),
        at_once=statistics.median(map(_speed, rounds.at_once)),
        decode_alone=statistics.median(map(_speed, rounds.alone_again)),
        decode_at_once=statistics.median(map(_speed, rounds.at_once_again)),
        prompt_alone=statistics.median(map(_prompt_speed, rounds.alone, rounds.alone_again)),
        prompt_at_once=statistics.median(map(_prompt_speed, rounds.at_once, rounds.at_once_again)),
        gain=_median_ratio(rounds.at_once, rounds.alone),
        decode_gain=_median_ratio(rounds.at_once_again, rounds.alone_again),
        accepted=sum(batch.accepted for batch in batches) / max(1, sum(batch.tokens for batch in batches)),
        memory_mb=memory_mb,
    )


def compare(ours: Rounds, theirs: Rounds) -> dict[str, float]:
    """Return the medians of our tokens a second by theirs in the same round."""
    return {
        "alone": _median_ratio(ours.alone, theirs.alone),
        "at_once": _median_ratio(ours.at_once, theirs.at_once),
        "decode_alone": _median_ratio(ours.alone_again, theirs.alone_again),
        "decode_at_once": _median_ratio(ours.at_once_again, theirs.at_once_again),
    }


def _speed(batch: Batch) -> float:
    return batch.tokens / batch.seconds


def _prompt_speed(new: Batch, again: Batch) -> float:
    """Return the prompt tokens a second, from the time that new prompts add."""
    return (new.prompt_tokens - again.prompt_tokens) / max(new.seconds - again.seconds, 1e-9)


def _median_ratio(batches: Sequence[Batch], base: Sequence[Batch]) -> float:
    return statistics.median(_speed(one) / _speed(other) for one, other in zip(batches, base, strict=True))
