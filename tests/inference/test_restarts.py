"""When a worker that died is started again."""

from __future__ import annotations

import pytest

from codegen_lsp.inference.client import restarts
from codegen_lsp.inference.client.restarts import Restarts, unattended_delay


class Clock:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(restarts, "time", made)
    return made


def test_after_several_deaths_within_a_minute_it_stays_down(clock: Clock) -> None:
    deaths = Restarts()
    assert [deaths.failed() for _ in range(5)] == [0.1, 0.5, 2.0, 5.0, None]


def test_deaths_far_apart_do_not_count(clock: Clock) -> None:
    deaths = Restarts()
    for _ in range(10):
        assert deaths.failed() == 0.1
        clock.now += 60


def test_unattended_it_is_started_less_and_less_often(clock: Clock) -> None:
    """Whatever time the starts take."""
    failures = Restarts(unattended=True)
    delays = []
    for _ in range(10):
        delay = failures.failed()
        assert delay is not None
        delays.append(delay)
        clock.now += delay
        failures.ready()
        clock.now += 59
    assert delays == [0.1, 0.5, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_a_worker_that_lived_for_a_minute_is_started_at_once(clock: Clock) -> None:
    failures = Restarts(unattended=True)
    for _ in range(6):
        failures.failed()
    clock.now += 20
    failures.ready()
    clock.now += 30
    failures.ready()  # loaded again by the same process
    clock.now += 30
    assert failures.failed() == 0.1
    assert failures.failed() == 0.5


def test_the_delay_has_a_limit() -> None:
    assert unattended_delay(10**9) == 60.0
