"""Where a suggestion comes from: the place in the document or its workspace that agrees with it longest.

Each token of the suggestion ends a context, of the tokens before it and the text before the cursor. The longest context
that occurs elsewhere, ending within the suggestion, is the longest match. Of several, the last one is taken, which
covers most of the suggestion, and the document's before the workspace's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from codegen_lsp.inference.engines.native.ngram_index import FileVersion, IndexedFile, NgramIndex, WorkspaceCounts
from codegen_lsp.inference.engines.native.ngram_segment import GAP, ORDERS, Tokens, library
from codegen_lsp.inference.rpc.attribution import AttributionParams, AttributionResult
from codegen_lsp.inference.rpc.messages import (
    OriginParams,
    OriginResult,
    TextOrigin,
)
from codegen_lsp.inference.tokenizer import Tokenizer

LEAST_TOKENS = 4
"""Shorter matches occur anywhere, and are not reported."""
LEAST_TOKENS_OF_TOKEN = 2
"""The same for one token of a suggestion: it and the one before."""
EXCERPT_TOKENS, EXCERPT_CHARACTERS = 60, 160
"""Length of a line that is shown: tokens on each side of a place, and characters."""
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
    stop: int
    """Number of the token after the match."""
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


def _document(params: OriginParams | AttributionParams, tokenizer: Tokenizer, typed: str = "") -> WorkspaceCounts:
    """Index the document but for the typed text, as two files: nothing matches across the cursor."""
    index = NgramIndex([1.0] * len(ORDERS))
    parts = {
        BEFORE: params.before[-DOCUMENT_CHARACTERS:].removesuffix(typed),
        AFTER: params.after[:DOCUMENT_CHARACTERS],
    }
    index.add((FileVersion(name, 0, len(text)), tokenizer.encode(text)) for name, text in parts.items())
    return WorkspaceCounts(index, frozenset())


def _longest(ids: Sequence[int], suggested: int, counts: WorkspaceCounts, *, whole: bool) -> _Match | None:
    """Return the longest match that ends within the last `suggested` ids."""
    best: _Match | None = None
    first = len(ids) - suggested
    for end in range(first + 1, len(ids) + 1):
        match = _match_at(ids, first, end, counts, whole=whole)
        if match is not None and (best is None or match.tokens >= best.tokens):
            best = match
    return best


def _match_at(ids: Sequence[int], first: int, end: int, counts: WorkspaceCounts, *, whole: bool) -> _Match | None:
    """Return the longest match of the ids up to `end`, extended beyond the depth of the index.

    The suggestion begins with the id of number `first`.
    """
    found = counts.longest_match(ids[:end], 0)
    file = counts.index.files.get(found[1].path) if found else None
    if found is None or file is None:
        return None
    tokens, at = file.tokens, found[1].index
    agreement = min(found[1].agreement, at, end)
    limit = min(at, end, MOST_TOKENS)
    while agreement < limit and tokens[at - 1 - agreement] == ids[end - 1 - agreement]:
        agreement += 1
    return _Match(found[1].path, file, at - min(agreement, end - first), at, agreement, whole)


def _place(match: _Match, params: OriginParams, tokenizer: Tokenizer) -> TextOrigin:
    """Return the line, counted from 1, of the first text of the match that is not blank."""
    tokens = match.file.tokens.tolist()
    rest = tokenizer.decode(tokens[match.start :])
    line = 1 + tokenizer.decode(tokens[: match.start]).count("\n") + rest[: len(rest) - len(rest.lstrip())].count("\n")
    return _origin(match, line, "", params.before)


def _origin(match: _Match, line: int, excerpt: str, before: str) -> TextOrigin:
    """Return a place by its line in the file, or in its part of the document."""
    if not match.whole:
        return TextOrigin(match.path, line, match.tokens, excerpt)
    above = before[:-DOCUMENT_CHARACTERS] if match.path == BEFORE else before
    return TextOrigin("", above.count("\n") + line, match.tokens, excerpt)


def with_places(
    params: AttributionParams, result: AttributionResult, tokenizer: Tokenizer, workspace: WorkspaceCounts | None
) -> AttributionResult:
    """Add to each token the places in the document and in the workspace that agree longest up to it.

    A place has the line of the token itself. Where only the token agrees, there is none. The typed text that the first
    tokens hold is no part of the document here: they would agree with themselves.
    """
    if library() is None or not result.tokens or len(tokenizer.all_bytes) >= GAP:
        return result
    context, typed = params.request.prefix[-CONTEXT_CHARACTERS:], b""
    if params.request.heal:
        ids, typed = tokenizer.split_for_healing(context)
    else:
        ids = tokenizer.encode(context)
    first = len(ids)
    ids += tokenizer.encode(typed.decode("utf-8", "replace") + params.text)
    document = _document(params, tokenizer, typed.decode("utf-8", "replace"))
    lines = _TokenLines(tokenizer)

    def place(end: int, counts: WorkspaceCounts | None, *, whole: bool) -> TextOrigin | None:
        match = _match_at(ids, first, end, counts, whole=whole) if counts is not None else None
        if match is None or match.tokens < LEAST_TOKENS_OF_TOKEN:
            return None
        return _origin(match, *lines.at(match.file.tokens, match.stop - 1), params.before)

    ends = range(first + 1, first + 1 + len(result.tokens))
    tokens = [
        evolve(token, document=place(end, document, whole=True), workspace=place(end, workspace, whole=False))
        for token, end in zip(result.tokens, ends, strict=True)
    ]
    return evolve(result, tokens=tokens)


def with_prompt_places(
    result: AttributionResult, ids: Sequence[int], tokenizer: Tokenizer, workspace: WorkspaceCounts | None
) -> AttributionResult:
    """Add to each token of the prompt, whose ids are given, the places before it that agree longest up to it.

    In the document that is the last such place among the tokens of the prompt before it.
    """
    if not result.prompt:
        return result
    excerpts = _TokenLines(tokenizer)
    placed = []
    for at, (one, (length, last)) in enumerate(
        zip(result.prompt, earlier_matches(ids, tokenizer.special_ids), strict=True)
    ):
        document = found = None
        in_document = one.region in ("before", "after")
        if length >= LEAST_TOKENS_OF_TOKEN and in_document and result.prompt[last].line:
            _, excerpt = excerpts.at(np.asarray(ids), last)
            document = TextOrigin("", result.prompt[last].line, length, excerpt)
        if workspace is not None and library() is not None and in_document:
            match = _match_at(ids, at, at + 1, workspace, whole=False)
            if match is not None and match.tokens >= LEAST_TOKENS_OF_TOKEN:
                found = _origin(match, *excerpts.at(match.file.tokens, match.stop - 1), "")
        placed.append(evolve(one, token=evolve(one.token, document=document, workspace=found)))
    return evolve(result, prompt=placed)


def earlier_matches(ids: Sequence[int], gaps: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield for each id the length of the longest run of ids up to it that occurs earlier, and the number of its last.

    Of several, the last one is taken. An id of `gaps` agrees with none. (0, 0) where none agrees.
    """
    text = np.asarray(ids, dtype=np.int64)
    lengths: NDArray[np.int32] = np.zeros(len(text), dtype=np.int32)
    for at, id in enumerate(ids):
        # Up to an earlier place agree one more than up to the place before it, if it has the same id.
        lengths[1:at] = lengths[: max(0, at - 1)] + 1
        lengths[:1] = 1
        lengths[:at] *= (text[:at] == id) & (id not in gaps)
        lengths[at:] = 0
        if not at or not (longest := int(lengths[:at].max())):
            yield 0, 0
            continue
        yield longest, at - 1 - int((lengths[:at][::-1] == longest).argmax())


class _TokenLines:
    """Lines of the texts that tokens stand for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._breaks = np.array([piece.count(b"\n") for piece in tokenizer.all_bytes], np.uint8)

    def at(self, tokens: Tokens, index: int) -> tuple[int, str]:
        """Return the line, counted from 1, of a token's first character that is not blank, and the text of the line.

        A blank token is on the line that it begins on.
        """
        piece = self._tokenizer.decode(tokens[index : index + 1].tolist())
        leading = piece[: len(piece) - len(piece.lstrip())].count("\n") if piece.strip() else 0
        line = 1 + int(self._breaks[tokens[:index]].sum()) + leading
        start = max(0, index - EXCERPT_TOKENS)
        before = self._tokenizer.decode(tokens[start:index].tolist()) + piece
        after = self._tokenizer.decode(tokens[index + 1 : index + 1 + EXCERPT_TOKENS].tolist())
        number = before.count("\n") - piece.count("\n") + leading
        return line, (before + after).split("\n")[number].strip()[:EXCERPT_CHARACTERS]
