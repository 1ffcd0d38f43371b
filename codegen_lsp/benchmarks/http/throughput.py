"""Tokens a second of HTTP servers for one request alone and for several at once, in one run and in turn.

Each round sends new prompts, then the same once more, which are in a server's cache now, so that it only decodes; then
other new prompts of which only one token is wanted. Weights and sampled tokens are random, so that speculative drafts
are never right.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
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
WARM_UP = 2
"""Rounds that are not counted. After them, our KV cache of the 350M shape is full, and its memory no longer new."""
SETTLE_SECONDS = 0.3
"""Pause before each measurement, since the threads of the one before may spin."""
TEXTS, TEXT_CHARACTERS = 20, 20_000
"""Modules of the standard library that the prompts are cut from."""


@frozen
class RequestBatch:
    """Requests that were sent at once."""

    seconds: float
    """Until the last answer."""
    prompt_tokens: int
    """Those that were computed."""
    tokens: int
    accepted: int
    """Tokens that came from drafts."""


@define
class RequestBatches:
    """The batches of one server with so many requests at once, one of each kind in each round."""

    whole: list[RequestBatch] = field(factory=list)
    """New prompts."""
    decoding: list[RequestBatch] = field(factory=list)
    """The same prompts once more, which are in the server's cache."""
    prompt: list[RequestBatch] = field(factory=list)
    """New prompts, of which one token is wanted."""


@define
class Rounds:
    """The batches of one server."""

    alone: RequestBatches = field(factory=RequestBatches)
    at_once: RequestBatches = field(factory=RequestBatches)


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
    prompt_gain: float
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
    """Medians over the rounds of the first server's speed by the second's, of each kind."""


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
    for number in range(WARM_UP + rounds):
        for server in servers:
            if report:
                report(f"{server.name}, round {number + 1} of {WARM_UP + rounds}", number / (WARM_UP + rounds))
            batches = [await _send_each_kind(server, prompts, count) for count in (1, requests)]
            if number >= WARM_UP:
                for kept, new in zip((found[server.name].alone, found[server.name].at_once), batches, strict=True):
                    kept.whole += new.whole
                    kept.decoding += new.decoding
                    kept.prompt += new.prompt
    return found


async def _send_each_kind(server: ServedModel, prompts: Iterator[str], count: int) -> RequestBatches:
    """Send so many requests at once, of each kind in turn."""
    first, others = (list(itertools.islice(prompts, count)) for _ in range(2))
    found = []
    for drawn, wanted in ((first, WANTED), (first, WANTED), (others, 1)):
        await asyncio.sleep(SETTLE_SECONDS)
        found.append([await send_at_once(server, drawn, wanted)])
    return RequestBatches(*found)


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


async def send_at_once(server: ServedModel, prompts: Sequence[str], wanted: int) -> RequestBatch:
    """Send a request for each prompt, and wait for all answers. Raises: ModelError, RemoteError."""
    connections = HttpConnections(server.address)
    try:
        started = time.perf_counter()
        bodies = [json.dumps(completion_body(prompt, slot, wanted)).encode() for slot, prompt in enumerate(prompts)]
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
    return RequestBatch(
        seconds,
        sum(one["prompt_n"] for one in timings),
        sum(one["predicted_n"] for one in timings),
        sum(one.get("draft_n_accepted", 0) for one in timings),
    )


def completion_body(prompt: str, slot: int, wanted: int) -> dict[str, Any]:
    """Return a request for random tokens after a prompt, in a form that both servers read alike."""
    return {
        "prompt": prompt,
        "n_predict": wanted,
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
    alone, at_once = rounds.alone, rounds.at_once
    batches = [*alone.whole, *alone.decoding, *at_once.whole, *at_once.decoding]
    return Throughput(
        command=command,
        alone=statistics.median(map(_speed, alone.whole)),
        at_once=statistics.median(map(_speed, at_once.whole)),
        decode_alone=statistics.median(map(_speed, alone.decoding)),
        decode_at_once=statistics.median(map(_speed, at_once.decoding)),
        prompt_alone=statistics.median(map(_prompt_speed, alone.prompt)),
        prompt_at_once=statistics.median(map(_prompt_speed, at_once.prompt)),
        gain=_median_ratio(_speed, at_once.whole, alone.whole),
        decode_gain=_median_ratio(_speed, at_once.decoding, alone.decoding),
        prompt_gain=_median_ratio(_prompt_speed, at_once.prompt, alone.prompt),
        accepted=sum(batch.accepted for batch in batches) / max(1, sum(batch.tokens for batch in batches)),
        memory_mb=memory_mb,
    )


def compare(ours: Rounds, theirs: Rounds) -> dict[str, float]:
    """Return the medians of our speeds by theirs in the same round."""
    return {
        "alone": _median_ratio(_speed, ours.alone.whole, theirs.alone.whole),
        "at_once": _median_ratio(_speed, ours.at_once.whole, theirs.at_once.whole),
        "decode_alone": _median_ratio(_speed, ours.alone.decoding, theirs.alone.decoding),
        "decode_at_once": _median_ratio(_speed, ours.at_once.decoding, theirs.at_once.decoding),
        "prompt_alone": _median_ratio(_prompt_speed, ours.alone.prompt, theirs.alone.prompt),
        "prompt_at_once": _median_ratio(_prompt_speed, ours.at_once.prompt, theirs.at_once.prompt),
    }


def _speed(batch: RequestBatch) -> float:
    return batch.tokens / batch.seconds


def _prompt_speed(batch: RequestBatch) -> float:
    return batch.prompt_tokens / batch.seconds


def _median_ratio(
    speed: Callable[[RequestBatch], float], batches: Sequence[RequestBatch], base: Sequence[RequestBatch]
) -> float:
    return statistics.median(speed(one) / speed(other) for one, other in zip(batches, base, strict=True))
