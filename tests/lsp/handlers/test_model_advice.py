from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.advice.measurement import MachineMeasurement, MeasurementParams, keep
from codegen_lsp.errors import ModelError
from codegen_lsp.progress import ProgressReport
from tests.advice.measured import measurement
from tests.lsp.conftest import Editor

METHOD = "codegen-lsp/modelAdvice"
PROGRESS = {"window": {"workDoneProgress": True}}


class Measuring:
    """A measuring that waits to be allowed to end, in place of the process."""

    def __init__(self, editor: Editor) -> None:
        self.asked: list[MeasurementParams] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: ModelError | None = None
        editor.server.session.measure_machine = self.measure  # type: ignore[assignment]

    async def measure(self, params: MeasurementParams, report: ProgressReport) -> MachineMeasurement:
        self.asked.append(params)
        report("Timing small models", 0.5)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        made = measurement()
        keep(made)
        return made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


async def test_nothing_is_measured_unless_the_user_asks(editor: Editor) -> None:
    measuring = Measuring(editor)
    await editor.initialize()
    result = await editor.request(METHOD, {})
    assert not measuring.asked
    assert (result["machine"], result["recommended"]) == (None, None)
    names = [row["name"] for row in result["models"]]
    assert {"codegen-lsp-python", "codegen-350M-mono"} <= set(names)
    assert all(row["verdict"] in ("unknown", "memory") for row in result["models"])


async def test_a_measurement_is_made_once_and_again_on_request(editor: Editor) -> None:
    measuring = Measuring(editor)
    measuring.gate.set()
    await editor.initialize(options={"threads": 3})
    result = await editor.request(METHOD, {"measure": "ifNeeded"})
    assert measuring.asked == [MeasurementParams(threads=3)]
    assert result["machine"]["threads"] == 2
    row = next(row for row in result["models"] if row["name"] == "codegen-350M-mono")
    assert row["firstTokenMs"] > 0
    assert row["suggestionMs"] > row["firstTokenMs"]
    assert (row["downloadMb"], row["state"], row["needsConsent"]) == (797, "", False)
    assert result["aims"]["suggestionMs"] == 250
    keep(measurement(key=MeasurementParams(threads=3).key))
    await editor.request(METHOD, {"measure": "ifNeeded"})
    assert (await editor.request(METHOD, {"measure": "no"}))["machine"] is not None
    assert len(measuring.asked) == 1
    await editor.request(METHOD, {"measure": "again"})
    assert len(measuring.asked) == 2


async def test_two_requests_measure_once(editor: Editor) -> None:
    measuring = Measuring(editor)
    await editor.initialize()
    first, second = (editor.begin(METHOD, {"measure": "ifNeeded"}) for _ in range(2))
    await editor.until(lambda: bool(measuring.asked))
    measuring.gate.set()
    for number in (first, second):
        assert (await editor.answer(number))["result"]["machine"]
    assert len(measuring.asked) == 1


async def test_cancelling_the_request_ends_the_measuring(editor: Editor) -> None:
    measuring = Measuring(editor)
    await editor.initialize()
    number = editor.begin(METHOD, {"measure": "ifNeeded"})
    await editor.until(lambda: bool(measuring.asked))
    editor.notify("$/cancelRequest", {"id": number})
    assert (await editor.answer(number))["error"]["code"] == -32800
    assert measuring.cancelled == 1
    measuring.gate.set()
    assert (await editor.request(METHOD, {"measure": "ifNeeded"}))["machine"]


async def test_cancelling_the_progress_ends_the_measuring(editor: Editor) -> None:
    measuring = Measuring(editor)
    await editor.initialize(PROGRESS)
    number = editor.begin(METHOD, {"measure": "ifNeeded"})

    def is_begin(message: dict[str, Any]) -> bool:
        value = message.get("params", {}).get("value") if message.get("method") == "$/progress" else None
        return bool(value and value.get("title") == "Measuring this machine")

    begun = (await editor.wait_for(is_begin))["params"]
    assert begun["value"]["cancellable"]
    editor.notify("window/workDoneProgress/cancel", {"token": begun["token"]})
    assert (await editor.answer(number))["error"]["code"] == -32800
    assert measuring.cancelled == 1
    await editor.wait_for(lambda m: m.get("method") == "$/progress" and m["params"]["value"]["kind"] == "end")


async def test_the_end_of_the_connection_ends_the_measuring(editor: Editor) -> None:
    measuring = Measuring(editor)
    await editor.initialize()
    editor.begin(METHOD, {"measure": "again"})
    await editor.until(lambda: bool(measuring.asked))
    await editor.server.session.close()
    await editor.until(lambda: measuring.cancelled == 1)


async def test_an_error_says_what_to_do(editor: Editor) -> None:
    measuring = Measuring(editor)
    measuring.error = ModelError("Measuring takes 1.0 GiB of memory; 0.1 are free.", "Close other programs.")
    measuring.gate.set()
    await editor.initialize()
    refused = await editor.refusal(METHOD, {"measure": "ifNeeded"})
    assert refused["message"] == "Measuring takes 1.0 GiB of memory; 0.1 are free. Close other programs."
    assert (await editor.refusal(METHOD, {"measure": "sometimes"}))["code"] == -32602
