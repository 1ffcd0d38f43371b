"""Problems for learners, in steps: files of sessions, and those of MTPB and HumanEval.

A problem is a Python file like a session's (`dialogue`): each block of comments is a step, with its examples, and the
code below it is the solution, which may be missing.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from codegen_lsp.errors import CodegenError
from codegen_lsp.synthesis.dialogue import parse
from codegen_lsp.synthesis.examples import Example, examples_in

MTPB, HUMANEVAL = "mtpb.jsonl", "HumanEval.jsonl"
MAX_BYTES = 1 << 26
"""Size limit of a file of problems, compressed or not."""


class ProblemError(CodegenError):
    """Problems that can't be read."""


@frozen
class Step:
    """One step of a problem."""

    request: str
    solution: str = ""
    """Code that solves it; empty if none is known, so that the model writes one."""
    examples: tuple[Example, ...] = ()
    given: str = ""
    """Beginning of the solution that the request shows."""
    check: str = ""
    """Code that must run after it without an exception."""


@frozen
class TutorProblem:
    """A problem in steps."""

    name: str
    steps: tuple[Step, ...]
    head: str = ""
    """Code above the first step."""


def read_problems(source: Path) -> list[TutorProblem]:
    """Return the problems in a file or a folder.

    A folder has Python files, each a problem, or a file of MTPB or HumanEval, which may be compressed.

    Raises: ProblemError when there are none.
    """
    try:
        if source.is_dir():
            named = [source / name for name in (MTPB, MTPB + ".gz", HUMANEVAL, HUMANEVAL + ".gz")]
            files = [*sorted(source.glob("*.py")), *(path for path in named if path.exists())]
        else:
            files = [source]
        found = [problem for path in files for problem in _problems(path)]
    except FileNotFoundError:
        raise ProblemError(f"There is no {source}.", "Give a file or a folder with problems.") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ProblemError(f"{source} can't be read: {error}.", "See docs/synthesis.md for the format.") from error
    if not found:
        raise ProblemError(f"{source} has no problems.", "See docs/synthesis.md for the format.")
    return found


def _problems(path: Path) -> list[TutorProblem]:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        with gzip.open(path) as file:
            raw = file.read(MAX_BYTES)
    text = raw.decode("utf-8-sig")
    if path.suffix == ".py":
        return _of_session(path.stem, text)
    rows = [json.loads(row) for row in text.splitlines() if row.strip()]
    return [_of_human_eval(row) if "task_id" in row else _of_mtpb(row) for row in rows]


def _of_session(name: str, text: str) -> list[TutorProblem]:
    dialogue = parse(text)
    steps = [Step(turn.request, turn.code, tuple(examples_in(turn.request))) for turn in dialogue.turns]
    return [TutorProblem(name, tuple(steps), dialogue.head)] if steps else []


def _of_mtpb(row: dict[str, Any]) -> TutorProblem:
    """Return a problem of MTPB with its first input; its last step must give the first output."""
    prompts: Sequence[str] = [prompt.format(**row["inputs"][0]) for prompt in row["prompts"]]
    result = Example("", "", repr(row["outputs"][0]))
    last = len(prompts) - 1
    steps = [Step(prompt, "", (result,) if number == last else ()) for number, prompt in enumerate(prompts)]
    return TutorProblem(f"{row['name']} (MTPB {row['id']})", tuple(steps), "import numpy as np")


def _of_human_eval(row: dict[str, Any]) -> TutorProblem:
    request = f"Write this function.\n{row['prompt'].strip()}"
    check = f"{row['test']}\ncheck({row['entry_point']})"
    given = row["prompt"].rstrip()
    step = Step(request, row["prompt"] + row["canonical_solution"], tuple(examples_in(row["prompt"])), given, check)
    return TutorProblem(row["task_id"], (step,))
