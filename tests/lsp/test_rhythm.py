"""The wait in front of the model, from real keys and answers."""

from __future__ import annotations

import asyncio

import pytest

from codegen_lsp.completion.snapshot import Snapshot
from codegen_lsp.suggest import debounce
from codegen_lsp.suggest.debounce import Rhythm
from codegen_lsp.suggest.typing_rate import Metronome
from tests.lsp.conftest import Editor

CODE = "def add(a, b):\n    retu"
SLOW = Rhythm(gap=0.3, answer=5.0)


def test_keys_and_answers_make_the_rhythm() -> None:
    times = iter([10.0, 10.2, 10.4, 10.45])
    metronome = Metronome(lambda: next(times))
    for _ in range(3):
        metronome.key()
    metronome.answered(3.0)
    assert metronome.rhythm.gap == pytest.approx(0.2)
    assert metronome.wait(Snapshot("f", 1, "python", "x = fo", 6)) == pytest.approx(0.15)


async def test_a_slow_model_is_asked_after_a_while(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    ready.server.metronome.rhythm = SLOW
    ready.type(2, 1, 8, "r")
    ready.begin_completion(1, 9)
    await ready.settle()
    assert ready.model.generated == []
    await ready.until(lambda: len(ready.model.generated) == 1)


async def test_the_newest_key_alone_is_answered(ready: Editor) -> None:
    ready.model.answer = lambda params: [" = 1"]
    ready.open(CODE)
    ready.server.metronome.rhythm = SLOW
    numbers = []
    for at, letter in enumerate("xyz"):
        ready.type(2 + at, 1, 8 + at, letter)
        numbers.append(ready.begin_completion(1, 9 + at))
        await ready.settle()
    assert len((await ready.answer(numbers[-1]))["result"]["items"]) == 1
    assert [params.prefix[-3:] for params in ready.model.generated if not params.background] == ["xyz"]


async def test_what_is_known_or_was_asked_for_is_not_waited_for(ready: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debounce, "LONGEST_WAIT", 600.0)
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    await ready.complete(1, 8)
    ready.server.metronome.rhythm = Rhythm(gap=600.0, answer=6_000.0)
    ready.type(2, 1, 8, "r")
    assert len(await ready.complete(1, 9)) == 1
    await ready.complete(1, 9, invoked=True)
    assert ready.model.generated[-1].candidates == 3


async def test_it_can_be_turned_off(editor: Editor) -> None:
    await editor.initialize(options={"debounce": "off"})
    editor.open(CODE)
    editor.server.metronome.rhythm = SLOW
    editor.type(2, 1, 8, "r")
    editor.begin_completion(1, 9)
    await editor.settle()
    assert len(editor.model.generated) == 1


async def test_a_cancelled_wait_asks_nobody(ready: Editor) -> None:
    ready.open(CODE)
    ready.server.metronome.rhythm = Rhythm(gap=0.4, answer=5.0)
    ready.type(2, 1, 8, "r")
    number = ready.begin_completion(1, 9)
    await ready.settle()
    ready.notify("$/cancelRequest", {"id": number})
    assert "error" in await ready.answer(number)
    await asyncio.sleep(0.45)
    assert ready.model.generated == []
