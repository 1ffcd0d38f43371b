"""The page of the HTTP server in a real Chromium, with the real worker and the embedded model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.editors.page.conftest import PATIENCE, REBOUND
from tests.editors.scenarios import PICTURES
from tests.http.conftest import RunningServer, running_server

LIBRARY = """\
class QuokkaRegistry:
    def enlist_marsupial(self, burrow, *, eager=False):
        self._burrows.append(burrow)
        return self._census(eager)


def restock(registry, burrows):
    for burrow in burrows:
        registry.enlist_marsupial(burrow, eager=True)
"""
PICTURED = """\
from lib.quokka import QuokkaRegistry


def refill(path, burrows):
    registry = QuokkaRegistry(path)
    for burrow in burrows:
        registry.enlist_"""
ATTACK = """async (target) => {
  const body = JSON.stringify({prompt: "import os", input_prefix: "import ", input_suffix: "", n_predict: 4});
  const tried = async (work) => { try { return await work(); } catch (error) { return "refused"; } };
  const loaded = (element, place) => new Promise((resolve) => {
    element.onload = () => resolve("loaded");
    element.onerror = () => resolve("refused");
    element.src = place;
    document.body.append(element);
  });
  const read = (path, options) => tried(async () => (await fetch(target + path, options)).text());
  const form = document.createElement("form");
  const frame = document.createElement("iframe");
  frame.name = "answer";
  Object.assign(form, {method: "post", action: target + "/completion", target: "answer", enctype: "text/plain"});
  const field = document.createElement("input");
  Object.assign(field, {name: body.slice(0, -1) + ',"x":"', value: '"}'});
  form.append(field);
  document.body.append(form, frame);
  form.submit();
  return {
    json: await read("/completion", {method: "POST", body, headers: {"content-type": "application/json"}}),
    plain: await read("/completion", {method: "POST", body}),
    opaque: await read("/infill", {method: "POST", body, mode: "no-cors"}),
    models: await read("/v1/models"),
    keyless: await read("/health"),
    image: await loaded(new Image(), target + "/v1/models"),
    script: await loaded(document.createElement("script"), target + "/page/script.js"),
    socket: await new Promise((resolve) => {
      const socket = new WebSocket(target.replace("http", "ws") + "/");
      socket.onopen = () => resolve("opened");
      socket.onerror = () => resolve("refused");
    }),
  };
}"""
"""What a page of another origin may try; what it could read of each."""
GHOST = "() => document.querySelector('#view .ghost')?.textContent ?? ''"
ANSWERED = "() => performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/page/complete')).length"
REFILL = "def refill(registry, burrows):\n    for burrow in burrows:\n        registry.enlist_"
REPEATED = """\
from totals import compute_total


def first(values):
    total = compute_total(values)
    return total


def second(values):
    total = comp"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "work" / "lib").mkdir(parents=True)
    (folder / "work" / "lib" / "quokka.py").write_text(LIBRARY)
    with running_server(folder, "--workspace", str(folder / "work")) as running:
        running.wait_until_ready()
        yield running


class Tab:
    """The page in a tab of its own, and all requests that it sends."""

    def __init__(self, browser: Any, server: RunningServer, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.origin = f"http://{server.host}:{server.port}"
        self.urls: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if "Policy" in message.text else None)
        self.page.goto(f"{self.origin}/")

    def ready(self) -> None:
        self.page.wait_for_function("() => ['ready', 'busy'].includes(document.querySelector('#state').dataset.phase)")

    def indexed(self) -> None:
        """Wait until the workspace is indexed."""
        self.page.wait_for_function(
            "() => /^work(?!.*indexing)/.test(document.querySelector('#workspace').textContent)"
        )

    def set(self, text: str) -> None:
        """Insert a text over everything, in one piece."""
        self.page.locator("#editor").focus()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def paste(self, text: str) -> None:
        """Paste over the selection, as the user does: Chromium inserts thousands of lines quickly in this way alone."""
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.origin)
        self.page.locator("#editor").focus()
        self.page.evaluate("(text) => navigator.clipboard.writeText(text)", text)
        self.page.keyboard.press("Control+v")

    def ghost(self) -> str:
        self.page.wait_for_function("() => document.querySelector('#view .ghost')")
        return str(self.page.evaluate(GHOST))

    def no_ghost(self) -> bool:
        return self.page.evaluate(GHOST) == ""

    def text(self) -> str:
        return str(self.page.locator("#editor").input_value())

    def tokens(self) -> list[dict[str, Any]]:
        """Wait for the explanation of the suggestion on the screen, and return what the server said."""
        self.page.wait_for_function("() => document.querySelector('#tokens button')")
        labels = self.page.locator("#tokens button").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
        return [{"label": label, "percent": int(re.search(r", <?(\d+) %", label)[1])} for label in labels]  # type: ignore[index]

    def close(self) -> None:
        assert self.errors == []
        assert self.urls
        assert all(url.startswith(f"{self.origin}/") for url in self.urls)
        self.context.close()


@pytest.fixture
def tab(browser: Any, server: RunningServer) -> Iterator[Tab]:
    opened = Tab(browser, server, viewport={"width": 1280, "height": 800})
    opened.ready()
    yield opened
    opened.close()


def test_typing_shows_ghost_text_that_is_kept_while_it_is_typed_and_accepted_with_tab(tab: Tab) -> None:
    tab.set(REPEATED[:-4])
    tab.page.keyboard.type("comp")
    ghost = tab.ghost()
    assert ghost.startswith("ute_total")
    asked = len([url for url in tab.urls if url.endswith("/page/complete")])
    tab.page.keyboard.type("ute_")
    assert tab.ghost() == ghost[4:]
    assert len([url for url in tab.urls if url.endswith("/page/complete")]) == asked
    tab.page.keyboard.press("Tab")
    tab.page.wait_for_function("(end) => document.querySelector('#editor').value.endsWith(end)", arg=ghost[-5:])
    assert tab.text() == REPEATED[:-4] + "comp" + ghost
    tab.page.keyboard.press("Control+z")
    assert tab.text() == REPEATED + "ute_"


def test_a_word_is_accepted_and_escape_dismisses(tab: Tab) -> None:
    tab.set(REPEATED)
    ghost = tab.ghost()
    tab.page.keyboard.press("Control+ArrowRight")
    assert tab.text() == REPEATED + "ute_total"
    assert tab.ghost() == ghost.removeprefix("ute_total")
    tab.page.keyboard.press("Escape")
    assert tab.no_ghost()
    assert tab.text() == REPEATED + "ute_total"
    tab.page.keyboard.press("Tab")  # leaves, after Escape
    assert tab.page.evaluate("() => document.activeElement.id") != "editor"


def test_tokens_have_probabilities_and_the_line_of_the_document(tab: Tab) -> None:
    tab.set(REPEATED)
    ghost = tab.ghost()
    tokens = tab.tokens()
    texts = [json.loads(one["label"].rsplit(", mostly", 1)[0].rsplit(", ", 1)[0]) for one in tokens]
    assert "".join(texts).endswith(ghost)
    assert all(0 <= one["percent"] <= 100 for one in tokens)
    tab.page.locator("#tokens button").last.click()
    assert "from the document" in tab.page.locator("#detail").inner_text()
    place = tab.page.locator("#detail button.place")
    assert place.inner_text() == "line 5"
    place.click()
    selected = """() => {
      const e = document.querySelector('#editor');
      return e.value.slice(e.selectionStart, e.selectionEnd);
    }"""
    assert tab.page.evaluate(selected) == "    total = compute_total(values)"


def test_a_name_of_the_workspace_has_its_file_and_line(tab: Tab) -> None:
    tab.indexed()
    tab.set(REFILL)
    assert tab.ghost().startswith("marsupial(")
    assert any("mostly from the workspace" in one["label"] for one in tab.tokens())
    tab.page.locator("#tokens button", has_text="(").first.click()
    assert re.fullmatch(r"lib/quokka\.py:[29]", tab.page.locator("#detail code.place").first.inner_text())


def test_what_the_model_looks_at_is_shown_on_request_and_then_for_each_token(tab: Tab) -> None:
    tab.set(REPEATED)
    ghost = tab.ghost()
    tab.tokens()
    asked = len([url for url in tab.urls if url.endswith("/page/explain")])
    assert tab.page.locator("#looked-at").inner_text() == ""
    tab.page.locator("#tokens button").first.click()
    tab.page.locator("#looked-at button.look").click()
    tab.page.locator("#looked-at .head").first.wait_for()
    layers_and_heads = tab.page.locator("#looked-at .head").count()
    assert layers_and_heads >= 16
    found = tab.page.locator(".looked-at button").all_inner_texts()
    assert any("line 5" in one for one in found)  # where the name is used above
    tab.page.locator("#tokens button").last.click()
    assert tab.page.locator(".looked-at button").all_inner_texts() != found
    tab.page.locator("[data-layer='1'][data-head='0']").click()
    assert tab.page.locator(".heads-title").inner_text() == "Layer 2, head 1"
    assert len([url for url in tab.urls if url.endswith("/page/explain")]) == asked + 1
    tab.page.locator(".looked-at button", has_text="line").first.click()
    assert tab.page.evaluate("() => document.activeElement.id") == "editor"

    # The next suggestion is explained as a new one.
    tab.set("import os\n\n\ndef size(path):\n    return os.path.get")
    assert tab.ghost() != ghost
    tab.tokens()
    assert tab.page.locator("#looked-at").inner_text() == ""
    tab.page.locator("#tokens button").first.click()
    tab.page.locator("#looked-at .head").first.wait_for()
    assert tab.page.locator("#looked-at .head").count() == layers_and_heads


def test_another_workspace_or_language_takes_the_suggestion_away_and_asks_again(tab: Tab) -> None:
    tab.indexed()
    tab.set(REFILL)
    assert tab.ghost().startswith("marsupial(")
    for name, label in ("workspace", "none"), ("language", "go"):
        answered = int(tab.page.evaluate(ANSWERED))
        tab.page.locator(f"#{name}").select_option(label=label)
        tab.page.wait_for_function(f"(count) => ({ANSWERED})() > count", arg=answered)
        assert not str(tab.page.evaluate(GHOST)).startswith("marsupial(burrow")
    tab.page.locator("#language").select_option(label="python")
    tab.page.locator("#workspace").select_option(label="work")
    tab.page.wait_for_function(f"() => ({GHOST})().startsWith('marsupial(')")


def test_health_and_speed_are_shown(tab: Tab) -> None:
    tab.set(REPEATED)
    tab.ghost()
    values = {
        one: tab.page.locator(f"#{one}").inner_text() for one in ("model", "engine", "median", "p95", "cached", "rate")
    }
    assert values["model"].startswith("codegen-lsp-python")
    assert "threads" in values["engine"]
    assert re.fullmatch(r"\d+ ms", values["median"])
    assert re.fullmatch(r"\d+ ms", values["p95"])
    assert values["cached"].endswith("%")
    assert int(values["rate"]) > 0


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)><script>alert(2)</script>\n",
        "# 🦘 größer\n\tx = '🦘'\r\n\ty = 2\r\n",
        "name = '\u202e\ufffd'\n",
        "x = 1\n" * 170_000,
    ],
    ids=["html", "emoji, tabs, CRLF", "odd characters", "1 MB"],
)
def test_hostile_text_is_text(tab: Tab, text: str) -> None:
    tab.paste(text)
    kept = tab.text()
    assert kept.replace("\n", "") == text.replace("\r", "").replace("\n", "")
    assert tab.page.locator("#view img, #view script, #tokens img").count() == 0
    tab.paste("\n\n" + REPEATED)
    assert tab.ghost()
    tab.tokens()


def test_the_page_survives_a_restart_of_the_server(browser: Any, tmp_path: Path) -> None:
    with running_server(tmp_path) as first:
        first.wait_until_ready()
        tab = Tab(browser, first)
        tab.ready()
        tab.set(REPEATED)
        tab.ghost()
        port = first.port
    tab.page.wait_for_function("() => document.querySelector('#state').dataset.phase === 'away'")
    assert tab.text() == REPEATED
    with running_server(tmp_path, address=f"127.0.0.1:{port}") as second:
        second.wait_until_ready()
        tab.ready()
        tab.page.keyboard.press("Backspace")
        assert tab.ghost()
        tab.close()


def test_a_key_is_asked_for_and_kept_in_memory_only(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("correct-horse-battery-staple-7141\n")
    (tmp_path / "key").chmod(0o600)
    with running_server(tmp_path, "--api-key-file", str(tmp_path / "key")) as running:
        tab = Tab(browser, running)
        tab.page.locator("#key").wait_for()
        assert running.ask("GET", "/page/state")[0] == 401
        assert running.ask("POST", "/page/complete", {})[0] == 401
        tab.page.locator("#key").fill("wrong")
        tab.page.keyboard.press("Enter")
        tab.page.wait_for_function("() => document.querySelector('#ask').open")
        tab.page.locator("#key").fill("correct-horse-battery-staple-7141")
        tab.page.keyboard.press("Enter")
        tab.ready()
        tab.set(REPEATED)
        assert tab.ghost()
        kept = "() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        assert "correct-horse" not in tab.page.evaluate(kept)
        tab.page.reload()
        tab.page.locator("#key").wait_for()
        tab.close()


def test_the_page_forbids_inline_scripts_and_frames(server: RunningServer, tab: Tab) -> None:
    policy = tab.page.request.get(tab.origin + "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert server.ask("POST", "/page/complete", {"before": "x"}, {"Origin": "http://evil.example"})[0] == 403


def generated(server: RunningServer) -> float:
    status, body = server.ask("GET", "/metrics")
    assert status == 200
    found = re.search(rb"^llamacpp:tokens_predicted_total (\S+)$", body, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_page_of_another_origin_gets_nothing(browser: Any, server: RunningServer, elsewhere: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(elsewhere)
    before = generated(server)
    found = page.evaluate(ATTACK, f"http://{server.host}:{server.port}")
    assert {name for name, text in found.items() if text not in ("refused", "")} == set()
    assert generated(server) == before
    context.close()


def test_a_name_that_was_made_to_lead_here_gets_nothing(browser: Any, server: RunningServer) -> None:
    """DNS rebinding: the browser takes the server for a part of the other site."""
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(f"http://{REBOUND}:{server.port}/")
    assert answer.status == 403
    before = generated(server)
    found = page.evaluate(ATTACK, f"http://{REBOUND}:{server.port}")
    read = {
        name: text for name, text in found.items() if text not in ("refused", "") and "permission_error" not in text
    }
    assert read.keys() <= {"keyless"}
    assert generated(server) == before
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(browser: Any, server: RunningServer, scheme: str, width: int) -> None:
    tab = Tab(browser, server, viewport={"width": width, "height": 720}, color_scheme=scheme)
    tab.ready()
    tab.page.locator("#example").select_option(label="A class")
    tab.ghost()
    tab.tokens()
    tab.page.locator("#tokens button[data-source=document]").first.click()
    assert tab.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    tab.close()


def test_picture(browser: Any, server: RunningServer, tmp_path: Path) -> None:
    """The picture of the README: suggestions that really came, a token of the workspace chosen, nothing cut off."""
    tab = Tab(browser, server, viewport={"width": 1280, "height": 740}, color_scheme="light")
    tab.ready()
    tab.indexed()
    for example in "Tests", "A command", "A class":
        tab.page.locator("#example").select_option(label=example)
        tab.ghost()
    tab.page.locator("#example").select_option(label="–")
    tab.set(PICTURED)
    tab.ghost()
    tab.tokens()
    tab.page.locator("#tokens button[data-source=workspace]").first.click()
    tab.page.set_viewport_size(
        {"width": 1280, "height": tab.page.evaluate("() => document.documentElement.scrollHeight")}
    )
    folder = Path(PICTURES) if PICTURES else tmp_path
    tab.page.screenshot(path=folder / "page.png")
    assert (folder / "page.png").stat().st_size > 10_000
    tab.close()
