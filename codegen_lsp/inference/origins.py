"""Where a suggestion comes from: the place in the document or its workspace that agrees with it longest.

Each token of the suggestion ends a context, of the tokens before it and the text before the cursor. The longest context
that occurs elsewhere, ending within the suggestion, is the longest match. Of several, the last one is taken, which
covers most of the suggestion, and the document's before the workspace's.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.inference.engines.native.ngram_index import FileVersion, IndexedFile, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_segment import GAP, ORDERS, library
from codegen_lsp.inference.rpc.messages import OriginParams, OriginResult, TextOrigin
from codegen_lsp.inference.tokenizer import Tokenizer

LEAST_TOKENS = 4
"""Shorter matches occur anywhere, and are not reported."""
MOST_TOKENS = 256
"""Tokens that are compared."""
CONTEXT_CHARACTERS = 2_000
"""Text before the cursor that is compared."""
DOCUMENT_CHARACTERS = 300_000
"""Text of the document, on each side of the cursor, that is searched."""
BEFORE, AFTER = "before", "after"
"""Names of the two parts of the document in its index."""


@frozen
class _Match:
    """A match of the context that ends with a token of the suggestion."""

    path: str
    file: IndexedFile
    start: int
    """Number of the first of its tokens in the file that are part of the suggestion."""
    tokens: int
    """Tokens that agree, those before the cursor included."""
    whole: bool
    """True for the document itself."""


def find_origin(params: OriginParams, tokenizer: Tokenizer, workspace: WorkspaceCounts | None) -> OriginResult:
    """Return the place that agrees longest with a suggestion; without one where fewer than `LEAST_TOKENS` do."""
    if library() is None or not params.text or len(tokenizer.all_bytes) >= GAP:
        return OriginResult()
    ids = tokenizer.encode(params.before[-CONTEXT_CHARACTERS:] + params.text)
    suggested = _tokens_of(ids, len(params.text.encode("utf-8", "replace")), tokenizer)
    document = _document(params, tokenizer)
    best: _Match | None = None
    for counts, whole in ((document, True), (workspace, False)):
        if counts is None:
            continue
        match = _longest(ids, suggested, counts, whole=whole)
        if match is not None and (best is None or match.tokens > best.tokens):
            best = match
    if best is None or best.tokens < LEAST_TOKENS:
        return OriginResult()
    return OriginResult(_place(best, params, tokenizer))


def _tokens_of(ids: Sequence[int], size: int, tokenizer: Tokenizer) -> int:
    """Return the number of tokens at the end that hold `size` bytes."""
    count = 0
    while size > 0 and count < len(ids):
        count += 1
        size -= len(tokenizer.token_bytes(ids[-count]))
    return count


def _document(params: OriginParams, tokenizer: Tokenizer) -> WorkspaceCounts:
    """Index the document, as two files: nothing matches across the cursor."""
    index = NgramIndex([1.0] * len(ORDERS))
    parts = {BEFORE: params.before[-DOCUMENT_CHARACTERS:], AFTER: params.after[:DOCUMENT_CHARACTERS]}
    index.add((FileVersion(name, 0, len(text)), tokenizer.encode(text)) for name, text in parts.items())
    return WorkspaceCounts(index, frozenset())


def _longest(ids: Sequence[int], suggested: int, counts: WorkspaceCounts, *, whole: bool) -> _Match | None:
    """Return the longest match that ends within the last `suggested` ids, extended beyond the depth of the index."""
    best: _Match | None = None
    first = len(ids) - suggested
    for end in range(first + 1, len(ids) + 1):
        found = counts.longest_match(ids[:end], 0)
        file = counts.index.files.get(found[1].path) if found else None
        if found is None or file is None:
            continue
        tokens, at = file.tokens, found[1].index
        agreement = min(found[1].agreement, at, end)
        limit = min(at, end, MOST_TOKENS)
        while agreement < limit and tokens[at - 1 - agreement] == ids[end - 1 - agreement]:
            agreement += 1
        if best is None or agreement >= best.tokens:
            best = _Match(found[1].path, file, at - min(agreement, end - first), agreement, whole)
    return best


def _place(match: _Match, params: OriginParams, tokenizer: Tokenizer) -> TextOrigin:
    """Return the line, counted from 1, of the first text of the match that is not blank."""
    tokens = match.file.tokens.tolist()
    before = tokenizer.decode(tokens[: match.start])
    rest = tokenizer.decode(tokens[match.start :])
    line = 1 + before.count("\n") + rest[: len(rest) - len(rest.lstrip())].count("\n")
    if not match.whole:
        return TextOrigin(match.path, line, match.tokens)
    above = params.before[:-DOCUMENT_CHARACTERS] if match.path == BEFORE else params.before
    return TextOrigin("", above.count("\n") + line, match.tokens)
