"""Sessions over HTTP: a scripted model, and the real sandbox."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import needs

needs.extra("serve")

from attrs import define, evolve, field

from codegen_lsp.http import programs, session_routes
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.sandbox.sandbox import SandboxError
from codegen_lsp.synthesis.dialogue import Dialogue
from codegen_lsp.synthesis.examples import Example
from codegen_lsp.synthesis.running import ProgramRun
from tests.children import running_jails
from tests.http.asgi import Exchange, exchange, played, played_service

ANSWERS = {
    "Set x to [1, 2].": ["x = [1, 2]", "x = (1, 2)"],
    "Set x to [3].": ["x = [3]"],
    "Sum x. `x = [1, 2]` → `3`": ["1 / 0", "max(x)", "sum(x)"],
    "Print it.": ["print(x)\n# more", "print('other')"],
    "Say more.": ["print('more')"],
    "Make a table.": ["[{'fruit': 'pear', 'price': x[0]}, {'fruit': 'plum', 'price': 2}]"],
}
RUNS = ("propose", "edit", "remove", "run")
"""The paths below `/page/session` that run programs."""


def answer(params: GenerateParams) -> list[str]:
    request = params.prefix.rstrip("\n").rpartition("\n\n")[2].removeprefix("# ").replace("\n# ", "\n")
    texts = ANSWERS.get(request, ["pass"])
    return texts[1:] + texts[:1] if params.temperature and len(texts) > 1 else texts


@define
class Conversation:
    """What the page does: it keeps the text of a session, and sends it with each request."""

    service: CompletionService = field(factory=lambda: played_service(answer))
    app: Any = None
    text: str = ""
    turns: list[dict[str, Any]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.restart()

    def restart(self, **options: Any) -> None:
        """Serve by a new application, as after a restart of the server."""
        self.app = create_app(self.service, HttpConfig(**{"programs": True} | options))

    async def ask(self, path: str, into: Exchange | None = None, **body: Any) -> Exchange:
        return await exchange(self.app, "POST", f"/page/session/{path}", {"text": self.text} | body, into=into)

    async def events(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """Return the events of an answer, and take its session."""
        done = await self.ask(path, **body)
        assert done.status == 200, done.body
        events = done.events
        assert events[-1]["event"] == "done", events
        self.text, self.turns = events[-1]["text"], events[-1]["turns"]
        return events

    async def done(self, path: str, **body: Any) -> dict[str, Any]:
        return (await self.events(path, **body))[-1]

    @property
    def outputs(self) -> list[str]:
        return [turn["output"] for turn in self.turns]


@pytest.mark.usefixtures("sandbox")
async def test_a_session_of_six_turns_goes_on_after_a_restart() -> None:
    one = Conversation()
    await one.done("propose", request="Set x to [1, 2].")
    events = await one.events("propose", request="Sum x. `x = [1, 2]` → `3`")
    assert sorted(event["kind"] for event in events[:-1]) == ["contradicts", "failed", "right"]
    assert [event["of"] for event in events[:-1]] == [3, 3, 3]
    done = events[-1]
    assert [(one["code"], one["kind"]) for one in done["candidates"]] == [
        *(("sum(x)", "right"), ("max(x)", "contradicts"), ("1 / 0", "failed")),
    ]
    assert (done["first"], [report["value"] for report in done["reports"]]) == (1, ["3"])
    assert done["reports"][0]["kind"] == "right"
    assert one.text == "# Set x to [1, 2].\nx = [1, 2]\n\n# Sum x. `x = [1, 2]` → `3`\nsum(x)\n#> 3\n"

    one.restart()
    await one.done("propose", request="Print it.")
    assert one.outputs == ["", "3", "[1, 2]"]
    await one.done("edit", turn=2, code="print('other')", edited=False)
    assert (one.turns[2]["output"], one.turns[2]["edited"]) == ("other", False)
    done = await one.done("edit", turn=0, code="x = [4]")
    assert (one.turns[0]["edited"], one.outputs) == (True, ["", "4", "other"])
    assert [report["kind"] for report in done["reports"]] == ["ran", "right", "ran"]
    await one.done("propose", request="Say more.")
    await one.done("propose", request="Make a table.")
    await one.done("propose", request="Print it.")
    assert one.outputs[3:] == ["more", "[{'fruit': 'pear', 'price': 4}, {'fruit': 'plum', 'price': 2}]", "[4]"]
    done = await one.done("run")
    assert (done["first"], len(done["reports"])) == (0, 6)
    rows = [["pear", "4"], ["plum", "2"]]
    assert done["reports"][4]["tables"] == [{"name": "", "heads": ["fruit", "price"], "rows": rows, "dropped": 0}]


@pytest.mark.usefixtures("sandbox")
async def test_later_turns_are_written_anew_but_for_the_persons_own() -> None:
    one = Conversation()
    for request in ("Set x to [1, 2].", "Print it.", "Say more."):
        await one.done("propose", request=request)
    await one.done("edit", turn=2, code="print('mine', x)")
    events = await one.events("propose", turn=0, request="Set x to [3].")
    assert [(event["done"], event["of"]) for event in events[:-1]] == [(1, 3), (2, 3), (3, 3)]
    assert one.outputs == ["", "[3]", "mine [3]"]
    assert [turn["edited"] for turn in one.turns] == [False, False, True]
    await one.done("propose", turn=1, insert=True, request="Say more.")
    assert one.outputs == ["", "more", "[3]", "mine [3]"]
    await one.done("remove", turn=1)
    assert one.outputs == ["", "[3]", "mine [3]"]
    done = await one.done("propose", turn=1, request="Print it.", seed=1)
    assert [candidate["code"] for candidate in done["candidates"]] == ["print('other')", "print(x)"]
    assert one.outputs == ["", "other", "mine [3]"]


@pytest.mark.usefixtures("sandbox")
async def test_comments_in_new_code_begin_steps_of_their_own() -> None:
    one = Conversation(text="# One.\nx = 1\n\n# Last.\nx\n")
    done = await one.done("edit", turn=0, code="x = 2\n\n# Twice.\ny = x * 2\r\ny\n\n")
    assert [turn["request"] for turn in one.turns] == ["One.", "Twice.", "Last."]
    assert [turn["edited"] for turn in one.turns] == [True, True, False]
    assert one.outputs == ["", "4", "2"]
    assert len(done["reports"]) == 3


async def test_what_runs_nothing_needs_no_permission() -> None:
    one = Conversation(text="\ufeffimport math\r\n\r\n# Set x.\r\nx = 1\r\n#> 1\r\n#: edited\r\n")
    one.restart(programs=False)
    read = (await one.ask("read")).json
    assert read["head"] == "import math\n"
    assert read["turns"] == [{"request": "Set x.", "code": "x = 1", "output": "1", "edited": True}]
    assert read["text"] == "import math\n\n# Set x.\nx = 1\n#> 1\n#: edited\n"
    asked = (await one.ask("questions", request="Double `y`, and return `x`.")).json["questions"]
    assert [question["kind"] for question in asked] == ["undefined", "example"]
    assert "y" in asked[0]["text"]
    results = [{"number": 0, "value": "1", "files": [{"name": "a.png", "base64": "iVBORw=="}]}]
    notebook = (await one.ask("notebook", results=results)).json
    assert [cell["cell_type"] for cell in notebook["cells"]] == ["code", "markdown", "code"]
    assert [output["output_type"] for output in notebook["cells"][2]["outputs"]] == ["display_data", "execute_result"]
    assert (await one.ask("notebook", results=[{"number": 0, "files": [{"name": "a", "base64": "%"}]}])).status == 400
    assert played(one.service).generated == []


@pytest.mark.parametrize("path", RUNS)
async def test_nothing_runs_unless_the_command_line_allows_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_routes, "report_turns", None)
    one = Conversation(text="# One.\n1\n")
    one.restart(programs=False)
    refused = await one.ask(path, request="Print it.", turn=0, code="2")
    assert refused.status == 403
    assert "--programs" in refused.json["error"]["message"]
    assert (await exchange(one.app, "GET", "/page/session/state")).json["programs"] is False
    assert played(one.service).generated == []


@pytest.mark.parametrize("path", RUNS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://editor.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "rebound.example:8012"}, 403),
        ({"host": "rebound.example:8012", "origin": "http://rebound.example:8012"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_a_page_of_another_origin_runs_nothing(path: str, headers: dict[str, str], status: int) -> None:
    """Not even one that `--allow-origin` admits to completion."""
    one = Conversation(text="# One.\n1\n")
    one.restart(allowed_origins=("https://editor.example",))
    body = {"text": one.text, "request": "Print it.", "turn": 0, "code": "2"}
    before = set(psutil.Process().children())
    answered = await exchange(one.app, "POST", f"/page/session/{path}", body, headers)
    assert answered.status == status
    assert played(one.service).generated == []
    assert set(psutil.Process().children()) <= before


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://127.0.0.1:8012", "sec-fetch-site": "same-origin"},
        {"host": "codegen.example", "origin": "https://codegen.example"},
        {},
    ],
    ids=["the page", "the page behind a proxy", "a program"],
)
async def test_the_page_itself_runs_programs(headers: dict[str, str]) -> None:
    one = Conversation()
    one.restart(allowed_origins=("https://codegen.example",), allowed_hosts=("codegen.example",))
    answered = await exchange(one.app, "POST", "/page/session/run", {"text": "# One.\n1\n"}, headers)
    assert answered.events[-1]["reports"][0]["value"] == "1"


@pytest.mark.parametrize("path", RUNS)
async def test_a_key_is_needed_where_there_are_keys(path: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("k" * 40)
    (tmp_path / "keys").chmod(0o600)
    for host in ("127.0.0.1", "0.0.0.0"):
        one = Conversation(text="# One.\n1\n")
        one.restart(host=host, key_file=tmp_path / "keys")
        assert (await one.ask(path, turn=0, request="x")).status == 401


async def test_where_programs_cant_be_confined_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise SandboxError("Programs can't be confined on this system: no namespaces.", "Use Linux.")

    monkeypatch.setattr("codegen_lsp.synthesis.running.run_program", refuse)
    one = Conversation(text="# One.\n1\n")
    state = (await exchange(one.app, "GET", "/page/session/state")).json
    assert state == {"programs": False, "reason": "Programs can't be confined on this system: no namespaces."}
    for path in ("propose", "edit", "run"):
        refused = await one.ask(path, turn=0, request="Print it.", code="2")
        assert refused.status == 400
        assert "no namespaces" in refused.json["error"]["message"]


@pytest.mark.usefixtures("sandbox")
async def test_the_state_says_that_programs_run() -> None:
    assert (await exchange(Conversation().app, "GET", "/page/session/state")).json == {"programs": True, "reason": ""}


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("propose", {"request": " "}, "Nothing is asked"),
        ("propose", {"request": "x" * 4001}, "at most 4000"),
        ("propose", {"request": 7}, "`request`"),
        ("read", {"text": "x" * 200_001}, "at most 200000"),
        ("read", {"text": "# x\n\n" * 201}, "at most 200 steps"),
        ("edit", {"code": "1"}, "There is no step 0"),
        ("edit", {"turn": 1, "code": "1"}, "There is no step 2"),
        ("edit", {"turn": 0, "code": 1}, "`code`"),
        ("remove", {"turn": 3}, "There is no step 4"),
    ],
)
async def test_wrong_requests_are_refused(path: str, body: dict[str, Any], word: str) -> None:
    refused = await Conversation(text="# One.\n1\n").ask(path, **body)
    assert refused.status == 400
    assert word in refused.json["error"]["message"]


HOSTILE = {
    "while True: pass": "was stopped",
    "import os\nwhile True: os.fork()": "BlockingIOError",
    "open('/etc/codegen-lsp', 'w')": "OSError",
    "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)": "OSError",
    "x = []\nwhile True: x.append(bytearray(1 << 24))": "MemoryError",
    "import os\nos._exit(0)": "it ended the program",
}


@pytest.mark.usefixtures("sandbox")
async def test_programs_that_misbehave_are_stopped_and_the_session_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = evolve(programs.LIMITS, seconds=60.0, memory_mb=512, scratch_mb=2)
    one = Conversation(text="# One.\nprint('before')\n\n# Misbehave.\npass\n")
    for code, word in HOSTILE.items():
        monkeypatch.setattr(programs, "LIMITS", evolve(limits, seconds=2.0) if word == "was stopped" else limits)
        done = await one.done("edit", turn=1, code=code)
        assert word in done["reports"][0]["reason"], code
        assert done["reports"][0]["kind"] in ("failed", "timeout")
    done = await one.done("edit", turn=1, code="1 / 0")
    assert done["reports"][0]["explanation"] == "it divides by zero (line 1)"
    done = await one.done("edit", turn=1, code="open('turn-2-fruit.csv', 'w').write('a,b\\n1,2\\n')")
    assert done["reports"][0]["tables"] == [
        {"name": "turn-2-fruit.csv", "heads": ["a", "b"], "rows": [["1", "2"]], "dropped": 0},
    ]
    await one.done("edit", turn=1, code="print('\\x1b[31m<script>alert(1)</script>\\r\\nimport os')")
    assert one.turns[1]["output"].endswith("import os")
    assert one.turns[1]["code"].startswith("print(")
    await one.done("propose", request="Say more.")
    assert one.outputs[-1] == "more"


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.to_thread(time.sleep, 0.01)


@pytest.mark.usefixtures("sandbox")
async def test_who_leaves_ends_the_program() -> None:
    one, left = Conversation(text="# Wait.\nimport time\nwhile True: time.sleep(60)\n"), Exchange()
    asking = asyncio.ensure_future(one.ask("run", into=left))
    jails: list[psutil.Process] = []
    await until(lambda: jails.extend(running_jails()) or jails)
    processes = [*jails, *jails[0].children()]
    left.disconnected.set()
    await asking
    assert (await asyncio.to_thread(psutil.wait_procs, processes, 60))[1] == []


async def test_who_leaves_ends_the_generation() -> None:
    one, left = Conversation(), Exchange()
    model = played(one.service)
    model.gate.clear()
    asking = asyncio.ensure_future(one.ask("propose", request="Print it.", into=left))
    await until(lambda: model.generated)
    left.disconnected.set()
    await asking
    assert len(model.cancelled) == 1
    assert model.generated[0].user == "127.0.0.1"


@define
class WaitingRunner:
    """Runs nothing, and counts who waits for it."""

    gate: asyncio.Event = field(factory=asyncio.Event)
    running: int = 0
    most: int = 0

    async def run_cancellable(self, dialogue: Dialogue, examples: Sequence[Example] = ()) -> ProgramRun:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        return ProgramRun("ran", [])


async def test_few_programs_run_at_once_and_few_requests_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    runner, asked = WaitingRunner(), []

    class CountingRunner(programs.SharedRunner):
        async def run_cancellable(self, dialogue: Dialogue, examples: Sequence[Example] = ()) -> ProgramRun:
            asked.append(dialogue)
            return await super().run_cancellable(dialogue, examples)

    monkeypatch.setattr(session_routes, "SharedRunner", lambda: CountingRunner(runner))
    one = Conversation(text="# One.\n1\n")
    asking = [asyncio.ensure_future(one.ask("run")) for _ in range(session_routes.MAX_OPEN_OF_CLIENT)]
    await until(lambda: len(asked) == session_routes.MAX_OPEN_OF_CLIENT)
    refused = await one.ask("run")
    assert refused.status == 429
    others = [
        asyncio.ensure_future(
            exchange(one.app, "POST", "/page/session/run", {"text": one.text}, client=f"127.0.0.{at}")
        )
        for at in range(2, 2 + session_routes.MAX_OPEN - session_routes.MAX_OPEN_OF_CLIENT)
    ]
    await until(lambda: len(asked) == session_routes.MAX_OPEN)
    refused = await exchange(one.app, "POST", "/page/session/run", {"text": one.text}, client="127.0.0.99")
    assert refused.status == 503
    runner.gate.set()
    answers = await asyncio.gather(*asking, *others)
    assert {answered.status for answered in answers} == {200}
    assert runner.most == programs.PROGRAMS_AT_ONCE
    assert (await one.ask("run")).status == 200


@pytest.mark.usefixtures("sandbox")
async def test_pictures_are_sent() -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib (extra plot) is not installed")
    one = Conversation(text="# Draw.\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n")
    (file,) = (await one.done("run"))["reports"][0]["files"]
    assert file["name"] == "turn-1-figure-1.png"
    assert base64.b64decode(file["base64"]).startswith(b"\x89PNG")
    assert json.loads((await one.ask("notebook")).body)["nbformat"] == 4
