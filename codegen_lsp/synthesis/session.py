"""A session: a dialogue in a file, with everything a person does to it, and undo."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import evolve

from codegen_lsp.errors import CodegenError
from codegen_lsp.file_replacement import replace_file
from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn, parse, render
from codegen_lsp.synthesis.questions import Question, questions_about
from codegen_lsp.synthesis.running import ProgramRun
from codegen_lsp.synthesis.synthesizer import Proposal, Synthesizer
from codegen_lsp.synthesis.turn_reports import report_turns, with_outputs

UNDO_STEPS = 200
MAX_BYTES = 1 << 20
"""Size limit of a session's file."""
OnTurn = Callable[[int, DialogueTurn], None]
"""Called with the index and the text of each turn that is written anew."""


class SynthesisError(CodegenError):
    """Something that a session can't do, with advice for the person."""


class SynthesisSession:
    """A dialogue, and what a person does to it. Each change is saved at once, if there is a file."""

    def __init__(self, synthesizer: Synthesizer, path: Path | None = None, dialogue: Dialogue | None = None) -> None:
        """Open the dialogue in a file, which may be missing. Raises: SynthesisError when it can't be read."""
        self.path = path
        self.proposals: list[Proposal] = []
        """Candidates for the last turn that was written, the best first."""
        self.chosen = 0
        """Number of the candidate that was chosen."""
        self.written = 0
        """Index of the turn that the proposals are for."""
        self._synthesizer = synthesizer
        self._digest = ""
        self._line_break = "\n"
        self._dialogue = dialogue or Dialogue()
        self._undo: list[Dialogue] = []
        self._redo: list[Dialogue] = []
        self._seed = 0
        if path is not None and path.exists():
            self._dialogue = parse(self._read(path))

    @property
    def dialogue(self) -> Dialogue:
        """The dialogue as it is now."""
        return self._dialogue

    def questions(self, request: str) -> list[Question]:
        """Return what a request leaves open."""
        return questions_about(self._dialogue, request)

    async def ask(self, request: str) -> list[Proposal]:
        """Write a new turn, and take the best candidate. Return all candidates.

        Raises: SynthesisError, and what `Synthesizer.propose` raises; nothing is changed then.
        """
        return await self._write(len(self._dialogue.turns), request, seed=0)

    async def retry(self) -> list[Proposal]:
        """Write the last turn that was written once more, with other candidates. Raises: as `ask`."""
        if not self.proposals:
            raise SynthesisError("No step was written just now.", "Say what the program should do.")
        return await self._write(
            self.written, self._dialogue.turns[self.written].request, seed=self._seed + 1, replace=True
        )

    async def choose(self, number: int) -> DialogueTurn:
        """Take another candidate, counted from 0, for the last turn that was written. Later turns are run again.

        Raises: SynthesisError, SandboxError.
        """
        if not self.proposals:
            raise SynthesisError("There are no candidates.", "Say what the program should do.")
        if not 0 <= number < len(self.proposals):
            raise SynthesisError(f"There is no candidate {number + 1}.", f"Choose 1 to {len(self.proposals)}.")
        turn = self.proposals[number].turn(self._dialogue.turns[self.written].request)
        self._change(await self._run_again(self._dialogue.with_turn(self.written, turn), self.written + 1))
        self.chosen = number
        return turn

    async def edit(self, number: int, code: str) -> DialogueTurn:
        """Replace the code of a turn by the person's. Later turns are kept, and run again.

        Raises: SynthesisError, SandboxError.
        """
        turn = self._turn(number)
        if code == turn.code:
            return turn
        changed = DialogueTurn(turn.request, code.strip("\n"), edited=True)
        self._change(await self._run_again(self._dialogue.with_turn(number, changed), number))
        self.proposals = []
        return self._dialogue.turns[number]

    async def change(
        self, number: int, request: str, on_turn: OnTurn | None = None, *, seed: int = 0, code: str | None = None
    ) -> list[Proposal]:
        """Ask something else in a turn. It and the later ones are written anew, but for those that the person wrote.

        With `code`, the turn gets this code, and the model writes the later ones only. Another seed gives other
        candidates.

        Raises: as `ask`.
        """
        self._turn(number)
        later = self._dialogue.turns[number + 1 :]
        return await self._rewrite(number, request, later, on_turn, seed, code)

    async def insert(
        self, number: int, request: str, on_turn: OnTurn | None = None, *, seed: int = 0, code: str | None = None
    ) -> list[Proposal]:
        """Ask something before a turn. The later ones are written anew, but for those that the person wrote.

        `seed` and `code` are those of `change`.

        Raises: as `ask`.
        """
        if number == len(self._dialogue.turns):
            return await self._write(number, request, seed=seed)
        self._turn(number)
        return await self._rewrite(number, request, self._dialogue.turns[number:], on_turn, seed, code)

    async def remove(self, number: int) -> None:
        """Remove a turn. Later turns are kept, and run again. Raises: SynthesisError, SandboxError."""
        self._turn(number)
        self._change(await self._run_again(self._dialogue.without(number), number))
        self.proposals = []

    def set_head(self, head: str) -> None:
        """Replace the text above the first turn. Raises: SynthesisError."""
        self._change(evolve(self._dialogue, head=head))

    async def run(self) -> ProgramRun:
        """Run the program, and keep what each turn did. Raises: SynthesisError, SandboxError."""
        dialogue = await self._run_again(self._dialogue, 0)
        if dialogue != self._dialogue:
            self._change(dialogue)
        if not dialogue.turns:
            return ProgramRun("ran", [])
        return await self._synthesizer.run(dialogue.until(len(dialogue.turns) - 1), dialogue.turns[-1])

    def undo(self) -> bool:
        """Take back the last change. Return false if there is none. Raises: SynthesisError."""
        return self._step(self._undo, self._redo)

    def redo(self) -> bool:
        """Make the change again that was taken back last. Return false if there is none. Raises: SynthesisError."""
        return self._step(self._redo, self._undo)

    def reload(self) -> bool:
        """Read the file again, if it was changed by others. Return whether it was. Raises: SynthesisError."""
        if self.path is None or not self.path.exists():
            return False
        before = self._digest
        text = self._read(self.path)
        if self._digest == before:
            return False
        self._undo.append(self._dialogue)
        self._dialogue = parse(text)
        self.proposals = []
        return True

    def save_as(self, path: Path) -> None:
        """Go on in another file. Raises: SynthesisError when there is one, or it can't be written."""
        if path.exists():
            raise SynthesisError(f"{path} exists.", "Give another name.")
        before, self.path = self.path, path
        try:
            self._save(self._dialogue)
        except SynthesisError:
            self.path = before
            raise

    async def _write(self, number: int, request: str, *, seed: int, replace: bool = False) -> list[Proposal]:
        if not request.strip():
            raise SynthesisError("Nothing is asked.", "Say what the program should do next.")
        above = self._dialogue.until(number)
        proposals = await self._synthesizer.propose(above, request, seed=seed)
        if not proposals:
            raise SynthesisError("The model wrote nothing.", "Say it in other words, or write the code yourself.")
        turn = proposals[0].turn(request)
        written = self._dialogue if replace else above
        self._change(await self._run_again(written.with_turn(number, turn), number + 1))
        self.proposals, self.chosen, self._seed, self.written = proposals, 0, seed, number
        return proposals

    async def _rewrite(
        self,
        number: int,
        request: str,
        later: Sequence[DialogueTurn],
        on_turn: OnTurn | None,
        seed: int,
        code: str | None,
    ) -> list[Proposal]:
        if not request.strip():
            raise SynthesisError("Nothing is asked.", "Say what the step should do.")
        above = self._dialogue.until(number)
        if code is None:
            first = await self._synthesizer.propose(above, request, seed=seed)
        else:
            first = [await self._synthesizer.judge(above, request, code)]
        turn = first[0].turn(request) if first else DialogueTurn(request)
        dialogue = above.with_turn(number, turn)
        if on_turn is not None:
            on_turn(number, turn)
        for kept in later:
            if kept.edited:
                turn = await self._synthesizer.judged(dialogue, kept)
            else:
                proposals = await self._synthesizer.propose(dialogue, kept.request)
                turn = proposals[0].turn(kept.request) if proposals else DialogueTurn(kept.request)
            dialogue = dialogue.with_turn(len(dialogue.turns), turn)
            if on_turn is not None:
                on_turn(len(dialogue.turns) - 1, turn)
        self._change(dialogue)
        self.proposals, self.chosen, self._seed, self.written = first, 0, seed, number
        return first

    async def _run_again(self, dialogue: Dialogue, first: int) -> Dialogue:
        """Return a dialogue whose turns from `first` on state what they do now. Raises: SandboxError."""
        return with_outputs(dialogue, await report_turns(self._synthesizer.runner, dialogue, first), first)

    def _turn(self, number: int) -> DialogueTurn:
        if not 0 <= number < len(self._dialogue.turns):
            raise SynthesisError(
                f"There is no step {number + 1}.",
                f"There are {len(self._dialogue.turns)}." if self._dialogue.turns else "There are none yet.",
            )
        return self._dialogue.turns[number]

    def _step(self, source: list[Dialogue], target: list[Dialogue]) -> bool:
        if not source:
            return False
        self._save(source[-1])
        target.append(self._dialogue)
        self._dialogue = source.pop()
        self.proposals = []
        return True

    def _change(self, dialogue: Dialogue) -> None:
        self._save(dialogue)
        self._undo = [*self._undo[-UNDO_STEPS:], self._dialogue]
        self._redo.clear()
        self._dialogue = dialogue

    def _save(self, dialogue: Dialogue) -> None:
        """Write the file as a whole. Raises: SynthesisError when others have changed it, or it can't be written."""
        if self.path is None:
            return
        if self.path.exists() and self._digest != _digest_of(self._bytes(self.path)):
            raise SynthesisError(f"{self.path} was changed by another program.", "Reload it, then go on.")
        content = render(dialogue).replace("\n", self._line_break).encode("utf-8", "replace")
        try:
            replace_file(self.path.resolve(), content)  # a link stays one
        except OSError as error:
            raise SynthesisError(
                f"{self.path} can't be written: {error.strerror or error}.", "Save it elsewhere; nothing was changed."
            ) from error
        self._digest = _digest_of(content)

    def _read(self, path: Path) -> str:
        content = self._bytes(path)
        self._digest = _digest_of(content)
        self._line_break = "\r\n" if b"\r\n" in content else "\n"
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SynthesisError(f"{path} is not UTF-8.", "Convert it first.") from error

    @staticmethod
    def _bytes(path: Path) -> bytes:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise SynthesisError(f"{path} has more than {MAX_BYTES >> 20} MiB.", "Begin a new session.")
            return path.read_bytes()
        except OSError as error:
            raise SynthesisError(f"{path} can't be read: {error.strerror or error}.", "Check the path.") from error


def _digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
