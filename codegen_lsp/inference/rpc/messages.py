"""What the language server and the inference worker say to each other.

Both processes import these classes, so the wire format (JSON-RPC, one attrs class per message body) is stated once.
Text goes in and text comes out: only the worker knows how text becomes tokens.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

Finish = Literal["stop", "length", "end", "unlikely"]
"""Why a candidate ended: a stop rule, the token limit, the model's own end-of-text token, or `threshold`."""


@frozen
class LoadParams:
    """Which build to run, and how."""

    build: str
    """Directory of the build."""
    engine: str = "auto"
    """`auto` or the name of an engine."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    compute_type: str = "auto"
    """A CTranslate2 compute type; `auto` takes the fastest int8 type of the device."""
    threads: int = 0
    """Threads of one generation; 0 takes the number of physical cores this process may use, at most 8."""
    cache_memory_mb: int | None = None
    """Memory in MiB that cached prefixes may take, beside the weights; 0 caches nothing, None suits the model."""
    ngrams: str = "auto"
    """Whether the document's n-grams are mixed into the model's probabilities: `on`, `off`, or `auto` for where it
    pays."""
    shared: bool = False
    """Whether the worker may be one that other servers of this user use, too, with the same build and the rest of
    this."""


@frozen
class HandshakeParams:
    """The first message of a server to a shared worker."""

    digest: str
    """Digest of everything that must be equal on both sides (`client.shared_worker.digest_of`)."""


@frozen
class HandshakeResult:
    """The answer to `HandshakeParams`."""

    pid: int
    clients: int
    """Number of connected servers, this one included."""
    socket_inode: int
    """Inode of the socket that the worker listens on."""


@frozen
class ClientCount:
    """Notification to all servers when one connects or disconnects."""

    clients: int


@frozen
class ModelDescription:
    """The model that the worker has loaded."""

    name: str
    family: str
    engine: str
    device: str
    compute_type: str
    threads: int
    context_length: int
    """Tokens, prompt and answer together."""
    infill: bool
    """Whether text after the cursor can be part of the prompt."""
    languages: list[str]
    """LSP language identifiers the model was trained on."""
    characters_per_token: float
    """Mean length of a token of source code in characters, measured with this model's tokenizer."""
    load_seconds: float
    prefill_tokens_per_second: float | None = None
    """How fast it reads a prompt, measured when it was loaded; None when it was not."""
    ngrams: bool = False
    """Whether n-grams of the document and of related texts are mixed into its probabilities."""
    parameters: int | None = None
    """About how many it has."""
    small: bool = False
    """Whether it has fewer than `build.SMALL_MODEL_PARAMETERS`, which decides settings that are `auto`."""


@frozen
class StopRules:
    """When to end a candidate. Checked after each token on the text generated so far; the text is cut at the rule.

    The rules speak of text alone, so that the worker needs to know nothing of languages.
    """

    max_tokens: int = 64
    max_lines: int = 1
    """Line breaks allowed plus one: with 1 the text ends before the first line break that follows any text."""
    strings: list[str] = field(factory=list)
    """The text ends before the first of these."""
    min_indent: int | None = None
    """The text ends before a later line that is not blank and is indented by fewer columns than this (tabs reach to
    the next multiple of 8). None: no such rule."""
    openers: list[str] = field(factory=list)
    """A first line that ends with one of these (blanks aside) begins a block: the text may have `opened_lines` lines
    then, the later ones indented by `opened_indent` columns at least. Only where `max_lines` is 1."""
    opened_lines: int = 1
    opened_indent: int = 0
    threshold: float = 0.0
    """The text ends with the token at which the probability of all of it falls below this."""


@frozen
class GenerateParams:
    """A request for one or more continuations of `prefix`."""

    document: str
    """Key of the requester: a newer request with the same key replaces an older one."""
    prefix: str
    """Text up to the cursor, line ends as LF. Cut at its start by the worker when it does not fit."""
    suffix: str = ""
    """Text after the cursor: part of the prompt for a model that infills, for n-gram mixing with any."""
    stop: StopRules = field(factory=StopRules)
    candidates: int = 1
    """How many different continuations are wanted at most."""
    temperature: float = 0.0
    """0 decodes greedily (several candidates then differ in their first new token); above 0 samples."""
    top_p: float = 0.95
    seed: int | None = None
    heal: bool = True
    """Whether the last token of the prompt may be taken back and chosen again together with what follows."""
    background: bool = False
    """Nobody waits for the answer yet, as for what follows a suggestion that may be accepted. It runs only while
    nothing else does, and is given up as replaced, within one token or chunk, for any other request; what was computed
    stays in the cache. Whoever needs the answer after all asks again without this, or awaits the request that runs."""
    related: list[str] = field(factory=list)
    """Texts that the answer may repeat something of, and that are not in the prompt: the rest of a long document,
    other files. For n-gram mixing and drafts alone. Their tokens are kept from request to request, so better the
    same few than ever new ones."""


@frozen
class Candidate:
    """One continuation."""

    text: str
    """Continuation of the prefix, line ends as LF."""
    tokens: int
    log_probability: float
    """Mean over the tokens, in nats."""
    finish: Finish
    steps: list[tuple[int, float]] = field(factory=list)
    """For each token, where in `text` it ends, in code points, and its log-probability in nats. Tokens that hold what
    had been typed already are certain: 0."""


@frozen
class GenerationStats:
    """What a request cost."""

    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose state came from the cache."""
    generated_tokens: int
    """Over all candidates, those cut away by stop rules included."""
    queue_seconds: float
    first_token_seconds: float
    """From the start of the computation to the first token."""
    total_seconds: float
    """From the start of the computation to the last token."""
    drafted_tokens: int = 0
    """Guessed ahead and checked by the model."""
    accepted_tokens: int = 0
    """Those of them that were right."""


@frozen
class GenerateResult:
    """The answer to `GenerateParams`."""

    candidates: list[Candidate]
    """Best first; all different; empty when nothing could be generated."""
    stats: GenerationStats


@frozen
class WarmParams:
    """A prompt that is likely to be extended soon: the worker may cache its state while idle."""

    document: str
    prefix: str
    suffix: str = ""


@frozen
class ScoredText:
    """A text whose likelihood is wanted, given what stands before it."""

    before: str
    text: str
    """Not empty, line ends as LF."""


@frozen
class ScoreParams:
    """A request for the likelihood of texts. A newer one with the same `document` replaces it."""

    document: str
    texts: list[ScoredText]


@frozen
class Score:
    """How likely a text is."""

    log_probability: float
    """Sum over the tokens, in nats; a token that begins before the text counts whole."""
    tokens: int


@frozen
class ScoreResult:
    """The answer to `ScoreParams`, in its order."""

    scores: list[Score]


@frozen
class LoadProgress:
    """Sent while a model loads."""

    message: str
    fraction: float
    """0 to 1."""


@frozen
class Rates:
    """Measured speed of the loaded model on this machine."""

    prefill_tokens_per_second: float
    prefill_tokens: int
    """Length of the prompt it was measured with."""
    decode_tokens_per_second: float
    resident_mb: float
    """Memory of the worker process in MiB."""
