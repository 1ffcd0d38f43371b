"""Files of generated programs, as other evaluation harnesses read and write them.

- EvalPlus: `samples.jsonl`, in each line a `task_id` with a `solution` (the whole program) or a `completion` (the part
  after the prompt), compressed or not; or a folder with a folder for each problem that has files such as `0.py`.
- BigCode's harness: `generations.json`, a list with one list of whole programs for each problem, in their order.
- The logs of this program's own runs (`programs.SampleLog`), and those of MTPB's sampler, in each line an `id` with the
  `input`, the `gold_output` and the program under `completions`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.programs import ProgramSample, WrittenProgram

MAX_BYTES = 1 << 30
"""Size limit of a file of samples."""
FORMATS = "samples.jsonl of EvalPlus, generations.json of BigCode's harness, or a folder TASK_ID/0.py"


@frozen
class Problem:
    """A problem, as far as files of samples need it."""

    id: str
    prompt: str = ""
    """Text that is put before a `completion`."""


def read_samples(source: Path, problems: Sequence[Problem]) -> dict[str, list[WrittenProgram]]:
    """Return the programs of each problem.

    Raises: EvaluationError when the source is of no known format, or names an unknown problem.
    """
    known = {problem.id: problem for problem in problems}
    try:
        if source.is_dir():
            found = _folder(source, known)
        elif (text := _text_of(source)).lstrip().startswith("["):
            found = _lists(json.loads(text), problems)
        else:
            found = _rows(text, known)
    except FileNotFoundError:
        raise EvaluationError(f"There is no {source}.", f"Give {FORMATS}.") from None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, RecursionError) as error:
        raise EvaluationError(f"{source} can't be read: {error}.", f"Give {FORMATS}.") from error
    if not found:
        raise EvaluationError(f"{source} has no samples.", f"Give {FORMATS}.")
    return found


def write_samples(path: Path, samples: Iterable[ProgramSample], order: Sequence[str]) -> None:
    """Write programs, those of the problems in `order`: as a list of lists to a `.json`, in rows to any other file.

    A file whose name ends in `.gz` is compressed.

    Raises: EvaluationError when it can't be written.
    """
    ordered = sorted(samples, key=lambda sample: (order.index(sample.task), sample.number))
    if path.name.removesuffix(".gz").endswith(".json"):
        lists: dict[str, list[str]] = {id: [] for id in order}
        for sample in ordered:
            lists[sample.task].append(sample.program)
        text = json.dumps(list(lists.values()))
    else:
        rows = [
            {"task_id": one.task, "completion": one.completion, "solution": one.program, "passed": one.passed}
            for one in ordered
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
    try:
        content = text.encode()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    except OSError as error:
        raise EvaluationError(f"{path} can't be written: {error.strerror}.", "Give another --save.") from error


def _text_of(source: Path) -> str:
    """Return the text of a file, compressed or not. Raises: EvaluationError when it is too long."""
    with source.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(source) if compressed else source.open("rb") as reading:
        content = reading.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise EvaluationError(f"{source} has more than {MAX_BYTES >> 20} MiB.", "Split it.")
    return content.decode("utf-8-sig")


def _lists(lists: Any, problems: Sequence[Problem]) -> dict[str, list[WrittenProgram]]:
    if len(lists) > len(problems):
        raise ValueError(f"it has {len(lists)} lists for {len(problems)} problems")
    if not all(isinstance(programs, list) for programs in lists):
        raise TypeError("it is no list of lists")
    return {
        problem.id: [WrittenProgram(_text(program), program.removeprefix(problem.prompt)) for program in programs]
        for problem, programs in zip(problems, lists, strict=False)
        if programs
    }


def _rows(text: str, known: Mapping[str, Problem]) -> dict[str, list[WrittenProgram]]:
    found: dict[str, list[WrittenProgram]] = defaultdict(list)
    tests: dict[str, dict[str, int]] = defaultdict(dict)
    # Not `splitlines`, which also splits at characters that JSON may have within strings.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise TypeError("it is no object")
            if "benchmark" in row:  # the first line of a log
                continue
            id, program = _program_of(row, known, tests)
        except KeyError as error:
            raise ValueError(f"line {number} has no {error}") from error
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
        found[id].append(program)
    return dict(found)


def _program_of(
    row: dict[str, Any], known: Mapping[str, Problem], tests: dict[str, dict[str, int]]
) -> tuple[str, WrittenProgram]:
    """Return the problem and the program of a row; `tests` numbers the inputs of MTPB's problems."""
    if "gold_output" in row:
        # MTPB's sampler gives a problem's inputs in their order, each time anew.
        inputs = tests[str(row["id"])]
        id = f"{row['id']}/{inputs.setdefault(json.dumps(row['input']), len(inputs))}"
        program = row["completions"]
    else:
        id = str(row["task_id"] if "task_id" in row else row["task"])
        program = row.get("solution", row.get("program"))
    if id not in known:
        raise ValueError(f"the benchmark has no problem {id!r:.80}")
    prompt = known[id].prompt
    if program is None:
        return id, WrittenProgram(prompt + _text(row["completion"]), row["completion"])
    return id, WrittenProgram(_text(program), program.removeprefix(prompt))


def _folder(folder: Path, known: Mapping[str, Problem]) -> dict[str, list[WrittenProgram]]:
    """Read `TASK_ID/0.py`, with `_` for `/` in the names of the folders, as EvalPlus writes them."""
    found: dict[str, list[WrittenProgram]] = {}
    for id, problem in known.items():
        files = sorted((folder / id.replace("/", "_")).glob("*.py"), key=lambda path: _number(path.stem))
        if files:
            programs = [file.read_text("utf-8") for file in files]
            found[id] = [WrittenProgram(program, program.removeprefix(problem.prompt)) for program in programs]
    return found


def _number(name: str) -> int:
    digits = re.search(r"\d+", name)
    return int(digits.group()) if digits else 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a program is a string, not {type(value).__name__}")
    return value
