"""From the result of a refactoring to a `WorkspaceEdit`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lsprotocol import types
from pygls.exceptions import JsonRpcException

from codegen_lsp.lsp.documents import TextDocument
from codegen_lsp.lsp.open_documents import OpenDocuments
from codegen_lsp.refactor.edits import Original
from codegen_lsp.workspace.uris import uri_of

if TYPE_CHECKING:
    from codegen_lsp.workspace.sources import OtherFile


def versioned_edit(
    document: TextDocument, text: str, others: Sequence[OtherFile], documents: OpenDocuments
) -> types.WorkspaceEdit:
    """Return the edit to a new text of a document and of other files, for exactly the open versions.

    Raises: JsonRpcException (ContentModified) when another file has changed since it was read.
    """
    edits = [types.TextDocumentEdit(_identifier(document, document.version), [*text_edits(document, text)])]
    for file in others:
        other, version = _other(file, documents)
        edits.append(types.TextDocumentEdit(_identifier(other, version), [*text_edits(other, file.after)]))
    return types.WorkspaceEdit(document_changes=[*edits])


def plain_edit(
    document: TextDocument, text: str, others: Sequence[OtherFile], documents: OpenDocuments
) -> types.WorkspaceEdit:
    """Return the same edit without versions, for editors that don't support them. Raises: the same."""
    changes = {document.uri: text_edits(document, text)}
    for file in others:
        other, _ = _other(file, documents)
        changes[other.uri] = text_edits(other, file.after)
    return types.WorkspaceEdit(changes=changes)


def annotated_edit(document: TextDocument, text: str, label: str) -> types.WorkspaceEdit:
    """Return an edit that the user has to confirm."""
    edits = [types.AnnotatedTextEdit("rewrite", edit.range, edit.new_text) for edit in text_edits(document, text)]
    annotation = types.ChangeAnnotation(label, needs_confirmation=True, description=difference(document, text))
    return types.WorkspaceEdit(
        document_changes=[types.TextDocumentEdit(_identifier(document, document.version), edits)],
        change_annotations={"rewrite": annotation},
    )


def difference(document: TextDocument, text: str) -> str:
    """Return the lines that are removed and added, as a unified diff without its head."""
    old = Original(document.text).normal().split("\n")
    lines = difflib.unified_diff(old, text.split("\n"), lineterm="", n=1)
    return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def text_edits(document: TextDocument, text: str) -> list[types.TextEdit]:
    """Return the changes from a document to a new text, which has LF line ends."""
    edits = Original(document.text).edits(text)
    return [types.TextEdit(document.range(edit.start, edit.end), edit.new) for edit in edits]


def _identifier(document: TextDocument, version: int | None) -> types.OptionalVersionedTextDocumentIdentifier:
    return types.OptionalVersionedTextDocumentIdentifier(document.uri, version)


def _other(file: OtherFile, documents: OpenDocuments) -> tuple[TextDocument, int | None]:
    """Return a file as a document, and its version if it is open.

    Raises: JsonRpcException (ContentModified) when its text is no longer the one that was read.
    """
    if (opened := documents.at(file.path)) is not None:
        found, version = opened.current, opened.current.version
    else:
        found, version = TextDocument(uri_of(file.path), "python", 0, file.before, documents.encoding), None
    if found.text != file.before:
        raise JsonRpcException(f"{file.path.name} was changed; ask again.", types.LSPErrorCodes.ContentModified.value)
    return found, version
