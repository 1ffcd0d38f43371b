"""The terminal of `codegen-lsp synth`: reads what the person says, and shows what was written and what it did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from codegen_lsp.cli.synth_input import LineReader, interruptible
from codegen_lsp.cli.synth_pictures import show_picture
from codegen_lsp.errors import CodegenError
from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn
from codegen_lsp.synthesis.printable import printable
from codegen_lsp.synthesis.running import ProgramRun, TurnResult, ValueTable
from codegen_lsp.synthesis.session import SynthesisError, SynthesisSession
from codegen_lsp.synthesis.synthesizer import Proposal

T = TypeVar("T")
Command = Callable[[str], Awaitable[None]]
THEME = "ansi_dark"
MARKS = {"right": ("✓", "green"), "ran": ("•", "cyan"), "contradicts": ("✗", "red")}
"""Sign and colour of a candidate by what it did; anything else failed."""
TABLE_ROWS = 12
"""Rows of a value that are shown as a table."""
FILES_SUFFIX = "-files"
"""A session's pictures are saved in a folder beside it, with this after its name."""

HELP = """\
Say what the program should do next, in one or more steps. An example helps: `x = [1, 2]` → `3`, or f(2) → 4.

  /choose N          take candidate N for the last step
  /retry             other candidates for the last step
  /edit [N]          change the code of step N, or of the last one
  /change N TEXT     ask something else in step N; later steps are written anew
  /insert N TEXT     ask something before step N; later steps are written anew
  /remove N          remove step N
  /undo  /redo
  /run               run the program again
  /show              show the whole program
  /reload            read the file again after another program changed it
  /save FILE         go on in another file
  /quit              leave; the file is up to date

Enter sends, Alt-Enter begins a new line, the arrows bring earlier texts back.
Ctrl-C stops what is being written or run."""


class SynthScreen:
    """One session in a terminal, or with lines from standard input."""

    def __init__(self, console: Console, session: SynthesisSession, model: str) -> None:
        self._console = console
        self._session = session
        self._model = model
        self._commands: dict[str, Command] = {
            "choose": self._choose,
            "retry": self._retry,
            "edit": self._edit,
            "change": self._rewrite,
            "insert": self._insert,
            "remove": self._remove,
            "undo": self._undo,
            "redo": self._redo,
            "run": self._run,
            "show": self._show,
            "reload": self._reload,
            "save": self._save,
            "help": self._help,
        }
        self._reader = LineReader([f"/{name}" for name in (*self._commands, "quit")])

    async def run(self) -> None:
        """Read and answer until the end of the input or `/quit`."""
        self._print(f"{self._model}. /help lists what you can do; the program runs in a sandbox.", "dim")
        if self._session.dialogue.turns:
            await self._show("")
        self._console.print()
        while True:
            try:
                line = await self._reader.read(f"{len(self._session.dialogue.turns) + 1} › ")
                if line is None or line.strip() in ("/quit", "/exit", "/q"):
                    break
                await self._answer(line.strip())
            except CodegenError as error:
                self._print(f"{error.message} {error.advice}".strip(), "yellow")
            except KeyboardInterrupt:
                self._print("Stopped; nothing was changed. /quit leaves.", "yellow")
            self._console.print()
        if self._session.path is not None and self._session.dialogue.turns:
            self._print(f"Saved in {self._session.path}.", "dim")

    async def _answer(self, text: str) -> None:
        if not text:
            return
        if not text.startswith("/"):
            await self._ask(text)
            return
        name, _, rest = text[1:].partition(" ")
        found = [command for command in self._commands if command.startswith(name)] if name else []
        if len(found) > 1 and name in found:
            found = [name]
        if len(found) != 1:
            raise SynthesisError(f"There is no command /{name}.", "/help lists them.")
        await self._commands[found[0]](rest.strip())

    async def _ask(self, request: str) -> None:
        for question in self._session.questions(request):
            self._print(question.text, "magenta")
            answer = await self._reader.read("  (Enter to go on) › ")
            if answer is not None and answer.strip():
                request = f"{request}\n{answer.strip()}"
        self._show_proposals(await self._working(self._session.ask(request)))

    async def _choose(self, rest: str) -> None:
        before = self._session.dialogue
        await self._working(self._session.choose(_number(rest) - 1))
        self._show_changes(before)

    async def _retry(self, rest: str) -> None:
        self._show_proposals(await self._working(self._session.retry()))

    async def _edit(self, rest: str) -> None:
        number = _number(rest) if rest else len(self._session.dialogue.turns)
        if not 1 <= number <= len(self._session.dialogue.turns):
            raise SynthesisError(f"There is no step {number}.", "/show lists them.")
        code = await self._reader.read("edit › ", default=self._session.dialogue.turns[number - 1].code)
        if code is not None:
            before = self._session.dialogue
            await self._working(self._session.edit(number - 1, code))
            self._show_changes(before)

    async def _rewrite(self, rest: str) -> None:
        number, request = _number_and_text(rest)
        before = self._session.dialogue
        await self._working(self._session.change(number - 1, request))
        self._show_changes(before)

    async def _insert(self, rest: str) -> None:
        number, request = _number_and_text(rest)
        before = self._session.dialogue
        await self._working(self._session.insert(number - 1, request))
        self._show_changes(before)

    async def _remove(self, rest: str) -> None:
        before = self._session.dialogue
        await self._working(self._session.remove(_number(rest) - 1))
        self._show_changes(before)

    async def _undo(self, rest: str) -> None:
        before = self._session.dialogue
        self._print("Undone." if self._session.undo() else "There is nothing to undo.", "dim")
        self._show_changes(before)

    async def _redo(self, rest: str) -> None:
        before = self._session.dialogue
        self._print("Done again." if self._session.redo() else "There is nothing to do again.", "dim")
        self._show_changes(before)

    async def _run(self, rest: str) -> None:
        run = await self._working(self._session.run())
        await self._show("")
        self._show_files(run)
        if run.reason:
            self._print(run.reason, "red")

    async def _show(self, rest: str) -> None:
        for number, turn in enumerate(self._session.dialogue.turns, start=1):
            self._show_turn(number, turn)

    async def _reload(self, rest: str) -> None:
        self._print("Read again." if self._session.reload() else "The file is as it was.", "dim")
        await self._show("")

    async def _save(self, rest: str) -> None:
        if not rest:
            raise SynthesisError("A file is missing.", "Give its name.")
        self._session.save_as(_path(rest))
        self._print(f"Saved in {self._session.path}.", "dim")

    async def _help(self, rest: str) -> None:
        self._print(HELP)

    async def _working(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for something, with a sign that it goes on. Raises: KeyboardInterrupt when Ctrl-C has ended it."""
        with self._console.status("…  Ctrl-C stops it", spinner="dots"):
            return await interruptible(work)

    def _show_proposals(self, proposals: list[Proposal]) -> None:
        number = self._session.written + 1
        turn, best = self._session.dialogue.turns[number - 1], proposals[0]
        self._show_code(turn.code)
        self._show_result(best.run.last)
        self._show_files(best.run)
        if not best.good:
            why = "The model wrote nothing." if not best.code.strip() else "No candidate is right."
            reason = best.run.reason if best.run.reason not in best.run.last.text else ""
            self._print(f"{why} {reason and reason + '. '}/retry, /edit, or say it in other words.", "red")
        if len(proposals) > 1:
            line = Text("  candidates: ", style="dim")
            for at, proposal in enumerate(proposals, start=1):
                sign, colour = MARKS.get(proposal.run.kind, ("✗", "red")) if proposal.code.strip() else ("∅", "red")
                style = f"bold {colour}" if at - 1 == self._session.chosen else colour
                line.append(f"{at}{sign} ", style=style)
            self._console.print(line)

    def _show_turn(self, number: int, turn: DialogueTurn) -> None:
        mark = "  (yours)" if turn.edited else ""
        head = f"{number} › "
        first, *more = turn.request.split("\n")
        self._print(f"{head}{first}{mark}", "bold")
        for line in more:
            self._print(" " * len(head) + line, "bold")
        self._show_code(turn.code)
        if turn.output:
            self._below(turn.output, "green")

    def _show_code(self, code: str) -> None:
        if code:
            shown = Syntax(printable(code), "python", theme=THEME, background_color="default")
            self._console.print(Padding(shown, (0, 4)))

    def _show_result(self, result: TurnResult) -> None:
        """Show what a turn did when it has just run."""
        if result.output.strip():
            self._below(result.output.rstrip("\n"), "green")
        if result.table is not None:
            self._console.print(Padding(_table(result.table), (0, 4)))
        elif result.value:
            self._below(result.value, "green")
        if result.failure:
            self._below(result.failure, "red")

    def _below(self, text: str, style: str) -> None:
        self._console.print(Padding(Text(printable(text), style=style), (0, 4)))

    def _show_changes(self, before: Dialogue) -> None:
        """Show the turns that are not as they were, and how many there are."""
        turns = self._session.dialogue.turns
        for number, turn in enumerate(turns, start=1):
            if turn not in before.turns:
                self._show_turn(number, turn)
        if len(turns) != len(before.turns):
            self._print(f"{len(turns)} step{'' if len(turns) == 1 else 's'} now.", "dim")

    def _show_files(self, run: ProgramRun) -> None:
        """Save the pictures and tables of the last turn beside the session, and show the pictures if possible."""
        if not run.last.files:
            return
        path = self._session.path or Path("session.py")
        folder = path.with_name(path.stem + FILES_SUFFIX)
        try:
            folder.mkdir(exist_ok=True)
            for name, content in run.last.files.items():
                (folder / Path(name).name).write_bytes(content)
                self._print(f"    {folder / Path(name).name}", "dim")
                show_picture(self._console, name, content)
        except OSError as error:
            self._print(f"{folder} can't be written: {error.strerror}.", "yellow")

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(printable(text)), style=style or None, soft_wrap=True)


def _table(found: ValueTable) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(found.heads), pad_edge=False, border_style="dim")
    columns = max((len(row) for row in [found.heads, *found.rows]), default=0)
    for head in [*found.heads, *[""] * (columns - len(found.heads))]:
        table.add_column(Text(head), style="green")
    for row in found.rows[:TABLE_ROWS]:
        table.add_row(*map(Text, row))
    if left := len(found.rows) - len(found.rows[:TABLE_ROWS]) + found.dropped:
        table.caption = f"{left} more rows"
    return table


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _number(text: str) -> int:
    if not text.isdecimal():
        raise SynthesisError(f"{text or 'Nothing'} is no number.", "Give one, counted from 1.")
    return int(text)


def _number_and_text(rest: str) -> tuple[int, str]:
    number, _, text = rest.partition(" ")
    if not text.strip():
        raise SynthesisError("The text is missing.", "Give the number of the step, then what it should do.")
    return _number(number), text.strip()
