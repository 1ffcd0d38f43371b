"""The delay before the model is asked, in front of the whole server."""

from __future__ import annotations

import asyncio

import pytest

from codegen_lsp.suggest.debounce import DebouncePolicy
from tests.lsp.conftest import Editor

CODE = "def add(a, b):\n    retu"


class Sleeper:
    """Stands in for `asyncio.sleep`: sleeps until it is woken."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.wake = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.wake.wait()


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


def slow(editor: Editor, sleeper: Sleeper) -> None:
    """Give the server a user who types faster than the model answers, at a clock that stands still."""
    policy = DebouncePolicy(lambda: 100.0, sleeper)
    policy.gap, policy.answer = 0.3, 5.0
    editor.server.session.suggestions.debounce = policy


async def test_a_slow_model_is_asked_after_a_while(ready: Editor, sleeper: Sleeper) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    slow(ready, sleeper)
    ready.type(2, 1, 8, "r")
    number = ready.begin_completion(1, 9)
    await ready.settle()
    assert len(sleeper.slept) == 1
    assert ready.model.generated == []
    sleeper.wake.set()
    await ready.answer(number)
    assert len(ready.model.generated) == 1


async def test_only_the_newest_key_is_answered(ready: Editor, sleeper: Sleeper) -> None:
    ready.model.answer = lambda params: [" = 1"]
    ready.open(CODE)
    slow(ready, sleeper)
    numbers = []
    for at, letter in enumerate("xyz"):
        ready.type(2 + at, 1, 8 + at, letter)
        numbers.append(ready.begin_completion(1, 9 + at))
        await ready.settle()
    sleeper.wake.set()
    assert len((await ready.answer(numbers[-1]))["result"]["items"]) == 1
    assert [params.prefix[-3:] for params in ready.model.generated if not params.background] == ["xyz"]


async def test_cached_suggestions_and_invoked_requests_are_not_delayed(ready: Editor, sleeper: Sleeper) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    await ready.complete(1, 8)
    slow(ready, sleeper)
    ready.type(2, 1, 8, "r")
    assert len(await ready.complete(1, 9)) == 1
    await ready.complete(1, 9, invoked=True)
    assert ready.model.generated[-1].candidates == 3
    assert sleeper.slept == []


async def test_it_can_be_turned_off(editor: Editor, sleeper: Sleeper) -> None:
    await editor.initialize(options={"debounce": "off"})
    editor.open(CODE)
    slow(editor, sleeper)
    editor.type(2, 1, 8, "r")
    editor.begin_completion(1, 9)
    await editor.settle()
    assert len(editor.model.generated) == 1
    assert sleeper.slept == []


async def test_a_request_that_is_cancelled_during_the_delay_does_not_reach_the_model(
    ready: Editor, sleeper: Sleeper
) -> None:
    ready.open(CODE)
    slow(ready, sleeper)
    ready.type(2, 1, 8, "r")
    number = ready.begin_completion(1, 9)
    await ready.settle()
    assert len(sleeper.slept) == 1
    ready.notify("$/cancelRequest", {"id": number})
    assert "error" in await ready.answer(number)
    sleeper.wake.set()
    await ready.settle()
    assert ready.model.generated == []
