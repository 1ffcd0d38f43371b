"""`textDocument/codeAction` and `codeAction/resolve`: refactorings, on demand.

The menu is answered from syntax alone. The work is done when an action is chosen: the edit then comes with the resolved
action, or, where the user has to choose among several results or to see the difference first and the editor has no way
of its own for that, with the command `codegen-lsp.refactor`. Edits name the version of the document that they are for,
and nothing here writes to a disk. Somebody who asked for a refactoring and gets none is told why: by an error, which
editors show, and by `codegen-lsp/explain`.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve, frozen
from lsprotocol import types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.uris import from_fs_path, to_fs_path

from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc.messages import LoadProgress
from codegen_lsp.lsp.documents import Document, file_access
from codegen_lsp.lsp.handlers.commands import REFACTOR
from codegen_lsp.lsp.handlers.explain import Refactoring
from codegen_lsp.lsp.handlers.inline_completion import PATIENCE, refusal_of_document
from codegen_lsp.lsp.progress import WorkProgress
from codegen_lsp.refactor.backend import Backend, MenuEntry
from codegen_lsp.refactor.dispatch import backend_for
from codegen_lsp.refactor.edits import Original, SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import KINDS, RefactoringKind, kind_named
from codegen_lsp.source.languages import DEFAULT_LANGUAGES, EVERY_LANGUAGE
from codegen_lsp.suggest.inflight import SupersededRequest
from codegen_lsp.suggest.service import options_for
from codegen_lsp.workspace.files import python_files
from codegen_lsp.workspace.sources import Workspace

if TYPE_CHECKING:
    from codegen_lsp.lsp.server import CodegenServer
    from codegen_lsp.refactor.draft import RefactoringOffer, RefactoringOutcome
    from codegen_lsp.workspace.sources import OtherFile

logger = logging.getLogger(__name__)

OPTIONS = types.CodeActionOptions(
    code_action_kinds=sorted({types.CodeActionKind.QuickFix.value, *(kind.action for kind in KINDS)}),
    resolve_provider=True,
)
_OFFERED = 5
"""Results to choose from, at most."""


@frozen
class ActionTarget:
    """A selection of a document at one version, and what is to be done there: the `data` of an action."""

    kind: RefactoringKind
    uri: str
    version: int
    start: int
    end: int

    def as_data(self) -> dict[str, Any]:
        """As it travels to the editor and back."""
        return {"kind": self.kind.name, "uri": self.uri, "version": self.version, "start": self.start, "end": self.end}


class ParsedDocument:
    """The document that was asked about last, with the backend that keeps its syntax trees."""

    def __init__(self) -> None:
        self._document: Document | None = None
        self._original = Original("")
        self._text = ""
        self._backend: Backend | None = None

    def of(self, document: Document) -> tuple[Original, str, Backend | None]:
        """Return the document, its text with LF line ends, and the backend of its language."""
        if self._document is not document:
            self._document = document
            self._original = Original(document.text)
            self._text = self._original.normal()
            self._backend = backend_for(document.language)
        return self._original, self._text, self._backend


def code_action(ls: CodegenServer, params: types.CodeActionParams) -> list[types.CodeAction]:
    """What may be done with the selection."""
    document = ls.documents.get(params.text_document.uri)
    if document is None or not _allowed(ls, document):
        return []
    start, end = document.offset(params.range.start), document.offset(params.range.end)
    original, text, backend = ls.parsed.of(document)
    source = _source(ls, document, original, text, min(start, end), max(start, end))
    actions = []
    for entry in backend.menu(source) if backend is not None else []:
        if _wanted(entry.action, params.context.only):
            actions += _actions(ls, entry, document, min(start, end), max(start, end))
    return actions


async def code_action_resolve(ls: CodegenServer, action: types.CodeAction) -> types.CodeAction:
    """Do what was chosen; the action comes back with its edit. Fails with an error that says why."""
    # Neovim 0.10 has actions resolved that come with a command, too.
    if action.command is not None:
        return action
    place = place_of(action.data)
    document = current(ls, place)
    outcome = await refactor(ls, place, document)
    label = outcome.offers[0].label
    action.edit = workspace_edit(ls, document, place.kind, outcome.offers[0], f"{action.title}: {label}")
    return action


async def refactor_command(server: CodegenServer, arguments: list[Any]) -> dict[str, Any]:
    """`codegen-lsp.refactor`: do a refactoring, let the user choose, and have the editor apply it."""
    place = place_of(arguments[0] if len(arguments) == 1 else None)
    document = current(server, place)
    outcome = await refactor(server, place, document)
    at = await _chosen(server, document, outcome)
    if at is None:
        return {"applied": False}
    current(server, place)
    ask = place.kind.confirm and _can_confirm(server)
    edit = workspace_edit(server, document, place.kind, outcome.offers[at], outcome.offers[at].label, ask=ask)
    answer = await server.workspace_apply_edit_async(types.ApplyWorkspaceEditParams(edit, label=place.kind.name))
    if not answer.applied:
        # Who was asked has said no.
        if ask:
            return {"applied": False}
        raise RefactorError(
            "not_applied", f"The editor did not apply the edit: {answer.failure_reason or 'no reason'}."
        )
    return {"applied": True, "label": outcome.offers[at].label}


async def refactor(server: CodegenServer, place: ActionTarget, document: Document) -> RefactoringOutcome:
    """Do a refactoring, with progress, and note how it ended. A newer one in the document ends it.

    Raises RefactorError and what the model raises.
    """
    from codegen_lsp.refactor.perform import perform
    from codegen_lsp.refactor.verification import policy_for

    original, text, _ = server.parsed.of(document)
    source = _source(server, document, original, text, place.start, place.end)
    started = time.perf_counter()
    position = document.position(place.start)
    ended = Refactoring(place.kind.name, document.version, position, [], [])
    progress = WorkProgress(server, place.kind.title, lambda: server.refactorings.cancel(document.uri))

    def report(what: str, share: float) -> None:
        progress.report(LoadProgress(what, share))

    async def work() -> RefactoringOutcome:
        if place.kind.needs_model:
            await server.models.wait(PATIENCE)
        assistant = _assistant(server, document)
        policy = policy_for(server.settings.verify_refactorings, place.kind)
        return await perform(place.kind, source, assistant, report, policy)

    try:
        outcome = await server.refactorings.newest(document.uri, work())
    except SupersededRequest:
        ended = evolve(ended, rule="superseded", reason="The document was changed, or something newer was asked for.")
        raise JsonRpcException(str(ended.reason), types.LSPErrorCodes.ContentModified.value) from None
    except asyncio.CancelledError:
        ended = evolve(ended, rule="cancelled", reason="The editor cancelled the request.")
        raise
    except SupersededError as error:
        ended = evolve(ended, rule="superseded", reason=str(error))
        raise
    except CodegenError as error:
        rule = error.rule if isinstance(error, RefactorError) else "no_model"
        rejected = error.rejected if isinstance(error, RefactorError) else []
        ended = evolve(ended, rule=rule, reason=str(error), rejected=rejected)
        logger.info("%s: not done, by the rule %s: %s", place.kind.name, rule, error)
        raise
    else:
        ended = evolve(
            ended,
            offers=[offer.label for offer in outcome.offers],
            rejected=outcome.rejected,
            notes=outcome.notes,
        )
    finally:
        progress.end(ended.reason or "Done")
        seconds = time.perf_counter() - started
        if server.documents.get(document.uri) is not None:
            server.refactored[document.uri] = evolve(ended, milliseconds=round(seconds * 1000, 1))
            server.refactored.move_to_end(document.uri)
    return outcome


def workspace_edit(
    server: CodegenServer,
    document: Document,
    kind: RefactoringKind,
    offer: RefactoringOffer,
    label: str,
    *,
    ask: bool = True,
) -> types.WorkspaceEdit:
    """What makes a result of the document, and of the files that change along with it, for exactly these versions of
    those that are open. Raises JsonRpcException (ContentModified) when one of them has another text by now."""
    edits = _edits(document, offer.text)
    plain = [types.TextEdit(range, text) for range, text in edits]
    others = [(other := _other(server, one), _edits(other, one.after)) for one in offer.others]
    if not _can(server, "document_changes"):
        changes = {other.uri: [types.TextEdit(*edit) for edit in found] for other, found in others}
        return types.WorkspaceEdit(changes={document.uri: plain, **changes})
    identifier = types.OptionalVersionedTextDocumentIdentifier(document.uri, document.version)
    if not (ask and kind.confirm):
        further = [
            types.TextDocumentEdit(
                types.OptionalVersionedTextDocumentIdentifier(
                    other.uri, other.version if server.documents.get(other.uri) else None
                ),
                [types.TextEdit(*edit) for edit in found],
            )
            for other, found in others
        ]
        return types.WorkspaceEdit(document_changes=[types.TextDocumentEdit(identifier, plain), *further])
    annotated = [types.AnnotatedTextEdit("rewrite", range, text) for range, text in edits]
    annotation = types.ChangeAnnotation(label, needs_confirmation=True, description=difference(document, offer.text))
    return types.WorkspaceEdit(
        document_changes=[types.TextDocumentEdit(identifier, annotated)], change_annotations={"rewrite": annotation}
    )


def _edits(document: Document, new: str) -> list[tuple[types.Range, str]]:
    return [(document.range(edit.start, edit.end), edit.new) for edit in Original(document.text).edits(new)]


def _other(server: CodegenServer, file: OtherFile) -> Document:
    """A file as a document; the open one, if it is open. Raises JsonRpcException (ContentModified)."""
    uri = from_fs_path(str(file.path)) or ""
    found = server.documents.at(file.path) or Document(uri, "python", 0, file.before, server.documents.encoding)
    if found.text != file.before:
        raise JsonRpcException(f"{file.path.name} was changed; ask again.", types.LSPErrorCodes.ContentModified.value)
    return found


def difference(document: Document, new: str) -> str:
    """The lines that go and come, as a unified diff without its head."""
    old = Original(document.text).normal().split("\n")
    lines = difflib.unified_diff(old, new.split("\n"), lineterm="", n=1)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def place_of(data: Any) -> ActionTarget:
    """An action's `data` as it came back. Raises JsonRpcInvalidParams."""
    kind = kind_named(str(data.get("kind"))) if isinstance(data, dict) else None
    if kind is None:
        raise JsonRpcInvalidParams("This is no action of this server.")
    numbers = [data.get(name) for name in ("version", "start", "end")]
    if not isinstance(data.get("uri"), str) or not all(isinstance(one, int | float) for one in numbers):
        raise JsonRpcInvalidParams("The data of the action are not what came with it.")
    version, start, end = (int(one) for one in numbers)
    return ActionTarget(kind, data["uri"], version, start, end)


def current(server: CodegenServer, place: ActionTarget) -> Document:
    """The document, if it still has the version that the place is of. Raises JsonRpcException (ContentModified)."""
    document = server.documents.get(place.uri)
    if document is None or document.version != place.version or server.documents.is_lost(place.uri):
        raise JsonRpcException("The document was changed since; ask again.", types.LSPErrorCodes.ContentModified.value)
    return document


def _actions(ls: CodegenServer, entry: MenuEntry, document: Document, start: int, end: int) -> list[types.CodeAction]:
    kind = entry.kind
    data = ActionTarget(kind, document.uri, document.version, start, end).as_data()
    resolves = _resolves(ls) and (not kind.confirm or _can_confirm(ls))
    action = types.CodeAction(entry.title, entry.action, data=data)
    command = types.Command(entry.title, REFACTOR, arguments=[data])
    if not resolves:
        return [types.CodeAction(entry.title, entry.action, command=command)] if _can(ls, "apply_edit") else []
    if not kind.several_results or not _can(ls, "apply_edit"):
        return [action]
    return [action, types.CodeAction(f"{entry.title}: choose…", entry.action, command=command)]


async def _chosen(server: CodegenServer, document: Document, outcome: RefactoringOutcome) -> int | None:
    """Which of the results the user wants; the only one is asked about if it has to be confirmed here."""
    offers = outcome.offers[:_OFFERED]
    confirm = outcome.kind.confirm and not _can_confirm(server)
    if len(offers) == 1 and not confirm:
        return 0
    titles = _different([_short(offer.label) for offer in offers])
    message = f"{outcome.kind.title}: which one?"
    if confirm:
        shown = [f"{title}\n{difference(document, offer.text)}" for title, offer in zip(titles, offers, strict=True)]
        message = "\n\n".join([message, *shown])
    answer = await server.window_show_message_request_async(
        types.ShowMessageRequestParams(
            types.MessageType.Info, message, actions=[types.MessageActionItem(title) for title in titles]
        )
    )
    return titles.index(answer.title) if answer is not None and answer.title in titles else None


def _different(titles: list[str]) -> list[str]:
    """The titles, numbered where they could not be told apart; lists that editors show have numbers of their own."""
    if len(set(titles)) == len(titles):
        return titles
    return [f"{at}. {title}" for at, title in enumerate(titles, start=1)]


def _short(label: str) -> str:
    return label if len(label) <= 60 else label[:57] + "..."


def _source(
    server: CodegenServer, document: Document, original: Original, text: str, start: int, end: int
) -> SelectedSource:
    path = to_fs_path(document.uri) if document.uri.startswith("file:") else None
    return SelectedSource(
        text,
        original.normal_offset(start),
        original.normal_offset(end),
        document.language,
        Path(path) if path else None,
        workspace_of(server, document),
    )


def workspace_of(server: CodegenServer, document: Document) -> Workspace | None:
    """Return the workspace folder that a document is in; None when it is in none."""
    access = file_access(server, document.uri)
    return None if access is None else Workspace(access.root, lambda: python_files(access))


def _assistant(server: CodegenServer, document: Document) -> ModelAssistant:
    status = server.status.current
    ready = status.state in ("ready", "busy")
    options = options_for(server.settings, document.language, status.model)
    client = server.models.client if ready else None
    return ModelAssistant.for_model(client, status.model, options, f"refactor {document.uri}")


def _allowed(server: CodegenServer, document: Document) -> bool:
    """Whether the settings want refactorings in the document."""
    settings = server.settings
    if not settings.enabled or not settings.refactor or refusal_of_document(server, document.uri):
        return False
    usual = document.language in DEFAULT_LANGUAGES or settings.languages.get(EVERY_LANGUAGE, False)
    return settings.languages.get(document.language, usual)


def _wanted(kind: str, only: Sequence[types.CodeActionKind | str] | None) -> bool:
    if not only:
        return True
    asked = [one.value if isinstance(one, types.CodeActionKind) else one for one in only]
    return any(one == "" or kind == one or kind.startswith(f"{one}.") for one in asked)


def _can(server: CodegenServer, what: str) -> bool:
    workspace = server.client_capabilities.workspace
    if workspace is None:
        return False
    if what == "apply_edit":
        return bool(workspace.apply_edit)
    return bool(workspace.workspace_edit and workspace.workspace_edit.document_changes)


def _can_confirm(server: CodegenServer) -> bool:
    workspace = server.client_capabilities.workspace
    return bool(
        workspace
        and workspace.workspace_edit
        and workspace.workspace_edit.document_changes
        and workspace.workspace_edit.change_annotation_support
    )


def _resolves(server: CodegenServer) -> bool:
    document = server.client_capabilities.text_document
    action = document.code_action if document else None
    support = action.resolve_support if action else None
    return bool(action and action.data_support and support and "edit" in support.properties)
