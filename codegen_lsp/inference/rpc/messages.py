"""Message bodies of the JSON-RPC between the language server and the inference worker, one attrs class each.

Both processes import these classes, so the wire format is stated once. Requests and results hold text; only the worker
knows tokens.
"""

from __future__ import annotations

from typing import Literal

from attrs import field, frozen

Finish = Literal["stop", "length", "end", "unlikely"]
"""Reason why a candidate ended: a stop rule, the token limit, the model's end-of-text token, or `threshold`."""


@frozen
class LoadParams:
    """A request to load a build: its path, and how to run it."""

    build: str
    """Directory of the build."""
    engine: str = "auto"
    """`auto` or the name of an engine."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    compute_type: str = "auto"
    """A CTranslate2 compute type; `auto` is the fastest int8 type of the device."""
    threads: int = 0
    """Threads of one generation; 0 means the number of physical cores that this process may use, at most 8."""
    cache_memory_mb: int | None = None
    """Size limit of the KV cache in MiB, beside the weights; 0 caches nothing, None means a default for the model."""
    cached_prompts: int = 0
    """Prompts of the full context that the KV cache holds at least by default, if a quarter of the memory suffices."""
    ngrams: str = "auto"
    """Mixing of n-grams into the model's probabilities: `on`, `off`, or `auto`, which uses little of them for large
    models without fitted weights (`engines.native.mixing_file`)."""
    slots: int = 0
    """Requests that are computed together, where the engine can; 0 means as many as it does best."""
    shared: bool = False
    """True if other servers of this user with equal parameters may use the same worker."""


@frozen
class ModelDescription:
    """The loaded model: the answer to `LoadParams`."""

    name: str
    """Name of the build."""
    family: str
    """`codegen`, `codegen2`, `codegen25`, `llama`, `qwen2` or `gpt_bigcode`."""
    engine: str
    """Name of the engine in use, never `auto`."""
    device: str
    """`cpu` or `cuda`."""
    compute_type: str
    """Arithmetic in use, never `auto`."""
    threads: int
    """Threads of one generation."""
    context_length: int
    """Tokens of prompt and answer together."""
    infill: bool
    """True if text after the cursor can be part of the prompt."""
    languages: list[str]
    """LSP language identifiers of the languages that the model was trained on."""
    characters_per_token: float
    """Mean length of a token of source code in characters, measured with this model's tokenizer."""
    load_seconds: float
    prefill_tokens_per_second: float | None = None
    """Prefill speed, measured while loading; None when it was not measured."""
    ngrams: bool = False
    """True if n-grams are mixed into the probabilities."""
    parameters: int | None = None
    """Number of parameters, approximately."""
    small: bool = False
    """True for fewer parameters than `build.SMALL_MODEL_PARAMETERS`, which decides settings that are `auto`."""
    remote: bool = False
    """True if it runs on another server, which has no index of the workspace."""
    slots: int = 1
    """Requests that are computed together; more wait."""
    engine_note: str = ""
    """Why the faster engine does not run it; empty where that was not tried."""
    takes_files: bool = False
    """True if its format has marks for several files in one prompt."""


@frozen
class StopRules:
    """Conditions that end a candidate, checked after each token on the text so far, which is cut where one applies.

    They concern text alone, so the worker needs no knowledge of languages.
    """

    max_tokens: int = 64
    """Limit of generated tokens."""
    max_lines: int = 1
    """Line breaks allowed plus one: with 1 the text ends before the first line break that follows any text."""
    strings: list[str] = field(factory=list)
    """The text ends before the first of these."""
    line_starts: list[tuple[str, int]] = field(factory=list)
    """Each a string and a number n: the text ends before the n-th line that begins with the string. The first line
    counts."""
    min_indent: int | None = None
    """The text ends before a later line that is not blank and is indented by fewer columns than this (tabs reach to
    the next multiple of 8). None: no such rule."""
    openers: list[str] = field(factory=list)
    """A first line that ends with one of these (blanks aside) begins a block: the text may then have `opened_lines`
    lines, the later ones indented by at least `opened_indent` columns. Only where `max_lines` is 1."""
    opened_lines: int = 1
    """Limit of lines after an opener."""
    opened_indent: int = 0
    """Columns."""
    threshold: float = 0.0
    """The text ends with the token at which the product of all token probabilities falls below this."""


@frozen
class RelatedFile:
    """Text of another file, for the prompt."""

    path: str
    """From the workspace's folder, with slashes."""
    text: str
    """Line ends as LF."""


@frozen
class RelatedFiles:
    """Other files with which a prompt begins, for a model whose format has marks for them (`build.FileMarks`)."""

    repository: str
    """Name of the workspace's folder."""
    path: str
    """The document, as in `RelatedFile`."""
    files: list[RelatedFile]


@frozen
class GenerateParams:
    """A request for one or more continuations of `prefix`."""

    document: str
    """Key of the request: a newer request with the same key supersedes an older one."""
    prefix: str
    """Text up to the cursor, line ends as LF. The worker cuts its start when it exceeds the context."""
    suffix: str = ""
    """Text after the cursor: part of the prompt of a model that infills, and a source of n-grams for any model."""
    stop: StopRules = field(factory=StopRules)
    candidates: int = 1
    """Limit of different continuations."""
    temperature: float = 0.0
    """0 decodes greedily (several candidates then differ in their first new token); above 0 samples."""
    top_p: float = 0.95
    """Probability mass of nucleus sampling."""
    top_k: int = 0
    """Sample from this many most likely tokens; 0 for all."""
    seed: int | None = None
    """Seed of sampling; None draws one."""
    heal: bool = True
    """Token healing: the last token of the prompt may be chosen anew together with the continuation."""
    background: bool = False
    """True for a prefetch, as for the text after a suggestion that may be accepted. It runs only while no other
    request does, and any other request supersedes it within one token or chunk of the prompt; its computed prefix stays
    in the KV cache. A caller that needs the result after all asks again without this, or awaits the running request."""
    workspace: str = ""
    """Key of the workspace whose n-gram index is mixed in; empty for none."""
    excluded_files: list[str] = field(factory=list)
    """Files of the workspace that are not counted: the document itself, whose text is in this request."""
    related: list[str] = field(factory=list)
    """Texts that are not in the prompt and parts of which the answer may repeat: the rest of a long document, other
    files. Used for n-gram mixing and speculative drafts only. Their tokens are cached between requests, so a few that
    stay the same are better than new ones each time."""
    deadline_seconds: float | None = None
    """A candidate ends with the first token later than this after the first one, if its text has a line break (as
    `t_max_predict_ms` of llama.cpp's server)."""
    top_logprobs: int | None = None
    """Report the tokens of each candidate, each with this many of the tokens that were most likely; None reports no
    tokens."""
    distinct: bool = True
    """Return candidates of different texts only, most likely first; otherwise all, in the order of their numbers."""
    stream: str = ""
    """Key of the notifications (`StreamedText`) with the text as it is generated; empty for none."""
    user: str = ""
    """Key of the user among those of the client. Users take turns, and the requests of one are answered in the order in
    which they come; those without a user, of an editor, newest first."""
    snippets: list[str] = field(factory=list)
    """Texts of other files of the workspace, used like `related`, but only where the index of the workspace is not."""
    files: RelatedFiles | None = None
    """Other files in the prompt. For a model without marks for them, they are further `related` texts. A change of them
    makes the whole prompt new to the KV cache."""
    reuse: bool = True
    """Begin from what the KV cache holds of the prompt, and leave the prompt there. Without it, the result for a seed
    does not depend on earlier or simultaneous requests."""


@frozen
class WorkspaceFile:
    """A file of a workspace, for its n-gram index."""

    path: str
    """Key of the file, from the workspace's folder."""
    text: str
    """Line ends as LF."""
    modified: int
    """Modification time in nanoseconds."""
    size: int
    """Bytes."""


@frozen
class IndexUpdate:
    """Files of a workspace that were added, changed or removed. One without files asks how many are pending."""

    workspace: str
    """Key of the workspace: its folder and the language of its files."""
    files: list[WorkspaceFile] = field(factory=list)
    removed: list[str] = field(factory=list)
    max_tokens: int = 5_000_000
    """Limit of the index; files beyond it count as empty."""
    kept: bool = True
    """Keep the index on disk. Only the first message about a workspace decides."""


@frozen
class IndexStateParams:
    """A request for the state of a workspace's n-gram index."""

    workspace: str
    kept: bool = True
    """Keep the index on disk, as in `IndexUpdate`. Only the first message about a workspace decides."""
    first: int = 0
    """Number of the first file to name. One answer names some thousand files; ask again until it names none."""


@frozen
class IndexState:
    """The answer to `IndexStateParams`."""

    available: bool = True
    """False where the engine or the machine has no index."""
    files: dict[str, list[int]] = field(factory=dict)
    """Modification time in nanoseconds and size in bytes of some of the indexed files. If the index changes between two
    requests, a file may be missing or named twice."""
    tokens: int = 0
    memory_bytes: int = 0
    pending: int = 0
    """Files that were sent and are not indexed yet."""


@frozen
class OriginParams:
    """A request for the place that a suggestion's longest match comes from."""

    before: str
    """The document up to the cursor, line ends as LF."""
    text: str
    """The suggestion."""
    after: str = ""
    """The document after the cursor."""
    workspace: str = ""
    """Key of the workspace whose files are searched beside the document; empty for none."""
    excluded_files: list[str] = field(factory=list)
    """Files of the workspace that are not searched: the document itself."""


@frozen
class TextOrigin:
    """A place in the document or the workspace."""

    path: str
    """Key of the file, from the workspace's folder; empty for the document itself."""
    line: int
    """Line in which the matching part of the suggestion begins, from 1."""
    tokens: int
    """Tokens that agree, those before the cursor included."""
    excerpt: str = ""
    """The line, where it is asked for, cut at both ends if it is long."""


@frozen
class OriginResult:
    """The answer to `OriginParams`: None where nothing agrees that is long enough to tell."""

    origin: TextOrigin | None = None


@frozen
class TokenAlternative:
    """A token that was among the most likely ones."""

    id: int
    text: str
    """Its bytes as text, with U+FFFD for parts of characters."""
    data: list[int]
    """Its bytes."""
    log_probability: float
    """In nats."""


@frozen
class GeneratedToken:
    """A token of a candidate."""

    id: int
    text: str
    """What it adds to the text; empty for the first part of a character, and for text that had been typed."""
    data: list[int]
    """Its bytes."""
    log_probability: float
    """In nats; 0 for a token of text that had already been typed."""
    alternatives: list[TokenAlternative] = field(factory=list)
    """The most likely tokens, most likely first."""


@frozen
class StreamedText:
    """Notification: the next part of the text of a candidate. The result of the request follows the last one.

    Text that a stop rule may still cut away is held back; the result has it.
    """

    stream: str
    candidate: int
    """Number of the candidate."""
    text: str
    """May be empty if there are tokens."""
    tokens: list[GeneratedToken] = field(factory=list)
    """The tokens since the last notification, if the request asks for them."""


@frozen
class Candidate:
    """One continuation."""

    text: str
    """Continuation of the prefix, line ends as LF."""
    tokens: int
    """Number of generated tokens."""
    log_probability: float
    """Mean over the tokens, in nats."""
    finish: Finish
    steps: list[tuple[int, float]] = field(factory=list)
    """End of each token in `text`, in code points, and its log-probability in nats; 0 for tokens of text that had
    already been typed."""
    generated: list[GeneratedToken] = field(factory=list)
    """The tokens, if the request asks for them. Those behind the end of the text are left out."""
    stopped_by: str = ""
    """The string of the stop rules that ended the text; empty if another rule did."""


@frozen
class GenerationStats:
    """Cost of a request."""

    prompt_tokens: int
    """Length of the prompt."""
    cached_tokens: int
    """Prompt tokens whose keys and values came from the KV cache."""
    generated_tokens: int
    """Of all candidates, including tokens that stop rules cut away."""
    queue_seconds: float
    """Wait before the computation."""
    first_token_seconds: float
    """From the start of the computation to the first token."""
    total_seconds: float
    """From the start of the computation to the last token."""
    drafted_tokens: int = 0
    """Speculative tokens that the model verified."""
    accepted_tokens: int = 0
    """Drafted tokens that it accepted."""


@frozen
class GenerateResult:
    """The answer to `GenerateParams`."""

    candidates: list[Candidate]
    """Best first; all different; empty when nothing could be generated."""
    stats: GenerationStats


@frozen
class WarmParams:
    """A request to prefill the KV cache with a prompt that is likely to be extended soon."""

    document: str
    prefix: str
    suffix: str = ""
    files: RelatedFiles | None = None


@frozen
class ScoredText:
    """A text to score, given the text before it."""

    before: str
    """Context, line ends as LF."""
    text: str
    """Not empty, line ends as LF."""


@frozen
class ScoreParams:
    """A request for the log-likelihood of texts. A newer one with the same `document` supersedes it."""

    document: str
    texts: list[ScoredText]
    user: str = ""
    """As in `GenerateParams`."""


@frozen
class Score:
    """Log-likelihood of a text."""

    log_probability: float
    """Sum over the tokens, in nats; a token that begins before the text counts in full."""
    tokens: int


@frozen
class ScoreResult:
    """The answer to `ScoreParams`, in the order of its texts."""

    scores: list[Score]


@frozen
class LoadProgress:
    """Notification while a model loads."""

    message: str
    fraction: float
    """Share that is done, 0 to 1."""


@frozen
class Rates:
    """Measured speed of the loaded model on this machine."""

    prefill_tokens_per_second: float
    prefill_tokens: int
    """Length of the prompt that was measured."""
    decode_tokens_per_second: float
    resident_mb: float
    """Memory of the worker process in MiB."""
