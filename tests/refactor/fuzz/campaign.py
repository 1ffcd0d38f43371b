"""Many programs of one refactoring, under hypothesis, which shrinks a program whose behaviour changed.

Where a refactoring asks ruff, the programs of a chunk are drawn twice: first to check them all by one process of ruff,
which takes as long to start as to check hundreds of programs; then to try the refactoring.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, seed, settings

from codegen_lsp.refactor.registry import SIMPLIFY, RefactoringKind
from tests.refactor.fuzz.attempt import (
    DOCUMENT,
    ChangedBehaviourError,
    Finding,
    Laboratory,
    Program,
    Tally,
    without_type_checker,
)
from tests.refactor.fuzz.interpreter import Interpreter
from tests.refactor.fuzz.programs import programs

CHUNK = 250
"""Programs that hypothesis draws from one seed, so that it need not remember all programs of a long run."""
MOST_ALIKE = 3
"""Findings with one key that are shrunk."""


@contextmanager
def laboratory(made: type[Laboratory] = Laboratory) -> Iterator[Laboratory]:
    """Yield a laboratory with an interpreter of its own."""
    without_type_checker()
    with (
        TemporaryDirectory(prefix="codegen-lsp-fuzz-") as folder,
        Interpreter() as interpreter,
        asyncio.Runner() as runner,
    ):
        yield made(interpreter, runner, Path(folder).resolve())


def campaign(
    lab: Laboratory,
    kind: RefactoringKind,
    count: int,
    start: int,
    tally: Tally,
    *,
    until: float = float("inf"),
    enough: int = 1_000,
    found: Callable[[Finding], None] = lambda one: None,
) -> list[Finding]:
    """Try a refactoring on `count` programs from the seed `start`; return the shrunk findings.

    No new chunk begins after the time `until`, by `time.monotonic`, or with `enough` findings.
    """
    findings: list[Finding] = []
    while tally.programs < count and time.monotonic() < until and len(findings) < enough:
        if (finding := _chunk(lab, kind, min(CHUNK, count - tally.programs), start, tally, findings)) is not None:
            findings.append(finding)
            found(finding)
        start += 1
    return findings


def _chunk(
    lab: Laboratory, kind: RefactoringKind, count: int, start: int, tally: Tally, known: list[Finding]
) -> Finding | None:
    """Try programs until one is changed in a way that is not known well enough; return it when it is shrunk."""
    key = ""
    drawn = settings(
        max_examples=count,
        phases=[Phase.generate, Phase.shrink],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )

    if kind is SIMPLIFY:
        texts: list[str] = []
        seed(start)(drawn(given(programs(kind))(lambda program: texts.append(program.files[DOCUMENT]))))()
        lab.ruff.check(texts)

    @seed(start)
    @drawn
    @given(programs(kind))
    def check(program: Program) -> None:
        nonlocal key
        # While a program is shrunk, nothing is counted, and only what differs in the same way counts.
        for one in lab.try_all(kind, program, Tally() if key else tally):
            if key and one.key != key:
                continue
            if not key and sum(other.key == one.key for other in known) >= MOST_ALIKE:
                continue
            key = one.key
            raise ChangedBehaviourError(one)

    try:
        check()
    except ChangedBehaviourError as error:
        return error.finding
    return None
