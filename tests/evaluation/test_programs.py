"""Sampling of programs, the log of a run, and pass@k."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.programs import (
    ProgramSample,
    SampleLog,
    Sampler,
    SamplingSetup,
    WrittenProgram,
    judging,
    pass_at_k,
    pass_rates,
    seed_of,
)
from codegen_lsp.sandbox.sandbox import Verdict

SETUP = SamplingSetup("humaneval", "model", "0" * 64, 0.2, 0.95, 16)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [(1, 0, 1, 0.0), (1, 1, 1, 1.0), (10, 3, 1, 0.3), (10, 3, 10, 1.0), (5, 0, 5, 0.0), (4, 2, 2, 5 / 6)],
)
def test_pass_at_k(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected)


def test_pass_at_k_is_the_share_of_choices_with_a_right_one() -> None:
    for n, c, k in itertools.product(range(1, 7), range(7), range(1, 7)):
        if c <= n and k <= n:
            choices = list(itertools.combinations([True] * c + [False] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def samples_of(*outcomes: str) -> list[ProgramSample]:
    """One problem for each word; p for a pass, f for a failure."""
    return [
        ProgramSample(str(task), number, "", "", letter == "p")
        for task, letters in enumerate(outcomes)
        for number, letter in enumerate(letters)
    ]


def test_passes_are_averaged_over_problems() -> None:
    once = pass_rates(samples_of("p", "f", "f", "f")).first
    assert once is not None
    assert (once.value, once.cases) == (0.25, 4)
    assert once.high > once.value
    many = pass_rates(samples_of("p" * 5 + "f" * 5, "f" * 10))
    assert many.samples == 20
    assert set(many.at) == {1, 10}
    assert (many.at[1].value, many.at[10].value) == (0.25, 0.5)
    assert pass_rates(samples_of("p" * 10, "f")).at.keys() == {1}
    assert pass_rates([]).at == {}
    none = pass_rates(samples_of("ff", "ff")).first
    assert none is not None
    assert none.value == 0 < none.high


class Writer:
    """Writes and judges programs, and keeps what it was asked."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []

    async def write(self, task: str, number: int) -> WrittenProgram:
        self.written.append((task, number))
        return WrittenProgram(f"x = {number}", f"{number}")

    def judge(self, task: str, draft: WrittenProgram) -> Verdict:
        return Verdict("passed" if task == "a" else "failed", "" if task == "a" else "it is not a")


async def test_samples_are_judged_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    writer = Writer()
    log = SampleLog(path, SETUP)
    async for sample in Sampler(judging(writer.write, writer.judge), log).sample(["a", "b"], 2):
        if (sample.task, sample.number) == ("a", 1):
            break
    assert writer.written == [("a", 0), ("b", 0), ("a", 1)]
    path.write_text(path.read_text() + '{"task": "b", "numb')  # killed in the middle of a line
    writer = Writer()
    found = [
        one
        async for one in Sampler(judging(writer.write, writer.judge), SampleLog(path, SETUP), 3).sample(["a", "b"], 2)
    ]
    assert writer.written == [("b", 1)]
    assert sorted((one.task, one.number, one.passed) for one in found) == [
        ("a", 0, True),
        ("a", 1, True),
        ("b", 0, False),
        ("b", 1, False),
    ]
    assert {one.detail for one in found if not one.passed} == {"it is not a"}
    assert SampleLog(path, SETUP).samples == {(one.task, one.number): one for one in found}


async def test_no_more_are_written_at_once_than_asked() -> None:
    running = most = 0

    async def write(task: str, number: int) -> WrittenProgram:
        nonlocal running, most
        running += 1
        most = max(most, running)
        import asyncio

        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return WrittenProgram("", "")

    sampler = Sampler(judging(write, lambda task, draft: Verdict("passed")), SampleLog(None, SETUP), 3)
    assert len([one async for one in sampler.sample(list("abcdefgh"), 2)]) == 16
    assert most == 3


def test_a_log_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    SampleLog(path, SETUP)
    with pytest.raises(EvaluationError, match=r"temperature is 0\.2, now it is 0\.8"):
        SampleLog(path, evolve(SETUP, temperature=0.8))
    path.write_text("[1, 2]\n")
    with pytest.raises(EvaluationError, match="no log"):
        SampleLog(path, SETUP)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(EvaluationError, match="can't be used"):
        SampleLog(path, SETUP)
    with pytest.raises(EvaluationError, match="can't be used"):
        SampleLog(tmp_path, SETUP)


def test_seeds_depend_on_all_parts() -> None:
    seeds = {seed_of(*parts) for parts in itertools.product(range(3), repeat=4)}
    assert len(seeds) == 81
    assert seed_of(1, 2) == seed_of(1, 2)
