"""Sessions in the page, in a real Chromium: with a scripted model and the real sandbox, and with the embedded model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import needs

needs.extra("serve")

import uvicorn
from attrs import evolve

from codegen_lsp.http import programs
from codegen_lsp.http.app import create_app
from codegen_lsp.http.completion import CompletionService
from codegen_lsp.http.config import HttpConfig
from codegen_lsp.inference.rpc.messages import GenerateParams
from codegen_lsp.synthesis.dialogue import parse
from tests.editors.page.conftest import PATIENCE
from tests.editors.scenarios import PICTURES
from tests.http.asgi import played, played_service
from tests.http.conftest import running_server

SUM = "Sum prices. `prices = [1, 2]` → `3`"
ANSWERS = {
    "Set prices to [3, 5, 8].": ["prices = [3, 5, 8]\nprices"],
    "Set prices to [1].": ["prices = [1]"],
    SUM: ["1 / 0", "max(prices)", "sum(prices)"],
    "Print prices.": ["print('prices', *prices)", "print(prices)"],
    "Make a table.": ["table = [{'fruit': f, 'price': p} for f, p in zip(('pear', 'plum', 'fig'), prices)]\ntable"],
    "Say bye.": ["print('bye')"],
    "Write nothing.": ["", "undefined_name"],
    "Draw.": [
        "import matplotlib.pyplot as plt\nplt.figure(figsize=(5, 2.5))\nplt.bar(['pear', 'plum', 'fig'], prices)"
    ],
}
HOSTILE = {
    "while True: pass": "was stopped",
    "import os\nwhile True: os.fork()": "BlockingIOError",
    "open('/etc/codegen-lsp', 'w')": "OSError",
    "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)": "OSError",
    "x = bytearray(1 << 40)": "MemoryError",
    "import os\nos._exit(0)": "it ended the program",
}
ATTACK = """async (target) => {
  const body = JSON.stringify({text: "# One.\\nprint(1)\\n", turn: 0, code: "2", request: "Say bye."});
  const answers = [];
  for (const path of ["run", "edit", "propose", "remove"]) {
    for (const options of [{headers: {"content-type": "application/json"}}, {}, {mode: "no-cors"}]) {
      const url = target + "/page/session/" + path;
      try { answers.push(await (await fetch(url, {method: "POST", body, ...options})).text()); } catch { }
    }
    const form = document.createElement("form"), frame = document.createElement("iframe");
    frame.name = "answer-" + path;
    Object.assign(form, {method: "post", action: target + "/page/session/" + path, target: frame.name,
      enctype: "text/plain"});
    const field = document.createElement("input");
    Object.assign(field, {name: body.slice(0, -1) + ',"x":"', value: '"}'});
    form.append(field);
    const loaded = new Promise((resolve) => { frame.onload = resolve; });
    document.body.append(form, frame);
    form.submit();
    await loaded;
  }
  return answers.filter((text) => text !== "");
}"""
LATE = """
const fetched = window.fetch;
window.fetch = async (path, options) => {
  const answer = await fetched(path, options);
  if (path === "/page/session/state" && answer.status === 401 && !window.release) {
    await new Promise((resolve) => { window.release = resolve; });
  }
  return answer;
};"""
"""Keeps the first refusal of a request about programs until it is released."""
OPENED_AGAIN = """() => {
  window.release();
  return new Promise((done) => setTimeout(() => done(document.querySelector("#ask").open)));
}"""
NAMELESS = """() => [...document.querySelectorAll("#sessions-page :is(button, select, textarea, input, [tabindex])")]
  .filter((one) => one.checkVisibility()
  && !(one.ariaLabel || one.textContent.trim() || one.labels?.length)).map((one) => one.outerHTML)"""


pytestmark = pytest.mark.usefixtures("sandbox")


def answer(params: GenerateParams) -> list[str]:
    request = params.prefix.rstrip("\n").rpartition("\n\n")[2].removeprefix("# ").replace("\n# ", "\n")
    texts = next((texts for asked, texts in ANSWERS.items() if request.startswith(asked)), ["undefined_name + 1"])
    return texts[1:] + texts[:1] if params.temperature and len(texts) > 1 else texts


class ScriptedSite:
    """The HTTP server in a thread, over a scripted model."""

    def __init__(self) -> None:
        self.port = 0
        self.service: CompletionService
        self.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.service = played_service(answer)
        app = create_app(self.service, HttpConfig(programs=True))
        options: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False, "ws": "none"}
        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=self.port, **options))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()


def wait_until(condition: Callable[[], Any]) -> None:
    while not condition():
        time.sleep(0.01)


@pytest.fixture
def site() -> Iterator[ScriptedSite]:
    made = ScriptedSite()
    yield made
    made.stop()


class SessionTab:
    """The page at `/sessions` in a tab of its own, used as a person uses it."""

    def __init__(self, browser: Any, origin: str, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.origin = origin
        self.urls: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if "Policy" in message.text else None)
        self.page.goto(f"{origin}/sessions")

    def ready(self) -> None:
        self.page.wait_for_function("() => ['ready', 'busy'].includes(document.querySelector('#state').dataset.phase)")

    def say(self, request: str) -> None:
        self.page.locator("#say-text").fill(request)
        self.page.keyboard.press("Enter")

    def ask(self, request: str) -> None:
        """Say a step, and wait until it was written; questions about it are left unanswered."""
        count = self.page.locator(".step").count() + 1
        self.say(request)
        while self.page.locator(".step").count() != count:
            self.page.wait_for_function(
                "(count) => document.querySelectorAll('.step').length === count || document.querySelector('.question')",
                arg=count,
            )
            if self.page.locator(".question").count():
                self.page.get_by_role("button", name="Go on without").click()
        self.idle(count)

    def idle(self, count: int) -> None:
        self.page.wait_for_function(
            """(count) => document.querySelectorAll('.step').length === count
              && document.querySelector('#working').hidden && !document.querySelector('#steps').inert""",
            arg=count,
        )

    def step(self, number: int) -> Any:
        return self.page.locator(f"#step-{number}")

    def shows(self, number: int, text: str) -> None:
        """Wait until a step shows a text among what it did."""
        self.page.wait_for_function(
            "([id, text]) => document.querySelector(id)?.querySelector('.result').textContent.includes(text)",
            arg=[f"#step-{number}", text],
        )

    def results(self) -> list[str]:
        """Return what each step shows, without empty lines."""
        texts = self.page.locator(".step .result").all_inner_texts()
        return ["\n".join(line for line in one.split("\n") if line.strip()) for one in texts]

    def do(self, number: int, action: str) -> None:
        if action == "edit":
            self.unfold(number)
        self.step(number).locator(f"[data-action={action}]").click()

    def unfold(self, number: int) -> None:
        fold = self.step(number).locator("[data-fold]")
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()

    def edit(self, number: int, code: str) -> None:
        """Replace the code of a step, and wait until it was run."""
        self.do(number, "edit")
        self.page.locator(".text-form textarea").fill(code)
        self.page.keyboard.press("Control+Enter")
        self.page.locator(".text-form").wait_for(state="detached")
        self.idle(self.page.locator(".step").count())

    def code(self, number: int) -> str:
        return str(self.step(number).locator("pre.code").text_content())

    def notice(self, text: str) -> None:
        self.page.wait_for_function("(text) => document.querySelector('#notice').textContent.includes(text)", arg=text)

    def download(self, name: str) -> tuple[str, str]:
        """Return the name and the content of what a button downloads."""
        opened = self.page.expect_download()
        event = opened.__enter__()
        self.page.locator(f"#{name}").click()
        opened.__exit__(None, None, None)
        download = event.value
        return str(download.suggested_filename), Path(download.path()).read_text(encoding="utf-8")

    def picture(self, name: str) -> None:
        if PICTURES:
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)

    def close(self) -> None:
        assert self.errors == []
        assert all(url.startswith((f"{self.origin}/", f"blob:{self.origin}/")) for url in self.urls)
        self.context.close()


@pytest.fixture
def tab(browser: Any, site: ScriptedSite) -> Iterator[SessionTab]:
    opened = SessionTab(browser, site.origin)
    opened.ready()
    yield opened
    opened.close()


def test_a_session_of_six_turns_goes_on_after_a_restart(tab: SessionTab, site: ScriptedSite) -> None:
    tab.ask("Set prices to [3, 5, 8].")
    tab.ask(SUM)
    assert tab.results() == ["[3, 5, 8]", "16\nThe examples hold."]
    assert tab.step(2).locator(".versions button").all_inner_texts() == ["1 ✓", "2 ✗", "3 ✗"]
    tab.step(2).locator(".versions button").nth(1).click()
    tab.shows(2, "prices = [1, 2] → 3, but it gives 2")
    tab.page.locator("#undo").click()
    tab.shows(2, "The examples hold.")
    tab.ask("Print prices.")
    assert not tab.step(3).locator("pre.code").is_visible()
    tab.unfold(3)
    assert tab.code(3) == "print('prices', *prices)"
    tab.edit(1, "prices = [4]\nprices")
    assert tab.results() == ["[4]", "4\nThe examples hold.", "prices 4"]
    assert tab.step(1).locator("[data-fold]").inner_text().endswith("Code (yours)")

    site.stop()
    site.start()
    tab.page.reload()
    tab.ready()
    assert tab.results() == ["[4]", "4\nThe examples hold.", "prices 4"]
    tab.ask("Make a table.")
    assert tab.step(4).locator("th").all_inner_texts() == ["fruit", "price"]
    assert tab.step(4).locator("td").all_inner_texts() == ["pear", "4"]
    tab.page.locator("#undo").click()
    tab.page.locator("#undo").click()  # the edit, before the page was loaded again
    assert tab.page.locator(".step").count() == 3
    assert tab.results()[0] == "[3, 5, 8]"
    tab.page.locator("#redo").click()
    tab.page.locator("#redo").click()
    assert tab.step(4).locator("td").all_inner_texts() == ["pear", "4"]
    tab.ask("Say bye.")
    tab.ask("Print prices.")
    tab.do(1, "change")
    tab.page.locator(".text-form textarea").fill("Set prices to [1].")
    tab.page.keyboard.press("Enter")
    tab.shows(6, "prices 1")
    tab.idle(6)
    tab.do(6, "insert")
    tab.page.locator(".text-form textarea").fill("Say bye.")
    tab.page.keyboard.press("Enter")
    tab.idle(7)
    tab.do(6, "retry")
    tab.idle(7)
    tab.do(6, "remove")
    tab.idle(6)
    assert tab.results()[4:] == ["bye", "prices 1"]
    tab.page.locator("#run").click()
    tab.idle(6)
    name, text = tab.download("python")
    assert name == "set-prices-to-1.py"
    assert [turn.output for turn in parse(text).turns][-2:] == ["bye", "prices 1"]
    compile(text, "session.py", "exec")


def test_what_is_open_is_asked_in_one_line(tab: SessionTab, site: ScriptedSite) -> None:
    tab.say("Double `prices`.")
    assert tab.page.locator(".question label").inner_text().startswith("Nothing above defines prices.")
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("#say-text").input_value() == "Double `prices`."
    assert played(site.service).generated == []
    tab.say("Print prices.\nCompute `n`.")
    for text in "It is 2.", "":
        tab.page.locator("#answer").fill(text)
        tab.page.keyboard.press("Enter")
    tab.idle(1)
    assert tab.step(1).locator(".request").inner_text() == "Print prices.\nCompute n.\nIt is 2."
    assert played(site.service).generated[0].prefix == "# Print prices.\n# Compute `n`.\n# It is 2.\n"


def test_cancel_ends_the_generation_and_the_program(tab: SessionTab, site: ScriptedSite) -> None:
    tab.ask("Set prices to [3, 5, 8].")
    model = played(site.service)
    model.gate.clear()
    tab.say("Print prices.")
    wait_until(lambda: len(model.generated) > 2)
    tab.page.locator("#cancel").click()
    tab.notice("Stopped. Nothing was changed.")
    wait_until(lambda: model.cancelled)
    model.gate.set()
    assert tab.page.locator("#say-text").input_value() == "Print prices."
    others = {one.pid for one in psutil.Process().children()}
    tab.do(1, "edit")
    tab.page.locator(".text-form textarea").fill("import time\nwhile True: time.sleep(60)")
    tab.page.get_by_role("button", name="Save and run").click()
    jails: list[psutil.Process] = []
    wait_until(
        lambda: (
            jails.extend(one for one in psutil.Process().children() if one.pid not in others and one.children())
            or jails
        )
    )
    processes = [*jails, *jails[0].children()]
    tab.page.locator("#cancel").click()
    tab.notice("Stopped. Nothing was changed.")
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert tab.results() == ["[3, 5, 8]"]
    tab.ask("Print prices.")
    assert tab.results()[1] == "prices 3 5 8"


def test_programs_that_misbehave_are_stopped_and_the_session_goes_on(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = evolve(programs.LIMITS, seconds=60.0, memory_mb=512, scratch_mb=2)
    site = ScriptedSite()
    tab = SessionTab(browser, site.origin)
    tab.ready()
    tab.ask("Set prices to [3, 5, 8].")
    tab.ask("Say bye.")
    for code, word in HOSTILE.items():
        monkeypatch.setattr(programs, "LIMITS", evolve(limits, seconds=2.0) if word == "was stopped" else limits)
        tab.edit(2, code)
        assert word.lower() in tab.results()[1].lower()
        assert tab.step(2).locator(".problem").count() == 1
    tab.edit(2, "print('\\x1b[31m<img src=x onerror=alert(1)><script>alert(2)</script>\\u202e')\n'<b>bold</b>'")
    shown = tab.step(2).locator(".result").inner_text()
    assert "<script>alert(2)</script>" in shown
    assert "<b>bold</b>" in shown
    assert not any(sign in shown for sign in "\x1b\u202e")
    assert tab.page.locator("#steps img, #steps script, #steps b").count() == 0
    tab.ask("Print prices.")
    assert tab.results()[2] == "prices 3 5 8"
    tab.close()
    site.stop()


def test_empty_versions_and_steps_below_a_failure_are_told_apart(tab: SessionTab) -> None:
    tab.ask("Write nothing.")
    assert tab.step(1).locator(".versions button").all_inner_texts() == ["1 ✗", "2 –"]
    assert "No version works." in tab.step(1).inner_text()
    assert tab.results()[0].split("\n") == [
        "Nothing up to here defines undefined_name (line 1).",
        "NameError: name 'undefined_name' is not defined (line 1)",
    ]
    tab.ask("Say bye.")
    assert tab.results()[1].split("\n") == [
        "Step 1 fails, so this one did not run: nothing up to here defines undefined_name (line 1).",
        "NameError: name 'undefined_name' is not defined (line 1)",
    ]
    tab.edit(1, "open('turn-1-fruit.csv', 'w').write('fruit,price\\npear,3\\n')\nNone")
    assert tab.step(1).get_by_role("region", name="turn-1-fruit.csv").locator("td").all_inner_texts() == ["pear", "3"]
    assert tab.results()[1] == "bye"


def test_pictures_are_shown(tab: SessionTab) -> None:
    pytest.importorskip("matplotlib", reason="Matplotlib (extra plot) is not installed")
    tab.ask("Set prices to [3, 5, 8].")
    tab.ask("Draw.")
    canvas = tab.step(2).get_by_role("img", name="Picture of step 2")
    canvas.wait_for()
    size = canvas.evaluate("(one) => [one.width, one.height]")
    assert size == [500, 250]
    drawn = "(one) => new Set(one.getContext('2d').getImageData(0, 0, one.width, one.height).data).size > 10"
    assert canvas.evaluate(drawn)
    tab.page.reload()
    canvas.wait_for()


def test_a_session_is_downloaded_as_a_notebook_and_a_file_opened(tab: SessionTab, tmp_path: Path) -> None:
    for request in "Set prices to [3, 5, 8].", "Print prices.", "Do what no model can.":
        tab.ask(request)
    assert "No version works." in tab.step(3).inner_text()
    name, text = tab.download("notebook")
    assert name == "set-prices-to-3-5.ipynb"
    notebook = json.loads(text)
    kinds = [
        [one["output_type"] for one in cell["outputs"]] for cell in notebook["cells"] if cell["cell_type"] == "code"
    ]
    assert kinds == [["execute_result"], ["stream"], ["error"]]
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbformat.validate(nbformat.reads(text, as_version=4))

    before = len(tab.urls)
    (tmp_path / "mine.py").write_text(
        "import math\n\n# Take the root.\r\nmath.sqrt(16)\n\n# Show <b>it</b>.\nprint('x')\n#> x\n"
    )
    tab.page.locator("#file").set_input_files(tmp_path / "mine.py")
    tab.notice("mine.py was opened. Nothing of it was run")
    assert [url.rpartition("/")[2] for url in tab.urls[before:] if "/page/session/" in url] == ["read"]
    assert tab.results() == ["Shows nothing.", "x"]
    assert tab.page.locator("#head summary").is_visible()
    tab.page.locator("#run").click()
    tab.shows(1, "4.0")
    assert tab.page.locator("#session option").all_inner_texts() == ["Take the root.", "Set prices to [3, 5, 8]."]
    tab.page.locator("#session").select_option(label="Set prices to [3, 5, 8].")
    assert tab.page.locator(".step").count() == 3
    address = tab.page.url
    tab.page.goto(f"{tab.origin}/")
    tab.page.goto(address)
    assert tab.page.locator(".step").count() == 3
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.page.locator("#delete").click()
    assert tab.results() == ["4.0", "x"]
    assert tab.page.locator("#session option").count() == 1


def test_the_keyboard_alone_and_names_for_screen_readers(tab: SessionTab) -> None:
    tab.ask("Set prices to [3, 5, 8].")
    tab.ask(SUM)
    assert tab.page.evaluate("() => document.activeElement.id") == "say-text"
    assert tab.page.locator("#live").inner_text() == "Step 2: the examples hold. It gives 16"
    assert tab.page.evaluate(NAMELESS) == []
    focused = "() => document.activeElement.ariaLabel"
    tab.step(2).locator(".versions button").first.focus()
    names = []
    for _ in range(9):
        names.append(tab.page.evaluate(focused))
        tab.page.keyboard.press("Tab")
    assert names[0].startswith("Version 1, ")
    assert names[3:8] == [
        *("Code of step 2", "Reword step 2", "Other versions of step 2", "Insert a step above step 2", "Remove step 2"),
    ]
    tab.step(2).locator("[data-action=change]").focus()
    tab.page.keyboard.press("Enter")
    assert tab.page.evaluate("() => document.activeElement.value") == SUM
    tab.page.keyboard.press("Escape")
    assert tab.page.evaluate(focused) == "Reword step 2"
    tab.step(2).locator("[data-action=remove]").focus()
    tab.page.keyboard.press("Enter")
    tab.idle(1)
    assert tab.page.evaluate("() => document.activeElement.textContent").startswith("1Set prices")
    roles = tab.page.locator("#notice, #live, #working-text").evaluate_all("(all) => all.map((one) => one.role)")
    assert sorted(roles) == ["alert", "status", "status"]


def test_both_views_are_one_page(tab: SessionTab) -> None:
    tab.ask("Say bye.")
    tab.page.get_by_role("link", name="Editor").click()
    assert tab.page.url == f"{tab.origin}/"
    assert tab.page.locator("#editor").is_visible()
    assert not tab.page.locator("#sessions-page").is_visible()
    tab.page.go_back()
    assert tab.page.locator(".step").is_visible()
    assert tab.page.title() == "Sessions · codegen-lsp"


def test_another_tab_of_the_same_session_follows(tab: SessionTab) -> None:
    tab.ask("Say bye.")
    other = tab.context.new_page()
    other.goto(tab.page.url)
    other.locator("#step-1").wait_for()
    tab.ask("Set prices to [3, 5, 8].")
    other.locator("#step-2").wait_for()
    other.close()


def test_a_page_of_another_origin_runs_nothing(
    browser: Any, site: ScriptedSite, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[object] = []
    monkeypatch.setattr("codegen_lsp.synthesis.running.run_program", lambda *given, **named: ran.append(given))
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(elsewhere)
    assert page.evaluate(ATTACK, site.origin) == []
    assert ran == []
    assert played(site.service).generated == []
    context.close()


def test_without_the_option_the_page_says_why_nothing_runs(browser: Any, tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        tab = SessionTab(browser, f"http://{server.host}:{server.port}")
        tab.page.locator("#off").wait_for()
        assert "--programs" in tab.page.locator("#off").inner_text()
        assert tab.page.locator("#say-send").is_disabled()
        (tmp_path / "mine.py").write_text("# Show it.\nprint('x')\n#> x\n")
        tab.page.locator("#file").set_input_files(tmp_path / "mine.py")
        tab.shows(1, "x")
        assert tab.step(1).locator("[data-action=remove]").is_disabled()
        assert tab.download("notebook")[0] == "show-it.ipynb"
        tab.close()


def test_a_late_refusal_of_a_request_without_the_key_asks_for_no_other(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("correct-horse-battery-staple-7141\n")
    (tmp_path / "key").chmod(0o600)
    with running_server(tmp_path, "--api-key-file", str(tmp_path / "key")) as server:
        tab = SessionTab(browser, f"http://{server.host}:{server.port}")
        tab.context.add_init_script(LATE)
        tab.page.reload()
        tab.page.wait_for_function("() => window.release && document.querySelector('#ask').open")
        tab.page.locator("#key").fill("correct-horse-battery-staple-7141")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_function("() => !document.querySelector('#ask').open")
        assert not tab.page.evaluate(OPENED_AGAIN)
        tab.page.locator("#off").wait_for()  # the request was sent again
        tab.close()


@pytest.mark.slow
def test_the_embedded_model_carries_a_session_with_a_key(browser: Any, tmp_path: Path) -> None:
    """Whatever it writes: its steps often fail, and the person writes them."""
    (tmp_path / "key").write_text("correct-horse-battery-staple-7141\n")
    (tmp_path / "key").chmod(0o600)
    options = ("--programs", "--api-key-file", str(tmp_path / "key"))
    with running_server(tmp_path, *options) as server:
        tab = SessionTab(browser, f"http://{server.host}:{server.port}")
        for one in range(2):
            tab.page.locator("#key").fill("correct-horse-battery-staple-7141")
            tab.page.keyboard.press("Enter")
            tab.ready()
            tab.page.wait_for_function("() => !document.querySelector('#say-send').disabled")
            if one == 0:
                tab.page.reload()
                tab.page.locator("#key").wait_for()
        assert tab.page.locator("#small").is_visible()
        for request in "Import the module math.", "Set `values` to the list [3, 1, 2].", "Sort `values`.":
            tab.ask(request)
        tab.edit(2, "values = [3, 1, 2]")
        tab.edit(3, "values = sorted(values)\nvalues")
        tab.page.locator("#undo").click()
        tab.page.locator("#redo").click()
        port = server.port
    tab.page.wait_for_function("() => document.querySelector('#state').dataset.phase === 'away'")
    tab.say("Print `values`.")
    tab.notice("The server does not answer.")
    with running_server(tmp_path, *options, address=f"127.0.0.1:{port}") as server:
        server.wait_until_ready()
        tab.page.reload()
        tab.page.locator("#key").fill("correct-horse-battery-staple-7141")
        tab.page.keyboard.press("Enter")
        tab.ready()
        tab.shows(3, "[1, 2, 3]") if "Error" not in tab.results()[0] else None
        for request in "Print `values`.", "Compute the largest of `values`. max(values) → 3", "Print done.":
            tab.ask(request)
        assert tab.page.locator(".step").count() == 6
        tab.edit(1, "import math")
        tab.edit(4, "print(values)")
        assert tab.results()[2:4] == ["[1, 2, 3]", "[1, 2, 3]"]
        tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(browser: Any, site: ScriptedSite, scheme: str, width: int) -> None:
    tab = SessionTab(browser, site.origin, viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.ready()
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    assert tab.page.evaluate(fits)
    for request in "Set prices to [3, 5, 8].", SUM, "Make a table.", "Draw.", "Print prices.":
        tab.ask(request)
    tab.unfold(2)
    tab.edit(5, "print('x' * 3000)\n[[n] * 20 for n in range(10 ** 30, 10 ** 30 + 3)]")
    tab.step(5).locator("table").wait_for()
    assert tab.page.evaluate(fits)
    tab.do(1, "change")
    assert tab.page.evaluate(fits)
    tab.page.keyboard.press("Escape")
    tab.say("Compute the difference of `quinces`, please.")
    tab.page.locator(".question").wait_for()
    assert tab.page.evaluate(fits)
    tab.picture(f"sessions-{width}-{scheme}")
    tab.close()


def test_picture(browser: Any, site: ScriptedSite) -> None:
    """The picture of the documentation."""
    tab = SessionTab(browser, site.origin, viewport={"width": 1000, "height": 700}, color_scheme="light")
    tab.ready()
    for request in "Set prices to [3, 5, 8].", SUM, "Make a table.":
        tab.ask(request)
    tab.unfold(2)
    tab.picture("sessions")
    tab.close()
