"""The replay against the real server, and its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from codegen_lsp.benchmarks import replay as replay_module
from codegen_lsp.benchmarks import typist
from codegen_lsp.benchmarks.keystrokes import Key
from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.benchmarks.replay import replay
from codegen_lsp.benchmarks.replay_figures import figures_of, times_of
from codegen_lsp.benchmarks.replay_page import page
from codegen_lsp.benchmarks.replay_records import ProcessCost, Replay, ReplayRequest, TypedFile, TypedSpan
from codegen_lsp.benchmarks.typing_run import Screen
from codegen_lsp.evaluation.documents import SourceDocument

SETTINGS: dict[str, Any] = {"threads": 2, "warm": False}
"""Without what goes by the clock."""
ASKED = ReplayRequest(1.0, 30.0, "model", shown=True, new=True, generated_tokens=10)


@pytest.fixture
def module(document: SourceDocument) -> SourceDocument:
    """A file that is long enough."""
    return evolve(document, text=document.text * 2)


def typed(*requests: ReplayRequest) -> Replay:
    """A replay of one file with these requests."""
    file = TypedFile(
        package="p",
        path="<f>.py",
        characters=100,
        keys=75,
        keys_without=100,
        seconds=30.0,
        wall_seconds=1.0,
        requests=list(requests),
        written=[TypedSpan("type", 0, "if a <"), TypedSpan("accept", 0, " b:"), TypedSpan("accept word", 1, "x")],
        accepted={"accept": 1},
        gained=40,
    )
    shown = sum(request.generated_tokens for request in requests if request.new)
    total = sum(request.generated_tokens for request in requests)
    model = {"name": "m", "engine": "ct2", "threads": 2}
    return Replay(model, False, [file], ProcessCost(1.0, 2.0, 50.0, 200.0), 10, total + 10, shown)


def untimed(request: ReplayRequest) -> ReplayRequest:
    return evolve(request, milliseconds=0.0, cached_tokens=0)


def test_a_workspace_is_filled_up_with_different_files(tmp_path: Path, document: SourceDocument) -> None:
    others = [document, evolve(document, path="other.js", text="let x = 1\n")]
    replay_module._fill(tmp_path / "more", others, replay_module.FOLDER_FILES + 2, None)
    files = [path for path in (tmp_path / "more").rglob("*") if path.is_file()]
    assert len(files) == replay_module.FOLDER_FILES + 2
    assert len({path.read_text() for path in files}) == len(files)
    assert {path.suffix for path in files} == {".py", ".js"}
    assert len({path.parent for path in files}) == 2


@pytest.mark.slow
async def test_typing_into_the_real_server(embedded_build: Path, module: SourceDocument) -> None:
    documents = [module, evolve(module, path="short.py", text="x = 1\n")]
    settings = SETTINGS | {"model": str(embedded_build)}

    async def run() -> Replay:
        return await replay(documents, files=2, characters=60, seed=0, settings=settings, real_time=False)

    first, second = await run(), await run()
    (one,), (other,) = first.typed, second.typed
    # The same edits and requests by seed: only times differ.
    assert one.written == other.written
    assert [untimed(request) for request in one.requests] == [untimed(request) for request in other.requests]
    spans = {span.stretch: "" for span in one.written}
    for span in one.written:
        spans[span.stretch] += span.text
    assert all(text in module.text for text in spans.values())
    figures = figures_of(first)
    assert figures.requests > 10
    assert figures.model is not None
    assert figures.overtaken is not None
    assert figures.overtaken.value == 0
    assert first.cost.worker_mb > 10
    assert first.generated_tokens >= first.shown_tokens > 0


async def test_in_real_time_the_next_key_overtakes_the_answer(
    embedded_build: Path, module: SourceDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typist, "MEAN_GAP", 0.07)
    monkeypatch.setattr(typist, "LINE_PAUSE", 0.1)
    settings = SETTINGS | {"model": str(embedded_build)}
    done = await replay([module], files=1, characters=60, seed=0, settings=settings, real_time=True)
    (file,) = done.typed
    assert file.wall_seconds > file.seconds
    assert any(request.milliseconds is None for request in file.requests)


async def test_files_that_are_all_too_short(embedded_build: Path) -> None:
    documents = [SourceDocument("p", "f.py", "python", "x = 1\n")]
    with pytest.raises(ReplayError, match="long enough"):
        await replay(documents, files=1, characters=100, seed=0, settings=SETTINGS, real_time=False)


async def test_a_model_that_is_missing_is_said_to_be(module: SourceDocument) -> None:
    with pytest.raises(ReplayError, match="no model"):
        await replay([module], files=1, characters=60, seed=0, settings={"model": "none-here"}, real_time=False)


def test_figures() -> None:
    figures = figures_of(
        typed(
            evolve(ASKED, milliseconds=10.0, right=True, accepted=True),
            evolve(ASKED, milliseconds=20.0, after_accepting=True),
            ReplayRequest(2.0, 1.0, "cache", shown=True, through=True),
            evolve(ASKED, milliseconds=30.0, through=True, shown=False, new=False, rule="empty"),
            ReplayRequest(3.0, None),
        )
    )
    assert figures.model is not None
    assert (figures.model.p50, figures.model.p95, figures.model.requests) == (20.0, 30.0, 3)
    assert figures.cache is not None
    assert figures.cache.p99 == 1.0

    def value(name: str) -> float:
        return getattr(figures, name).value

    assert value("overtaken") == 1 / 5
    assert value("from_cache") == 1 / 4
    assert value("through_from_cache") == 1 / 2
    assert value("next_from_cache") == 0
    assert figures.next_p50 == 20.0
    assert value("shown") == 3 / 5
    assert value("right") == 1 / 2
    assert value("accepted") == 1 / 2
    assert value("keystrokes_saved") == 0.25
    assert value("accepted_characters") == 0.4
    assert figures.wasted_tokens == 0.5  # 10 of 30 were for nothing, and 10 more were cancelled
    assert figures.cpu_seconds_per_minute == 6.0
    assert figures.cpu_share == 0.1
    assert figures.refusals == {"empty": 1}


def test_percentiles_are_times_that_occurred() -> None:
    times = times_of([ReplayRequest(0.0, float(number)) for number in range(1, 101)])
    assert times is not None
    assert (times.p50, times.p95, times.p99) == (50.0, 95.0, 99.0)
    assert times_of([ReplayRequest(0.0, None)]) is None


def test_an_editor_goes_on_showing_what_is_typed_through() -> None:
    screen = Screen(0, 3, "total", 0.0)
    (after,) = [screen.after(Key("type", 3, 3, "a", 4), "tota")]
    assert after == Screen(0, 4, "total", 0.0)
    assert screen.after(Key("type", 3, 3, "x", 4), "totx") is None
    assert screen.after(Key("move", 3, 3, "", 3), "tot") is None
    assert screen.after(Key("accept", 0, 3, "total", 5), "total") is None


def test_the_report_is_one_file_with_everything_in_it() -> None:
    html = page(
        typed(evolve(ASKED, right=True), ReplayRequest(2.0, 1.0, "cache", shown=True), ReplayRequest(3.0, None))
    )
    assert "if a &lt;<mark> b:</mark>" in html
    assert '<mark class="part">x</mark>' in html
    assert "&lt;f&gt;.py" in html
    assert html.count("<svg") == 4
    assert "http" not in html
    assert "nan" not in html


def test_the_report_of_next_to_nothing() -> None:
    assert "<svg" in page(typed())


@pytest.mark.slow
def test_the_command(embedded_build: Path, module: SourceDocument, tmp_path: Path) -> None:
    source = tmp_path / "lines.py"
    source.write_text(module.text, encoding="utf-8")
    report = tmp_path / "report.html"
    command = [sys.executable, "-m", "codegen_lsp.cli", "bench", "replay", str(source), "--model", str(embedded_build)]
    result = subprocess.run(
        [*command, "--characters", "40", "--threads", "2", "--html", str(report), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(result.stdout)
    assert figures["by_file"][0]["path"] == str(source)
    assert figures["requests"] > 0
    assert "<svg" in report.read_text(encoding="utf-8")
