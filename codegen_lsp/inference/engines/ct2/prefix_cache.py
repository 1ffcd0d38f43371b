"""Record of the prompt prefixes whose keys and values CTranslate2 has cached (`static_prompt`).

CTranslate2 finds a cached state only by exact equality, copies it whole on each hit, and frees none before the model is
unloaded. Hence the policy: cache few prefixes, cut at the start of a line so that edits within the current line keep
them valid; cache another one only when much of the prompt is not covered; drop all of them when the budget is used up.
"""

from __future__ import annotations

from attrs import define, field

LINE_TAIL = 64
"""Tokens at the end of a prompt that are searched for the start of its last line."""


@define
class PrefixCache:
    """The cached prefixes, as token ids."""

    limit: int
    """Bytes that the keys and values of all prefixes may take."""
    token_bytes: int
    """Bytes of one token's keys and values."""
    _prefixes: list[list[int]] = field(factory=list)

    @property
    def bytes(self) -> int:
        """Memory of all cached keys and values."""
        return sum(map(len, self._prefixes)) * self.token_bytes

    def covered(self, prompt: list[int]) -> int:
        """Return the length of the longest cached prefix that is a proper prefix of the prompt; 0 without one."""
        lengths = [len(ids) for ids in self._prefixes if len(ids) < len(prompt) and prompt[: len(ids)] == ids]
        return max(lengths, default=0)

    def add(self, ids: list[int]) -> None:
        """Record a prefix that CTranslate2 caches from now on."""
        self._prefixes.append(ids)

    def clear(self) -> bool:
        """Forget all prefixes. Return whether there were any."""
        had_any = bool(self._prefixes)
        self._prefixes.clear()
        return had_any

    def fits(self, tokens: int) -> bool:
        """Return whether a prefix of this length fits beside the cached ones."""
        return self.bytes + tokens * self.token_bytes <= self.limit

    def fits_alone(self, tokens: int) -> bool:
        """Return whether a prefix of this length fits in an empty cache."""
        return tokens * self.token_bytes <= self.limit


def cut_position(prompt: list[int], token_bytes: list[bytes]) -> int:
    """Return how many tokens of a prompt to cache: up to its last line break, else all but the last token.

    `token_bytes` are the bytes of each token, by id.
    """
    end = len(prompt) - 1
    for at in range(end, max(0, end - LINE_TAIL), -1):
        if b"\n" in token_bytes[prompt[at - 1]]:
            return at
    return end
