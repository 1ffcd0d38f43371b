"""The place that a suggestion comes from, for `codegen-lsp/explain` and `codegen-lsp complete --why`."""

from __future__ import annotations

from pathlib import PurePath

from attrs import frozen

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.inference.rpc.messages import OriginParams
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.request import CompletionModel
from codegen_lsp.suggest.workspace_indexing import IndexedWorkspace
from codegen_lsp.workspace.uris import path_of


@frozen
class SuggestionOrigin:
    """The place that agrees longest with a suggestion and the text before it."""

    path: str
    """File, from the workspace's folder; the document's name where it is in none."""
    line: int
    """From 1."""
    tokens: int
    """Tokens that agree."""
    document: bool
    """True if the place is in the document itself."""

    @property
    def sentence(self) -> str:
        """Return it in words."""
        where = "this document" if self.document else "the workspace"
        return f"Its longest match, of {self.tokens} tokens, is in {where}: {self.path}:{self.line}."


async def find_origin(
    snapshot: Snapshot, suggestion: Suggestion, model: CompletionModel, workspace: IndexedWorkspace | None
) -> SuggestionOrigin | None:
    """Return where a suggestion comes from; None where nothing agrees that is long enough to tell.

    The suggestion's offsets are those of the document. Raises WorkerError and ModelError.
    """
    text, offset = snapshot.text[snapshot.prelude :], snapshot.offset - snapshot.prelude
    result = await model.origin(
        OriginParams(
            before=with_lf(text[:offset]),
            text=suggestion.insert[offset - suggestion.start :],
            after=with_lf(text[offset:]),
            workspace=workspace.key if workspace else "",
            excluded_files=[workspace.file] if workspace else [],
        )
    )
    found = result.origin
    if found is None:
        return None
    document = workspace.file if workspace else PurePath(path_of(snapshot.uri) or snapshot.uri).name
    return SuggestionOrigin(found.path or document, found.line, found.tokens, document=not found.path)
