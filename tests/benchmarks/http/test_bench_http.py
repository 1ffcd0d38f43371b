"""`bench http`: what its clients send, its figures, and both against a real server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp.benchmarks.http.served import find_llama_server, own_command, served
from codegen_lsp.benchmarks.http.throughput import (
    RequestBatch,
    RequestBatches,
    Rounds,
    compare,
    measure_throughput,
    summary,
)
from codegen_lsp.benchmarks.http.typing_client import (
    LINES_AFTER,
    LINES_BEFORE,
    InfillRecord,
    infill_body,
    record_of,
    replaced_blanks,
)
from codegen_lsp.benchmarks.http.typing_load import percentile, type_at_once, typing_figures, typing_sessions
from codegen_lsp.benchmarks.lsp_client import ReplayError
from codegen_lsp.checkpoints.store import find
from codegen_lsp.errors import ModelError
from codegen_lsp.evaluation.documents import SourceDocument
from codegen_lsp.inference.client.http_connections import HttpAnswer
from tests import needs

ANSWER = {"content": "x = 1", "timings/prompt_n": 7, "timings/prompt_ms": 3.5, "timings/predicted_n": 4}


@pytest.mark.parametrize(
    ("text", "prefix", "prompt", "suffix", "indent"),
    [
        ("def f():\n    ret│ x\nend", "def f():\n", "    ret", " x\nend\n", 4),
        ("│", "", "", "\n", 0),
        ("a\n    │\nb", "a\n", "", "\nb\n", 0),
        ("a\n  │  \nb", "a\n", "", "\nb\n", 0),
    ],
)
def test_a_request_is_that_of_llama_vim(text: str, prefix: str, prompt: str, suffix: str, indent: int) -> None:
    cursor = text.index("│")
    body = infill_body(text.replace("│", ""), cursor)
    assert (body["input_prefix"], body["prompt"], body["input_suffix"], body["n_indent"]) == (
        prefix,
        prompt,
        suffix,
        indent,
    )


def test_a_request_has_so_many_lines() -> None:
    lines = [f"line {number}\n" for number in range(1000)]
    body = infill_body("".join(lines), sum(map(len, lines[:500])) + 2)
    assert body["input_prefix"] == "".join(lines[500 - LINES_BEFORE : 500])
    assert body["input_suffix"] == "ne 500\n" + "".join(lines[501 : 501 + LINES_AFTER])


def test_a_suggestion_replaces_the_blanks_of_a_blank_line_only() -> None:
    assert replaced_blanks("a\n    \nb", 6) == 4
    assert replaced_blanks("a\n    b", 6) == 0


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, ANSWER, InfillRecord(0.1, from_model=True, text="x = 1", prompt_tokens=7, tokens=4)),
        (200, ANSWER | {"content": "", "timings/prompt_ms": 0.0}, InfillRecord(0.1, prompt_tokens=7, tokens=4)),
        (503, {"error": {}}, InfillRecord(0.1, error="status 503")),
        (200, {"content": "x"}, InfillRecord(0.1, error="an answer in another form")),
        (200, [1], InfillRecord(0.1, error="an answer in another form")),
    ],
)
def test_answers_are_recorded(status: int, body: object, expected: InfillRecord) -> None:
    assert record_of(HttpAnswer(status, json.dumps(body).encode()), 0.1) == expected


def test_percentiles_without_ended_requests_are_those_of_the_nearest_rank() -> None:
    times = [float(number) for number in range(1, 101)]
    assert (percentile(0.5, times), percentile(0.95, times), percentile(0.95, [])) == (50.0, 95.0, None)


def test_an_ended_request_counts_as_a_lower_bound() -> None:
    # Of six patients, events at 1, 3, 4 and 6, bounds at 2 and 5: S(1)=5/6, S(3)=5/8, S(4)=5/12, S(6)=0.
    known, least = [1.0, 3.0, 4.0, 6.0], [2.0, 5.0]
    assert [percentile(share, known, least) for share in (0.1, 0.3, 0.5, 0.95)] == [1.0, 3.0, 4.0, 6.0]
    assert percentile(0.95, [1.0, 2.0], [9.0, 9.0]) is None


def test_bounds_above_all_times_raise_a_percentile_and_early_ones_do_not() -> None:
    known = [float(number) for number in range(1, 21)]
    late = percentile(0.9, known, [19.5, 19.5])
    assert late is not None
    assert late > 18.0
    assert percentile(0.9, known, [0.5] * 10) == percentile(0.9, known)


def test_the_figures_of_typing_tell_answers_of_rules_from_those_of_the_model() -> None:
    asked = InfillRecord(0.02, from_model=True, text="x", prompt_tokens=10, tokens=5)
    records = [
        asked,
        evolve(asked, seconds=0.04, text=""),
        InfillRecord(0.001),
        InfillRecord(0.2, cancelled=True),
        InfillRecord(0.1, error="status 500"),
    ]
    found = typing_figures(records, 2, 10.0, 30, 99.0)
    assert (found.requests, found.answered_by_model, found.errors) == (5, 2, {"status 500": 1})
    assert (found.cancelled, found.shown, found.tokens_per_second) == (0.2, pytest.approx(1 / 3), 1.0)
    assert (found.answered_p50_ms, found.answered_p95_ms) == (20.0, 40.0)
    assert (found.p50_ms, found.p95_ms) == (40.0, None)


def test_each_client_types_in_a_file_of_its_own(document: SourceDocument) -> None:
    texts = [evolve(document, path=f"{number}.py", text=document.text * 2) for number in range(3)]
    sessions = typing_sessions(texts, 3, 100, seed=0)
    assert sorted(session.document.path for session in sessions) == ["0.py", "1.py", "2.py"]
    with pytest.raises(ReplayError, match="Only 3 of 4"):
        typing_sessions(texts, 4, 100, seed=0)


def batch(seconds: float, prompt_tokens: int = 0, tokens: int = 64) -> RequestBatch:
    return RequestBatch(seconds, prompt_tokens, tokens, 0)


def test_the_figures_of_throughput_are_medians_of_ratios_within_a_round() -> None:
    alone = RequestBatches([batch(2.0), batch(4.0), batch(8.0)], [batch(1.0)] * 3, [batch(1.0, 256, 1)] * 3)
    at_once = RequestBatches([batch(4.0, tokens=512)] * 3, [batch(2.0, tokens=512)] * 3, [batch(4.0, 2048, 8)] * 3)
    ours, theirs = Rounds(alone, at_once), Rounds(alone, alone)
    found = summary(["serve"], ours, 100.0)
    assert (found.alone, found.at_once, found.gain) == (16.0, 128.0, 8.0)
    assert (found.decode_alone, found.decode_at_once, found.decode_gain) == (64.0, 256.0, 4.0)
    assert (found.prompt_alone, found.prompt_at_once, found.prompt_gain) == (256.0, 512.0, 2.0)
    ratios = compare(ours, theirs)
    assert (ratios["alone"], ratios["at_once"]) == (1.0, 8.0)
    assert (ratios["decode_at_once"], ratios["prompt_at_once"]) == (4.0, 2.0)


def test_a_missing_llama_server_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LLAMA_SERVER", "")
    with pytest.raises(ModelError, match="no program llama-server"):
        find_llama_server(None)
    program = tmp_path / "llama-server"
    program.write_text("")
    program.chmod(0o755)
    assert find_llama_server(None) == program
    monkeypatch.setenv("LLAMA_SERVER", sys.executable)
    assert find_llama_server(None) == Path(sys.executable)


def test_a_server_that_ends_says_why() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with pytest.raises(ModelError, match="no such model"), served("server", command, own=False):
        pass


@pytest.mark.slow
@needs.mark("serve")
def test_two_users_type_and_two_requests_are_timed_on_a_real_server(document: SourceDocument) -> None:
    texts = [evolve(document, path=f"{number}.py", text=document.text * 2) for number in range(2)]
    build = find("auto").path
    with served("codegen-lsp", own_command(str(build), 2), own=True) as server:
        figures = type_at_once(server, typing_sessions(texts, 2, 40, seed=0))
        found = measure_throughput([server], build, requests=2, rounds=1, threads=2)
    assert figures.requests > 0
    assert not figures.errors
    assert figures.answered_by_model + round(figures.cancelled * figures.requests) > 0
    assert figures.memory_mb > 0
    speeds = found.servers["codegen-lsp"]
    assert min(speeds.alone, speeds.at_once, speeds.decode_at_once, speeds.prompt_at_once) > 0
