"""The model of another server of this project, over HTTP, with the interface of `client.InferenceClient`.

A server that can't be reached, is late or answers wrongly counts as away: requests fail at once, and a probe (the
handshake) is sent after a delay that grows, until it is answered. Names of files and folders are not sent: the key of a
document is replaced by a digest that only this client can tell the document by.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import statistics
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import attrs

from codegen_lsp.errors import CodegenError, ModelError, SupersededError, WorkerError
from codegen_lsp.inference.client.answer_times import FIRST_LIMIT, AnswerTimes, Silence
from codegen_lsp.inference.client.client import Phase, WorkerState
from codegen_lsp.inference.client.http_connections import HttpConnections, RemoteError
from codegen_lsp.inference.client.remote_answers import checked, read_reply
from codegen_lsp.inference.client.remote_server import RemoteServer
from codegen_lsp.inference.rpc import remote as rpc
from codegen_lsp.inference.rpc.messages import (
    GenerateParams,
    GenerateResult,
    IndexState,
    IndexStateParams,
    IndexUpdate,
    LoadParams,
    LoadProgress,
    ModelDescription,
    OriginParams,
    OriginResult,
    ScoreParams,
    ScoreResult,
    WarmParams,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_TIMEOUT = 30.0
"""Seconds after which a request is given up, whatever it is. A limit against connections that hang: callers that show
something to the user wait for less."""
PROBE_TIMEOUT = 5.0
"""Seconds for the answer to a handshake."""
PROBE_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds before the first, second, … probe of a server that is away. Each is varied by half, so that the clients of a
server that is started again do not come all at once."""
MEASURED_ANSWERS = 5
"""Handshakes by which `measure_server` measures."""
RELATED_CHARACTERS = 24_000
"""Text sent along with a request beside the prompt, which every request carries anew."""


class RemoteClient:
    """One server that runs the model. Made inside the event loop, to which all methods belong.

    `on_state` is called at each change of `state`, whose phases are `stopped`, `starting` (it is connected to for the
    first time), `ready`, `busy` and `failed` (it is away, and is being probed).
    """

    def __init__(
        self,
        server: RemoteServer,
        *,
        on_state: Callable[[WorkerState], None] | None = None,
        on_progress: Callable[[LoadProgress], None] | None = None,
        delays: Sequence[float] = PROBE_DELAYS,
    ) -> None:
        self.server = server
        self.state = WorkerState("starting", f"Connecting to {server.name}.")
        self._on_state = on_state or (lambda _: None)
        self._delays = delays
        self._connections = HttpConnections(server)
        self._name = secrets.token_urlsafe(12)
        self._secret = secrets.token_bytes(16)
        self._spread = 0.5 + secrets.randbelow(1_000) / 1_000
        """Factor of this client's delays."""
        self._times: dict[bool, AnswerTimes] = {False: AnswerTimes(), True: AnswerTimes()}
        """Times of requests for one candidate, and for several."""
        self._failures = 0
        """Times in a row that the server was found away, without a right answer in time between."""
        self._probing: asyncio.Task[None] | None = None
        self._open_requests = 0
        """Foreground requests."""
        self._silence = Silence()
        self._instance = ""
        """Name of the server's process, by its last handshake."""
        self._away: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Has the reason as its result as soon as the server counts as away."""
        self._closed = False

    @property
    def ready(self) -> bool:
        """True while the server is there."""
        return self.state.phase in ("ready", "busy")

    async def load(self, params: LoadParams | None = None) -> ModelDescription:
        """Connect to the server; it has its model already. Raises RemoteError, after which it is probed."""
        if self._closed:
            raise WorkerError("The connection to the server was closed.")
        self._set(WorkerState("starting", f"Connecting to {self.server.name}."))
        return await self._connect()

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """Continue a text. Cancelling the awaiting task ends the generation within one token.

        Raises RemoteError when the server is or goes away, SupersededError when a newer request for the same document
        arrives or, for a background request, any other, ModelError when the server's model fails.
        """
        related = list(params.related)
        if self.server.send_workspace:
            related += params.snippets
        sent = attrs.evolve(
            params,
            document=self._key(params.document),
            workspace="",
            excluded_files=[],
            related=_within(related, RELATED_CHARACTERS),
            snippets=[],
            files=None,
        )
        if params.background:
            return await self._call(rpc.GENERATE, sent, GenerateResult)
        self._open_requests += 1
        self._show_load()
        started = asyncio.get_running_loop().time()
        try:
            result = await self._call(rpc.GENERATE, sent, GenerateResult)
        finally:
            self._open_requests -= 1
            self._show_load()
        self._times_of(params).add(asyncio.get_running_loop().time() - started)
        self._failures = 0
        return result

    async def warm(self, params: WarmParams) -> None:
        """Prefill the server's KV cache with a text in the background. Does nothing while the server is away."""
        if not self.ready:
            return
        try:
            await self._call(rpc.WARM, attrs.evolve(params, document=self._key(params.document), files=None), int)
        except CodegenError as error:
            logger.debug("Prefilling on the server failed: %s", error)

    async def score(self, params: ScoreParams) -> ScoreResult:
        """Return the log-likelihood of texts. Raises the errors of `generate`."""
        return await self._call(rpc.SCORE, attrs.evolve(params, document=self._key(params.document)), ScoreResult)

    async def index_state(self, params: IndexStateParams) -> IndexState:
        """Return that there is no index: the server has no files of the user."""
        return IndexState(available=False)

    async def update_index(self, params: IndexUpdate) -> IndexState:
        """Return that there is no index. Nothing is sent."""
        return IndexState(available=False)

    async def origin(self, params: OriginParams) -> OriginResult:
        """Return that no origin is known. Nothing is sent."""
        return OriginResult()

    async def restart(self) -> None:
        """Connect anew, without waiting for the next probe. Raises RemoteError."""
        self._failures = 0
        if self._probing is not None:
            self._probing.cancel()
        self._connections.drop_idle()
        await self.load()

    async def close(self) -> None:
        """End the connections for good."""
        self._closed = True
        if self._probing is not None:
            self._probing.cancel()
        self._connections.close()
        self._set(WorkerState("stopped"))

    def limit(self, params: GenerateParams) -> float:
        """Return the seconds after which the answer to a request is late."""
        return self._times_of(params).limit

    def patience(self, params: GenerateParams) -> float:
        """Return the seconds for which a request should wait for the server alone: none while that is in doubt.

        While a user types, each key cancels the request before it, so that none may be waited for long enough to be
        late. So their times are added up (`Silence`).
        """
        limit = self.limit(params)
        if self._silence.seconds < limit:
            return limit
        self._check_soon()
        return 0.0

    def was_late(self, params: GenerateParams, seconds: float) -> None:
        """Count the server as away, because a request had no answer after `seconds`, and others answered it."""
        times = self._times_of(params)
        usual = "" if times.mean is None else f", usually {times.mean:.2f} s"
        times.add(seconds)
        self._fail(RemoteError(f"{self.server.name} is late ({seconds:.2f} s{usual})"))

    async def _call(self, method: str, params: object, result_type: type[T]) -> T:
        if not self.ready:
            raise RemoteError(self.state.message.rstrip("."), self.state.advice)
        loop = asyncio.get_running_loop()
        self._silence.asked()
        doubt = loop.call_later(max(FIRST_LIMIT, self._times[False].limit), self._check_soon)
        away = self._away
        asked = asyncio.create_task(self._exchange(method, params, result_type))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            both: set[asyncio.Future[Any]] = {asked, away}
            await asyncio.wait(both, timeout=ANSWER_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                return asked.result()
            raise RemoteError(away.result() if away.done() else f"{self.server.name} does not answer")
        except asyncio.CancelledError:
            if self._silence.seconds >= self._times[False].limit:
                self._check_soon()
            raise
        except RemoteError as error:
            if self.ready:
                self._fail(error)
            raise
        finally:
            doubt.cancel()
            asked.cancel()
            self._silence.ended()

    async def _exchange(self, method: str, params: object, result_type: type[T]) -> T:
        """Send a request and return its checked result. Raises RemoteError, SupersededError and ModelError."""
        body = json.dumps(rpc.request_body(self._name, params)).encode()
        answer = await self._connections.post(f"{rpc.PATH}/{method}", body)
        self._silence.broken()
        reply = read_reply(self.server, answer, result_type)
        if method != rpc.HANDSHAKE and reply.instance != self._instance:
            self._probe_in(0, self._connect)  # the server was started again, perhaps with another model
        return checked(self.server, reply.value, params)

    async def _connect(self, seconds: float = PROBE_TIMEOUT) -> ModelDescription:
        """Shake hands within `seconds`. Raises RemoteError, after which the server is probed."""
        try:
            shaken = await self._shake_hands(seconds)
        except RemoteError as error:
            self._fail(error)
            raise
        self._instance = shaken.instance
        if self._away.done():
            self._away = asyncio.get_running_loop().create_future()
        model = attrs.evolve(shaken.model, remote=True)
        phase: Phase = "busy" if self._open_requests else "ready"
        self._set(WorkerState(phase, f"Connected to {self.server.name}: {model.name}.", model=model))
        return model

    async def _check(self) -> None:
        """Find out whether a server in doubt answers: within the time of a suggestion, or that of a new connection."""
        await self._connect(max(FIRST_LIMIT, self._times[False].limit))

    async def _shake_hands(self, seconds: float) -> rpc.RemoteHandshake:
        """Return the answer to a handshake, which must come within `seconds`. Raises RemoteError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(rpc.HANDSHAKE, None, rpc.RemoteHandshake)
        except TimeoutError:
            raise RemoteError(f"{self.server.name} does not answer") from None
        except (ModelError, SupersededError) as error:
            raise RemoteError(f"{self.server.name} has no model ({error.message.rstrip('.')})", error.advice) from None

    def _fail(self, error: RemoteError) -> None:
        """Count the server as away, and probe it after a delay."""
        if self._closed:
            return
        self._connections.drop_idle()
        self._silence.broken()
        if not self._away.done():
            self._away.set_result(error.reason)
        if self.state.phase != "failed":
            logger.warning("%s", error)
        self._set(WorkerState("failed", error.message, error.advice))
        delay = self._delays[min(self._failures, len(self._delays) - 1)] * self._spread
        if self._probe_in(delay, self._connect):
            self._failures += 1

    def _check_soon(self) -> None:
        if self.ready:
            self._probe_in(0, self._check)

    def _probe_in(self, seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
        """Start to probe the server after a delay. Returns false if a probe is due or under way already."""
        probing = self._probing
        if self._closed or (probing is not None and not probing.done() and probing is not asyncio.current_task()):
            return False
        self._probing = asyncio.create_task(self._after(seconds, work))
        return True

    async def _after(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(seconds)
        try:
            await work()
        except CodegenError:
            return  # it is the state, and the next probe is scheduled

    def _times_of(self, params: GenerateParams) -> AnswerTimes:
        return self._times[params.candidates > 1]

    def _key(self, document: str) -> str:
        return hashlib.blake2b(document.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=12).hexdigest()

    def _show_load(self) -> None:
        if self.ready:
            self._set(attrs.evolve(self.state, phase="busy" if self._open_requests else "ready"))

    def _set(self, state: WorkerState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


def _within(texts: Sequence[str], characters: int) -> list[str]:
    """Return the first texts that have at most this many characters together."""
    kept = []
    for text in texts:
        characters -= len(text)
        if characters < 0:
            break
        kept.append(text)
    return kept


async def measure_server(server: RemoteServer) -> tuple[ModelDescription, float]:
    """Return the model of a server, and the median time in seconds of an answer on an open connection.

    Raises RemoteError.
    """
    client = RemoteClient(server)
    loop = asyncio.get_running_loop()
    try:
        times = []
        model = await client.load()
        for _ in range(MEASURED_ANSWERS):
            started = loop.time()
            await client.load()
            times.append(loop.time() - started)
    finally:
        await client.close()
    return model, statistics.median(times)
