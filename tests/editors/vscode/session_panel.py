"""The panel of a session, as a person uses it: by what its buttons and fields are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.editors.vscode.conftest import Window

WORKS = """(body) => {
  const status = body.querySelector('.status');
  window.worked = false;
  new MutationObserver((_, watch) => {
    if (status.textContent === '') return;
    window.worked = true;
    watch.disconnect();
  }).observe(status, { childList: true });
}"""
"""Notes in the page when the extension begins to work at something."""


class SessionPanel:
    """The panel that is open in a window."""

    def __init__(self, window: Window, path: Path) -> None:
        self.window = window
        self.path = path
        self.page = window.page.frame_locator("iframe.webview").frame_locator("#active-frame")

    @classmethod
    def begin(cls, window: Window, name: str, text: str = "", line: int | None = None) -> SessionPanel:
        """Open a file, and go on with it as a session, with the cursor in a line, from 1, or at its end."""
        path = window.edit(name, text)
        if line is not None:
            window.select(line, 1, line, 1)
        window.ends(window.command("Codegen: Continue This File as a Session"))
        panel = cls(window, path)
        panel.shown()
        return panel

    def shown(self) -> None:
        """Wait for the panel."""
        self.page.locator("h1", has_text=self.path.name).wait_for()

    @property
    def text(self) -> str:
        """The text of the document."""
        return str(self.window.drive("text", str(self.path)))

    def save(self) -> str:
        """Save the document until the file has its text and no backup of it is left, and return the text."""

        def saved() -> bool:
            self.window.drive("run", "workbench.action.files.saveAll")
            return self.path.read_text(encoding="utf-8") == self.text

        self.until(saved, "the file to be saved")
        self.until(lambda: not self.window.is_backed_up(self.path), "the backup to be removed")
        return self.text

    def turns(self) -> list[str]:
        """Return what is asked in the turns."""
        return list(self.page.locator("article .request").all_inner_texts())

    def turn(self, number: int) -> Any:
        """Return the part of the page for a turn, from 1."""
        return self.page.locator("article").nth(number - 1)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)

    def ask(self, request: str) -> None:
        """Ask for the next step."""
        field, write = self.page.get_by_label("What should the program do next?"), self.button("Write")
        self.window.until(lambda: field.is_enabled() and write.count() and write.is_enabled(), "the field")
        field.fill(request)
        field.press("Enter")

    def answer(self, label: str, text: str) -> None:
        """Answer a question, and go on to the next or to the end."""
        field = self.page.get_by_label(label)
        field.fill(text)
        field.press("Enter")

    def act(self, action: str, number: int) -> None:
        """Press a button of a turn."""
        button = self.button(f"{action}, step {number}")
        self.window.until(button.is_enabled, action)
        button.click()

    def remove(self, number: int) -> None:
        """Remove a turn, until the extension has done so: it takes nothing else meanwhile."""
        self.works(lambda: self.act("Remove", number))

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_role("textbox", name=label).fill(text)

    def verdicts(self, number: int) -> list[str]:
        """Return the candidates of a turn, as their buttons show them."""
        return ["".join(text.split()) for text in self.turn(number).locator(".choice").all_inner_texts()]

    def works(self, act: Callable[[], Any]) -> None:
        """Do something that the extension works at, and wait for the beginning and the end of that work."""
        body = self.page.locator("body")
        body.evaluate(WORKS)
        act()
        self.until(lambda: body.evaluate("() => window.worked") and self.idle(), "the work to be done")

    def has(self, turns: int) -> None:
        """Wait until there are so many turns, and nothing goes on."""
        self.until(lambda: len(self.turns()) == turns and self.idle(), f"{turns} turns")

    def idle(self) -> bool:
        return bool(self.page.locator(".status").text_content() == "")

    def until(self, holds: Callable[[], Any], what: str) -> None:
        self.window.until(holds, what)

    def says(self, text: str, number: int | None = None) -> None:
        """Wait until this is to be read in a turn, or anywhere."""
        place = self.page.locator("body") if number is None else self.turn(number)
        self.until(lambda: text in place.inner_text(), repr(text))

    def document_is(self, text: str) -> None:
        """Wait until the document has this text."""
        self.until(lambda: self.text == text, repr(text))
