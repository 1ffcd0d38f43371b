"""MTPB, with scripted models."""

from __future__ import annotations

import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import define, evolve, field
from typer.testing import CliRunner

from codegen_lsp.cli.eval import app
from codegen_lsp.evaluation import mtpb
from codegen_lsp.evaluation.documents import EvaluationError
from codegen_lsp.evaluation.mtpb import Conversation, converse, first_problems, read_conversations
from codegen_lsp.evaluation.program_measurements import Mtpb
from codegen_lsp.evaluation.programs import (
    ProgramSample,
    SampleLog,
    Sampler,
    SamplingSetup,
    WrittenProgram,
    judging,
)
from codegen_lsp.evaluation.runtime import open_runtime, running
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    GenerateParams,
    GenerateResult,
    GenerationStats,
    ModelDescription,
)
from codegen_lsp.sandbox.sandbox import Verdict
from tests.played_model import describe

from .conftest import Scripted

EVERY = int(os.environ.get("BENCHMARK_EVERY", "29"))
"""Every which test is judged; 1 judges all of them."""
SUM = Conversation("3/1", "Sum", "math", ["Set x to [1, 2].", "Sum x as s.", "Print s."], 3, 64)


async def test_each_turn_continues_what_is_before_it() -> None:
    answers = iter(["x = [1, 2]", "s = sum(x)\n# and more", "print(s)"])
    model = Scripted(lambda params: next(answers))
    draft = await converse(SUM, model, seed=5)
    assert [params.prefix for params in model.asked] == [
        "# Import libraries.\n\nimport numpy as np\n\n# Set x to [1, 2].\n",
        "# Import libraries.\n\nimport numpy as np\n\n# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x as s.\n",
        "# Import libraries.\n\nimport numpy as np\n\n# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x as s.\n"
        "s = sum(x)\n\n\n# Print s.\n",
    ]
    assert draft.program == model.asked[2].prefix + "print(s)\n\n"
    assert {(params.temperature, params.top_p, params.heal) for params in model.asked} == {(0.2, 0.95, False)}
    assert len({params.seed for params in model.asked}) == 3
    assert all(params.stop.max_tokens == 64 for params in model.asked)


async def test_in_a_single_turn_all_is_said_at_once() -> None:
    model = Scripted(lambda params: "print(sum([1, 2]))")
    draft = await converse(Conversation("3/1", "Sum", "math", SUM.prompts, 3, 64, True), model)
    (params,) = model.asked
    assert params.prefix == mtpb.START + "# Set x to [1, 2].\n# Sum x as s.\n# Print s.\n"
    assert params.stop.max_tokens == 192
    assert draft.completion.startswith("# Set x")


@pytest.mark.usefixtures("sandbox")
def test_programs_are_judged_by_what_they_print() -> None:
    program = mtpb.START + "x = np.array([1, 2])\n\nprint(x.sum())\n\n"
    assert mtpb.judge(SUM, program).kind == "passed"
    assert mtpb.judge(SUM, program.replace("sum", "max")).detail == "it prints np.int64(2), not 3"
    assert mtpb.judge(SUM, "while True: pass", "namespaces").kind == "timeout"
    assert mtpb.judge(SUM, "import socket; socket.create_connection(('127.0.0.1', 1))").kind == "failed"


def test_the_benchmark_is_read(data: Path) -> None:
    conversations = read_conversations(data)
    assert len(conversations) == 575
    assert len(first_problems(conversations, 3)) == 15
    assert first_problems(conversations, 0) == conversations
    assert [one.id for one in conversations[:6]] == ["1/0", "1/1", "1/2", "1/3", "1/4", "2/0"]
    assert sum(not one.published for one in conversations) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
async def test_a_model_that_plays_the_canonical_answers_passes(data: Path) -> None:
    conversations = read_conversations(data)[::EVERY]

    def program_of(conversation: Conversation, value: str) -> str:
        return f"{mtpb.START}answer = {value}\n\nprint(answer)\n\n"

    def verdicts(conversation: Conversation) -> tuple[str, str]:
        right = mtpb.judge(conversation, program_of(conversation, repr(conversation.expected)))
        wrong = mtpb.judge(conversation, program_of(conversation, f"[{conversation.expected!r}, 'wrong']"))
        return right.kind, wrong.kind

    with ThreadPoolExecutor(2) as pool:
        for conversation, found in zip(conversations, pool.map(verdicts, conversations), strict=True):
            assert found == ("passed", "failed"), conversation

    (first, *_) = conversations
    answers = iter([*("pass" for _ in first.turns[1:]), f"print({first.expected!r})"])
    draft = await converse(first, Scripted(lambda params: next(answers)))
    assert mtpb.judge(first, draft.program).kind == "passed"


def test_rates_are_over_problems_and_the_published_judge_is_told_apart() -> None:
    conversations = [
        Conversation("1/0", "a", "array", ["p"] * 3, [1]),
        Conversation("1/1", "a", "array", ["p"] * 3, [2]),
        Conversation("2/0", "b", "dict", ["p"] * 4, {"x": 1}),
        Conversation("3/0", "c", "math", ["p"] * 4, None),
    ]
    samples = [ProgramSample(one.id, 0, "", "", one.id != "1/1") for one in conversations]
    figures = Mtpb(conversations).figures(samples, "codegen-350M-mono")
    assert figures.rates["pass rate"] is not None
    assert figures.rates["pass rate"].value == pytest.approx(2.5 / 3)
    assert figures.rates["pass rate, published judge"] is not None
    assert figures.rates["pass rate, published judge"].value == pytest.approx(0.5 / 3)
    assert set(figures.groups) == {"array", "dict", "math", "3 turns", "4 turns"}
    assert [one.published for one in figures.published] == [0.1698]


@pytest.mark.parametrize("content", ["{", "[]", '{"id": "x"}', '{"id": "1", "name": "", "category": "", "prompts": 1}'])
def test_damaged_files_are_named(content: str, tmp_path: Path) -> None:
    (tmp_path / mtpb.FILE).write_text(content)
    with pytest.raises(EvaluationError):
        read_conversations(tmp_path)
    with pytest.raises(EvaluationError, match="https://github"):
        read_conversations(tmp_path / "nowhere")


def test_prompts_are_filled_in(tmp_path: Path) -> None:
    row = {
        "id": "7",
        "name": "n",
        "category": "c",
        "prompts": ['Set x to "{A}".', "Print {{}}."],
        "inputs": [{"A": "a"}, {"A": "b"}],
        "outputs": ["a", "b", "c"],
    }
    (tmp_path / mtpb.FILE).write_text(json.dumps(row))
    found = read_conversations(tmp_path)
    assert [one.prompts for one in found] == [['Set x to "a".', "Print {}."], ['Set x to "b".', "Print {}."]]
    assert found[0].max_tokens == 256


@pytest.mark.slow
async def test_a_program_does_not_depend_on_those_that_are_written_meanwhile(embedded_build: Path) -> None:
    """Neither on their number nor on their order, on the engine of this machine."""
    conversations = {
        f"{number}/0": Conversation(f"{number}/0", "n", "math", [f"Set x to {number}.", "Double x.", "Print x."], 1, 24)
        for number in range(1, 9)
    }
    runtime = evolve(open_runtime(str(embedded_build), "cpu", 1, "auto"), ngrams="off")
    setup = SamplingSetup("mtpb", "", "", 1.0, 0.95, 3)
    async with running(runtime, cache_memory_mb=None, at_once=8) as (model, description):

        async def write(id: str, number: int) -> WrittenProgram:
            return await converse(conversations[id], model, temperature=1.0, seed=3, number=number)

        async def programs(tasks: list[str], at_once: int) -> dict[tuple[str, int], str]:
            sampler = Sampler(judging(write, lambda task, draft: Verdict("failed")), SampleLog(None, setup), at_once)
            return {(one.task, one.number): one.program async for one in sampler.sample(tasks, 2)}

        alone = await programs(list(conversations), 1)
        assert len(set(alone.values())) > len(alone) / 2
        assert await programs(list(conversations)[::-1], description.slots + 2) == alone
        if description.engine == "native":
            # What an earlier request left could differ in its rounding.
            prompt = GenerateParams("x", conversations["1/0"].turns[0] * 8, heal=False)
            cached = [
                (await model.generate(evolve(prompt, reuse=reuse))).stats.cached_tokens
                for reuse in (False, False, True, True, False)
            ]
            assert cached[3] > 0
            assert cached[:3] + cached[4:] == [0, 0, 0, 0]


@define
class Player:
    """An inference client that answers a test's last turn with its expected value, through the real command."""

    expected: dict[str, object]
    turns: dict[str, int]
    asked: Counter[str] = field(factory=Counter)

    async def load(self, params: object) -> ModelDescription:
        return describe("native")

    async def generate(self, params: GenerateParams) -> GenerateResult:
        id = params.document.removeprefix("mtpb/").rpartition("/")[0]
        self.asked[id] += 1
        text = f"print({self.expected[id]!r})\n" if self.asked[id] == self.turns[id] else "pass\n"
        return GenerateResult([Candidate(text, 1, -0.1, "stop")], GenerationStats(1, 0, 1, 0.0, 0.0, 0.0))

    async def close(self) -> None:
        pass


@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
def test_canonical_answers_give_all_of_it_by_the_command(
    data: Path, embedded_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = first_problems(read_conversations(data), 2)
    player = Player({one.id: one.expected for one in conversations}, {one.id: len(one.turns) for one in conversations})
    monkeypatch.setattr("codegen_lsp.evaluation.runtime.InferenceClient", lambda: player)
    command = ["mtpb", "--model", str(embedded_build), "--data", str(data), "--problems", "2", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rates = json.loads(result.stdout)["figures"]["rates"]
    assert {rate["value"] for rate in rates.values()} == {1.0}
