"""Requests and answers of the HTTP server, in no particular dialect.

A dialect turns the body of a request into a `CompletionRequest`, and a `Completed` or a series of `Piece` into the body
of its answer.
"""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from codegen_lsp.completion.snapshot import Refusal
from codegen_lsp.inference.rpc.messages import GenerationStats, ModelDescription

FinishReason = Literal["stop", "length", "end"]
"""Reason why a text ended: a stop rule or stop string, the limit of tokens, or the end that the model chose."""


@frozen
class ExtraText:
    """Text of another file, or of another place in the same one."""

    text: str
    filename: str = ""


@frozen(kw_only=True)
class CompletionRequest:
    """A text to continue."""

    prefix: str
    """Text before the cursor."""
    suffix: str = ""
    """Text after the cursor."""
    extra: tuple[ExtraText, ...] = ()
    filename: str = ""
    """Name of the document, from which its language follows; empty if the client does not tell."""
    language: str = ""
    """LSP language identifier; empty to find it out."""
    infill: bool = False
    """True for an editor's request: prefix and suffix are a document with a cursor, and the answer is what an editor
    would show there. False for the model's own continuation of `prefix`."""
    candidates: int = 1
    """Limit of different answers."""
    max_tokens: int | None = None
    """Limit of the tokens of each answer; None for the server's own limit. 0 generates nothing."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    end_marks: tuple[str, ...] = ()
    """Marks of the prompt's format, before which the text ends, too (`http.mark_filter`)."""
    max_lines: int | None = None
    min_indent: int | None = None
    """The text ends before a line, other than the first, that is indented by fewer columns."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """Sample from this many most likely tokens; 0 for all."""
    seed: int | None = None
    """Seed of sampling; None draws one."""
    top_logprobs: int | None = None
    """Report the tokens of the answers, each with this many of the most likely ones; None reports no tokens."""
    deadline_seconds: float | None = None
    """The text ends at the first token after this time, but not within the first line."""
    user: str = ""
    """Key of the user, among whom the model's time is divided fairly; empty for one who is not known."""


@frozen
class AlternativeToken:
    """A token that the model might have chosen."""

    id: int
    text: str
    """Its bytes as text, with U+FFFD for parts of characters."""
    data: bytes
    log_probability: float
    """In nats."""


@frozen
class TokenPiece:
    """A token of an answer."""

    id: int
    text: str
    """What the token adds to the text; empty for the first part of a character."""
    data: bytes
    log_probability: float
    """In nats; 0 for a token of text that was given."""
    alternatives: tuple[AlternativeToken, ...] = ()
    """Most likely first."""


@frozen
class CompletedText:
    """One answer."""

    text: str
    """Line ends as LF."""
    finish: FinishReason
    tokens: int = 0
    """Number of generated tokens."""
    log_probability: float = 0.0
    """Mean over the tokens, in nats."""
    stopped_by: str = ""
    """The stop string of the request that ended the text; empty if another reason did."""
    pieces: tuple[TokenPiece, ...] = ()
    """The tokens; empty unless `top_logprobs` was given, and for requests for infilling."""


@frozen
class Completed:
    """The answers to a request, best first; `texts` is empty where nothing is shown."""

    texts: tuple[CompletedText, ...]
    model: ModelDescription
    stats: GenerationStats | None = None
    """None if the model was not asked."""
    refusal: Refusal | None = None
    """Why nothing is shown."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return self.stats.prompt_tokens if self.stats else 0

    @property
    def generated_tokens(self) -> int:
        """Tokens of all answers, including those that were cut away."""
        return self.stats.generated_tokens if self.stats else 0


@frozen
class Piece:
    """A part of one answer, as it is generated."""

    candidate: int
    text: str
    """The next part of the text; may be empty."""
    tokens: tuple[TokenPiece, ...] = ()
    """The tokens that the part is of; empty for the text of an editor's request, which is shaped as a whole."""
    finished: CompletedText | None = None
    """The whole answer, in its last piece."""
    completed: Completed | None = None
    """All answers, in the last piece of the series."""
