"""The tokens of a prompt: which part of the document each stands for, and on which line."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from attrs import evolve

from codegen_lsp.inference.attribution import TokenShares, attributions
from codegen_lsp.inference.prompt import Prompt
from codegen_lsp.inference.rpc.attribution import AttributionParams, PromptRegion, PromptToken
from codegen_lsp.inference.tokenizer import Tokenizer


def described_prompt(
    params: AttributionParams, tokenizer: Tokenizer, prompt: Prompt, shares: Sequence[TokenShares]
) -> list[PromptToken]:
    """Return the tokens of a prompt with their parts of the document, without places of other texts."""
    request = params.request
    typed = len(prompt.forced.decode("utf-8", "ignore"))
    before, after = (
        list(_spans(tokenizer, [prompt.ids[at] for at in places])) for places in (prompt.before, prompt.after)
    )
    skipped = len(request.prefix) - typed - (before[-1][1] if before else 0)
    first_line = 1 + params.before[: max(0, len(params.before) - len(request.prefix))].count("\n")
    lines = {
        "before": _RegionLines(request.prefix, first_line),
        "after": _RegionLines(request.suffix, 1 + params.before.count("\n") + _lines_to_suffix(params)),
    }
    spans: dict[int, tuple[PromptRegion, int, int]] = {
        **{
            at: ("before", start + skipped, end + skipped)
            for at, (start, end) in zip(prompt.before, before, strict=True)
        },
        **{at: ("after", start, end) for at, (start, end) in zip(prompt.after, after, strict=True)},
        **dict.fromkeys(prompt.files, ("other", 0, 0)),
    }
    found = []
    for at, token in enumerate(attributions(tokenizer, prompt.ids, shares, b"")):
        region, start, end = spans.get(at, ("special", 0, 0))
        line = lines[region].of(start, end) if region in lines else 0
        found.append(PromptToken(region, line, evolve(token, start=start, end=end)))
    return found


class _RegionLines:
    """Line numbers in a part of a document."""

    def __init__(self, text: str, first: int) -> None:
        self._text = text
        self._first = first
        self._starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))[1:]

    def of(self, start: int, end: int) -> int:
        """Return the line of the first visible character of a span; where it has none, that of its start."""
        piece = self._text[start:end]
        start += len(piece) - len(piece.lstrip()) if piece.strip() else 0
        return self._first + bisect_right(self._starts, start)


def _spans(tokenizer: Tokenizer, ids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the part of the text that each id adds, in code points; empty where it ends within a character."""
    decoder, end = codecs.getincrementaldecoder("utf-8")("replace"), 0
    for id in ids:
        start, end = end, end + len(decoder.decode(tokenizer.token_bytes(id)))
        yield start, end


def _lines_to_suffix(params: AttributionParams) -> int:
    """Return how many lines after the cursor's the suffix begins. It may leave out the rest of the cursor's line."""
    at = max(0, params.after.find(params.request.suffix))
    return params.after[:at].count("\n")
