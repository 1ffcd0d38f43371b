"""Several users who type at once through one HTTP server, and the times of their suggestions.

A request that the next key ends would have taken longer, so the times of answered requests alone look better than the
server is. The percentiles over all requests take such a request as one of which a lower bound is known (Kaplan and
Meier, 1958).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.benchmarks.http.served import ServedModel
from codegen_lsp.benchmarks.http.typing_client import InfillRecord, TypingClient
from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.benchmarks.typist import TypingSession, begin
from codegen_lsp.evaluation.documents import SourceDocument, in_turn
from codegen_lsp.progress import ProgressReport

SAMPLE_SECONDS = 1.0
"""Time between two readings of the server's memory."""


@frozen
class TypingFigures:
    """Figures of all users together. Times in milliseconds; None where there is none."""

    clients: int
    seconds: float
    keys: int
    requests: int
    cancelled: float
    """Share of requests that a key ended."""
    errors: dict[str, int]
    answered_by_model: int
    answered_p50_ms: float | None
    """Of requests that the model answered."""
    answered_p95_ms: float | None
    p50_ms: float | None
    """Of all requests but those that a rule answered, with the ended ones as lower bounds."""
    p95_ms: float | None
    """None where so many requests were ended that it is not known."""
    shown: float
    """Share of the answers with text."""
    computed_tokens: float
    """Tokens of the prompt that were computed for an answer of the model, on average."""
    tokens_per_second: float
    """Tokens of the answers."""
    memory_mb: float
    """Highest memory of server and worker."""


def typing_sessions(
    documents: Sequence[SourceDocument], clients: int, characters: int, seed: int
) -> list[TypingSession]:
    """Return the typing of each client, in files of packages in turn. Raises: ReplayError when files are missing."""
    drawn = in_turn(documents, random.Random(seed))  # noqa: S311 - a sample, not a secret
    found = [session for document in drawn if (session := begin(document, characters, seed))][:clients]
    if len(found) < clients:
        raise ReplayError(
            f"Only {len(found)} of {clients} clients have a file that is long enough.",
            f"Give more files of more than {2 * characters + 200} characters.",
        )
    return found


def type_at_once(
    server: ServedModel, sessions: Sequence[TypingSession], report: ProgressReport | None = None
) -> TypingFigures:
    """Let one client for each session type. Raises: RemoteError when the first requests fail."""
    return asyncio.run(_type(server, sessions, report))


async def _type(server: ServedModel, sessions: Sequence[TypingSession], report: ProgressReport | None) -> TypingFigures:
    clients = [TypingClient(session, server.address) for session in sessions]
    for client in clients:
        await client.open()
    started, highest = time.perf_counter(), server.memory_mb()
    typing = [asyncio.create_task(client.type()) for client in clients]
    total = sum(len(stretch.target) for session in sessions for stretch in session.stretches)
    while await asyncio.wait(typing, timeout=SAMPLE_SECONDS) and not all(one.done() for one in typing):
        highest = max(highest, await asyncio.to_thread(server.memory_mb))
        if report:
            done = sum(stretch.done for session in sessions for stretch in session.stretches)
            report(f"{done} of {total} characters", done / total)
    seconds = time.perf_counter() - started
    for one in typing:
        one.result()
    records = [record for client in clients for record in client.records]
    return typing_figures(records, len(clients), seconds, sum(client.keys for client in clients), highest)


def typing_figures(
    records: Sequence[InfillRecord], clients: int, seconds: float, keys: int, memory_mb: float
) -> TypingFigures:
    """Return the figures of requests that were made within `seconds`."""
    ended = [record.seconds * 1e3 for record in records if record.cancelled]
    answers = [record for record in records if not record.cancelled and not record.error]
    asked = [record for record in answers if record.from_model]
    times = [record.seconds * 1e3 for record in asked]
    return TypingFigures(
        clients=clients,
        seconds=seconds,
        keys=keys,
        requests=len(records),
        cancelled=len(ended) / max(1, len(records)),
        errors=dict(Counter(record.error for record in records if record.error)),
        answered_by_model=len(asked),
        answered_p50_ms=percentile(0.5, times),
        answered_p95_ms=percentile(0.95, times),
        p50_ms=percentile(0.5, times, ended),
        p95_ms=percentile(0.95, times, ended),
        shown=sum(record.shown for record in answers) / max(1, len(answers)),
        computed_tokens=sum(record.prompt_tokens for record in asked) / max(1, len(asked)),
        tokens_per_second=sum(record.tokens for record in answers) / seconds,
        memory_mb=memory_mb,
    )


def percentile(share: float, known: Sequence[float], least: Sequence[float] = ()) -> float | None:
    """Return the least time by which a share of requests is answered; None where that is not known.

    `known` are times, `least` lower bounds of others (Kaplan and Meier, 1958). Without bounds, it is the percentile by
    the nearest rank.
    """
    if not least:
        return sorted(known)[max(0, math.ceil(share * len(known)) - 1)] if known else None
    events = sorted([(one, False) for one in known] + [(one, True) for one in least])  # a bound after an equal time
    unanswered = 1.0
    for place, (value, is_bound) in enumerate(events):
        if not is_bound:
            unanswered *= 1 - 1 / (len(events) - place)
            if unanswered <= 1 - share + 1e-12:
                return value
    return None
