"""Reading what a person says in `codegen-lsp synth`: a line editor in a terminal, else lines of standard input."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from codegen_lsp.errors import CodegenError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

T = TypeVar("T")


class InputError(CodegenError):
    """Input that can't be read."""


class LineReader:
    """Reads one text after the other."""

    def __init__(self, commands: Sequence[str]) -> None:
        self._prompts = _prompts(commands) if sys.stdin.isatty() else None

    async def read(self, prompt: str, default: str = "", *, several: bool = False) -> str | None:
        """Return what the person says; None at the end of the input.

        Raises: KeyboardInterrupt on Ctrl-C, InputError when it is not UTF-8.

        Without a terminal it is one line, or, with `several`, all lines up to an empty one or a command.
        """
        if self._prompts is not None:
            try:
                return await self._prompts.prompt_async(prompt, default=default)
            except EOFError:
                return None
        line = sys.stdin.readline()
        if not line:
            return None
        lines = [line.rstrip("\n")]
        while several and lines[-1].strip() and not lines[0].startswith("/"):
            lines.append(sys.stdin.readline().rstrip("\n"))
        text = "\n".join(lines).rstrip("\n")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError("This line is not UTF-8.", "Convert the input first.") from None
        return text


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of some work, which Ctrl-C cancels. Raises: KeyboardInterrupt when it did."""
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError, RuntimeError):  # on Windows, and outside of the main thread
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if (caller := asyncio.current_task()) is not None and caller.cancelling():
            raise
        raise KeyboardInterrupt from None
    finally:
        with contextlib.suppress(NotImplementedError, RuntimeError):
            loop.remove_signal_handler(signal.SIGINT)


def _prompts(commands: Sequence[str]) -> PromptSession[str]:
    """Return the line editor, with a history of its own in the user's folder of state."""
    import platformdirs
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    history: History = InMemoryHistory()
    path = platformdirs.user_state_path("codegen-lsp") / "synth-history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    except OSError:
        pass
    completer = WordCompleter(list(commands), sentence=True)
    return PromptSession(
        history=history, key_bindings=keys, multiline=True, completer=completer, complete_while_typing=False
    )
