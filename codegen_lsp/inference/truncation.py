"""Truncation of generated text before patterns, as transformers' tokenizer of CodeGen does it.

Where patterns are given, a text is also cut before its second line that begins with `print` and its second one that
begins with `def`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from codegen_lsp.errors import ModelError


@frozen
class Truncation:
    """Patterns before which a text ends."""

    patterns: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Truncation:
        """Compile patterns, in which `^` and `$` match at each line. Raises: ModelError for one that is none."""
        try:
            return cls(tuple(re.compile(pattern, re.MULTILINE) for pattern in patterns))
        except (re.error, RecursionError, OverflowError) as error:
            raise ModelError(f"A pattern is no regular expression: {error}.", "See Python's module `re`.") from error

    def apply(self, text: str) -> str:
        """Return the text up to the first place where it is cut."""
        if not self.patterns:
            return text
        for word in ("print", "def"):
            places = [found.start() for found in re.finditer(f"^{word}", text, re.MULTILINE)]
            text = text[: places[1]] if len(places) > 1 else text
        starts = [found.start() for pattern in self.patterns if (found := pattern.search(text))]
        return text[: min(starts)] if starts else text

    def cuts(self, text: str) -> bool:
        """Return whether the text is cut."""
        return len(self.apply(text)) < len(text)

    def safe(self, text: str) -> str:
        """Return the beginning of a text in progress that is kept whatever follows, for common patterns.

        A pattern may begin with line breaks, and with the line that is not complete; so both are held back.
        """
        kept = self.apply(text)
        if not self.patterns or len(kept) < len(text):
            return kept
        return kept[: max(0, kept.rfind("\n"))].rstrip("\n")
