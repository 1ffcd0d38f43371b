"""`workspace/executeCommand`.

- `codegen-lsp.accepted` `{suggestion}`: editors run it after a suggestion was accepted whole.
- `codegen-lsp.restartWorker`: start a new process for the model.
- `codegen-lsp.switchModel` `name`: load another model until the editor is closed or the setting changes.
- `codegen-lsp.refactor` `data`: a refactoring with several results to choose from, or one to be confirmed.

A command that a user gave may fail: the answer is then an error that says what to do, which editors show.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lsprotocol import types
from pygls.exceptions import JsonRpcInvalidParams

from codegen_lsp.lsp.extensions import ACCEPTED, REFACTOR, RESTART_WORKER, SWITCH_MODEL
from codegen_lsp.lsp.handlers.code_action import refactor_command
from codegen_lsp.lsp.session import Session


async def execute_command(session: Session, params: types.ExecuteCommandParams) -> Any:
    """`workspace/executeCommand`."""
    command = COMMANDS.get(params.command)
    if command is None:
        raise JsonRpcInvalidParams(f"There is no command {params.command!r}.")
    return await command(session, list(params.arguments or []))


async def accepted(session: Session, arguments: list[Any]) -> None:
    """Count a suggestion as accepted whole."""
    first = arguments[0] if arguments else None
    number = first.get("suggestion") if isinstance(first, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise JsonRpcInvalidParams(f"{ACCEPTED} takes the arguments that came with the suggestion.")
    session.suggestions.accepted(number)


async def restart_worker(session: Session, arguments: list[Any]) -> dict[str, Any]:
    """Start a new worker. Raises: ModelError and WorkerError."""
    await session.models.restart()
    return {"state": session.status.current.state}


async def switch_model(session: Session, arguments: list[Any]) -> dict[str, Any]:
    """Load another model. Raises: ModelError and WorkerError; the model before is loaded again then."""
    name = arguments[0] if len(arguments) == 1 else None
    if not isinstance(name, str) or not name.strip():
        raise JsonRpcInvalidParams(f"{SWITCH_MODEL} takes the name of a model.")
    description = await session.models.switch(name.strip())
    return {"model": description.name}


COMMANDS: dict[str, Callable[[Session, list[Any]], Awaitable[Any]]] = {
    ACCEPTED: accepted,
    RESTART_WORKER: restart_worker,
    SWITCH_MODEL: switch_model,
    REFACTOR: refactor_command,
}
