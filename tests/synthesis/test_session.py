"""Sessions with a scripted model and the real sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from codegen_lsp.errors import ModelError
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.questions import questions_about
from codegen_lsp.synthesis.running import LIMITS, TurnRunner
from codegen_lsp.synthesis.session import SynthesisError, SynthesisSession
from codegen_lsp.synthesis.synthesizer import Synthesizer

from .conftest import ScriptedTurns

pytestmark = pytest.mark.usefixtures("sandbox")

ANSWERS = {
    "Set x to [1, 2].": ["x = [1, 2]", "x = (1, 2)"],
    "Set x to [3].": ["x = [3]"],
    "Sum x. `x = [1, 2]` → `3`": ["1 / 0", "max(x)", "sum(x)", "while True: pass"],
    "Print it.": ["print(x)\n# more", "print('other')"],
    "Say more.": ["print('more')"],
}


def answer(params: GenerateParams) -> list[str]:
    request = params.prefix.rstrip("\n").rpartition("\n\n")[2].removeprefix("# ").replace("\n# ", "\n")
    texts = ANSWERS[request]
    return texts[1:] + texts[:1] if params.temperature and len(texts) > 1 else texts


def session(path: Path | None = None) -> tuple[SynthesisSession, ScriptedTurns]:
    model = ScriptedTurns(answer)
    return SynthesisSession(Synthesizer(model, TurnRunner(evolve(LIMITS, seconds=3.0))), path), model


async def test_a_session_of_six_turns_is_gone_on_with_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "session.py"
    one, model = session(path)
    await one.ask("Set x to [1, 2].")
    proposals = await one.ask("Sum x. `x = [1, 2]` → `3`")
    assert [proposal.code for proposal in proposals] == ["sum(x)", "max(x)", "1 / 0", "while True: pass"]
    assert [proposal.run.kind for proposal in proposals] == ["right", "contradicts", "failed", "timeout"]
    assert [proposal.good for proposal in proposals] == [True, False, False, False]
    assert path.read_text() == ("# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x. `x = [1, 2]` → `3`\nsum(x)\n#> 3\n")
    assert model.asked[-1].prefix == "# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x. `x = [1, 2]` → `3`\n"

    two, _ = session(path)
    assert two.dialogue == one.dialogue
    await two.ask("Print it.")
    assert two.dialogue.turns[-1].output == "[1, 2]"
    await two.choose(1)
    assert two.dialogue.turns[-1].code == "print('other')"
    await two.edit(0, "x = [4]")
    assert [turn.output for turn in two.dialogue.turns] == ["", "4", "other"]
    assert two.dialogue.turns[0].edited
    await two.ask("Say more.")
    assert [turn.output for turn in two.dialogue.turns] == ["", "4", "other", "more"]
    assert two.undo()
    assert two.undo()
    assert two.dialogue.turns[0].code == "x = [1, 2]"
    assert two.redo()
    assert two.dialogue.turns[0].code == "x = [4]"
    assert session(path)[0].dialogue == two.dialogue


async def test_later_turns_are_written_anew_but_for_the_persons_own(tmp_path: Path) -> None:
    one, _ = session(tmp_path / "session.py")
    for request in ("Set x to [1, 2].", "Print it.", "Say more."):
        await one.ask(request)
    await one.edit(2, "print('mine', x)")
    seen: list[int] = []
    await one.change(0, "Set x to [3].", lambda number, _: seen.append(number))
    assert seen == [0, 1, 2]
    assert [turn.output for turn in one.dialogue.turns] == ["", "[3]", "mine [3]"]
    assert one.dialogue.turns[2].edited
    await one.insert(1, "Set x to [1, 2].")
    assert [turn.output for turn in one.dialogue.turns] == ["", "", "[1, 2]", "mine [1, 2]"]
    await one.remove(1)
    assert [turn.output for turn in one.dialogue.turns] == ["", "[3]", "mine [3]"]


async def test_later_turns_state_what_they_do_after_each_change_above(tmp_path: Path) -> None:
    one, _ = session(tmp_path / "session.py")
    for request in ("Set x to [1, 2].", "Print it.", "Say more."):
        await one.ask(request)
    await one.edit(1, "print('mine', x)")
    await one.edit(2, "print('also', x)")
    await one.change(0, "Set x to [3].")
    await one.edit(0, "x = [5]")
    assert [turn.output for turn in one.dialogue.turns] == ["", "mine [5]", "also [5]"]
    await one.change(0, "Set x to [3].")
    one.proposals = [evolve(one.proposals[0], code="x = [7]")]
    await one.choose(0)
    assert [turn.output for turn in one.dialogue.turns] == ["", "mine [7]", "also [7]"]
    await one.retry()
    assert [turn.output for turn in one.dialogue.turns] == ["", "mine [3]", "also [3]"]
    await one.remove(0)
    assert "name 'x' is not defined" in one.dialogue.turns[0].output
    assert one.dialogue.turns[1].output.startswith("turn 1: NameError")


async def test_other_candidates_are_asked_for() -> None:
    one, model = session()
    await one.ask("Print it.")
    assert [params.temperature for params in model.asked] == [0.0, 0.6]
    await one.retry()
    assert model.asked[-1].seed == 1
    assert len(one.dialogue.turns) == 1
    with pytest.raises(SynthesisError, match="no candidate 9"):
        await one.choose(8)


async def test_a_file_that_others_changed_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "session.py"
    one, _ = session(path)
    await one.ask("Set x to [1, 2].")
    path.write_text("# Set x to [3].\nx = [3]\n")
    with pytest.raises(SynthesisError, match="changed by another program"):
        await one.ask("Print it.")
    assert path.read_text() == "# Set x to [3].\nx = [3]\n"
    assert one.reload()
    assert not one.reload()
    await one.ask("Print it.")
    assert one.dialogue.turns[-1].output == "[3]"


async def test_nothing_is_lost_when_something_fails(tmp_path: Path) -> None:
    path = tmp_path / "session.py"
    one, model = session(path)
    await one.ask("Set x to [1, 2].")
    before = path.read_text()

    def fail(params: GenerateParams) -> list[str]:
        raise ModelError("No model.", "Wait.")

    model.answer = fail
    with pytest.raises(ModelError):
        await one.ask("Print it.")
    model.answer = lambda params: []
    with pytest.raises(SynthesisError, match="wrote nothing"):
        await one.ask("Print it.")
    with pytest.raises(SynthesisError, match="Nothing is asked"):
        await one.ask("  ")
    for action in (lambda: one.remove(7), lambda: one.choose(5)):
        with pytest.raises(SynthesisError):
            await action()
    assert path.read_text() == before
    assert len(one.dialogue.turns) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["session.py"]


async def test_line_breaks_of_a_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "session.py"
    path.write_bytes(b"# Set x.\r\nx = [4]\r\n")
    one, _ = session(path)
    await one.ask("Print it.")
    assert path.read_bytes() == b"# Set x.\r\nx = [4]\r\n\r\n# Print it.\r\nprint(x)\r\n#> [4]\r\n"
    assert session(path)[0].dialogue == one.dialogue


def test_files_that_are_no_sessions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SynthesisError, match="UTF-8"):
        session(tmp_path / "a")
    (tmp_path / "b").write_text("x" * (1 << 21))
    with pytest.raises(SynthesisError, match="MiB"):
        session(tmp_path / "b")
    with pytest.raises(SynthesisError, match="can't be read"):
        session(tmp_path)


@pytest.mark.parametrize(
    ("above", "request_text", "asked"),
    [
        ("", "Print `total`.", ["total"]),
        ("total = 1", "Print `total`.", []),
        ("import numpy as np", 'Use "np".', []),
        ("", 'Assign 3 to a variable named "count".', []),
        ("", "Store it as `count`, then print `count`.", []),
        ("", "Sum `items`. `items = [1]` → `1`", []),
        ("for item in []: pass", "Print `item` with `print`.", []),
        ("", "Print `a` and `a` and `b`.", ["a", "b"]),
        ("x = (", "Print `x`.", []),
    ],
)
def test_undefined_names_are_asked_about(above: str, request_text: str, asked: list[str]) -> None:
    dialogue = Dialogue("", (DialogueTurn("above", above),))
    found = questions_about(dialogue, request_text)
    assert [one.name for one in found if one.kind == "undefined"] == asked


def test_an_example_is_asked_for_where_something_is_computed() -> None:
    assert [one.kind for one in questions_about(Dialogue(), "Write a function that doubles a number.")] == ["example"]
    assert questions_about(Dialogue(), "Write a function f that doubles. f(2) → 4") == []
    assert questions_about(Dialogue(), "Import numpy.") == []
