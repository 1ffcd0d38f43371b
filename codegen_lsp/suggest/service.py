"""The suggestion service: from a snapshot of a document to suggestions, and the work done while the user pauses.

It knows no protocol: editors use it through the language server, the command line and the evaluation directly. One
request goes one straight way: the cache of suggestions being typed through, the plan of the prompt, a generation in
flight, debounce, the model, shaping. Its `SuggestionResult` says what there is to show or which rule refused it.

While the user pauses, the service warms the KV cache and prefetches the next suggestion; what it knows of the workspace
is brought up to date beside the requests (`upkeep`). For that it asks its `Host` for settings, documents and the model;
without a host it does none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from attrs import define, evolve

from codegen_lsp.completion.context import WorkspaceContext
from codegen_lsp.completion.options import Options
from codegen_lsp.completion.planning import Plan, plan
from codegen_lsp.completion.related_files import related_files, steady_files
from codegen_lsp.completion.shaping.pipeline import shape_all
from codegen_lsp.completion.snapshot import Refusal, Snapshot, Suggestion, Trigger
from codegen_lsp.errors import CodegenError, SupersededError
from codegen_lsp.inference.rpc.messages import GenerateParams, RelatedFiles, WarmParams
from codegen_lsp.suggest.acceptance import AcceptanceTracker
from codegen_lsp.suggest.cache import SuggestionCache
from codegen_lsp.suggest.debounce import DebouncePolicy
from codegen_lsp.suggest.host import Host
from codegen_lsp.suggest.idle import IdleTimer
from codegen_lsp.suggest.inflight import InFlightRequests, ShapedResult
from codegen_lsp.suggest.metrics import Metrics
from codegen_lsp.suggest.options import options_for
from codegen_lsp.suggest.prefetch import next_snapshots
from codegen_lsp.suggest.request import CompletionModel, SuggestionRequest, SuggestionResult, refused
from codegen_lsp.suggest.upkeep import WorkspaceUpkeep
from codegen_lsp.suggest.workspace_context import WorkspaceScanner
from codegen_lsp.suggest.workspace_indexing import WorkspaceIndexer

T = TypeVar("T")

PARSED_AT_ONCE = 2_000
"""Characters of a document up to which it is parsed in the event loop, which saves the way to a thread."""
PAUSE = 0.4
"""Seconds without a key after which idle work begins; the gaps of steady typing are shorter."""
PREFETCH_DELAY = 0.15
"""Seconds between a suggestion and the prefetch of the next one. A user who types on has typed by then, and one who
reads the suggestion needs longer to accept it."""
MIN_PREFETCH_PROBABILITY = 0.5
"""Mean probability of a token from which on a suggestion is likely enough to be accepted to prefetch the next one."""


@define
class _DocumentState:
    """State of an open document."""

    version: int | None = None
    """The newest version."""
    read: tuple[str, RelatedFiles | None] | None = None
    """The prefix and the other files that the model has read last."""
    files: RelatedFiles | None = None
    """Other files for the prompt."""
    suffix: str = ""
    """The suffix of the last prompt."""


class SuggestionService:
    """Makes suggestions, and remembers them while they are typed through."""

    def __init__(
        self,
        host: Host | None = None,
        *,
        metrics: Metrics | None = None,
        debounce: DebouncePolicy | None = None,
        indexer: WorkspaceIndexer | None = None,
    ) -> None:
        self.debounce = debounce or DebouncePolicy()
        self.acceptance = AcceptanceTracker(metrics)
        self.scanner = WorkspaceScanner()
        self.indexer = indexer or WorkspaceIndexer()
        self.upkeep = WorkspaceUpkeep(host, self.scanner, self.indexer)
        self.pause_timer = IdleTimer(self._pause, PAUSE)
        self.prefetch_timer = IdleTimer(self._prefetch_next, PREFETCH_DELAY)
        self.generated_tokens = 0
        """Tokens of all generations that were not cancelled."""
        self._host = host
        self._cache = SuggestionCache()
        self._parser = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parse")
        self._in_flight = InFlightRequests()
        self._documents: dict[str, _DocumentState] = {}
        self._prefetch_task: asyncio.Task[None] | None = None
        self._prefetched: tuple[str, str, Options] | None = None
        """URI, text and options of the last prefetch; equal as long as the suggestion before it is typed through."""

    @property
    def prefetching(self) -> bool:
        """True while a prefetch is scheduled or runs."""
        return self.prefetch_timer.active or self._in_flight.prefetching

    # Events.

    def opened(self, uri: str, version: int, length: int) -> None:
        """Note an opened document of `length` characters."""
        self._state(uri).version = version
        self.upkeep.opened(uri)
        self._schedule_pause(uri, length)

    def changed(self, uri: str, version: int, text: str, end: int, inserted: str) -> None:
        """Note a change that inserted text up to the offset `end`; `text` is the document after it."""
        self._state(uri).version = version
        self.debounce.key_pressed()
        self.acceptance.changed(uri, text, end, inserted)
        self.upkeep.changed(uri)
        self._schedule_pause(uri, end)

    def closed(self, uri: str) -> None:
        """Cancel what runs for a document, and forget it."""
        self._documents.pop(uri, None)
        self.pause_timer.cancel(uri)
        self.prefetch_timer.cancel(uri)
        self._in_flight.cancel_document(uri)
        self.acceptance.closed(uri)
        self.upkeep.closed(uri)

    def files_changed(self) -> None:
        """Note that files of the workspace were written, created, renamed or deleted."""
        self.upkeep.files_changed()

    def folders_changed(self, folders: Sequence[str]) -> None:
        """Note that the workspace folders, given as URIs, are others now."""
        self.upkeep.folders_changed(folders)

    def accepted(self, number: int) -> None:
        """Note that the editor reports a suggestion as accepted whole."""
        self.acceptance.report_accepted(number)

    def forget(self) -> None:
        """Forget all suggestions, because the model or the settings were changed."""
        self._cache.clear()
        self._in_flight.cancel_all()
        self._prefetched = None
        self.debounce.reset_answers()
        for state in self._documents.values():
            state.suffix, state.read, state.files = "", None, None

    def close(self) -> None:
        """Cancel everything. The service must not be used again."""
        self.pause_timer.cancel()
        self.prefetch_timer.cancel()
        if self._prefetch_task is not None:
            self._prefetch_task.cancel()
        self.forget()
        self.upkeep.close()
        self._parser.shutdown(wait=False, cancel_futures=True)

    # Suggestions.

    async def suggest(self, request: SuggestionRequest) -> SuggestionResult:
        """Answer an editor's request, and track what becomes of the suggestions.

        The offsets of the result are those of the document. Cancelling the caller cancels the generation, unless a
        newer request soon joins it.
        """
        self.pause_timer.cancel()
        self.prefetch_timer.cancel()
        result = await self._answer(request)
        snapshot = request.snapshot
        state = self._documents.get(snapshot.uri)
        if result.suggestions and (state is None or state.version != snapshot.version):
            result = refused("document_changed", "The document was changed before the answer was ready.")
        return self._deliver(request, evolve(result, seconds=time.perf_counter() - request.received))

    async def complete(
        self,
        snapshot: Snapshot,
        options: Options,
        model: CompletionModel,
        *,
        context: WorkspaceContext | None = None,
    ) -> SuggestionResult:
        """Return the suggestions for a snapshot, by its own offsets; errors a user can act on become refusals.

        `context` replaces the result of the last workspace scan.
        """
        started = time.perf_counter()
        result = await self._complete(snapshot, options, model, debounce=False, context=context)
        return evolve(result, seconds=time.perf_counter() - started)

    async def warm(self, snapshot: Snapshot, options: Options, model: CompletionModel) -> bool:
        """Prefill the KV cache with the text up to the cursor. False if that was done already or must not be done."""
        planned = await self._plan(evolve(snapshot, trigger=Trigger.INVOKED), options)
        if isinstance(planned, Refusal) or not planned.prefix:
            return False
        state, files = self._state(snapshot.uri), self._choose_files(snapshot.uri, options)
        if state.read == (planned.prefix, files):
            return False
        state.read = planned.prefix, files
        await model.warm(WarmParams(snapshot.uri, planned.prefix, planned.suffix, files))
        return True

    async def prefetch(
        self, snapshot: Snapshot, suggestion: Suggestion, options: Options, model: CompletionModel
    ) -> None:
        """Generate the suggestion that follows this one, as though it were accepted, at background priority."""
        following = next_snapshots(snapshot, suggestion)
        key = (snapshot.uri, following[0].text, options)
        unlikely = math.exp(suggestion.log_probability) < MIN_PREFETCH_PROBABILITY
        if unlikely or "prefetch" in options.ablate or self._prefetched == key:
            return
        self._prefetched = key
        for place in following:
            if self._cache.find(place, options):
                return
            planned = await self._plan(place, options)
            if isinstance(planned, Refusal):
                continue
            context = self.scanner.context(snapshot.uri)
            work = self._generate(place, planned, options, model, context, background=True)
            try:
                _, shaped = await self._in_flight.start_prefetch(place, options, time.perf_counter(), work).join()
            except CodegenError:
                self._prefetched = None  # a request had priority
                return
            if not isinstance(shaped, Refusal):
                return

    async def _answer(self, request: SuggestionRequest) -> SuggestionResult:
        if request.refusal is not None:
            return SuggestionResult([], "none", request.refusal)
        snapshot, settings = request.snapshot, request.settings
        # The cache answers while a model loads or a worker is restarted.
        options = options_for(settings, snapshot.language, request.models.current.description)
        if found := self._cache.find(snapshot, options):
            return SuggestionResult(found, "cache")
        model = await request.models.wait()
        if model is None:
            return refused("no_model", "The model is not ready yet.")
        options = options_for(settings, snapshot.language, model.description)
        self.upkeep.follow(snapshot, options, model)
        debounce = settings.debounce == "auto" and snapshot.trigger is Trigger.AUTOMATIC
        return await self._complete(snapshot, options, model.client, debounce=debounce)

    async def _complete(
        self,
        snapshot: Snapshot,
        options: Options,
        model: CompletionModel,
        *,
        debounce: bool,
        context: WorkspaceContext | None = None,
    ) -> SuggestionResult:
        planned = await self._plan(snapshot, options)
        if isinstance(planned, Refusal):
            return SuggestionResult([], "none", planned)
        if result := await self._from_flight(snapshot, options):
            return result
        if debounce:
            await self.debounce.pause(snapshot.text[snapshot.line_start : snapshot.offset])
        context = await self.upkeep.context(snapshot.uri) if context is None else context
        work = self._generate(snapshot, planned, options, model, context)
        request = self._in_flight.start(snapshot, options, time.perf_counter(), work)
        try:
            answer, shaped = await request.join()
        except SupersededError as error:
            return refused("superseded", str(error))
        except CodegenError as error:
            return refused("no_model", str(error))
        if isinstance(shaped, Refusal):
            return SuggestionResult([], "model", shaped, answer.stats)
        return SuggestionResult(shaped, "model", stats=answer.stats)

    def _deliver(self, request: SuggestionRequest, result: SuggestionResult) -> SuggestionResult:
        """Track a result, schedule the idle work that follows it, and return it by offsets in the document."""
        snapshot = request.snapshot
        suggestions = [snapshot.to_document(suggestion) for suggestion in result.suggestions]
        first = next(iter(suggestions), None)
        numbers = self.acceptance.give(snapshot.uri, len(suggestions))
        offset = snapshot.offset - snapshot.prelude
        if (description := request.models.current.description) is not None:
            language, model = snapshot.language, description.name
            self.acceptance.answered(language, model, result.source, result.seconds)
            self.acceptance.track(snapshot.uri, language, model, first, offset, next(iter(numbers), 0))
        self._schedule_pause(snapshot.uri, offset)
        if first is not None and snapshot.trigger is Trigger.AUTOMATIC and self._host is not None:
            self.prefetch_timer.schedule(snapshot.uri, (snapshot, result.suggestions[0]))
        return evolve(result, suggestions=suggestions, numbers=numbers)

    async def _plan(self, snapshot: Snapshot, options: Options) -> Plan | Refusal:
        state = self._state(snapshot.uri)
        planned = await self._parsing(snapshot, partial(plan, snapshot, options, state.suffix))
        if not isinstance(planned, Refusal):
            state.suffix = planned.suffix
        return planned

    async def _from_flight(self, snapshot: Snapshot, options: Options) -> SuggestionResult | None:
        """Return the rest of an in-flight answer, if it begins with the text typed since it was requested."""
        if "coalescing" in options.ablate:
            return None
        for request in self._in_flight.matching(snapshot, options):
            budget = self.debounce.wait_budget(time.perf_counter() - request.started)
            if not budget:
                continue
            with contextlib.suppress(CodegenError, TimeoutError):
                async with asyncio.timeout(budget):
                    result, _ = await request.join()
                found = self._cache.find(snapshot, options)
                self.debounce.waited(reused=bool(found))
                if found:
                    return SuggestionResult(found, "flight", stats=result.stats)
        return None

    async def _generate(
        self,
        snapshot: Snapshot,
        planned: Plan,
        options: Options,
        model: CompletionModel,
        context: WorkspaceContext,
        *,
        background: bool = False,
    ) -> ShapedResult:
        """Ask the model, shape its answer and keep the suggestions in the cache."""
        workspace = None if "workspace" in options.ablate else self.indexer.workspace_of(snapshot.uri)
        snippets = () if "context" in options.ablate else context.snippets
        state = self._state(snapshot.uri)
        # While the user types, the prompt must not begin differently: nothing of it would be in the KV cache.
        files = self._choose_files(snapshot.uri, options, context) if state.read is None else state.files
        in_prompt = {file.path for file in files.files} if files else set()
        params = GenerateParams(
            document=snapshot.uri,
            prefix=planned.prefix,
            suffix=planned.suffix,
            stop=planned.stop,
            candidates=planned.candidates,
            temperature=planned.temperature,
            top_p=planned.top_p,
            background=background,
            workspace=workspace.key if workspace else "",
            excluded_files=[workspace.file] if workspace else [],
            related=list(planned.rest_of_document),
            snippets=[snippet.text for snippet in snippets if snippet.path not in in_prompt],
            files=files,
        )
        started = time.perf_counter()
        result = await model.generate(params)
        self.generated_tokens += result.stats.generated_tokens
        if not background:
            self.debounce.answered(time.perf_counter() - started)
            state.read = planned.prefix, files
        rules = evolve(planned, modules=context.modules)
        shaped = await self._parsing(snapshot, partial(shape_all, result.candidates, rules))
        if not isinstance(shaped, Refusal):
            self._cache.keep(snapshot, shaped, options)
        return result, shaped

    async def _parsing(self, snapshot: Snapshot, function: Callable[[], T]) -> T:
        """Call a function that parses a document: outside of the event loop, if the document is not small."""
        if len(snapshot.text) <= PARSED_AT_ONCE:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._parser, function)

    # Idle work.

    def _schedule_pause(self, uri: str, offset: int) -> None:
        if self._host is not None:
            self.pause_timer.schedule(uri, offset)

    async def _pause(self, uri: str, offset: int) -> None:
        """Scan the workspace and warm the KV cache for a document in which the user pauses."""
        host = self._host
        if host is None:
            return
        model, snapshot = await host.idle_model(), host.snapshot(uri, offset)
        if model is None or model.description is None or snapshot is None or host.busy:
            return
        options = options_for(host.settings, snapshot.language, model.description)
        await self.upkeep.pause(snapshot, options, model)
        if host.settings.warm:
            await self.warm(snapshot, options, model.client)

    async def _prefetch_next(self, uri: str, given: tuple[Snapshot, Suggestion]) -> None:
        """Prefetch the suggestion that follows the one on the screen."""
        host, (snapshot, suggestion) = self._host, given
        if host is None or not host.settings.warm:
            return
        model = await host.idle_model()
        if model is None or model.description is None or host.busy:
            return
        options = options_for(host.settings, snapshot.language, model.description)
        # A newer request does not end the prefetch; the worker does, if that request needs the model.
        self._prefetch_task = asyncio.create_task(self.prefetch(snapshot, suggestion, options, model.client))
        await asyncio.shield(self._prefetch_task)

    def _choose_files(self, uri: str, options: Options, context: WorkspaceContext | None = None) -> RelatedFiles | None:
        """Choose the other files for a document's prompts until the next pause, by default from the last scan."""
        state, context = self._state(uri), self.scanner.context(uri) if context is None else context
        if not options.related_characters:
            state.files = None
        elif (found := related_files(context, options.related_characters)) is not None:
            state.files = steady_files(found, state.files)
        return state.files

    def _state(self, uri: str) -> _DocumentState:
        return self._documents.setdefault(uri, _DocumentState())
