"""The inference worker: a process that owns the model.

It is apart from the language server so that the server answers at once whatever the model does, and lives on when the
model takes too much memory and is killed. It speaks JSON-RPC: with one server on its standard input and output, or with
several on a socket (`sharing`). It ends when its input does, or with the last that is connected, so that no worker
outlives its servers, however they ended.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import cattrs
from pygls.io_ import StdinAsyncReader, StdoutWriter
from pygls.server import JsonRPCServer

from codegen_lsp.errors import CodegenError
from codegen_lsp.inference.build import read_info
from codegen_lsp.inference.client import shared_worker as sharing
from codegen_lsp.inference.client.environment import release_memory
from codegen_lsp.inference.engines.base import CancellationToken
from codegen_lsp.inference.engines.factory import open_engine
from codegen_lsp.inference.rpc import connection as wire
from codegen_lsp.inference.rpc.framing import FramingError
from codegen_lsp.inference.rpc.messages import (
    Clients,
    GenerateParams,
    Hello,
    LoadParams,
    LoadProgress,
    ModelDescription,
    ScoreParams,
    WarmParams,
    Welcome,
)
from codegen_lsp.inference.text_model import TextModel, mixes, parameters_of
from codegen_lsp.inference.tokenizer import Tokenizer
from codegen_lsp.inference.worker.scheduler import Scheduler, Superseded
from codegen_lsp.progress import ProgressReport

logger = logging.getLogger(__name__)

P = TypeVar("P")
LOG_VARIABLE = "CODEGEN_LSP_LOG"
"""Environment variable with the level of what the worker writes to its standard error stream."""
IDLE_SECONDS = 0.3
"""Quiet time after which the last prompt is prepared for the next: longer than the gaps of steady typing."""
GREETING_SECONDS = 10.0
"""Within which somebody must come and introduce himself."""
MOST_CLIENTS = 64
MOST_REQUESTS = 256
"""That a client may have open; a server has one for each document at most, and a few for a refactoring."""
MOST_UNREAD = 16 * 2**20
"""Bytes of answers that a client may leave unread."""
LOG_BYTES, LOG_SECONDS = 4 * 2**20, 60.0
"""The log of a shared worker is emptied when it is found to be longer."""

Report = Callable[[LoadProgress], None]


class Worker:
    """One model and the requests for it. Each comes from a client, known by a name."""

    def __init__(self) -> None:
        self.model: TextModel | None = None
        self._scheduler = Scheduler()
        self._idle: asyncio.Task[None] | None = None
        self._latest: tuple[str, GenerateParams] | None = None
        self._loaded_as: LoadParams | None = None
        self._loading: asyncio.Task[ModelDescription] | None = None
        self._reports: set[Report] = set()

    async def load(self, params: LoadParams, report: Report) -> ModelDescription:
        """Load a build, freeing the one before it."""
        loop = asyncio.get_running_loop()
        self._latest = None

        def progress(message: str, fraction: float) -> None:
            loop.call_soon_threadsafe(report, LoadProgress(message, fraction))

        def work(cancellation: CancellationToken, _: float) -> tuple[TextModel, ModelDescription]:
            if self.model is not None:
                self.model.engine.close()
                self.model = None
            return load_model(params, progress)

        self.model, description = await self._scheduler.run("load", work)
        return description

    async def load_once(self, params: LoadParams, report: Report) -> ModelDescription:
        """Load a build for all clients: it is there already for whoever comes later. Raises ModelError."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loaded_as = params
            self._loading = asyncio.ensure_future(self.load(params, self._report_to_all))
        if params != self._loaded_as:
            raise OtherBuildError
        self._reports.add(report)
        try:
            # Who gives up takes nothing from the others.
            return await asyncio.shield(self._loading)
        finally:
            self._reports.discard(report)

    async def generate(self, client: str, params: GenerateParams) -> object:
        """Continue a text, then prepare for the next one when it stays quiet."""
        model = self._loaded()
        if self._idle is not None:
            self._idle.cancel()
        if not params.background:
            self._latest = client, params
        try:
            return await self._scheduler.run(
                f"generate {params.document}",
                lambda cancellation, waited: model.generate(params, cancellation, waited),
                background=params.background,
                owner=client,
            )
        finally:
            self._prepare_for_next()

    async def warm(self, client: str, params: WarmParams) -> int:
        """Prepare for a text, in the background."""
        model = self._loaded()
        return await self._scheduler.run(
            "warm",
            lambda cancellation, _: model.warm(params.prefix, params.suffix, cancellation),
            background=True,
            owner=client,
        )

    async def score(self, client: str, params: ScoreParams) -> object:
        """How likely texts are."""
        model = self._loaded()
        return await self._scheduler.run(
            f"score {params.document}", lambda cancellation, _: model.score(params.texts, cancellation), owner=client
        )

    async def measure(self, client: str) -> object:
        """Measure the model's speed."""
        model = self._loaded()
        return await self._scheduler.run("measure", lambda cancellation, _: model.measure(cancellation), owner=client)

    def forget(self, client: str) -> None:
        """Keep nothing of a client that is gone, but what is cached of its texts. Its requests must have ended."""
        self._scheduler.forget(client)
        if self._latest is not None and self._latest[0] == client:
            self._latest = None
            if self._idle is not None:
                self._idle.cancel()

    def _report_to_all(self, progress: LoadProgress) -> None:
        for report in list(self._reports):
            report(progress)

    def _prepare_for_next(self) -> None:
        """Warm the last text that somebody waited for, once it stays quiet."""
        if self._idle is not None:
            self._idle.cancel()
        if self._latest is not None:
            self._idle = asyncio.ensure_future(self._warm_when_quiet(*self._latest))

    async def _warm_when_quiet(self, client: str, params: GenerateParams) -> None:
        try:
            await asyncio.sleep(IDLE_SECONDS)
            await self.warm(client, WarmParams(params.document, params.prefix, params.suffix))
        except Superseded:
            pass
        except CodegenError:
            logger.warning("Preparing the next prompt failed", exc_info=True)

    def _loaded(self) -> TextModel:
        if self.model is None:
            raise NotLoadedError
        return self.model


class ClientProtocol(wire.WorkerProtocol):
    """JSON-RPC with a client that may be out of its mind."""

    def handle_message(self, message: Any) -> None:
        """Raises FramingError when too many requests are open."""
        if len(self._request_futures) > MOST_REQUESTS:
            raise FramingError("too many requests")
        super().handle_message(message)


class Client(JsonRPCServer):
    """A server at the other end of a stream, and its requests."""

    def __init__(self, worker: Worker, name: str, load: Callable[[LoadParams, Report], Awaitable[object]]) -> None:
        super().__init__(ClientProtocol, wire.converter)
        self.name = name
        self.feature(wire.LOAD)(handler(LoadParams, lambda params: load(params, self.report)))
        self.feature(wire.GENERATE)(handler(GenerateParams, lambda params: worker.generate(name, params)))
        self.feature(wire.WARM)(handler(WarmParams, lambda params: worker.warm(name, params)))
        self.feature(wire.SCORE)(handler(ScoreParams, lambda params: worker.score(name, params)))
        self.feature(wire.MEASURE)(handler(None, lambda _: worker.measure(name)))

    @property
    def requests(self) -> list[asyncio.Future[Any]]:
        """Those that run or wait."""
        futures: list[Any] = list(self.protocol._request_futures.values())
        return [future for future in futures if asyncio.isfuture(future)]

    def report(self, progress: LoadProgress) -> None:
        """Tell how far loading is."""
        self.protocol.notify(wire.PROGRESS, cattrs.unstructure(progress))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log what pygls could not handle."""
        logger.error("%s: %s", source, error)

    async def cancel_all(self) -> None:
        """End all its requests."""
        requests = self.requests
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)


class Answers:
    """What a client on a socket is sent. One that doesn't read, or asks for too much, is cut off."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        """Send, unless the client is gone."""
        transport = self._writer.transport
        if transport.is_closing():
            return
        self._writer.write(data)
        if transport.get_write_buffer_size() > MOST_UNREAD:
            logger.warning("A client does not read its answers; it is cut off")
            transport.abort()

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


class Guests:
    """The clients of a worker on a socket; it leaves with the last of them. Made inside the event loop."""

    def __init__(self, listening: socket.socket, place: sharing.Place) -> None:
        self._listening = listening
        self._place = place
        self._inode = place.socket.lstat().st_ino
        self._worker = Worker()
        self._connections = 0
        self._names = map(str, itertools.count(1))
        self._greeted: set[Client] = set()

    async def serve(self) -> None:
        """Serve whoever connects, until the last has left."""
        async with await asyncio.start_unix_server(self._serve_connection, sock=self._listening):
            await asyncio.sleep(GREETING_SECONDS)
            if not self._connections:
                self._leave()
            while True:
                if os.fstat(2).st_size > LOG_BYTES:
                    os.ftruncate(2, 0)
                await asyncio.sleep(LOG_SECONDS)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        client = Client(self._worker, next(self._names), self._worker.load_once)
        answers = Answers(writer)
        client.protocol.set_writer(answers)
        client.feature(wire.HELLO)(handler(Hello, lambda hello: self._greet(client, hello)))
        strangers = asyncio.get_running_loop().call_later(GREETING_SECONDS, self._end_unless_greeted, client, writer)
        try:
            if self._connections <= MOST_CLIENTS and sharing.is_ours(writer.get_extra_info("socket")):
                await wire.receive(reader, client.protocol)
        except (OSError, FramingError) as error:
            logger.warning("A client is cut off: %s", error)
        finally:
            strangers.cancel()
            writer.close()
            await client.cancel_all()
            self._worker.forget(client.name)
            self._connections -= 1
            if client in self._greeted:
                self._greeted.remove(client)
                self._tell_number()
            if not self._connections:
                self._leave()

    async def _greet(self, client: Client, hello: Hello) -> Welcome:
        """Raises OtherBuildError."""
        if hello.digest != self._place.digest:
            raise OtherBuildError
        self._greeted.add(client)
        self._tell_number()
        return Welcome(os.getpid(), len(self._greeted), self._inode)

    def _end_unless_greeted(self, client: Client, writer: asyncio.StreamWriter) -> None:
        if client not in self._greeted:
            writer.transport.abort()

    def _tell_number(self) -> None:
        body = cattrs.unstructure(Clients(len(self._greeted)))
        for client in self._greeted:
            client.protocol.notify(wire.CLIENTS, body)

    def _leave(self) -> NoReturn:
        sharing.leave(self._place, self._inode)
        self._listening.close()  # who is waiting need not wait until the memory is freed
        end_process()


MIXING = ("native",)
"""Engines that can mix n-grams in."""


class NotLoadedError(CodegenError):
    """A request came before a model was loaded."""

    def __init__(self) -> None:
        super().__init__("No model is loaded.", "Wait for it, or choose one with the setting `model`.")


class OtherBuildError(CodegenError):
    """A client that wants another build, or another way of running it, than the worker that it met."""

    def __init__(self) -> None:
        super().__init__("The worker runs another build.", "Restart the worker.")


def load_model(params: LoadParams, progress: ProgressReport) -> tuple[TextModel, ModelDescription]:
    """Read a build and open its engine. Raises ModelError."""
    started = time.perf_counter()
    directory = Path(params.build)
    info = read_info(directory)
    progress(f"Reading the tokenizer of {info.name}", 0.1)
    tokenizer = Tokenizer.from_build(directory, info)
    progress(f"Loading {info.name}", 0.3)
    engine = open_engine(params, directory, info, tokenizer)
    release_memory()
    model = TextModel(info, tokenizer, engine, ngrams=mixes(info, params.ngrams))
    progress(f"Measuring {info.name}", 0.9)
    rate = model.prefill_rate()
    progress(f"{info.name} is ready", 1.0)
    return model, ModelDescription(
        name=info.name,
        family=info.family,
        engine=engine.name,
        device=engine.device,
        compute_type=engine.compute_type,
        threads=engine.threads,
        context_length=info.context_length,
        infill=info.infill != "none",
        languages=list(info.languages),
        characters_per_token=model.characters_per_token,
        load_seconds=time.perf_counter() - started,
        prefill_tokens_per_second=rate,
        ngrams=model.ngrams and engine.name in MIXING,
        parameters=parameters_of(info),
    )


def handler(params_type: type[P] | None, method: Callable[[Any], Awaitable[object]]) -> Any:
    """A JSON-RPC handler that structures its parameters and answers with a value or a failure, whatever happens."""

    async def handle(raw: Any) -> dict[str, Any]:
        try:
            params = None if params_type is None else cattrs.structure(raw, params_type)
            value = await method(params)
        except Superseded:
            return wire.refusal(wire.Failure("replaced", "A newer request took this one's place."))
        except NotLoadedError as error:
            return wire.refusal(wire.Failure("unloaded", error.message, error.advice))
        except CodegenError as error:
            return wire.refusal(wire.Failure("model", error.message, error.advice))
        except Exception as error:
            logger.exception("A request failed")
            return wire.refusal(wire.Failure("internal", f"{type(error).__name__}: {error}", "See the log."))
        return wire.reply(value)

    return handle


def end_process() -> NoReturn:
    """End at once, in the middle of a computation too: nothing here needs saving."""
    sys.stderr.flush()
    os._exit(0)


def claim_stdout() -> BinaryIO:
    """The standard output for messages alone; whatever else is printed goes to the standard error."""
    messages = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return messages


async def serve_stdio(messages: BinaryIO) -> None:
    """Serve the one that started this process, until the input ends."""
    worker = Worker()
    client = Client(worker, "", worker.load)
    client.protocol.set_writer(StdoutWriter(messages))
    try:
        await wire.receive(StdinAsyncReader(sys.stdin.buffer), client.protocol)
    except (OSError, FramingError) as error:
        logger.error("The stream from the server broke: %s", error)
    finally:
        end_process()


async def serve_socket(listening: socket.socket, place: sharing.Place) -> None:
    """Serve all who connect, until the last has left."""
    await Guests(listening, place).serve()


def main() -> None:
    """Serve on the standard streams, or on a socket that was handed over (`sharing`)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("codegen_lsp").setLevel(os.environ.get(LOG_VARIABLE, "warning").upper())
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--digest")
    given = parser.parse_args()
    if given.listen is None:
        asyncio.run(serve_stdio(claim_stdout()))
    else:
        asyncio.run(serve_socket(socket.socket(fileno=given.listen), sharing.Place(given.folder, given.digest)))
