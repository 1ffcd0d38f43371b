"""Evaluation of a new build with `codegen-lsp eval`, for its model card.

Each evaluation runs as the command that the model card prints beside its figures and writes its JSON into a folder; an
evaluation that has a result for the build is not run again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from codegen_lsp.errors import CorpusError

BENCHMARKS = ("HumanEval-SingleLineInfilling.jsonl.gz", "HumanEval.jsonl.gz", "mtpb.jsonl")
INTRODUCTION = """The int8 build. Percent with 95 % intervals; `docs/evaluation.md` says what each figure means. *no*
and *yes* tell whether the text below the cursor's line was there.

"""
ALONE = {"exact": "exact", "similarity": "similarity", "word": "word", "keystrokes": "saved"}
SHOWN = {
    "shown": "shown",
    "fits_of_shown": "fits",
    "right_of_shown": "right",
    "keystrokes": "saved",
    "parses": "parses",
    "undefined": "undefined",
}


@attrs.frozen
class EvaluationCommand:
    """A command of `codegen-lsp eval`: its name, its arguments, and its form in the model card."""

    name: str
    arguments: tuple[str, ...]
    printed: str


def evaluations(folder: Path, data: Path | None, cases: int, files: int) -> list[EvaluationCommand]:
    """Return the evaluations of the model in `folder`; those on HumanEval if `data` has its files."""
    found = [
        EvaluationCommand(
            "lines",
            ("lines", "--corpus", str(folder), "--cases", str(cases), "--shown"),
            f"codegen-lsp eval lines --corpus DIR --cases {cases} --shown",
        ),
        EvaluationCommand(
            "lines-bare",
            ("lines", "--corpus", str(folder), "--cases", str(cases), "--ablate", "ngrams"),
            f"codegen-lsp eval lines --corpus DIR --cases {cases} --ablate ngrams",
        ),
        EvaluationCommand(
            "bits-per-byte",
            ("bits-per-byte", "--corpus", str(folder), "--files", str(files), "--float", str(folder / "hf")),
            f"codegen-lsp eval bits-per-byte --corpus DIR --files {files} --float DIR/hf",
        ),
    ]
    if data and all((data / name).exists() for name in BENCHMARKS):
        found += [
            EvaluationCommand(name, (name, "--data", str(data)), f"codegen-lsp eval {name} --data FOLDER")
            for name in ("humaneval-infilling", "humaneval", "mtpb")
        ]
    return found


def run_evaluations(folder: Path, wanted: list[EvaluationCommand], report: Callable[[str], None]) -> None:
    """Run the evaluations that have no result for `folder`'s build. Raises CorpusError when one fails."""
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


def markdown(folder: Path, wanted: list[EvaluationCommand]) -> str:
    """Return the results as Markdown: figures, cases, 95 % intervals, and the command of each."""
    parts = []
    for evaluation in wanted:
        path = folder / "evaluation" / f"{evaluation.name}.json"
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))["figures"]
            parts.append(f"    {evaluation.printed}\n\n{_TABLES[evaluation.name](found)}")
    if not parts:
        return ""
    return INTRODUCTION + "".join(parts)


def _lines(figures: dict[str, Any]) -> str:
    tables = [("alone", ALONE), *([("shown", SHOWN)] if figures.get("shown") else [])]
    return "".join(_line_table(name, figures[name], columns) for name, columns in tables)


def _line_table(name: str, entries: list[dict[str, Any]], columns: dict[str, str]) -> str:
    rows = [
        (entry["kind"], "yes" if entry["below"] else "no", *(_percent(entry.get(key)) for key in columns))
        for entry in entries
    ]
    return _table((name, "text below", *columns.values()), rows)


def _bits(figures: dict[str, Any]) -> str:
    both = (("int8", figures["bits_per_byte"]), ("float weights", figures["float"]))
    rows = [(name, f"{of['value']:.4f} ({of['low']:.4f}-{of['high']:.4f})", str(of["cases"])) for name, of in both]
    loss = figures["loss"]
    rows.append(("what int8 costs", f"{100 * loss['value']:+.3f} % of the bits", str(loss["cases"])))
    return _table(("", "bits per byte", "files"), rows)


def _shares(figures: dict[str, Any]) -> str:
    rows = [(name.replace("_", " "), _percent(of), f"{of['cases']:,}") for name, of in figures.items()]
    return _table(("", "percent", "cases"), rows)


def _programs(figures: dict[str, Any]) -> str:
    return _shares(figures["rates"])


def _percent(of: dict[str, Any] | None) -> str:
    return f"{100 * of['value']:.1f} ({100 * of['low']:.0f}-{100 * of['high']:.0f})" if of else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "lines": _lines,
    "lines-bare": _lines,
    "bits-per-byte": _bits,
    "humaneval-infilling": _shares,
    "humaneval": _programs,
    "mtpb": _programs,
}
