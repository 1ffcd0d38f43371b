"""Generations in flight and prefetched suggestions that turn out to be what is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.suggest import debounce, inflight
from codegen_lsp.suggest.debounce import PRIOR_REUSE
from tests.lsp.conftest import Editor, look, text_of
from tests.suggest.conftest import HOUR

CODE = "def add(a, b):\n    retu"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no generation given up while a slow machine takes its time."""
    monkeypatch.setattr(inflight, "GRACE", HOUR)
    monkeypatch.setattr(debounce, "PRIOR_ANSWER", HOUR)


def overtake(editor: Editor, typed: str) -> int:
    """Type while a request runs, as VS Code does: the change, the cancel of the old request, the new request."""
    editor.type(2, 1, 8, typed)
    return editor.begin_completion(1, 8 + len(typed))


async def start(editor: Editor) -> int:
    """Ask at the end of CODE, while the model takes its time."""
    editor.model.gate.clear()
    editor.open(CODE)
    first = editor.begin_completion(1, 8)
    await editor.settle()
    return first


def foreground(editor: Editor) -> list[GenerateParams]:
    return [params for params in editor.model.generated if not params.background]


async def test_an_answer_in_flight_answers_a_request_that_typed_its_beginning(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    first = await start(ready)
    ready.notify("$/cancelRequest", {"id": first})
    second = overtake(ready, "r")
    await ready.settle()
    ready.model.gate.set()
    assert text_of((await ready.answer(second))["result"]["items"]) == ["    return a + b"]
    assert "error" in await ready.answer(first)
    assert len(foreground(ready)) == 1
    assert (await ready.explain())["source"] == "flight"


async def test_the_same_without_a_cancel(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    first = await start(ready)
    second = overtake(ready, "rn")
    await ready.settle()
    ready.model.gate.set()
    assert text_of((await ready.answer(second))["result"]["items"]) == ["    return a + b"]
    assert (await ready.answer(first))["result"] == {"items": []}
    assert len(foreground(ready)) == 1


async def test_an_answer_in_flight_that_does_not_fit_is_followed_by_a_new_generation(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"] if params.prefix.endswith("retu") else [" = 1"]
    await start(ready)
    second = overtake(ready, "x")
    await ready.settle()
    ready.model.gate.set()
    assert text_of((await ready.answer(second))["result"]["items"]) == ["    retux = 1"]
    assert [params.prefix[-1] for params in foreground(ready)] == ["u", "x"]


async def test_an_answer_that_comes_after_the_cancel_is_kept(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    first = await start(ready)
    ready.notify("$/cancelRequest", {"id": first})
    await ready.answer(first)
    ready.model.gate.set()
    await ready.settle()
    second = overtake(ready, "r")
    assert text_of((await ready.answer(second))["result"]["items"]) == ["    return a + b"]
    assert (await ready.explain())["source"] == "cache"
    assert len(foreground(ready)) == 1


async def test_a_generation_without_waiters_is_cancelled(ready: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "GRACE", 0.01)
    first = await start(ready)
    ready.notify("$/cancelRequest", {"id": first})
    await ready.until(lambda: len(ready.model.cancelled) == 1)


async def test_an_edit_elsewhere_cancels_the_generation_in_flight(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    await start(ready)
    ready.type(2, 0, 14, "\n    x = ")
    second = ready.begin_completion(1, 8)
    await ready.settle()
    assert len(ready.model.cancelled) == 1
    ready.model.gate.set()
    assert "result" in await ready.answer(second)


async def test_closing_the_document_cancels_the_generation_in_flight(ready: Editor) -> None:
    await start(ready)
    ready.notify("textDocument/didClose", {"textDocument": {"uri": "file:///project/main.py"}})
    await ready.until(lambda: len(ready.model.cancelled) == 1)


async def test_accepting_brings_the_next_one_at_once(ready: Editor) -> None:
    def answer(params: GenerateParams) -> list[str]:
        return ["rn a"] if params.prefix.endswith("retu") else [" + b"] if params.prefix.endswith("return a") else []

    ready.model.answer = answer
    ready.open(CODE)
    (item,) = await ready.complete(1, 8)
    await look(ready)
    assert any(params.background for params in ready.model.generated)
    ready.change(2, {"range": item["range"], "text": item["insertText"]})
    assert text_of(await ready.complete(1, 12)) == ["    return a + b"]
    assert (await ready.explain())["source"] == "cache"
    assert len(foreground(ready)) == 1


async def test_enter_after_accepting_brings_the_next_line_at_once(ready: Editor) -> None:
    ready.model.answer = lambda params: (
        ["a + b"] if params.prefix.endswith("s = ") else [] if params.prefix.endswith("a + b") else ["return s"]
    )
    ready.open("def add(a, b):\n    s = ")
    (item,) = await ready.complete(1, 8)
    await look(ready)
    assert any(params.prefix.endswith("\n    ") for params in ready.model.generated)
    ready.change(2, {"range": item["range"], "text": item["insertText"]})
    ready.type(3, 1, 13, "\n    ")
    assert text_of(await ready.complete(2, 4)) == ["    return s"]
    assert (await ready.explain())["source"] == "cache"


@pytest.mark.parametrize("options", [{"ablate": ["prefetch"]}, {"warm": False}])
async def test_nothing_is_prefetched_when_it_is_off(editor: Editor, options: dict[str, Any]) -> None:
    await editor.initialize(options=options)
    editor.model.answer = lambda params: ["rn a"]
    editor.open(CODE)
    await editor.complete(1, 8)
    await look(editor)
    assert not any(params.background for params in editor.model.generated)


async def test_nothing_is_coalesced_when_that_is_off(editor: Editor) -> None:
    await editor.initialize(options={"ablate": ["coalescing"]})
    editor.model.answer = lambda params: ["rn a + b"]
    await start(editor)
    second = overtake(editor, "r")
    await editor.settle()
    editor.model.gate.set()
    assert "result" in await editor.answer(second)
    assert len(foreground(editor)) == 2


async def test_typing_on_cancels_the_scheduled_prefetch(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a"]
    ready.open(CODE)
    await ready.complete(1, 8)
    assert ready.server.session.suggestions.prefetch_timer.active
    ready.type(2, 1, 8, "r")
    number = ready.begin_completion(1, 9)
    await ready.settle()
    assert not any(params.background for params in ready.model.generated)
    await ready.answer(number)


async def test_an_answer_in_flight_is_not_awaited_where_it_was_never_reused(ready: Editor) -> None:
    policy = ready.server.session.suggestions.debounce
    policy.reuse, policy.answer = 0.0, 1.0
    ready.model.answer = lambda params: ["rn a + b"]
    await start(ready)
    second = overtake(ready, "r")
    await ready.until(lambda: len(foreground(ready)) == 2)
    ready.model.gate.set()
    assert "result" in await ready.answer(second)


async def test_the_debounce_policy_learns_from_reused_answers(ready: Editor) -> None:
    ready.model.answer = lambda params: ["rn a + b"]
    await start(ready)
    second = overtake(ready, "r")
    await ready.settle()
    ready.model.gate.set()
    await ready.answer(second)
    assert ready.server.session.suggestions.debounce.reuse > PRIOR_REUSE
    assert ready.server.session.suggestions.debounce.answer is not None
