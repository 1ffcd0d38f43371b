"""The document of a request for infilling: its name, its language, and suggestions as text to insert at the cursor."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from urllib.parse import quote

from codegen_lsp.completion.snapshot import Snapshot, Suggestion
from codegen_lsp.http.fields import well_formed
from codegen_lsp.http.requests import CompletionRequest
from codegen_lsp.inference.rpc.messages import ModelDescription
from codegen_lsp.source.languages import GENERIC, identifier_of

MAX_NAME_CHARACTERS = 1_000
"""Of the name of a file in a prompt."""


def document_uri(filename: str) -> str:
    """Return a URI for a document of which a client names the file, or nothing. Nothing is read from there."""
    return f"http-client:/{quote(filename.replace(chr(92), '/').lstrip('/'))}"


def language_of_request(request: CompletionRequest, model: ModelDescription) -> str:
    """Return the LSP language identifier of a request's document.

    It is the one that the client names, else that of the file's name, else the most frequent one among the extra texts,
    else the first one of the model.
    """
    if request.language:
        return request.language
    if (named := identifier_of(PurePath(request.filename))) != GENERIC.identifier:
        return named
    others = Counter(identifier_of(PurePath(extra.filename)) for extra in request.extra)
    del others[GENERIC.identifier]
    return others.most_common(1)[0][0] if others else next(iter(model.languages), GENERIC.identifier)


def name_in_prompt(filename: str) -> str:
    """Return the name of a file as it may stand in a prompt: on one line, and not long."""
    return " ".join(well_formed(filename[:MAX_NAME_CHARACTERS]).replace("\\", "/").split())


def text_at_cursor(snapshot: Snapshot, suggestion: Suggestion) -> str | None:
    """Return the text to insert at the cursor for a suggestion; None if inserting alone does not have its effect.

    A suggestion may replace closers behind the cursor, which clients of HTTP can't do. Where its text ends with them,
    they are left out.
    """
    text = suggestion.insert[snapshot.offset - suggestion.start :]
    replaced = snapshot.text[snapshot.offset : suggestion.end]
    return text.removesuffix(replaced) if text.endswith(replaced) else None
