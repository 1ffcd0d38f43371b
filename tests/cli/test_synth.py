"""The terminal of `codegen-lsp synth`, with lines from standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve
from rich.console import Console

from codegen_lsp.cli.synth_pictures import show_picture
from codegen_lsp.cli.synth_screen import SynthScreen
from codegen_lsp.synthesis.running import LIMITS, TurnRunner
from codegen_lsp.synthesis.session import SynthesisSession
from codegen_lsp.synthesis.synthesizer import Synthesizer
from tests.synthesis.conftest import ScriptedTurns

pytestmark = pytest.mark.usefixtures("sandbox")


ANSWERS = {
    "Set x to [1, 2].": ["x = [1, 2]", "x = (1, 2)"],
    "Sum x. `x = [1, 2]` → `3`": ["max(x)", "sum(x)"],
    "Print `y`.\ny is 2": ["print(2)"],
    "Fail.": ["1 / 0", "while True: pass"],
    "Beep.": ["print('\\x1b[31m\\a')"],
    "Draw.": ["open('turn-1-picture.txt', 'w').write('drawn')"],
}


async def talk(monkeypatch: pytest.MonkeyPatch, *lines: str, path: Path | None = None) -> tuple[str, SynthesisSession]:
    def answer(params: object) -> list[str]:
        prefix: str = params.prefix  # type: ignore[attr-defined]
        request = prefix.rstrip("\n").rpartition("\n\n")[2].removeprefix("# ").replace("\n# ", "\n")
        return ANSWERS[request]

    runner = TurnRunner(evolve(LIMITS, seconds=3.0))
    session = SynthesisSession(Synthesizer(ScriptedTurns(answer), runner), path)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))
    printed = io.StringIO()
    await SynthScreen(Console(file=printed, width=100), session, "a model").run()
    return printed.getvalue(), session


async def test_a_program_is_written_corrected_and_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "s.py"
    printed, session = await talk(
        monkeypatch,
        "Set x to [1, 2].",
        "Sum x. `x = [1, 2]` → `3`",
        "/choose 2",
        "/undo",
        "/edit 1",
        "x = [7]",
        path=path,
    )
    assert "candidates: 1✓ 2✗" in printed
    assert [turn.code for turn in session.dialogue.turns] == ["x = [7]", "sum(x)"]
    assert [turn.output for turn in session.dialogue.turns] == ["", "7"]
    printed, session = await talk(monkeypatch, "Print `y`.", "y is 2", "/quit", "never read", path=path)
    assert "1 › Set x to [1, 2].  (yours)" in printed
    assert "Nothing above defines y" in printed
    assert session.dialogue.turns[2].output == "2"
    assert path.read_text().count("#> ") == 2


async def test_what_fails_is_said_and_the_session_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, session = await talk(
        monkeypatch,
        "Fail.",
        "/nothing",
        "/choose",
        "/choose 9",
        "/change 1",
        "/edit 5",
        "/save",
        "/",
        "/re",
        "Set x to [1, 2].",
    )
    assert "    ZeroDivisionError: division by zero (line 1)" in printed
    assert "No candidate is right. /retry" in printed
    assert "it ran for more than" not in printed
    for said in ("no command /nothing", "is no number", "no candidate 9", "text is missing", "no step 5", "A file is"):
        assert said in printed, said
    assert len(session.dialogue.turns) == 2


async def test_output_can_not_change_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, _ = await talk(monkeypatch, "Beep.")
    assert "\x1b[31m" not in printed
    assert "\\x1b[31m\\x07" in printed


async def test_files_are_saved_beside_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await talk(monkeypatch, "Draw.", path=tmp_path / "s.py")
    assert (tmp_path / "s-files" / "turn-1-picture.txt").read_text() == "drawn"


async def test_a_session_is_saved_under_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new = tmp_path / "new.py"
    printed, session = await talk(monkeypatch, "Set x to [1, 2].", f"/save {new}", f"/save {new}", "/help")
    assert session.path == new
    assert new.read_text().startswith("# Set x")
    assert "exists" in printed
    assert "/insert N TEXT" in printed


async def test_lines_that_are_no_text_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    printed, session = await talk(monkeypatch, "\udcff\udcfe", "/choose 1", "Set x to [1, 2].")
    assert "This line is not UTF-8. Convert the input first." in printed
    assert "There are no candidates." in printed
    assert len(session.dialogue.turns) == 1


def test_pictures_are_for_terminals_that_show_them(monkeypatch: pytest.MonkeyPatch) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"x" * 5000
    for name, value, start in (("TERM_PROGRAM", "iTerm.app", "\x1b]1337"), ("KITTY_WINDOW_ID", "1", "\x1b_Ga=T")):
        monkeypatch.delenv("TERM_PROGRAM", raising=False)
        monkeypatch.setenv(name, value)
        file = io.StringIO()
        assert show_picture(Console(file=file, force_terminal=True), "a.png", png)
        assert file.getvalue().startswith(start)
    assert not show_picture(Console(file=io.StringIO()), "a.png", png)
    assert not show_picture(Console(file=io.StringIO(), force_terminal=True), "a.png", b"text")


def test_with_the_embedded_model(embedded_build: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "codegen_lsp.cli", "synth", "s.py", "-m", str(embedded_build), "--threads", "1",
         "--candidates", "2", "--max-tokens", "24"],
        input="Import os.\n/edit 1\nimport os\nPrint the current folder.\n/undo\n/quit\n",
        capture_output=True, text=True, env=environment, timeout=240, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s.py").read_text() == "# Import os.\nimport os\n#: edited\n"
