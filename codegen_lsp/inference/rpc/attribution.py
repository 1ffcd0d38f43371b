"""Message bodies about the tokens of a suggestion: their probabilities, and where each comes from."""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

from codegen_lsp.inference.rpc.messages import GenerateParams, TextOrigin

PromptRegion = Literal["before", "after", "other", "special"]
"""Part of a prompt: the document before and after the cursor, other files, and the marks of the infill format."""
"""Part of a prompt: text before or after the cursor, or a mark of the infill format."""


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
    prompt: bool = False
    """Describe the tokens of the prompt as well."""
    attention: bool = False
    """Return what each layer and head attends to."""


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
class PromptToken:
    """A token of the prompt. Its probability is that of a suggestion in its place, after the tokens before it.

    `start` and `end` of the token are code points in the prefix or suffix of the request. The first token of a prompt
    has no probability, since nothing is before it: all of its numbers are 0.
    """

    region: PromptRegion
    line: int
    """Line of the document that its first visible character is on, from 1; 0 for a token that is not of it."""
    token: TokenAttribution


@frozen
class AttentionRecord:
    """The attention with which tokens were chosen: that of the token before each, to all tokens up to that one.

    Tokens are those of the prompt and then those of the suggestion. A weight w, of 0 to 1, is stored as the byte
    round(255 sqrt(w)), since most weights are small; the arrays are in base64.
    """

    layers: int
    heads: int
    suggestion: list[str]
    """For each token of the suggestion the weights of all tokens before it, (layers, heads, tokens before it). The last
    tokens of a long one are left out (`attention_record.MAX_BYTES`)."""
    kept: int
    """Number of tokens that are named for each layer and head of a token of the prompt."""
    prompt_tokens: str
    """The most attended tokens for each token of the prompt but the first: uint16, little-endian, (tokens of the prompt
    - 1, layers, heads, kept)."""
    prompt_weights: str
    """Their weights, in the same shape; 0 where there are fewer tokens."""


@frozen
class AttributionResult:
    """The answer to `AttributionParams`."""

    tokens: list[TokenAttribution]
    prompt: list[PromptToken] = field(factory=list)
    """All tokens of the prompt, if they were asked for."""
    attention: AttentionRecord | None = None
    """None if it was not asked for."""
