"""HumanEval: the functions of Chen et al. (2021) written whole; single lines of them filled in (Bavarian et al., 2022).

Small models solve few of these problems, so pass@1 is for the record; the infilling lines discriminate better. Lines
are judged by exact match, which InCoder (Fried et al., 2022) reports beside pass rates, functions by their tests, in a
sandbox.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
from attrs import evolve, frozen

from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.figures import Figure, share
from codegen_lsp.evaluation.programs import WrittenProgram
from codegen_lsp.inference.rpc.messages import GenerateParams, StopRules
from codegen_lsp.sandbox.function_tests import run_function_tests
from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict
from codegen_lsp.suggest.request import CompletionModel

T = TypeVar("T")

PROGRAMS = "HumanEval.jsonl.gz"
SINGLE_LINES = "HumanEval-SingleLineInfilling.jsonl.gz"
SOURCES = {
    PROGRAMS: "https://github.com/openai/human-eval",
    SINGLE_LINES: "https://github.com/openai/human-eval-infilling",
}
DATA = Path(__file__).parents[3] / "shared" / "data"
"""Default folder of the benchmarks' files, beside the checkout."""

STOPS = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"]
"""Strings at which a generated function ends (Chen et al., 2021)."""
FUNCTION_TOKENS = 512
TOP_P = 0.95
"""Nucleus of the published runs with several samples."""
LIMITS = Limits()
LINE_TOKENS = 64
DOCUMENT = "evaluation"


@frozen
class Function:
    """A problem of HumanEval."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


@frozen
class Line:
    """A problem of the single-line infilling task."""

    task_id: str
    prompt: str
    suffix: str
    canonical_solution: str


@frozen
class FilledLine:
    """A line and the model's answer."""

    line: Line
    text: str

    @property
    def right(self) -> bool:
        """Return true if it is the line that was taken out, indentation included, trailing blanks aside."""
        return self.text.rstrip() == self.line.canonical_solution.rstrip()


def read_functions(source: Path) -> list[Function]:
    """Return the problems in a file, or in the file `PROGRAMS` of a folder. Raises: EvaluationError."""
    return [_structured(Function, row) for row in _rows(source, PROGRAMS)]


def read_lines(source: Path) -> list[Line]:
    """Return the problems in a file, or in the file `SINGLE_LINES` of a folder. Raises: EvaluationError."""
    return [_structured(Line, row) for row in _rows(source, SINGLE_LINES)]


def folders_of(source: Path) -> list[Path]:
    """Return the folder of a benchmark's file, which a program must not see: the answers are in it."""
    return [(source if source.is_dir() else source.parent).resolve()]


def some(problems: Sequence[T], cases: int, seed: int) -> list[T]:
    """Return a random sample of `cases` problems in their order; all of them if `cases` is 0 or not less than that."""
    if not cases or cases >= len(problems):
        return list(problems)
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    return [problems[index] for index in sorted(dice.sample(range(len(problems)), cases))]


async def fill_lines(lines: Iterable[Line], model: CompletionModel) -> AsyncIterator[FilledLine]:
    """Fill in the lines greedily. As in an editor, the suffix begins with the line's break.

    Raises: ModelError and WorkerError.
    """
    stop = StopRules(max_tokens=LINE_TOKENS, max_lines=1)
    for line in lines:
        result = await model.generate(GenerateParams(DOCUMENT, line.prompt, "\n" + line.suffix, stop))
        text = result.candidates[0].text if result.candidates else ""
        yield FilledLine(line, next((part for part in text.split("\n") if part.strip()), ""))


async def write_function(
    function: Function,
    model: CompletionModel,
    *,
    temperature: float = 0.0,
    top_p: float = TOP_P,
    seed: int = 0,
    number: int = 0,
) -> WrittenProgram:
    """Complete a function; greedily with a temperature of 0. Raises: ModelError and WorkerError."""
    stop = StopRules(max_tokens=FUNCTION_TOKENS, max_lines=FUNCTION_TOKENS, strings=STOPS)
    params = GenerateParams(
        f"{DOCUMENT}/{function.task_id}/{number}",
        function.prompt,
        stop=stop,
        temperature=temperature,
        top_p=top_p,
        reuse=False,
    )
    result = await model.generate(evolve(params, seed=seed + number) if temperature else params)
    answer = result.candidates[0] if result.candidates else None
    text = answer.text if answer else ""
    return WrittenProgram(function.prompt + text, text, answer.tokens if answer else 0)


def judge(
    function: Function, program: str, confinement: Confinement = "namespaces", hidden: Sequence[Path] = ()
) -> Verdict:
    """Run the tests of a function on a program that defines it, which sees neither them nor the folders in `hidden`.

    The tests have what the prompt defines beside the function. Raises: SandboxError.
    """
    tests = f"{function.test}\ncheck({function.entry_point})\n"
    return run_function_tests(program, function.entry_point, function.prompt, tests, LIMITS, confinement, hidden=hidden)


def exact_match(filled: Sequence[FilledLine]) -> Figure | None:
    """Return the share of lines filled in exactly."""
    return share([one.right for one in filled])


def _rows(source: Path, name: str) -> list[dict[str, Any]]:
    path = source / name if source.is_dir() else source
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
        return [json.loads(row) for row in text.split("\n") if row.strip()]
    except FileNotFoundError:
        raise EvaluationError(f"There is no {path}.", f"Get {name} from {SOURCES[name]}, then give --data.") from None
    except (OSError, EOFError, ValueError) as error:
        raise EvaluationError(f"{path} can't be read: {error}.", f"Get it again from {SOURCES[name]}.") from error


def _structured(cls: type[T], row: dict[str, Any]) -> T:
    names = [field.name for field in attrs.fields(cls)]  # type: ignore[arg-type]
    try:
        return cls(**{name: row[name] for name in names})
    except (KeyError, TypeError) as error:
        raise EvaluationError(f"A row lacks {error}.", "Give a file of the benchmark, as it is published.") from error
