"""The page of `codegen-lsp trace` in a real Chromium, opened from the disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen_lsp.trace.html_page import save_page
from tests.editors.page.conftest import PATIENCE
from tests.editors.page.test_page import LIBRARY
from tests.editors.scenarios import PICTURES
from tests.trace.traces import HOSTILE, dense, hostile_trace

PROGRAM = """\
import json
from pathlib import Path

from lib.quokka import QuokkaRegistry


def load(path):
    with open(path) as file:
        return json.load(file)


def refill(path, burrows):
    registry = QuokkaRegistry(path)
    for burrow in burrows:
        registry.enlist_marsupial(burrow, eager=True)
    return registry


def visit(path, burrow):
    registry = QuokkaRegistry(path)
    registry.enlist_"""


class OpenedTrace:
    """A trace in a tab of its own, all requests that it sends, and what it complains about."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.urls: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.urls.append(request.url))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("dialog", lambda dialog: self.messages.append(dialog.message))
        self.uri = path.as_uri()
        self.page.goto(self.uri)
        self.page.locator(".token.shown").first.wait_for()

    def shown(self) -> str:
        return str(self.page.locator("#detail .chosen code").inner_text())

    def strengths(self) -> list[int]:
        """Return the colour of each token, in percent."""
        script = "(all) => all.map((one) => parseInt(one.style.getPropertyValue('--strength')))"
        found: list[int] = self.page.locator("[role=option]").evaluate_all(script)
        return found

    def close(self) -> None:
        assert self.messages == []
        assert {url for url in self.urls if not url.startswith("data:")} == {self.uri}
        self.context.close()


@pytest.fixture
def hostile(browser: Any, tmp_path: Path) -> Iterator[OpenedTrace]:
    save_page(tmp_path / "trace.html", hostile_trace(), force=False)
    opened = OpenedTrace(browser, tmp_path / "trace.html", viewport={"width": 1280, "height": 800})
    yield opened
    opened.close()


def test_hostile_text_is_text(hostile: OpenedTrace) -> None:
    page = hostile.page
    assert page.locator("#tokens img, #tokens script, aside script, aside b + script, header i").count() == 0
    assert "</script><script>alert(1)</script>" in page.locator("#tokens").inner_text()
    assert "because" in page.locator("#about").inner_text()
    assert "⟨202e⟩evil⟨2066⟩" in page.locator("#tokens").inner_text()
    for at in range(len(HOSTILE)):
        page.locator(f"#token-{len(HOSTILE) + at}").click()
    assert "</code><script>alert(5)</script>" in page.locator("#detail").inner_text()


def test_a_token_is_chosen_by_mouse_and_keyboard(hostile: OpenedTrace) -> None:
    page, first = hostile.page, len(HOSTILE)
    assert hostile.shown().startswith("</script>")
    page.locator(f"#token-{first + 1}").hover()
    assert hostile.shown().startswith("<img")
    assert page.locator(f"#token-{first}").get_attribute("aria-selected") == "true"
    page.mouse.move(5, 5)
    assert hostile.shown().startswith("</script>")
    page.locator("#tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert hostile.shown().startswith("<!--")
    assert page.locator("#tokens").get_attribute("aria-activedescendant") == f"token-{first + 2}"
    page.keyboard.press("ArrowUp")
    assert int(page.locator("#tokens").get_attribute("aria-activedescendant").split("-")[1]) < first
    page.keyboard.press("Home")
    assert hostile.shown().startswith("</script>")
    page.keyboard.press("End")
    assert hostile.shown().startswith("javascript:")


def test_the_colours_are_the_attention_of_the_chosen_head(hostile: OpenedTrace) -> None:
    found, page = hostile_trace(), hostile.page
    record = found.attribution.attention
    assert record is not None
    weights = dense(record, 2)
    page.locator(f"#token-{len(HOSTILE) + 2}").click()
    page.mouse.move(5, 5)
    for layer, head in ((1, 3), (2, 0)):
        page.locator(f"[data-layer='{layer}'][data-head='{head}']").click()
        expected = (weights[layer, head] / weights[layer, head][1:].max()).clip(max=1) ** 0.5
        assert hostile.strengths()[: len(expected)] == pytest.approx(expected * 100, abs=1)
        best = int(weights[layer, head].argmax())
        assert page.locator(".looked-at button").first.get_attribute("data-token") == str(best)
    page.keyboard.press("ArrowRight")
    assert page.locator(".heads-title").inner_text() == "Layer 3, head 2"
    page.keyboard.press("ArrowUp")
    assert page.locator(".heads-title").inner_text() == "Layer 2, head 2"
    page.keyboard.press("Escape")
    mean = weights.mean((0, 1))
    page.locator(f"#token-{len(HOSTILE) + 2}").click()
    page.mouse.move(5, 5)
    assert hostile.strengths()[: len(mean)] == pytest.approx((mean / mean[1:].max()).clip(max=1) ** 0.5 * 100, abs=1)
    page.locator("#token-4").click()
    assert "largest weights of each head" in page.locator(".heads-title").inner_text()


def test_the_colours_can_be_probabilities_and_sources(hostile: OpenedTrace) -> None:
    page = hostile.page
    page.locator("#colours label", has_text="Probability").click()
    strengths = hostile.strengths()
    assert strengths[0] == 0
    assert strengths[len(HOSTILE) + 8] < strengths[len(HOSTILE) + 1] < strengths[2]
    page.locator("#colours label", has_text="Source").click()
    assert page.locator("#key").locator("span").all_inner_texts() == ["model", "document", "workspace"]
    assert page.locator("#token-5").get_attribute("data-source") == "model"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    """With 1,800 tokens of prompt, in which every token can be chosen."""
    save_page(tmp_path / "trace.html", hostile_trace(200), force=False)
    opened = OpenedTrace(
        browser, tmp_path / "trace.html", viewport={"width": width, "height": 720}, color_scheme=scheme
    )
    assert opened.page.locator("[role=option]").count() == 201 * len(HOSTILE)
    assert opened.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    opened.page.locator("#token-7").click()
    assert "token 8 of" in opened.page.locator("#detail").inner_text()
    opened.close()


def test_picture(browser: Any, tmp_path: Path) -> None:
    """The picture of the documentation: a real trace, with a head that looks at the line that is repeated."""
    folder, work, out = Path(PICTURES) if PICTURES else tmp_path, tmp_path / "work", tmp_path / "trace.html"
    (work / "lib").mkdir(parents=True)
    (work / "lib" / "quokka.py").write_text(LIBRARY)
    (work / "visits.py").write_text(PROGRAM)
    place = f"{work / 'visits.py'}:{PROGRAM.count(chr(10)) + 1}"
    command = [sys.executable, "-m", "codegen_lsp.cli", "trace", place, "--workspace", str(work), "--html", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened = OpenedTrace(browser, out, viewport={"width": 1280, "height": 800}, color_scheme="light")
    page = opened.page
    opened_text = page.locator("#tokens").inner_text()
    assert "marsupial(" in opened_text.split("registry.enlist_")[-1]
    page.locator("#tokens").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert "lib/quokka.py" in page.locator("#detail").inner_text()
    assert "line 15" in page.locator("#detail").inner_text()
    looks_at_line = """() => [...document.querySelectorAll(".heads .head")].some((one) => {
      one.click();
      return document.querySelector(".looked-at small").textContent === "line 15";
    })"""
    assert page.evaluate(looks_at_line)
    page.screenshot(path=folder / "trace.png")
    assert (folder / "trace.png").stat().st_size > 10_000
    opened.close()
