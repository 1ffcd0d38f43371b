"""What a build that was just made can do, measured with `codegen-lsp eval` as anybody would.

Each evaluation runs as the command that the model card prints next to its figures, and leaves its JSON in a folder;
one whose result is there is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from codegen_lsp.errors import CorpusError

BENCHMARKS = ("HumanEval-SingleLineInfilling.jsonl.gz", "HumanEval.jsonl.gz")
INTRODUCTION = "The int8 build, with 95 % intervals (`docs/evaluation.md` says what each figure means):\n\n"
TITLES = {
    "line start": "whole next line exactly right, from its indentation",
    "mid-line": "rest of the line exactly right, from between words",
    "mid-word": "rest of the line exactly right, from inside a word",
}


@attrs.frozen
class Evaluation:
    """A command of `codegen-lsp eval`: what makes its figures, and how the model card prints it."""

    name: str
    arguments: tuple[str, ...]
    printed: str


def evaluations(folder: Path, data: Path | None, cases: int, files: int) -> list[Evaluation]:
    """The evaluations of the model in `folder`; those on HumanEval where `data` has its files."""
    found = [
        Evaluation(
            "lines",
            ("lines", "--corpus", str(folder), "--cases", str(cases), "--shown"),
            f"codegen-lsp eval lines --corpus DIR --cases {cases} --shown",
        ),
        Evaluation(
            "bits-per-byte",
            ("bits-per-byte", "--corpus", str(folder), "--files", str(files), "--float", str(folder / "hf")),
            f"codegen-lsp eval bits-per-byte --corpus DIR --files {files} --float DIR/hf",
        ),
    ]
    if data and all((data / name).exists() for name in BENCHMARKS):
        found += [
            Evaluation(name, (name, "--data", str(data)), f"codegen-lsp eval {name} --data FOLDER")
            for name in ("humaneval-infilling", "humaneval")
        ]
    return found


def judge(folder: Path, wanted: list[Evaluation], report: Callable[[str], None]) -> None:
    """Run what has not been run on `folder`'s build as it is. Raises CorpusError when an evaluation fails."""
    build = json.loads((folder / "build" / "build.json").read_text(encoding="utf-8"))
    weights = build["files"]["model.bin"]["sha256"]
    results = folder / "evaluation"
    results.mkdir(exist_ok=True)
    for evaluation in wanted:
        out = results / f"{evaluation.name}.json"
        if out.exists() and json.loads(out.read_text(encoding="utf-8"))["weights"] == weights:
            continue
        report(evaluation.printed)
        command = [sys.executable, "-m", "codegen_lsp.cli", "eval", *evaluation.arguments]
        done = subprocess.run(
            [*command, "--model", str(folder / "build"), "--json"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise CorpusError(
                f"The evaluation ended with status {done.returncode}: {evaluation.printed}",
                "See what it printed; the same command goes on from here.",
            )
        out.write_text(done.stdout, encoding="utf-8")


def markdown(folder: Path, wanted: list[Evaluation]) -> str:
    """Markdown of the evaluations that were run: figures, cases, 95 % intervals, and the command of each."""
    parts = []
    for evaluation in wanted:
        path = folder / "evaluation" / f"{evaluation.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))["figures"]
            parts.append(f"    {evaluation.printed}\n\n| | | cases |\n|---|---|---|\n" + _ROWS[evaluation.name](found))
    if not parts:
        return ""
    return "The int8 build, with 95 % intervals (`docs/evaluation.md` says what each figure means):\n\n" + "".join(
        parts
    )


def _lines(found: dict[str, Any]) -> str:
    alone = [entry for entry in found["alone"] if not entry["below"]]
    rows = [("half-typed word completed right", entry["word"]) for entry in alone if entry["word"]]
    rows += [(TITLES[entry["kind"]], entry["exact"]) for entry in reversed(alone)]
    for entry in found.get("shown", []):
        if not entry["below"]:
            rows.append((f"{entry['kind']}: first line of what an editor shows is right", entry["right_of_shown"]))
    return _shares(rows)


def _bits(figures: dict[str, Any]) -> str:
    both = (("int8", figures["bits_per_byte"]), ("float weights", figures["float"]))
    rows = [
        f"| bits per byte, {name} | {of['value']:.4f} ({of['low']:.4f}-{of['high']:.4f}) | {of['cases']} |\n"
        for name, of in both
    ]
    loss = figures["loss"]
    return "".join(rows) + f"| what int8 costs | {100 * loss['value']:+.3f} % of the bits | {loss['cases']} |\n\n"


def _infilling(found: dict[str, Any]) -> str:
    return _shares([("HumanEval, single-line infilling, exact", found["exact_match"])])


def _functions(found: dict[str, Any]) -> str:
    return _shares([(f"HumanEval, {name}", entry) for name, entry in found.items()])


def _shares(rows: list[tuple[str, dict[str, Any]]]) -> str:
    return (
        "".join(
            f"| {name} | {100 * entry['value']:.1f} % ({100 * entry['low']:.0f}-{100 * entry['high']:.0f}) "
            f"| {entry['cases']:,} |\n"
            for name, entry in rows
            if entry
        )
        + "\n"
    )


_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "lines": _lines,
    "bits-per-byte": _bits,
    "humaneval-infilling": _infilling,
    "humaneval": _functions,
}
