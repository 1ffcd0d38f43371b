"""When an answer is late."""

from __future__ import annotations

import asyncio

import pytest

from codegen_lsp.inference.client import answer_times
from codegen_lsp.inference.client.answer_times import FIRST_LIMIT, MAX_LIMIT, MIN_LIMIT, AnswerTimes, Silence


def test_the_limit_follows_the_mean_and_the_deviation() -> None:
    times = AnswerTimes()
    assert times.limit == FIRST_LIMIT
    times.add(0.3)
    assert times.limit == pytest.approx(0.3 + 4 * 0.15)  # RFC 6298, section 2.2
    for _ in range(100):
        times.add(0.3)
    assert times.limit == pytest.approx(0.3, abs=0.01)
    times.add(0.7)
    assert times.limit == pytest.approx(0.3 + 0.05 + 4 * 0.1, abs=0.01)


def test_the_limit_has_limits() -> None:
    fast, slow = AnswerTimes(), AnswerTimes()
    for _ in range(100):
        fast.add(0.001)
        slow.add(10.0)
    assert fast.limit == MIN_LIMIT
    assert slow.limit == MAX_LIMIT


async def test_silence_adds_up_over_requests_and_not_over_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(answer_times, "_now", lambda: now)
    silence = Silence()
    silence.asked()
    now = 1.0
    assert silence.seconds == 1.0
    silence.asked()
    silence.ended()
    now = 3.0
    silence.ended()
    now = 100.0
    assert silence.seconds == 3.0
    silence.asked()
    now = 101.0
    assert silence.seconds == 4.0
    silence.broken()
    now = 103.0
    assert silence.seconds == 2.0
    await asyncio.sleep(0)
