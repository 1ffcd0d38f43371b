"""The worker's service, with a model that records its calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.rpc.messages import GenerateParams, WarmParams
from codegen_lsp.inference.worker import service as service_module
from codegen_lsp.inference.worker.service import InferenceService


class RecordingModel:
    """Answers at once and keeps the prompts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.generated: list[str] = []
        self.warmed: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._loop = loop

    def generating(self, params: GenerateParams, cancellation: CancellationToken, waited: float, on_text: None) -> str:
        self.generated.append(params.prefix)
        return params.prefix

    def warming(self, params: WarmParams, cancellation: CancellationToken) -> int:
        self._loop.call_soon_threadsafe(self.warmed.put_nowait, (params.prefix, params.suffix))
        return 0


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(service_module, "IDLE_SECONDS", 0.0)
    made = InferenceService()
    made.model = RecordingModel(asyncio.get_running_loop())  # type: ignore[assignment]
    yield made
    await asyncio.to_thread(made._scheduler.close)


async def test_idle_after_a_background_request_prefills_the_last_foreground_prompt(service: Any) -> None:
    """Not the background prompt, which may never be typed."""
    await service.generate("a", GenerateParams("x", "typed", "below"))
    assert await asyncio.wait_for(service.model.warmed.get(), 60) == ("typed", "below")
    await service.generate("a", GenerateParams("x", "typed and accepted", background=True))
    assert await asyncio.wait_for(service.model.warmed.get(), 60) == ("typed", "below")
    assert service.model.generated == ["typed", "typed and accepted"]


async def test_nothing_is_prefilled_before_a_foreground_request(service: Any) -> None:
    await service.generate("a", GenerateParams("x", "prefetched", background=True))
    assert service._prefill is None
    await service.generate("a", GenerateParams("x", "typed"))
    assert await asyncio.wait_for(service.model.warmed.get(), 60) == ("typed", "")


async def test_nothing_is_prefilled_for_a_client_that_has_disconnected(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "IDLE_SECONDS", 600.0)
    await service.generate("a", GenerateParams("x", "typed"))
    prefill = service._prefill
    service.forget("b")
    await asyncio.sleep(0)
    assert not prefill.cancelling()
    service.forget("a")
    with pytest.raises(asyncio.CancelledError):
        await prefill
