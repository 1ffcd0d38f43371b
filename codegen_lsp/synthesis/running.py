"""Run the turns of a dialogue in the sandbox, and judge the last one by the person's examples."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from attrs import evolve, field, frozen

from codegen_lsp.sandbox.packages import installed_packages, prologue
from codegen_lsp.sandbox.sandbox import NO_RESULT, Confinement, Limits, Verdict, run_program
from codegen_lsp.synthesis import cells
from codegen_lsp.synthesis.dialogue import Dialogue
from codegen_lsp.synthesis.examples import Example
from codegen_lsp.synthesis.printable import printable, printable_output
from codegen_lsp.synthesis.sandbox_stops import why_stopped

LIMITS = Limits(seconds=10.0, memory_mb=2048, scratch_mb=64, output_bytes=0, file_bytes=16 << 20)
RunKind = Literal["right", "ran", "contradicts", "failed", "timeout"]
"""`right`: it ran, and all examples hold. `ran`: there are none. `contradicts`: one does not hold."""


@frozen
class ValueTable:
    """A value that is a table, as far as it is shown."""

    heads: list[str]
    """Of the columns; empty if they have none."""
    rows: list[list[str]]
    dropped: int = 0
    """Number of rows that are not in `rows`."""


@frozen
class TurnResult:
    """What one turn did."""

    output: str = ""
    """What it printed."""
    value: str = ""
    """The value of its last expression, as `repr` gives it; empty for None."""
    error: str = ""
    """The exception that ended it, with the line in the turn's code."""
    files: dict[str, bytes] = field(factory=dict)
    """Pictures that it drew, and files that it wrote under the name `turn-N-…`."""
    table: ValueTable | None = None
    """The value, if it is a table."""
    stopped: str = ""
    """Why the sandbox stopped it, in plain words; empty if the sandbox did not cause the error."""

    @property
    def failure(self) -> str:
        """The error, with the reason in front if the sandbox caused it; empty if there is none."""
        return f"{self.stopped}: {self.error}" if self.stopped else self.error

    @property
    def text(self) -> str:
        """Output, value and error as one text."""
        return "\n".join(part for part in (self.output.rstrip("\n"), self.value, self.failure) if part)


@frozen
class ProgramRun:
    """What a program did."""

    kind: RunKind
    turns: list[TurnResult]
    """Of the turns up to the one that failed or hung, which is included."""
    reason: str = ""
    """Why it failed, or which example does not hold, in one line."""
    above: bool = False
    """True if a turn above the last one failed or hung, so that the last one did not run."""

    @property
    def last(self) -> TurnResult:
        """What the last turn did."""
        if self.above:
            return TurnResult(error=self.reason)
        return self.turns[-1] if self.turns else TurnResult()


class ProgramRunner(Protocol):
    """Runs dialogues."""

    async def run_cancellable(self, dialogue: Dialogue, examples: Sequence[Example] = ()) -> ProgramRun:
        """See `TurnRunner.run_cancellable`."""
        ...


@frozen
class TurnRunner:
    """Runs dialogues in the sandbox. A program sees the packages that are installed beside this one."""

    limits: Limits = LIMITS
    confinement: Confinement = "namespaces"
    packages: Path = field(factory=installed_packages)

    async def run_cancellable(self, dialogue: Dialogue, examples: Sequence[Example] = ()) -> ProgramRun:
        """Run a dialogue in a thread. Cancelling the caller ends the program.

        Raises: SandboxError when programs can't be confined on this system.
        """
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self.run, dialogue, examples, stop)
        finally:
            stop.set()

    def run(
        self, dialogue: Dialogue, examples: Sequence[Example] = (), stop: threading.Event | None = None
    ) -> ProgramRun:
        """Run all turns, each time from the first on, and try examples of the last one. Blocks.

        Raises: SandboxError when programs can't be confined on this system, ProgramStoppedError when `stop` is set.
        """
        codes = [dialogue.head, *(turn.code for turn in dialogue.turns)]
        tried = [(example.setup, example.expression, example.expected) for example in examples]
        program = (
            f"{prologue(self.packages)}"
            f"exec(compile({inspect.getsource(cells)!r}, 'cells', 'exec'), globals())\n"
            f"run({codes!r}, {tried!r})\n"
        )
        drawn = [f"turn-{number}-" for number in reversed(range(len(codes)))]
        returned = [cells.REPORTS, cells.PRINTED, *drawn]
        verdict = run_program(program, self.limits, self.confinement, [self.packages], stop, returned=returned)
        return _outcome(verdict, dialogue, examples, self.limits)


def _outcome(verdict: Verdict, dialogue: Dialogue, examples: Sequence[Example], limits: Limits) -> ProgramRun:
    rows = _rows(verdict.files.get(cells.REPORTS, b""))
    reports = [row for row in rows if "turn" in row]
    results = [_result(row, verdict.files, limits) for row in reports]
    turns, count = results[1:], len(dialogue.turns) + 1
    found = {row["example"]: printable(str(row["found"])) for row in rows if "example" in row}
    if turns and turns[-1].error and _holds_with_setups(examples, found):
        turns[-1] = evolve(turns[-1], error="", stopped="")
    elif results and (failure := results[-1].failure):
        return ProgramRun("failed", turns, _where(len(reports), count) + failure, len(reports) < count)
    if len(reports) < count:
        place = _where(len(reports) + 1, count)
        printed = _printed(verdict.files.get(cells.PRINTED, b""))
        if verdict.kind == "timeout":
            reason = f"it ran for more than {limits.seconds:g} s and was stopped"
            last = TurnResult(printed, error=reason)
            return ProgramRun("timeout", [*turns, last], place + reason, len(reports) + 1 < count)
        detail = "by a crash, or by os._exit" if verdict.detail == NO_RESULT else printable(verdict.detail)
        reason = f"it ended the program ({detail})" if detail else "it ended the program"
        return ProgramRun(
            "failed", [*turns, TurnResult(printed, error=reason)], place + reason, len(reports) + 1 < count
        )
    for number, example in enumerate(examples):
        if number not in found:
            return ProgramRun("contradicts", turns, f"{example.text} was not reached: it took too long or ended")
        if found[number]:
            return ProgramRun("contradicts", turns, f"{example.text}, but it gives {found[number]}")
    return ProgramRun("right" if examples else "ran", turns)


def _holds_with_setups(examples: Sequence[Example], found: dict[Any, str]) -> bool:
    """Return whether all examples hold, and each assigns something first, which the turn alone may lack."""
    return bool(examples) and all(example.setup and found.get(number) == "" for number, example in enumerate(examples))


def _printed(content: bytes) -> str:
    """Return what a turn printed that did not end; untrusted code may have written anything."""
    text = content.decode("utf-8", "replace")
    more = "\n[and more]" if len(text) >= cells.OUTPUT_CHARACTERS else ""
    return printable_output(text[: cells.OUTPUT_CHARACTERS]) + more


def _where(report: int, count: int) -> str:
    """Return a phrase for the turn of a report, which is the head for the first; none for the last turn."""
    return "" if report == count else "above the first turn: " if report == 1 else f"turn {report - 1}: "


def _rows(content: bytes) -> list[dict[str, Any]]:
    """Return the reports, which untrusted code may have forged, as far as they have the form."""
    rows = []
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and (("turn" in row and "error" in row) or ("example" in row and "found" in row)):
            rows.append(row)
    return rows


def _result(row: dict[str, Any], files: dict[str, bytes], limits: Limits) -> TurnResult:
    """Return what a turn did, as text that can't change a terminal or break out of a comment."""
    names = row.get("files") if isinstance(row.get("files"), list) else []
    kept = {printable(str(name)): files[str(name)] for name in names or [] if str(name) in files}
    value, error = (printable(str(row.get(part, ""))) for part in ("value", "error"))
    output = printable_output(str(row.get("output", "")))
    return TurnResult(output, value, error, kept, _table(row.get("table")), why_stopped(error, limits))


def _table(value: object) -> ValueTable | None:
    """Return a table of a report; None if it has not the form of one, since code may have forged it."""
    if not isinstance(value, dict):
        return None
    heads, rows, dropped = value.get("heads"), value.get("rows"), value.get("dropped")
    if not isinstance(heads, list) or not isinstance(rows, list) or not isinstance(dropped, int):
        return None
    if not all(isinstance(row, list) for row in rows):
        return None
    lines = [[printable(str(one))[: cells.CELL_CHARACTERS + 1] for one in row[: cells.TABLE_COLUMNS]] for row in rows]
    return ValueTable(
        [printable(str(head)) for head in heads[: cells.TABLE_COLUMNS]], lines[: cells.TABLE_ROWS], dropped
    )
