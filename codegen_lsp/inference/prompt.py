"""A prompt in tokens."""

from __future__ import annotations

from attrs import frozen


@frozen
class Prompt:
    """Token ids, and the bytes at the end of the text that the answer must begin with."""

    ids: list[int]
    forced: bytes
    before: range
    """Numbers of the ids of the text before the cursor."""
    after: range = range(0)
    """Numbers of the ids of the text after the cursor."""
