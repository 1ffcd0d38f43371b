"""A real VS Code (code-server in a headless Chromium) with the packaged extension, driven by keyboard and mouse.

One code-server serves all tests; each folder opened in it is a window with a language server of its own. The tests are
skipped where a program can't be installed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest

from tests.editors import install
from tests.editors.install import run_script
from tests.editors.scenarios import PATIENCE, ScriptedServer
from tests.editors.vscode import driver

ROOT = Path(__file__).parents[3]
EXTENSION = ROOT / "editors" / "vscode"
AGAIN = 5.0
"""Seconds before a key without effect is pressed again the first time; doubled each time."""
CONTRIBUTED = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))["contributes"]
COMMANDS = {f"{each['category']}: {each['title']}": each["command"] for each in CONTRIBUTED["commands"]}
"""The extension's commands by their titles in the command palette."""
OWN_SETTINGS = [name for group in CONTRIBUTED["configuration"] for name in group["properties"]]
SETTINGS = {
    "chat.commandCenter.enabled": False,
    "chat.disableAIFeatures": True,
    "editor.accessibilitySupport": "off",
    "editor.autoClosingBrackets": "never",
    "editor.autoClosingQuotes": "never",
    "editor.quickSuggestions": {"other": "off", "comments": "off", "strings": "off"},
    "editor.suggestOnTriggerCharacters": False,
    "editor.wordBasedSuggestions": "off",
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "extensions.ignoreRecommendations": True,
    "files.autoSave": "off",
    "files.hotExit": "off",
    "git.enabled": False,
    "remote.autoForwardPorts": False,
    "security.workspace.trust.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "window.menuBarVisibility": "hidden",
    "workbench.enableExperiments": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
    "workbench.welcomePage.walkthroughs.openOnInstall": False,
}
"""The user's settings: everything that opens by itself is off, the messages about ports of other programs, too."""
GHOST = """() => {
  const editor = document.querySelector('.monaco-editor.focused')
    ?? document.querySelector('.editor-group-container.active .monaco-editor');
  if (!editor) return '';
  const text = (element) => element.textContent.replaceAll('\\u00a0', ' ').replaceAll('\\u200c', '');
  const marks = '.view-lines .ghost-text-decoration, .view-lines .ghost-text-decoration-preview';
  const first = [...editor.querySelectorAll(marks)].map(text).join('');
  const below = [...editor.querySelectorAll('.suggest-preview-text .view-line')].map(text);
  return [first, ...below].join('\\n');
}"""
"""Returns the ghost text of the active editor: spans on the cursor's line, and a view zone below it."""
LINES = "(lines) => lines.map((line) => ({ top: line.getBoundingClientRect().top, text: line.textContent }))"


@pytest.fixture(scope="session")
def node() -> dict[str, str]:
    """Return the environment of a shell with Node and npm."""
    folder = run_script("install_node.sh")
    environment = install.environment()
    return environment | {"PATH": f"{folder}{os.pathsep}{environment['PATH']}"}


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the extension takes for its clone. Tests that need a server there install it."""
    return tmp_path_factory.mktemp("vscode") / "clone"


@pytest.fixture(scope="module")
def served_clone(clone: Path) -> Iterator[Path]:
    """A clone after `make demo`, where the extension was made: what a newcomer has."""
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    yield clone
    python.unlink()


@pytest.fixture(scope="session")
def vsix(node: dict[str, str], clone: Path) -> Path:
    """Build the extension's package as it is distributed."""
    npm_packages(node)
    made = clone.parent / "codegen-lsp.vsix"
    _npm(["run", "build"], node | {"CODEGEN_LSP_CLONE": str(clone)})
    _npm(["exec", "--", "vsce", "package", "--no-dependencies", "--allow-missing-repository", "--out", str(made)], node)
    return made


def npm_packages(node: dict[str, str]) -> None:
    """Install the packages of the extension's lock file, unless they are there."""
    modules, lock = EXTENSION / "node_modules", EXTENSION / "package-lock.json"
    done = modules / ".package-lock.json"
    if not done.exists() or done.stat().st_mtime < lock.stat().st_mtime:
        _npm(["ci", "--ignore-scripts"], node)
        done.touch()


def _npm(arguments: list[str], environment: dict[str, str]) -> None:
    npm = shutil.which("npm", path=environment["PATH"])
    assert npm is not None
    done = subprocess.run([npm, *arguments], cwd=EXTENSION, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class InThread:
    """A playwright object that is only used in another thread.

    Playwright's synchronous interface leaves an event loop running in its thread, which would break the asynchronous
    tests of other packages.
    """

    def __init__(self, thread: ThreadPoolExecutor, inner: Any) -> None:
        self._thread, self._inner = thread, inner

    def _wrapped(self, value: Any) -> Any:
        if callable(value) or type(value).__module__.startswith("playwright"):
            return InThread(self._thread, value)
        return value

    def __getattr__(self, name: str) -> Any:
        return self._wrapped(self._thread.submit(getattr, self._inner, name).result())

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._wrapped(self._thread.submit(self._inner, *arguments, **named).result())


class CodeServer:
    """A running code-server and a browser."""

    def __init__(
        self,
        root: Path,
        vsix: Path,
        entry: str,
        chromium: str,
        node: dict[str, str],
        settings: dict[str, Any] | None = None,
        *,
        trusts: bool = True,
    ) -> None:
        """`settings` are further ones of the user; without `trusts`, folders open in Restricted Mode."""
        self.root = root
        for folder in ("user/User", "extensions", "home", "tmp", "bin"):
            (root / folder).mkdir(parents=True)
        everything = json.dumps(SETTINGS | (settings or {}))
        (root / "user" / "User" / "settings.json").write_text(everything, encoding="utf-8")
        (root / "config.yaml").write_text("", encoding="utf-8")
        # A Python without codegen-lsp, from which an environment can be made.
        (root / "bin" / "python3").symlink_to(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]
        program = shutil.which("node", path=node["PATH"])
        assert program is not None
        folders = ["--user-data-dir", root / "user", "--extensions-dir", root / "extensions"]
        common = [program, entry, *folders, "--config", root / "config.yaml"]
        environment = {
            "HOME": str(root / "home"),
            "LANG": "C.UTF-8",
            "PATH": f"{root / 'bin'}:/usr/bin:/bin",
            "TMPDIR": str(root / "tmp"),
            "XDG_RUNTIME_DIR": str(root / "tmp"),
        }
        install = [word for package in (vsix, driver.package(root)) for word in ("--install-extension", package)]
        done = subprocess.run([*common, *install], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        options = ["--disable-telemetry", "--disable-update-check"]
        options += ["--disable-workspace-trust"] if trusts else []
        bind = ["--auth", "none", "--bind-addr", self.address.removeprefix("http://")]
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*common, *bind, *options, "--disable-getting-started-override"],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._until_up()
        self._thread = ThreadPoolExecutor(1)
        from playwright.sync_api import sync_playwright

        self._playwright = InThread(self._thread, self._thread.submit(lambda: sync_playwright().start()).result())
        self.browser = self._playwright.chromium.launch(
            executable_path=chromium,
            headless=True,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
        )

    def _until_up(self) -> None:
        end = time.monotonic() + 2 * PATIENCE
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{self.address}/healthz").close()
                return
            assert time.monotonic() < end, (self.root / "log").read_text()
            time.sleep(0.05)

    def processes(self, words: str) -> list[psutil.Process]:
        """Return the descendants of code-server whose command line contains these words."""
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def window(self, place: Path, **size: int) -> Window:
        """Open a window on a folder or on a file `*.code-workspace`."""
        return Window(self, place, **size)

    def close(self) -> None:
        self.browser.close()
        self._playwright.stop()
        self._thread.shutdown()
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


class Window:
    """A window of VS Code on a folder or on a file `*.code-workspace`."""

    def __init__(self, server: CodeServer, place: Path, *, width: int = 1280, height: int = 800) -> None:
        self.server = server
        self.place = place
        self.folder = place if place.is_dir() else place.parent
        self.page = server.browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE * 1000)
        kind = "folder" if place.is_dir() else "workspace"
        self.page.goto(f"{server.address}/?{kind}={place}", timeout=4 * PATIENCE * 1000)
        self.page.locator(".part.statusbar").wait_for(timeout=4 * PATIENCE * 1000)
        self.page.locator(".explorer-folders-view, .explorer-viewlet").first.wait_for()

    # Input.

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str, delay: float = 0) -> None:
        self.page.keyboard.type(text, delay=delay)

    def insert(self, text: str) -> None:
        """Insert text in one piece, as an input method does."""
        self.page.keyboard.insert_text(text)

    def drive(self, name: str, *arguments: Any) -> Any:
        """Make a request to the window's driver, and return its result once the effect is there."""
        item = self.page.locator('.statusbar-item [aria-label^="driver at "]')
        self.until(item.count, "the driver", 4)
        label = item.first.get_attribute("aria-label")
        return driver.Driver(int(label.removeprefix("driver at "))).request(name, *arguments)

    def edit(self, name: str, text: str = "") -> Path:
        """Write a file and open it, with the cursor at its end. Return its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return self.open(path)

    def open(self, path: Path, *, cursor: bool = True) -> Path:
        """Open a file; with `cursor`, put the cursor at its end."""
        self.drive("edit" if cursor else "open", str(path))
        self.page.locator(f'.tab.active[data-resource-name="{path.name}"]').wait_for()
        if cursor:
            self._focused()
        return path

    def focus(self) -> None:
        """Put the cursor at the end of the text."""
        self.drive("focus")
        self._focused()

    def select(self, line: int, column: int, end_line: int, end_column: int) -> None:
        """Select text of the active editor, up to the cursor; lines and columns count from 1."""
        self.drive("select", line - 1, column - 1, end_line - 1, end_column - 1)
        place = f"Ln {end_line}, Col {end_column}"
        self.until(lambda: self.selection().startswith(place), place)
        self._focused()

    def _focused(self) -> None:
        self.until(self.page.locator(".editor-group-container.active .monaco-editor.focused").count, "the focus")

    def command(self, title: str) -> int:
        """Begin a command of the extension; return its number, for `ends`."""
        return int(self.drive("start", COMMANDS[title]))

    def ends(self, command: int) -> None:
        """Wait for the end of a command."""
        self.until(lambda: self.drive("ended", command), "the command to end")

    def within(self, seconds: float, holds: Callable[[], Any]) -> Any:
        """Wait until `holds` returns a true value, for at most this time, and return its last value."""
        end = time.monotonic() + seconds
        while not (value := holds()) and time.monotonic() < end:
            self.page.wait_for_timeout(20)
        return value

    def repeat(self, act: Callable[[], Any], holds: Callable[[], Any], what: str = "", again: float = AGAIN) -> None:
        """Call `act` until `holds` returns a true value; wait twice as long before each further attempt."""
        end = time.monotonic() + PATIENCE
        while True:
            act()
            if self.within(again, holds):
                return
            if time.monotonic() > end:
                raise AssertionError(f"done in vain{' for ' + what if what else ''}; {self._picture()}")
            again *= 2

    def press_until(self, key: str, holds: Callable[[], Any], what: str = "") -> None:
        """Press a key until `holds` returns a true value: VS Code loses some keys while it is busy."""
        self.repeat(lambda: self.press(key), holds, f"{key}, {what}" if what else key)

    def change(self, key: str) -> None:
        """Press a key that changes the text; again only if the text has not changed at all."""
        before = self.text()
        self.press_until(key, lambda: self.text() != before, "another text")

    def take(self, key: str) -> None:
        """Press a key that accepts or dismisses a suggestion; again only if the ghost text has not changed."""
        before = self.ghost()
        self.press_until(key, lambda: self.ghost() != before, "a part to be taken")

    def choose(self, label: str, title: str = "") -> int:
        """Choose from the list that is open, or that the command `title` opens; return the command's number.

        The command is begun again only if it has ended without a choice: a list closes when the focus moves, also after
        it was seen.
        """
        from playwright.sync_api import TimeoutError

        row = self.page.locator(".quick-input-list .monaco-list-row", has_text=label).first
        begun: list[int] = []

        def clicked() -> bool:
            if title and (not begun or self.drive("ended", begun[-1])):
                begun.append(self.command(title))
            if not row.is_visible():
                return False
            with contextlib.suppress(TimeoutError):
                row.click(timeout=AGAIN * 1000)
                return True
            return False

        self.until(clicked, f"{label!r} in the list")
        return begun[-1] if begun else -1

    def dismiss(self) -> None:
        """Clear all notifications."""
        self.drive("run", "notifications.clearAll")
        self.until(lambda: self.toasts() == "", "the messages to go away")

    def explanation(self) -> str:
        """Return the explanation of the last suggestion, and take its message away.

        A request that was made just before may not have reached the server yet.
        """
        command = self.command("Codegen: Explain the Last Suggestion")
        said = str(self.until(self.toasts, "the explanation"))
        self.dismiss()
        self.ends(command)
        return said

    def nudge(self, ghost: str) -> None:
        """Type a blank and delete it, until this ghost text is shown."""

        def type_and_delete() -> None:
            self.type(" ")
            self.press("Backspace")

        self.repeat(type_and_delete, lambda: self.ghost() == ghost, repr(ghost))

    def saves(self, text: str) -> None:
        """Save the active file, and wait until this is its text on disk."""
        name = self.page.locator(".tab.active").first.get_attribute("data-resource-name")
        assert name is not None
        (path,) = self.folder.rglob(name)
        self.press_until("Control+s", lambda: path.read_bytes().decode() == text, f"{text!r} on disk")

    def close_all(self) -> None:
        """Close all lists, and all files without saving them."""

        def close() -> None:
            self.press("Escape", "Escape")
            self.drive("close")

        self.repeat(close, lambda: self.page.locator(".tab").count() == 0, "all files to be closed")

    def is_backed_up(self, path: Path) -> bool:
        """Tell whether VS Code keeps a backup of a file's unsaved text.

        It removes the backup some time after the file was saved; a window that opens before restores the older text.
        """
        for backup in self.server.root.glob("user/User/Backups/*/vscode-remote/*"):
            with contextlib.suppress(FileNotFoundError):
                uri = backup.read_bytes().split(b" ", 1)[0].decode()
                if unquote(urlsplit(uri).path) == str(path):
                    return True
        return False

    def write_settings(self, values: dict[str, Any]) -> None:
        """Change settings of the workspace; None removes a setting."""
        path = self.folder / ".vscode" / "settings.json"
        before = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: value for name, value in (before | values).items() if value is not None}
        new = path.with_suffix(".new")
        new.write_text(json.dumps(kept), encoding="utf-8")
        new.replace(path)

    # Output.

    def ghost(self) -> str:
        return str(self.page.evaluate(GHOST))

    def text(self) -> str:
        """Return the text of the active editor, as far as it is drawn."""
        lines = self.page.locator(".editor-group-container.active .view-lines .view-line")
        by_place = sorted((line["top"], line["text"]) for line in lines.evaluate_all(LINES))
        return "\n".join(one for _, one in by_place).replace("\u00a0", " ").replace("\u200c", "")

    def selection(self) -> str:
        """Return the cursor's position and the size of the selection, as the status bar shows them."""
        item = self.page.locator('.statusbar-item[id="status.editor.selection"]')
        return str(item.inner_text()).strip() if item.count() else ""

    def status(self) -> str:
        """Return the text of the item in the status bar."""
        item = self.page.locator('.statusbar-item[id*="codegen-lsp"]')
        return item.inner_text().replace("\u00a0", " ").strip() if item.count() else ""

    def toasts(self) -> str:
        """Return the text of all notifications."""
        return "\n".join(self.page.locator(".notification-toast").all_inner_texts())

    def until(self, holds: Callable[[], Any], what: str = "", patience: float = 1.0) -> Any:
        """Wait until `holds` returns a true value, and return it. `patience` multiplies the timeout."""
        if not (value := self.within(patience * PATIENCE, holds)):
            raise AssertionError(f"waited in vain{' for ' + what if what else ''}; {self.ghost()!r}; {self._picture()}")
        return value

    def _picture(self) -> Path:
        path = self.server.root / f"in-vain-{time.monotonic_ns()}.png"
        self.page.screenshot(path=path)
        return path

    def sees(self, ghost: str) -> None:
        """Wait for exactly this ghost text."""
        self.until(lambda: self.ghost() == ghost, repr(ghost))

    def suggestion(self) -> str:
        """Wait for any ghost text until it is drawn completely, and return it."""
        seen = [""]

        def stays() -> bool:
            self.page.wait_for_timeout(300)
            seen.append(self.ghost())
            return seen[-1] != "" and seen[-1] == seen[-2]

        self.until(stays, "a suggestion")
        return seen[-1]

    def ready(self) -> None:
        """Wait until the status bar shows the name of the model."""
        self.until(lambda: (text := self.status()) and not text.startswith("Codegen"), "the model", 4)

    def close(self) -> None:
        self.page.close()


@pytest.fixture(scope="session")
def code_server(vsix: Path, clone: Path, node: dict[str, str]) -> Iterator[CodeServer]:
    """Start VS Code with the extension installed."""
    pytest.importorskip("playwright.sync_api")
    entry = run_script("install_code_server.sh", env=node)
    chromium = run_script("install_chromium.sh", env=node)
    server = CodeServer(clone.parent / "server", vsix, entry, chromium, node)
    yield server
    server.close()


@pytest.fixture
def open_window(code_server: CodeServer) -> Iterator[Callable[..., Window]]:
    """Open further windows."""
    opened: list[Window] = []

    def begin(place: Path, **size: int) -> Window:
        opened.append(code_server.window(place, **size))
        return opened[-1]

    yield begin
    for window in opened:
        window.close()


class Script(ScriptedServer):
    """scripted_server.py: the script of its model, and its log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.set()

    def set(self, *texts: str, delay: float = 0.0, anywhere: bool = False) -> None:
        """Set the suggestions; with `anywhere`, on blank lines too."""
        self.write_script(texts=texts, delay=delay, anywhere=anywhere)

    def events(self, event: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the log's entries of one kind, without the first `after` entries."""
        return [entry for entry in self.log[after:] if entry["event"] == event]

    def settings(self) -> dict[str, Any]:
        """Return the settings of a workspace that uses this server."""
        command = [sys.executable, str(Path(__file__).parent / "scripted_server.py"), str(self.folder), "serve"]
        return {
            "codegen-lsp.server.command": command,
            "codegen-lsp.server.environment": {"PYTHONPATH": str(ROOT)},
            "codegen-lsp.exclude": ["left_*"],
        }


@pytest.fixture(scope="session")
def script(clone: Path) -> Script:
    return Script(clone.parent / "script")


@pytest.fixture(scope="session")
def scripted_window(code_server: CodeServer, script: Script) -> Iterator[Window]:
    folder = code_server.root / "scripted"
    (folder / ".vscode").mkdir(parents=True)
    (folder / ".vscode" / "settings.json").write_text(json.dumps(script.settings()), encoding="utf-8")
    window = code_server.window(folder)
    window.edit("first.py")
    window.ready()
    yield window
    window.close()


@pytest.fixture
def window(scripted_window: Window, script: Script) -> Iterator[Window]:
    """A window with the played model and no open file. A test must leave no notification."""
    yield scripted_window
    script.set()
    toasts = scripted_window.toasts()
    scripted_window.close_all()
    assert toasts == ""


@pytest.fixture(scope="session")
def ghost_source() -> str:
    """Return the JavaScript function that reads the ghost text."""
    return GHOST


numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """Return the name of a file that no other test uses."""
    return f"file{next(numbers)}.py"
