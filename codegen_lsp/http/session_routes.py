"""The requests of the page at `/sessions`: programs in several turns.

The server keeps nothing of a session. Each request has its text, a plain Python file, and the answer has the new one.
So a session goes on after a restart of the server, and what the page offers to download is what it works with.

Programs run where the command line allows it, and never for a page of another origin, whatever `--allow-origin` says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve, field, frozen
from starlette.responses import Response
from starlette.routing import BaseRoute

from codegen_lsp.http.answers import Call, ServerContext, StreamAnswer, json_answer, server_sent_event
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.fields import Fields
from codegen_lsp.http.page_routes import problem_body
from codegen_lsp.http.problems import RequestProblem, invalid
from codegen_lsp.http.programs import SharedRunner
from codegen_lsp.inference.rpc.messages import GenerateParams, GenerateResult
from codegen_lsp.source.lines import with_lf
from codegen_lsp.synthesis.dialogue import Dialogue, DialogueTurn, parse, render
from codegen_lsp.synthesis.notebook import notebook_of
from codegen_lsp.synthesis.plain_errors import in_plain_words
from codegen_lsp.synthesis.questions import questions_about
from codegen_lsp.synthesis.running import TurnResult
from codegen_lsp.synthesis.session import SynthesisSession
from codegen_lsp.synthesis.synthesizer import Proposal, Synthesizer
from codegen_lsp.synthesis.tables import csv_table
from codegen_lsp.synthesis.turn_reports import TurnReport, report_of, report_turns, with_outputs

FORBIDDEN = (
    "This server does not run programs. Whoever starts it can allow it: `codegen-lsp serve --http 8012 --programs`."
)
MAX_TEXT, MAX_REQUEST, MAX_TURNS = 200_000, 4_000, 200
"""Limits of a session's characters, of those of a step, and of the steps."""
MAX_OPEN, MAX_OPEN_OF_CLIENT = 16, 4
"""Requests that write or run programs, at once: of all clients (status 503), of one address or key (status 429)."""
MAX_SEED = 2**31

Event = dict[str, Any]
Report = Callable[[Event], None]
"""Takes what is to be told before the result."""
Work = Callable[[Report], Awaitable[Event]]


def routes(context: ServerContext) -> list[BaseRoute]:
    """Return the routes of sessions."""
    requests = _SessionRequests(SharedRunner())
    handlers = {
        "read": requests.read,
        "questions": requests.questions,
        "propose": requests.propose,
        "edit": requests.edit,
        "remove": requests.remove,
        "run": requests.run,
        "notebook": requests.notebook,
    }
    return [
        context.route("GET", "/page/session/state", requests.state, problem_body),
        *(context.route("POST", f"/page/session/{name}", one, problem_body) for name, one in handlers.items()),
    ]


@frozen
class _UserModel:
    """The model, for one request of a user."""

    service: CompletionService
    user: str

    async def generate(self, params: GenerateParams) -> GenerateResult:
        """See `CompletionService.generate`."""
        return await self.service.generate(evolve(params, user=self.user))


@frozen
class _SessionRequests:
    """The handlers, and what they share."""

    runner: SharedRunner
    open: Counter[str] = field(factory=Counter)
    """Number of requests that write or run programs, by user."""
    numbers: Iterator[int] = field(factory=lambda: itertools.count(1))

    async def state(self, call: Call) -> Response:
        """Return whether this server runs programs, and why not."""
        reason = await self.runner.unavailable() if call.config.programs else FORBIDDEN
        return json_answer({"programs": not reason, "reason": reason})

    async def read(self, call: Call) -> Response:
        """Return the turns of a session. Nothing runs."""
        return json_answer(await asyncio.to_thread(lambda: _session(_dialogue(call))))

    async def questions(self, call: Call) -> Response:
        """Return what a request leaves open, as the next or a given turn of a session. Nothing runs."""

        def found() -> list[Event]:
            dialogue = _dialogue(call)
            above = dialogue.until(_number(call, len(dialogue.turns)))
            return [{"kind": one.kind, "text": one.text} for one in questions_about(above, _request(call))]

        return json_answer({"questions": await asyncio.to_thread(found)})

    async def notebook(self, call: Call) -> Response:
        """Return a session as a Jupyter notebook. Nothing runs."""
        dialogue = await asyncio.to_thread(_dialogue, call)
        results = {one.whole("number", 0, 0, MAX_TURNS): _result(one) for one in call.fields.tables("results")}
        return json_answer(notebook_of(dialogue, results))

    async def propose(self, call: Call) -> Response:
        """Write a turn of a session, run its candidates, and take the best one."""
        _check(call)
        dialogue = await asyncio.to_thread(_dialogue, call)
        number, request = _number(call, len(dialogue.turns)), _request(call)
        insert, seed = call.fields.flag("insert"), call.fields.whole("seed", 0, 0, MAX_SEED)
        if not request.strip():
            raise invalid("Nothing is asked. Say what the program should do next.")
        model = _UserModel(call.service, call.user)
        synthesizer = Synthesizer(model, self.runner, document=f"session {next(self.numbers)}")

        async def work(tell: Report) -> Event:
            later = dialogue.turns[number + (0 if insert else 1) :]
            if later and (insert or request != dialogue.turns[number].request):
                session = SynthesisSession(synthesizer, dialogue=dialogue)
                change = session.insert if insert else session.change
                total = len(later) + 1
                proposals = await change(
                    number, request, lambda at, _: tell({"event": "turn", "done": at - number + 1, "of": total})
                )
                new = session.dialogue
            else:
                told = itertools.count(1)
                proposals = await synthesizer.propose(
                    dialogue.until(number),
                    request,
                    seed=seed,
                    on_proposal=lambda one, of: tell(
                        {"event": "candidate", "done": next(told), "of": of, "kind": one.run.kind}
                    ),
                )
                turn = proposals[0].turn(request) if proposals else DialogueTurn(request)
                new = dialogue.with_turn(number, turn)
            if not proposals:
                raise invalid("The model wrote nothing. Say it in other words, or write the code yourself.")
            if later:
                return await self._done(new, number) | {"candidates": list(map(_candidate, proposals))}
            reports = [report_of(proposals[0].run)]
            return _done(new, number, reports) | {"candidates": list(map(_candidate, proposals))}

        return self._stream(call, work)

    async def edit(self, call: Call) -> Response:
        """Give a turn other code, of the person or a candidate, and run the program from there on."""
        _check(call)
        dialogue = await asyncio.to_thread(_dialogue, call)
        number = _existing(call, dialogue)
        code, edited = with_lf(call.fields.text("code")).strip("\n"), call.fields.flag("edited", True)
        turn = evolve(dialogue.turns[number], code=code, output="", edited=edited)
        return self._stream(call, lambda _: self._done(_edited(dialogue, number, turn), number))

    async def remove(self, call: Call) -> Response:
        """Remove a turn, and run the program from there on."""
        _check(call)
        dialogue = await asyncio.to_thread(_dialogue, call)
        number = _existing(call, dialogue)
        return self._stream(call, lambda _: self._done(dialogue.without(number), number))

    async def run(self, call: Call) -> Response:
        """Run a session."""
        _check(call)
        dialogue = await asyncio.to_thread(_dialogue, call)
        return self._stream(call, lambda _: self._done(dialogue, 0))

    async def _done(self, dialogue: Dialogue, first: int) -> Event:
        reports = await report_turns(self.runner, dialogue, first)
        return _done(dialogue, first, reports)

    def _stream(self, call: Call, work: Work) -> Response:
        return StreamAnswer(self._events(call.user, work), problem_body, seconds=call.config.session_seconds)

    async def _events(self, user: str, work: Work) -> AsyncGenerator[bytes]:
        """Yield what is told while something is done, and its result. Closing it cancels the work."""
        with self._admitted(user):
            told: asyncio.Queue[Event | None] = asyncio.Queue()
            working = asyncio.ensure_future(work(told.put_nowait))
            working.add_done_callback(lambda _: told.put_nowait(None))
            try:
                while (event := await told.get()) is not None:
                    yield server_sent_event(event)
                yield server_sent_event(await working)
            finally:
                working.cancel()
                await asyncio.wait({working})

    @contextmanager
    def _admitted(self, user: str) -> Iterator[None]:
        """Count a request. Raises: RequestProblem when there are too many."""
        if self.open[user] >= MAX_OPEN_OF_CLIENT:
            raise RequestProblem(429, "rate_limit_error", "Too many of your programs are open. Try again soon.")
        if self.open.total() >= MAX_OPEN:
            raise RequestProblem(503, "unavailable_error", "The server runs too many programs. Try again soon.")
        self.open[user] += 1
        try:
            yield
        finally:
            self.open[user] -= 1
            if not self.open[user]:
                del self.open[user]


def _check(call: Call) -> None:
    """Refuse a request that runs programs where it may not. Raises: RequestProblem.

    The guard has checked host, key and origin; here pages of another origin are refused that it was told to admit.
    """
    if not call.config.programs:
        raise RequestProblem(403, "permission_error", FORBIDDEN)
    headers = call.request.headers
    origin = headers.get("origin")
    if origin is not None and (not headers.get("host") or _netloc(origin) != headers["host"]):
        raise RequestProblem(403, "permission_error", "Pages of other origins may not run programs.")
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RequestProblem(403, "permission_error", "Pages of other sites may not run programs.")
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestProblem(415, "invalid_request_error", "The body must be announced as application/json.")


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _dialogue(call: Call) -> Dialogue:
    """Return the session of a request. Raises: RequestProblem."""
    text = with_lf(call.fields.text("text").removeprefix("\ufeff"))
    if len(text) > MAX_TEXT:
        raise invalid(f"A session may have at most {MAX_TEXT} characters. Begin a new one.")
    dialogue = parse(text)
    if len(dialogue.turns) > MAX_TURNS:
        raise invalid(f"A session may have at most {MAX_TURNS} steps. Begin a new one.")
    return dialogue


def _request(call: Call) -> str:
    """Return what is asked. Raises: RequestProblem."""
    request = with_lf(call.fields.text("request")).strip()
    if len(request) > MAX_REQUEST:
        raise invalid(f"A step may have at most {MAX_REQUEST} characters. Say it in several steps.")
    return request


def _number(call: Call, count: int) -> int:
    """Return the index of the turn that is asked for; `count` if none is named."""
    return call.fields.whole("turn", count, 0, count)


def _existing(call: Call, dialogue: Dialogue) -> int:
    """Return the index of a turn. Raises: RequestProblem when there is none."""
    number = call.fields.whole("turn", -1, -1, MAX_TURNS)
    if not 0 <= number < len(dialogue.turns):
        raise invalid(f"There is no step {number + 1}.")
    return number


def _edited(dialogue: Dialogue, number: int, turn: DialogueTurn) -> Dialogue:
    """Return a dialogue with another turn as its file is read: comments in new code may begin turns."""
    read = parse(render(dialogue.with_turn(number, turn)))
    made = len(read.turns) - len(dialogue.turns)
    for at in range(number, min(number + made + 1, len(read.turns))):
        read = read.with_turn(at, evolve(read.turns[at], edited=turn.edited))
    return read


def _done(dialogue: Dialogue, first: int, reports: list[TurnReport]) -> Event:
    """Return the result of a request: the session, and what its turns from `first` on did."""
    stated = with_outputs(dialogue, reports, first)
    return {"event": "done", "first": first, "reports": list(map(_report, reports))} | _session(stated)


def _session(dialogue: Dialogue) -> Event:
    turns = [
        {"request": one.request, "code": one.code, "output": one.output, "edited": one.edited} for one in dialogue.turns
    ]
    return {"text": render(dialogue), "head": dialogue.head, "turns": turns}


def _report(report: TurnReport) -> Event:
    result = report.result
    tables = [("", result.table)]
    tables += [(name, csv_table(content)) for name, content in result.files.items() if name.endswith(".csv")]
    return {
        "kind": report.kind,
        "reason": report.reason,
        "output": result.output,
        "value": result.value,
        "error": result.failure,
        "explanation": result.stopped or in_plain_words(result.error),
        "tables": [
            {"name": name, "heads": table.heads, "rows": table.rows, "dropped": table.dropped}
            for name, table in tables
            if table is not None
        ],
        "files": [{"name": name, "base64": base64.b64encode(one).decode()} for name, one in result.files.items()],
    }


def _candidate(proposal: Proposal) -> Event:
    run = proposal.run
    return {"code": proposal.code, "kind": run.kind, "reason": run.reason, "text": run.last.text}


def _result(fields: Fields) -> TurnResult:
    """Return what a turn did, as the page sends it back. Raises: RequestProblem."""
    try:
        files = {
            one.text("name"): base64.b64decode(one.text("base64"), validate=True) for one in fields.tables("files")
        }
    except (binascii.Error, ValueError):
        raise invalid("A file is not base64.") from None
    return TurnResult(output=fields.text("output"), value=fields.text("value"), error=fields.text("error"), files=files)
