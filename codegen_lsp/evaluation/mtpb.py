"""The Multi-Turn Programming Benchmark (Nijkamp et al., 2023): programs that are specified in several turns.

Each of its 115 problems has five inputs, which are filled into the prompts, so that each is a conversation of its own.
The prompt of a turn is a comment below everything before; the model writes the code of the turn, which is truncated and
becomes part of the prompt of the next one. Format, truncation, sampling and judging are those of the published programs
(`mtpb_sample.py`, `mtpb_exec.py` of the CodeGen repository).

The published judge can't compare dictionaries and None, so it fails five and two of the 575 tests whatever is printed.
The judge here compares them; `FAILED_BY_THE_PUBLISHED_JUDGE` says which those are.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from codegen_lsp.evaluation import mtpb_judge
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.programs import WrittenProgram, seed_of
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.sandbox.function_tests import REMOTE_CALL
from codegen_lsp.sandbox.packages import installed_packages, prologue
from codegen_lsp.sandbox.remote_call import decode
from codegen_lsp.sandbox.reporting import run_reporting
from codegen_lsp.sandbox.sandbox import Confinement, Limits, Verdict
from codegen_lsp.suggest.request import CompletionModel
from codegen_lsp.synthesis.turn_format import as_comment, stop_rules, truncate

FILE = "mtpb.jsonl"
SOURCE = "https://github.com/salesforce/CodeGen (codegen1/benchmark)"
START = "# Import libraries.\n\nimport numpy as np\n\n"
"""What every program begins with."""
TEMPERATURE, TOP_P, TOP_K, SEED, MAX_TOKENS = 0.2, 0.95, 50, 16, 256
"""Settings of the published run; `TOP_K` is what transformers did unless told otherwise, `MAX_TOKENS` for the problems
that name no limit."""
LIMITS = Limits(seconds=20.0, memory_mb=2048)
FAILED_BY_THE_PUBLISHED_JUDGE = (dict, type(None))
"""Types of expected values that the published judge can't compare."""


@frozen
class Conversation:
    """One problem with one of its inputs."""

    id: str
    """The problem's number and that of the input, from 0: `17/3`."""
    name: str
    category: str
    prompts: list[str]
    """The prompt of each turn, with the input filled in."""
    expected: Any
    max_tokens: int = MAX_TOKENS
    """Limit of tokens for each turn."""
    single_turn: bool = field(default=False)
    """True if all prompts are given at once."""

    @property
    def turns(self) -> list[str]:
        """The comments that the model is given, one after the other."""
        comments = [as_comment(prompt) for prompt in self.prompts]
        return ["".join(comments)] if self.single_turn else comments

    @property
    def published(self) -> bool:
        """False if the published judge fails every program of this test."""
        return not isinstance(self.expected, FAILED_BY_THE_PUBLISHED_JUDGE)


def read_conversations(source: Path, *, single_turn: bool = False) -> list[Conversation]:
    """Return the tests in a file, or in the file `FILE` of a folder, in the order of the problems' numbers.

    Raises: EvaluationError.
    """
    path = source / FILE if source.is_dir() else source
    try:
        rows = [json.loads(row) for row in path.read_text("utf-8").split("\n") if row.strip()]
    except FileNotFoundError:
        raise EvaluationError(f"There is no {path}.", f"Get {FILE} from {SOURCE}, then give --data.") from None
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} can't be read: {error}.", f"Get it again from {SOURCE}.") from error
    try:
        return [
            Conversation(
                f"{row['id']}/{number}",
                row["name"],
                row["category"],
                [prompt.format(**values) for prompt in row["prompts"]],
                expected,
                row.get("max_gen_length", MAX_TOKENS),
                single_turn,
            )
            for row in sorted(rows, key=lambda row: int(row["id"]))
            for number, (values, expected) in enumerate(zip(row["inputs"], row["outputs"], strict=False))
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EvaluationError(
            f"{path} has a row that is no problem: {error!r}.", "Give the benchmark's file, as it is published."
        ) from error


def first_problems(conversations: Sequence[Conversation], problems: int) -> list[Conversation]:
    """Return the tests of the first `problems` problems; all if that is 0."""
    ids = list(dict.fromkeys(one.id.partition("/")[0] for one in conversations))
    kept = set(ids[:problems] if problems else ids)
    return [one for one in conversations if one.id.partition("/")[0] in kept]


def limit_of(conversation: Conversation) -> int:
    """Return the limit of tokens of an answer."""
    return conversation.max_tokens * (len(conversation.prompts) if conversation.single_turn else 1)


async def converse(
    conversation: Conversation,
    model: CompletionModel,
    *,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    seed: int = SEED,
    number: int = 0,
) -> WrittenProgram:
    """Have the model write a program turn by turn. Raises: ModelError and WorkerError."""
    program, tokens = START, 0
    problem, test = map(int, conversation.id.split("/"))
    for turn, comment in enumerate(conversation.turns):
        program += comment
        result = await model.generate(
            GenerateParams(
                f"mtpb/{conversation.id}/{number}",
                program,
                stop=stop_rules(limit_of(conversation)),
                temperature=temperature,
                top_p=top_p,
                top_k=TOP_K,
                seed=seed_of(seed, problem, test, number, turn),
                heal=False,
                reuse=False,
            )
        )
        answer = result.candidates[0] if result.candidates else None
        program += truncate(answer.text if answer else "") + "\n\n"
        tokens += answer.tokens if answer else 0
    return WrittenProgram(program, program.removeprefix(START), tokens)


def judge(
    conversation: Conversation, program: str, confinement: Confinement = "namespaces", hidden: Sequence[Path] = ()
) -> Verdict:
    """Run a program in the sandbox, and compare what it prints with what is expected, which it can't see.

    It sees the packages that are installed beside this one, since problems ask for NumPy, some for pandas or
    scikit-learn, and nothing of the folders in `hidden`. Raises: SandboxError.
    """
    packages = installed_packages()
    expected_type = type(conversation.expected).__name__

    def reporting(descriptor: int) -> str:
        lines = [
            prologue(packages),
            "calls, judge = {'__name__': 'remote_call'}, {'__name__': 'judge'}",
            f"exec(compile({REMOTE_CALL.read_text('utf-8')!r}, 'remote_call', 'exec'), calls)",
            f"exec(compile({inspect.getsource(mtpb_judge)!r}, 'judge', 'exec'), judge)",
            f"judge['write_report']({program!r}, {expected_type!r}, calls['encode'], {descriptor})",
        ]
        return "\n".join(lines)

    verdict, report = run_reporting(reporting, LIMITS, confinement, [packages], hidden=hidden)
    if verdict.kind != "passed":
        return verdict
    try:
        found = json.loads(report)
        if "value" in found:
            found["value"] = decode(found["value"])
        complaint = mtpb_judge.complaint_about(found, conversation.expected)
    except Exception as error:  # a report that the program wrote itself
        complaint = f"its report can't be read: {error!r:.80}"
    return Verdict("failed", complaint) if complaint else verdict
