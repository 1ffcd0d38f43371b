"""`textDocument/codeAction` and `codeAction/resolve`: refactorings, on demand.

The menu is made from syntax alone. The work is done when an action is chosen: the edit then comes with the resolved
action or, if the user has to choose among several results or to confirm the difference and the editor has no way of its
own for that, with the command `codegen-lsp.refactor`. Edits name the version of the document that they are for, and
nothing here writes to a disk. A refactoring that fails is answered with an error that says why, which editors show, and
`codegen-lsp/explain` reports it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams

from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.edits import annotated_edit, difference, plain_edit, versioned_edit
from codegen_lsp.lsp.extensions import REFACTOR, RefactoringReport
from codegen_lsp.lsp.latest import SupersededRequest
from codegen_lsp.lsp.open_documents import EndedRefactoring, OpenDocument
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.lsp.session import Session
from codegen_lsp.refactor.backend import MenuEntry
from codegen_lsp.refactor.edits import Original, SelectedSource
from codegen_lsp.refactor.generated_code import shortened
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import KINDS, RefactoringKind, kind_named
from codegen_lsp.source.languages import DEFAULT_LANGUAGES, EVERY_LANGUAGE
from codegen_lsp.suggest.options import options_for
from codegen_lsp.workspace.files import python_files
from codegen_lsp.workspace.sources import Workspace
from codegen_lsp.workspace.uris import path_of

if TYPE_CHECKING:
    from codegen_lsp.refactor.results import RefactoringOffer, RefactoringOutcome

logger = logging.getLogger(__name__)

OPTIONS = types.CodeActionOptions(
    code_action_kinds=sorted({types.CodeActionKind.QuickFix.value, *(kind.action for kind in KINDS)}),
    resolve_provider=True,
)
MAX_OFFERED = 5
"""Results to choose from."""


@frozen
class ActionTarget:
    """A refactoring of a selection in a document at one version: the `data` of an action."""

    kind: RefactoringKind
    uri: str
    version: int
    start: int
    end: int

    def as_data(self) -> dict[str, Any]:
        """Return the JSON that travels to the editor and back."""
        return {"kind": self.kind.name, "uri": self.uri, "version": self.version, "start": self.start, "end": self.end}

    @classmethod
    def of_data(cls, data: Any) -> ActionTarget:
        """Read the JSON as it came back. Raises: JsonRpcInvalidParams."""
        kind = kind_named(str(data.get("kind"))) if isinstance(data, dict) else None
        if kind is None:
            raise JsonRpcInvalidParams("This is no action of this server.")
        numbers = [data.get(name) for name in ("version", "start", "end")]
        if not isinstance(data.get("uri"), str) or not all(isinstance(one, int | float) for one in numbers):
            raise JsonRpcInvalidParams("The data of the action are not what came with it.")
        version, start, end = (int(one) for one in numbers)
        return cls(kind, data["uri"], version, start, end)


def code_action(session: Session, params: types.CodeActionParams) -> list[types.CodeAction]:
    """`textDocument/codeAction`: list the refactorings of the selection."""
    document = session.documents.get(params.text_document.uri)
    if document is None or not _allowed(session, document):
        return []
    text = document.current
    start, end = sorted((text.offset(params.range.start), text.offset(params.range.end)))
    original, normal, backend = session.parsed.of(text)
    source = _source(session, text, original, normal, start, end)
    actions = []
    for entry in backend.menu(source) if backend is not None else []:
        if _wanted(entry.action, params.context.only):
            actions += _actions(session, entry, ActionTarget(entry.kind, text.uri, text.version, start, end))
    return actions


async def code_action_resolve(session: Session, action: types.CodeAction) -> types.CodeAction:
    """`codeAction/resolve`: do the refactoring, and return the action with its edit.

    Raises: RefactorError and others that say why there is no edit.
    """
    # Neovim 0.10 resolves actions that have a command, too.
    if action.command is not None:
        return action
    target = ActionTarget.of_data(action.data)
    document = _unchanged(session, target)
    text = document.current
    outcome = await _refactor(session, target, document)
    offer = outcome.offers[0]
    action.edit = _edit(session, text, target.kind, offer, f"{action.title}: {offer.label}", ask=True)
    return action


async def refactor_command(session: Session, arguments: list[Any]) -> dict[str, Any]:
    """`codegen-lsp.refactor`: do a refactoring, let the user choose, and have the editor apply the result.

    Raises: RefactorError, ModelError and WorkerError.
    """
    target = ActionTarget.of_data(arguments[0] if len(arguments) == 1 else None)
    document = _unchanged(session, target)
    text = document.current
    outcome = await _refactor(session, target, document)
    offer = await _chosen(session, text, outcome)
    if offer is None:
        return {"applied": False}
    _unchanged(session, target)
    ask = target.kind.confirm and session.editor.capabilities.confirms_edits
    edit = _edit(session, text, target.kind, offer, offer.label, ask=ask)
    answer = await session.editor.apply_edit(edit, target.kind.name)
    if not answer.applied:
        # The user was asked and has refused.
        if ask:
            return {"applied": False}
        raise RefactorError(
            "not_applied", f"The editor did not apply the edit: {answer.failure_reason or 'no reason'}."
        )
    return {"applied": True, "label": offer.label}


async def _refactor(session: Session, target: ActionTarget, document: OpenDocument) -> RefactoringOutcome:
    """Do a refactoring with progress, and record how it ended. A newer one of the document supersedes it.

    Raises: RefactorError and the errors of the model.
    """
    from codegen_lsp.refactor.perform import perform
    from codegen_lsp.refactor.verification import policy_for

    started = time.perf_counter()
    kind, text = target.kind, document.current
    original, normal, _ = session.parsed.of(text)
    source = _source(session, text, original, normal, target.start, target.end)
    report = RefactoringReport(kind.name, text.version, text.position(target.start), [], [])
    progress = WorkProgress(session.editor, session.background, kind.title, document.refactoring.cancel)

    async def work() -> RefactoringOutcome:
        if kind.needs_model:
            await session.models.wait()
        policy = policy_for(session.settings.verify_refactorings, kind)
        return await perform(kind, source, _assistant(session, text), progress.report, policy)

    try:
        outcome = await document.refactoring.run(work())
    except SupersededRequest:
        reason = "The document was changed, or something newer was asked for."
        report = evolve(report, rule="superseded", reason=reason)
        raise JsonRpcException(reason, types.LSPErrorCodes.ContentModified.value) from None
    except asyncio.CancelledError:
        report = evolve(report, rule="cancelled", reason="The editor cancelled the request.")
        raise
    except SupersededError as error:
        report = evolve(report, rule="superseded", reason=str(error))
        raise
    except CodegenError as error:
        rule = error.rule if isinstance(error, RefactorError) else "no_model"
        rejected = error.rejected if isinstance(error, RefactorError) else []
        report = evolve(report, rule=rule, reason=str(error), rejected=rejected)
        logger.info("%s: not done, by the rule %s: %s", kind.name, rule, error)
        raise
    else:
        labels = [offer.label for offer in outcome.offers]
        report = evolve(report, offers=labels, rejected=outcome.rejected, notes=outcome.notes)
    finally:
        progress.end(report.reason or "Done")
        ended = time.perf_counter()
        timed = evolve(report, milliseconds=round((ended - started) * 1000, 1))
        document.refactored = EndedRefactoring(timed, ended)
    return outcome


def _unchanged(session: Session, target: ActionTarget) -> OpenDocument:
    """Return the document if it still has the target's version. Raises: JsonRpcException (ContentModified)."""
    document = session.documents.get(target.uri)
    if document is None or document.current.version != target.version or document.lost:
        raise JsonRpcException("The document was changed since; ask again.", types.LSPErrorCodes.ContentModified.value)
    return document


def _edit(
    session: Session, text: TextDocument, kind: RefactoringKind, offer: RefactoringOffer, label: str, *, ask: bool
) -> types.WorkspaceEdit:
    """Return a result in the form that the editor supports; with `ask`, a rewrite has to be confirmed by the user."""
    if not session.editor.capabilities.document_changes:
        return plain_edit(text, offer.text, offer.others, session.documents)
    if ask and kind.confirm:
        return annotated_edit(text, offer.text, label)
    return versioned_edit(text, offer.text, offer.others, session.documents)


def _actions(session: Session, entry: MenuEntry, target: ActionTarget) -> list[types.CodeAction]:
    kind, data, capabilities = entry.kind, target.as_data(), session.editor.capabilities
    resolves = capabilities.resolves_edits and (not kind.confirm or capabilities.confirms_edits)
    action = types.CodeAction(entry.title, entry.action, data=data)
    command = types.Command(entry.title, REFACTOR, arguments=[data])
    if not resolves:
        return [types.CodeAction(entry.title, entry.action, command=command)] if capabilities.apply_edit else []
    if not kind.several_results or not capabilities.apply_edit:
        return [action]
    return [action, types.CodeAction(f"{entry.title}: choose…", entry.action, command=command)]


async def _chosen(session: Session, text: TextDocument, outcome: RefactoringOutcome) -> RefactoringOffer | None:
    """Return the result that the user wants; a single one is asked about only if it has to be confirmed here."""
    offers = outcome.offers[:MAX_OFFERED]
    confirm = outcome.kind.confirm and not session.editor.capabilities.confirms_edits
    if len(offers) == 1 and not confirm:
        return offers[0]
    titles = _distinct([shortened(offer.label) for offer in offers])
    message = f"{outcome.kind.title}: which one?"
    if confirm:
        shown = [f"{title}\n{difference(text, offer.text)}" for title, offer in zip(titles, offers, strict=True)]
        message = "\n\n".join([message, *shown])
    title = await session.editor.choose(message, titles)
    return offers[titles.index(title)] if title in titles else None


def _distinct(titles: list[str]) -> list[str]:
    """Return the titles, numbered if two are equal; editors number the entries of lists themselves."""
    if len(set(titles)) == len(titles):
        return titles
    return [f"{at}. {title}" for at, title in enumerate(titles, start=1)]


def _source(
    session: Session, document: TextDocument, original: Original, text: str, start: int, end: int
) -> SelectedSource:
    path, access = path_of(document.uri), session.file_access(document.uri)
    return SelectedSource(
        text,
        original.normal_offset(start),
        original.normal_offset(end),
        document.language,
        Path(path) if path else None,
        None if access is None else Workspace(access.root, lambda: python_files(access)),
    )


def _assistant(session: Session, document: TextDocument) -> ModelAssistant:
    status = session.status.current
    ready = status.state in ("ready", "busy")
    options = options_for(session.settings, document.language, status.model)
    client = session.models.client if ready else None
    return ModelAssistant.for_model(client, status.model, options, f"refactor {document.uri}")


def _allowed(session: Session, document: OpenDocument) -> bool:
    """Return true if the settings allow refactorings in a document."""
    settings, language = session.settings, document.current.language
    if not settings.enabled or not settings.refactor or session.refusal_of(document):
        return False
    usual = language in DEFAULT_LANGUAGES or settings.languages.get(EVERY_LANGUAGE, False)
    return settings.languages.get(language, usual)


def _wanted(kind: str, only: Sequence[types.CodeActionKind | str] | None) -> bool:
    if not only:
        return True
    asked = [one.value if isinstance(one, types.CodeActionKind) else one for one in only]
    return any(one == "" or kind == one or kind.startswith(f"{one}.") for one in asked)
