"""`workspace/executeCommand`: what an editor asks for besides suggestions.

- `codegen-lsp.accepted` `{suggestion}`: editors run it after a suggestion was accepted whole.
- `codegen-lsp.restartWorker`: a new process for the model.
- `codegen-lsp.switchModel` `name`: another model until the editor is closed or the setting changes.
- `codegen-lsp.refactor` `data`: a refactoring with several results to choose from, or one to be confirmed.

A command that a user gave may fail: the answer is then an error with what to do, which editors show.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer

ACCEPTED = "codegen-lsp.accepted"
RESTART_WORKER = "codegen-lsp.restartWorker"
SWITCH_MODEL = "codegen-lsp.switchModel"
REFACTOR = "codegen-lsp.refactor"

_REMEMBERED = 1_000
"""Suggestions that may still be accepted."""


class Counts:
    """How many suggestions were given and accepted."""

    def __init__(self) -> None:
        self.shown = 0
        self.accepted = 0
        self._open: OrderedDict[int, None] = OrderedDict()

    def show(self) -> int:
        """Count a suggestion that is given; the result is its number."""
        self.shown += 1
        self._open[self.shown] = None
        if len(self._open) > _REMEMBERED:
            self._open.popitem(last=False)
        return self.shown

    def accept(self, number: int) -> bool:
        """Count a suggestion as accepted; False when it was before, or was never given."""
        if number not in self._open:
            return False
        del self._open[number]
        self.accepted += 1
        return True


async def execute_command(ls: CodegenServer, params: types.ExecuteCommandParams) -> Any:
    """`workspace/executeCommand`."""
    command = COMMANDS.get(params.command)
    if command is None:
        raise JsonRpcInvalidParams(f"There is no command {params.command!r}.")
    return await command(ls, list(params.arguments or []))


async def accepted(server: CodegenServer, arguments: list[Any]) -> None:
    """A suggestion was accepted whole."""
    first = arguments[0] if arguments else None
    number = first.get("suggestion") if isinstance(first, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise JsonRpcInvalidParams(f"{ACCEPTED} takes the arguments that came with the suggestion.")
    server.counts.accept(number)


async def restart_worker(server: CodegenServer, arguments: list[Any]) -> dict[str, Any]:
    """Start a new worker. Raises ModelError and WorkerError."""
    await server.models.restart()
    return {"state": server.status.current.state}


async def switch_model(server: CodegenServer, arguments: list[Any]) -> dict[str, Any]:
    """Run another model. Raises ModelError and WorkerError; what ran before then runs on."""
    name = arguments[0] if len(arguments) == 1 else None
    if not isinstance(name, str) or not name.strip():
        raise JsonRpcInvalidParams(f"{SWITCH_MODEL} takes the name of a model.")
    description = await server.models.switch(name.strip())
    return {"model": description.name}


async def refactor(server: CodegenServer, arguments: list[Any]) -> Any:
    """Do a refactoring, let the user choose, and have it applied. Raises RefactorError, ModelError and WorkerError."""
    from codegen_lsp.lsp.handlers.code_action import refactor_command

    return await refactor_command(server, arguments)


COMMANDS: dict[str, Callable[[CodegenServer, list[Any]], Awaitable[Any]]] = {
    ACCEPTED: accepted,
    RESTART_WORKER: restart_worker,
    SWITCH_MODEL: switch_model,
    REFACTOR: refactor,
}
