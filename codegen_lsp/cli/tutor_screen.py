"""The terminal of `codegen-lsp synth --tutor`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from codegen_lsp.cli.synth_input import LineReader, interruptible
from codegen_lsp.errors import CodegenError
from codegen_lsp.synthesis.dialogue import Dialogue, render
from codegen_lsp.synthesis.printable import printable
from codegen_lsp.synthesis.problems import TutorProblem, read_problems
from codegen_lsp.synthesis.synthesizer import Synthesizer
from codegen_lsp.synthesis.tutor import Tutor

COMMANDS = ("hint", "skip", "step", "show", "next", "save", "help", "quit")
HELP = """\
Write the code of the step; Alt-Enter begins a new line, Enter runs it. With lines from a file, an empty line ends it.

  /hint         one more word of a solution
  /skip         take the solution and go on
  /step         show the step again
  /show         show your program so far
  /next [N]     another problem, at random or number N
  /save FILE    write your program as a session
  /quit"""

MIN_BESIDE = 72
"""Columns of a terminal in which two programs stand side by side."""


class TutorScreen:
    """A learner in a terminal, or with lines from standard input."""

    def __init__(self, console: Console, synthesizer: Synthesizer, source: Path, seed: int | None = None) -> None:
        """Read the problems. Raises: ProblemError."""
        self._console = console
        self._synthesizer = synthesizer
        self._problems = read_problems(source)
        self._dice = random.Random(seed)  # noqa: S311 - a choice of exercises
        self._reader = LineReader([f"/{name}" for name in COMMANDS])
        self._tutor = Tutor(self._problems[0], synthesizer)

    async def run(self, number: int | None = None) -> None:
        """Teach until the end of the input or `/quit`, beginning with a problem (from 1)."""
        self._print(f"{_counted(len(self._problems), 'problem')}. /help lists what you can do.", "dim")
        self._begin(self._problem(str(number)) if number else self._problems[0])
        while True:
            try:
                text = await self._reader.read(f"{self._tutor.number + 1} › ", several=True)
                if text is None or text.strip() in ("/quit", "/exit", "/q"):
                    break
                await interruptible(self._answer(text))
            except CodegenError as error:
                self._print(f"{error.message} {error.advice}".strip(), "yellow")
            except KeyboardInterrupt:
                self._print("Stopped. /quit leaves.", "yellow")
            self._console.print()

    async def _answer(self, text: str) -> None:
        name, _, rest = text.strip().partition(" ")
        match name:
            case "":
                return
            case "/help":
                self._print(HELP)
            case "/hint" if not self._tutor.done:
                words, whole = await self._tutor.hint()
                self._code(words)
                self._print("That is all of it." if whole else "…", "dim")
            case "/skip" if not self._tutor.done:
                self._code(await self._tutor.skip())
                await self._go_on()
            case "/step" if not self._tutor.done:
                self._show_step()
            case "/show":
                self._code(render(self._tutor.learner))
            case "/next":
                self._begin(self._problem(rest.strip()) if rest.strip() else self._dice.choice(self._problems))
            case "/save":
                self._save(rest.strip())
            case _ if name.startswith("/"):
                self._print(f"/{name.lstrip('/')} is not possible here. /help lists the commands.", "yellow")
            case _ if self._tutor.done:
                self._print("The problem is solved. /next begins another.", "dim")
            case _:
                await self._submit(text)

    async def _submit(self, code: str) -> None:
        run = await self._tutor.submit(code)
        if run.last.text:
            self._print(run.last.text, "green" if run.kind in ("right", "ran") else "red")
        if run.kind in ("right", "ran"):
            self._print("Right." if run.kind == "right" else "It runs.", "bold green")
            await self._go_on()
        elif run.reason and run.reason not in run.last.text:
            self._print(f"Not yet: {run.reason}", "red")

    async def _go_on(self) -> None:
        if not self._tutor.done:
            self._show_step()
            return
        solution = await self._tutor.model_program()
        panels = [
            Panel(_program(dialogue), title=title)
            for title, dialogue in (("yours", self._tutor.learner), ("a solution", solution))
        ]
        if self._console.width < MIN_BESIDE:
            self._console.print(*panels, sep="\n")
        else:
            beside = Table.grid(expand=True)
            for _ in panels:
                beside.add_column(ratio=1)
            beside.add_row(*panels)
            self._console.print(beside)
        self._print("Solved. /next begins another problem.", "bold green")

    def _begin(self, problem: TutorProblem) -> None:
        self._tutor = Tutor(problem, self._synthesizer)
        self._print(f"{problem.name}, {_counted(len(problem.steps), 'step')}", "bold")
        if problem.head.strip():
            self._code(problem.head)
        self._show_step()

    def _show_step(self) -> None:
        step = self._tutor.step
        self._print(f"{self._tutor.number + 1}. {step.request}")
        for example in step.examples:
            if example.text not in step.request:
                self._print(f"   {example.text}", "cyan")

    def _problem(self, number: str) -> TutorProblem:
        if not number.isdecimal() or not 1 <= int(number) <= len(self._problems):
            raise CodegenError(f"There is no problem {number}.", f"Give 1 to {len(self._problems)}.")
        return self._problems[int(number) - 1]

    def _save(self, name: str) -> None:
        try:
            with Path(name or "solution.py").expanduser().open("x", encoding="utf-8") as file:
                file.write(render(self._tutor.learner))
            self._print(f"Saved in {file.name}.", "dim")
        except OSError as error:
            self._print(f"It can't be saved: {error.strerror}.", "yellow")

    def _code(self, code: str) -> None:
        self._console.print(Syntax(printable(code), "python", background_color="default"))

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(text)), style=style or None, soft_wrap=True)
        sys.stdout.flush()


def _program(dialogue: Dialogue) -> Syntax:
    text = printable(render(dialogue)).rstrip()
    return Syntax(text, "python", background_color="default", word_wrap=True)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
