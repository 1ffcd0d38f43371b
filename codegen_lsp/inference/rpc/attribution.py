"""Message bodies about the tokens of a suggestion: their probabilities, and where each comes from."""

from __future__ import annotations

from attrs import field, frozen

from codegen_lsp.inference.rpc.messages import GenerateParams, TextOrigin


@frozen
class AttributionParams:
    """A request for the probability of each token of a suggestion, and where it comes from."""

    request: GenerateParams
    """The request that the suggestion answered, whose prompt and n-grams are used again."""
    text: str
    """The suggestion, from the cursor on, line ends as LF. Further tokens than fit into the context are left out."""
    before: str
    """The document up to the cursor, line ends as LF."""
    after: str = ""
    """The document after the cursor."""
    alternatives: int = 3
    """Number of the most likely tokens to name at each place."""


@frozen
class LikelyToken:
    """A token that could be at a place of a suggestion."""

    text: str
    probability: float


@frozen
class TokenAttribution:
    """The probability of one token of a suggestion, and its sources.

    Of a token that begins with typed text, all probabilities are those among the tokens that agree with that text.
    """

    text: str
    """All of the token, with U+FFFD for a character that is spread over several tokens."""
    start: int
    end: int
    """The part of the suggestion that it adds, in code points. Both are equal if it ends within a character."""
    typed: int
    """Characters at the start of `text` that had been typed."""
    probability: float
    """With the n-grams: the sum of the three shares."""
    model_probability: float
    """Of the model alone, without n-grams."""
    from_model: float
    """Share of the model in `probability`."""
    from_document: float
    """Share of the n-grams of the document, and of other texts of the request."""
    from_workspace: float
    """Share of the n-grams of the workspace."""
    alternatives: list[LikelyToken] = field(factory=list)
    """The most likely tokens at this place, most likely first; empty with an engine that does not tell."""
    document: TextOrigin | None = None
    """Place in the document that agrees longest up to this token, which is on that line; None without one."""
    workspace: TextOrigin | None = None
    """Place in the workspace that agrees longest."""


@frozen
class AttributionResult:
    """The answer to `AttributionParams`."""

    tokens: list[TokenAttribution]
