"""Message bodies about the model's tokens, for clients that count or send them; beside `messages`."""

from __future__ import annotations

from attrs import frozen


@frozen
class TokenizeParams:
    """A request for the tokens of a text."""

    text: str


@frozen
class TokenizedText:
    """The answer to `TokenizeParams`: token ids, and the bytes of each."""

    ids: list[int]
    data: list[list[int]]


@frozen
class DetokenizeParams:
    """A request for the text of tokens. Ids that the model lacks stand for nothing."""

    ids: list[int]


@frozen
class DetokenizedText:
    """The answer to `DetokenizeParams`; what is not UTF-8 becomes U+FFFD."""

    text: str
