"""Completion for the HTTP server: one inference client, and the two kinds of requests.

A request for infilling is an editor's: prefix and suffix are a document with a cursor, which goes the same way as in
the language server, through the plan of the prompt, the model, and the shaping of its answer. A request for
continuation goes to the model alone.

Each request has a key of its own in the worker, so that none supersedes another: clients ask for several answers by
sending the same request several times, and end those that they no longer need by disconnecting.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TypeVar

from attrs import evolve

from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.related_files import files_within
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot
from codegen_lsp.errors import WorkerError
from codegen_lsp.http.documents import document_uri, language_of_request, name_in_prompt, text_at_cursor
from codegen_lsp.http.mark_filter import pieces_without_marks, without_marks
from codegen_lsp.http.metrics import ServerMetrics
from codegen_lsp.http.problems import invalid
from codegen_lsp.http.requests import (
    AlternativeToken,
    Completed,
    CompletedText,
    CompletionRequest,
    FinishReason,
    Piece,
    TokenPiece,
)
from codegen_lsp.inference.client.client import InferenceClient, WorkerState
from codegen_lsp.inference.rpc.messages import (
    Candidate,
    Finish,
    GeneratedToken,
    GenerateParams,
    GenerateResult,
    LoadParams,
    ModelDescription,
    RelatedFile,
    RelatedFiles,
    StopRules,
    StreamedText,
    WarmParams,
)
from codegen_lsp.inference.rpc.token_messages import DetokenizeParams, TokenizedText, TokenizeParams
from codegen_lsp.settings import Settings
from codegen_lsp.source.lines import with_lf
from codegen_lsp.suggest.options import load_params, options_for

T = TypeVar("T")

CACHED_PROMPTS = 8
"""Users whose prompts stay in the KV cache. With room for one, a request of eight users computed 333 to 585 tokens of
its prompt again instead of 3 to 7, and the 95th percentile of suggestions took 4 to 8 times as long (`bench http`)."""
PARSED_AT_ONCE = 2_000
"""Characters of a document up to which it is parsed in the event loop, which saves the way to a thread."""
MAX_TOKENIZED = 100_000
"""Characters or tokens. A request for more than the context of any model would keep worker and server from others for
seconds: a megabyte of text took so long that the worker was taken for one that hangs."""
UNLIMITED_LINES = 1_000_000
UNNAMED = "untitled"
"""Name in the prompt of a document of which a client says none."""
FINISH_REASONS: dict[Finish, FinishReason] = {"stop": "stop", "length": "length", "end": "end", "unlikely": "stop"}


def server_load_params(settings: Settings, build: Path) -> LoadParams:
    """Return the parameters with which the worker of a server for several users loads a build."""
    return evolve(load_params(settings, build), cached_prompts=CACHED_PROMPTS)


class CompletionService:
    """Answers the requests of all clients with one worker. Made inside the event loop."""

    def __init__(self, settings: Settings, load: LoadParams, client: InferenceClient | None = None) -> None:
        self.settings = settings
        self.client = client or InferenceClient()
        self.metrics = ServerMetrics()
        self.metrics.generating = lambda: self.open_requests
        self.open_requests = 0
        """Requests for which the worker generates, or which wait for it."""
        self._load = load
        self._numbers = itertools.count(1)

    async def start(self) -> ModelDescription:
        """Start or join the worker, and load the model. Raises: ModelError, WorkerError."""
        return await self.client.load(self._load)

    async def close(self) -> None:
        """End the worker."""
        await self.client.close()

    @property
    def state(self) -> WorkerState:
        """State of the worker."""
        return self.client.state

    @property
    def model(self) -> ModelDescription:
        """The loaded model. Raises: WorkerError while there is none."""
        model = self.client.state.model
        if model is None:
            raise self._not_ready()
        return model

    def check_ready(self) -> None:
        """Raise WorkerError unless the model is loaded."""
        if self.client.state.phase not in ("ready", "busy"):
            raise self._not_ready()

    def _not_ready(self) -> WorkerError:
        state = self.client.state
        return WorkerError(state.message or "The model is being loaded.", state.advice, self.client.restart_seconds)

    async def complete(self, request: CompletionRequest) -> Completed:
        """Return the answers to a request. Cancelling the caller ends the generation within one token.

        Raises: WorkerError, ModelError, SupersededError.
        """
        return without_marks(await self._complete(request), request.end_marks)

    async def _complete(self, request: CompletionRequest) -> Completed:
        model = self.model
        if request.infill:
            return await self._infill(request, model)
        return _all_of(await self.generate(self._continuation(request, model)), model)

    async def stream(self, request: CompletionRequest) -> AsyncIterator[Piece]:
        """Yield the answers to a request as they are generated, those of several candidates mixed.

        The text of a request for infilling comes as one piece, since it is shaped as a whole.

        Raises: WorkerError, ModelError, SupersededError.
        """
        async with aclosing(self._stream(request)) as pieces:
            async for piece in pieces_without_marks(pieces, request.end_marks):
                yield piece

    async def _stream(self, request: CompletionRequest) -> AsyncGenerator[Piece]:
        if request.infill:
            completed = await self._complete(request)
            for piece in _last_pieces(completed, {}, {}):
                yield piece
            return
        model = self.model
        params = self._continuation(request, model)
        parts: asyncio.Queue[StreamedText | None] = asyncio.Queue()
        generating = asyncio.ensure_future(self.generate(params, parts.put_nowait))
        generating.add_done_callback(lambda _: parts.put_nowait(None))
        written: Counter[int] = Counter()
        reported: Counter[int] = Counter()
        try:
            while (part := await parts.get()) is not None:
                written[part.candidate] += len(part.text)
                reported[part.candidate] += len(part.tokens)
                yield Piece(part.candidate, part.text, tuple(map(_token_piece, part.tokens)))
            for piece in _last_pieces(_all_of(await generating, model), written, reported):
                yield piece
        finally:
            generating.cancel()

    async def tokenize(self, text: str) -> TokenizedText:
        """Return the tokens of a text. Raises: WorkerError, RequestProblem when it is too long."""
        if len(text) > MAX_TOKENIZED:
            raise invalid(f"A text to tokenize may have at most {MAX_TOKENIZED} characters. Send it in parts.")
        return await self.client.tokenize(TokenizeParams(text))

    async def detokenize(self, ids: list[int]) -> str:
        """Return the text of tokens. Raises: WorkerError, RequestProblem when there are too many."""
        if len(ids) > MAX_TOKENIZED:
            raise invalid(f"At most {MAX_TOKENIZED} tokens are made a text. Send them in parts.")
        return (await self.client.detokenize(DetokenizeParams(ids))).text

    async def warm(self, request: CompletionRequest) -> None:
        """Prefill the KV cache with a prompt that requests will soon extend, in the background."""
        model = self.model
        if not request.infill:
            await self.client.warm(WarmParams("http", with_lf(request.prefix)))
            return
        snapshot = _snapshot(request, model)
        planned = await self._plan(snapshot, request, model)
        if not isinstance(planned, Refusal):
            files = self._files(request, snapshot, model)
            await self.client.warm(WarmParams(snapshot.uri, planned.prefix, planned.suffix, files))

    async def _infill(self, request: CompletionRequest, model: ModelDescription) -> Completed:
        snapshot = _snapshot(request, model)
        planned = await self._plan(snapshot, request, model)
        if isinstance(planned, Refusal):
            return Completed((), model, refusal=planned)
        files = self._files(request, snapshot, model)
        in_prompt = {file.text for file in files.files} if files else ()
        extra = [other for one in request.extra if (other := with_lf(one.text)) not in in_prompt]
        params = GenerateParams(
            document=self._key(),
            prefix=planned.prefix,
            suffix=planned.suffix,
            stop=planned.stop,
            candidates=planned.candidates,
            temperature=planned.temperature,
            top_p=planned.top_p,
            top_k=request.top_k,
            seed=request.seed,
            deadline_seconds=request.deadline_seconds,
            user=request.user,
            related=[*planned.rest_of_document, *extra],
            files=files,
        )
        result = await self.generate(params)
        shaped = await _parsing(snapshot, partial(shape_all, result.candidates, planned))
        if isinstance(shaped, Refusal):
            return Completed((), model, result.stats, shaped)
        by_likelihood = {candidate.log_probability: candidate for candidate in result.candidates}
        texts = tuple(
            _completed(by_likelihood[one.log_probability], text)
            for one in shaped
            if (text := text_at_cursor(snapshot, one)) is not None
        )
        refusal = None if texts else Refusal("replaces_text", "The suggestion would replace text after the cursor.")
        return Completed(texts, model, result.stats, refusal)

    async def _plan(self, snapshot: Snapshot, request: CompletionRequest, model: ModelDescription) -> Plan | Refusal:
        options = options_for(self.settings, snapshot.language, model)
        planned = await _parsing(snapshot, partial(plan, snapshot, options))
        if isinstance(planned, Refusal):
            return planned
        stop = planned.stop
        limit = stop.max_tokens if request.max_tokens is None else min(stop.max_tokens, request.max_tokens)
        stop = evolve(stop, max_tokens=max(1, limit), strings=[*stop.strings, *request.stop])
        if request.max_lines is not None:
            stop = evolve(stop, max_lines=min(stop.max_lines, request.max_lines))
        if request.min_indent:
            stop = evolve(stop, min_indent=max(stop.min_indent or 0, request.min_indent))
        return evolve(planned, stop=stop, candidates=request.candidates, temperature=request.temperature)

    async def generate(
        self, params: GenerateParams, on_text: Callable[[StreamedText], None] | None = None
    ) -> GenerateResult:
        """Ask the worker; `on_text` gets the text as it is generated.

        Raises: WorkerError, ModelError, SupersededError.
        """
        self.open_requests += 1
        try:
            asking = self.client.generate(params) if on_text is None else self.client.stream(params, on_text)
            result = await asking
            self.metrics.generated(result.stats)
            return result
        except asyncio.CancelledError:
            self.metrics.cancelled.inc()
            raise
        finally:
            self.open_requests -= 1

    def _continuation(self, request: CompletionRequest, model: ModelDescription) -> GenerateParams:
        most = model.context_length // 2
        stop = StopRules(
            max_tokens=max(1, min(most, most if request.max_tokens is None else request.max_tokens)),
            max_lines=request.max_lines or UNLIMITED_LINES,
            strings=list(request.stop),
            min_indent=request.min_indent,
        )
        return GenerateParams(
            document=self._key(),
            prefix=with_lf(request.prefix),
            stop=stop,
            candidates=request.candidates,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed,
            related=[with_lf(extra.text) for extra in request.extra],
            deadline_seconds=request.deadline_seconds,
            top_logprobs=request.top_logprobs,
            distinct=False,
            user=request.user,
        )

    def _files(self, request: CompletionRequest, snapshot: Snapshot, model: ModelDescription) -> RelatedFiles | None:
        """Return the named texts of a request for the prompt, in its order: they are read once if that stays."""
        budget = options_for(self.settings, snapshot.language, model).related_characters
        named = (extra for extra in request.extra if extra.filename.strip())
        files = files_within(budget, (RelatedFile(name_in_prompt(one.filename), with_lf(one.text)) for one in named))
        return RelatedFiles("", name_in_prompt(request.filename) or UNNAMED, files) if files else None

    def _key(self) -> str:
        """Return a key for one request in the worker."""
        return f"http {next(self._numbers)}"


def _snapshot(request: CompletionRequest, model: ModelDescription) -> Snapshot:
    """Return the document of a request for infilling."""
    language = language_of_request(request, model)
    return Snapshot(
        uri=document_uri(request.filename),
        version=0,
        language=language,
        text=request.prefix + request.suffix,
        offset=len(request.prefix),
    )


def _completed(candidate: Candidate, text: str) -> CompletedText:
    return CompletedText(
        text,
        FINISH_REASONS[candidate.finish],
        candidate.tokens,
        candidate.log_probability,
        candidate.stopped_by,
        tuple(map(_token_piece, candidate.generated)),
    )


def _all_of(result: GenerateResult, model: ModelDescription) -> Completed:
    return Completed(tuple(_completed(one, one.text) for one in result.candidates), model, result.stats)


def _token_piece(token: GeneratedToken) -> TokenPiece:
    alternatives = (
        AlternativeToken(one.id, one.text, bytes(one.data), one.log_probability) for one in token.alternatives
    )
    return TokenPiece(token.id, token.text, bytes(token.data), token.log_probability, tuple(alternatives))


def _last_pieces(completed: Completed, written: Mapping[int, int], reported: Mapping[int, int]) -> Iterator[Piece]:
    """Yield the last piece of each answer, of which so many characters and tokens were yielded before."""
    if not completed.texts:
        yield Piece(0, "", completed=completed)
    for number, text in enumerate(completed.texts):
        rest, tokens = text.text[written.get(number, 0) :], text.pieces[reported.get(number, 0) :]
        yield Piece(number, rest, tokens, text, completed if number == len(completed.texts) - 1 else None)


async def _parsing(snapshot: Snapshot, function: Callable[[], T]) -> T:
    """Call a function that parses a document: outside of the event loop, if the document is not small."""
    return function() if len(snapshot.text) <= PARSED_AT_ONCE else await asyncio.to_thread(function)
