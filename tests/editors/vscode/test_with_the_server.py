"""The whole way: the extension finds the server, or installs it; the real server, its worker, and a model."""

from __future__ import annotations

import contextlib
import json
import sysconfig
import zipfile
from pathlib import Path

import psutil
import pytest

from tests.editors.scenarios import PICTURED, PICTURES, STACK
from tests.editors.vscode.session_panel import SessionPanel

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def settings(embedded_build):
    return {
        "codegen-lsp.model": str(embedded_build),
        "codegen-lsp.threads": 2,
        "codegen-lsp.cache.memory_mb": 64,
        "codegen-lsp.exclude": ["left_*"],
    }


@pytest.fixture(scope="module")
def real_window(code_server, settings, served_clone):
    folder = code_server.root / "project"
    (folder / ".vscode").mkdir(parents=True)
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    window = code_server.window(folder, width=1100, height=620)
    window.edit("first.py")
    window.ready()
    yield window
    window.close()


@pytest.fixture
def window(real_window):
    yield real_window
    toasts = real_window.toasts()
    real_window.close_all()
    assert toasts == ""


def suggested(window, name):
    """Type in a real file until there is a suggestion; the suggestion."""
    window.edit(name, STACK)
    window.type("        self.")
    try:
        return window.suggestion()
    except AssertionError as error:
        window.command("Codegen: Explain the Last Suggestion")
        window.within(10, window.toasts)
        raise AssertionError(f"{error}; {window.status()}; {window.toasts()}") from None


def suggested_by_another_server(window, name):
    """The same while the server starts, which asks for what was typed before once its model is ready."""
    window.edit(name, STACK)
    window.type("        self.")
    window.until(window.ghost, "a suggestion", 4)
    return window.suggestion()


def worker(window) -> psutil.Process:
    """Wait for the worker. It is looked for among all processes: the server that started it may have ended."""
    folder = str(window.server.root / "tmp")

    def found() -> list[psutil.Process]:
        running = psutil.process_iter(["cmdline"])
        lines = [(process, " ".join(process.info["cmdline"] or [])) for process in running]
        return [process for process, line in lines if "codegen_lsp.inference.worker" in line and folder in line]

    return window.until(found, "the worker")[0]


def server(window) -> psutil.Process:
    """Wait for the language server."""
    return window.until(lambda: window.server.processes("codegen_lsp.cli serve"), "the server")[0]


def test_found_in_the_clone_suggested_and_accepted(window, name):
    shown = suggested(window, name)
    window.until(lambda: window.status().endswith(" ms"), "the time")
    window.press("Tab")
    window.saves(STACK + "        self." + shown)


def test_killed_worker(window, name):
    suggested(window, name)
    before = worker(window)
    before.kill()
    window.until(lambda: worker(window) != before, "another worker")
    window.ready()
    assert suggested(window, f"again_{name}")


def test_killed_server(window, name):
    suggested(window, name)
    before = server(window)
    before.kill()
    window.until(lambda: server(window) != before, "another server")
    assert suggested_by_another_server(window, f"again_{name}")


def test_killed_server_whose_worker_is_slow_to_end(window, name):
    """The next server connects to a worker that has not noticed yet: it joins that one, or starts another."""
    suggested(window, name)
    before, slow = server(window), worker(window)
    slow.suspend()
    try:
        before.kill()
        window.until(lambda: server(window) != before, "another server")
        # A server opens the worker's log once it is connected.
        window.until(lambda: [one for one in server(window).open_files() if ".log" in one.path], "it to connect")
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have been replaced by now
            slow.resume()
    assert suggested_by_another_server(window, f"again_{name}")


def test_excluded_file(window, name):
    window.edit(f"left_{name}", STACK)
    window.type("        self.")
    window.until(lambda: "`excluded`" in window.explanation(), "the reason")
    assert window.ghost() == ""


def test_picture(window, tmp_path):
    """The picture of the README: a suggestion that really came, nothing over it, the state readable."""
    window.edit("words.py", PICTURED)
    window.type("    with open(")
    shown = window.suggestion()
    window.until(lambda: window.status().endswith(" ms"), "the time")
    window.page.mouse.move(5, 300)
    window.page.wait_for_timeout(600)
    assert window.ghost() == shown
    assert window.toasts() == ""
    spans = window.page.evaluate(
        "[...document.querySelectorAll('.ghost-text-decoration')].map((s) => s.getBoundingClientRect().toJSON())"
    )
    cursor = window.page.evaluate("document.querySelector('.cursors-layer .cursor').getBoundingClientRect().toJSON()")
    assert abs(spans[0]["left"] - cursor["left"]) < 3
    assert abs(spans[0]["top"] - cursor["top"]) < 3
    folder = Path(PICTURES) if PICTURES else tmp_path
    window.page.screenshot(path=folder / "vscode.png")
    assert (folder / "vscode.png").stat().st_size > 10_000


STEPS = ["Set x to 3.", "Print x.", "Make a list of numbers.", "Sort it.", "Print the list.", "Show the end."]


def test_a_session_of_six_turns(window, name, sandbox, tmp_path):
    """Whatever the small model writes: each step is in the file and in the panel, and can be taken back."""
    panel = SessionPanel.begin(window, name)
    panel.says("steps like these need a larger one")
    for number, step in enumerate(STEPS[:4], start=1):
        panel.ask(step)
        panel.has(number)
        assert panel.turns() == STEPS[:number]
    before = panel.text
    panel.ask(STEPS[4])
    panel.has(5)
    panel.button("Undo").click()
    panel.document_is(before)
    panel.has(4)
    panel.act("Edit", 1)
    panel.fill("Code of step 1", "x = 3")
    panel.button("Save and Run").click()
    panel.says("yours", 1)
    panel.works(lambda: panel.act("Retry", 4))
    panel.has(4)
    kept = panel.save()
    window.page.reload()
    panel.shown()
    panel.has(4)
    assert (panel.text, panel.turns()) == (kept, STEPS[:4])
    for number, step in enumerate(STEPS[4:], start=5):
        panel.ask(step)
        panel.has(number)
    assert panel.turns() == STEPS
    assert "x = 3" in panel.text
    panel.works(panel.button("Run All").click)
    window.page.screenshot(path=tmp_path / "session.png")


def test_missing_then_installed_then_removed(open_window, code_server, clone, settings, tmp_path):
    """Without any server: the state says so, and a private environment is made on request, used, and removed."""
    package = wheel(tmp_path)
    folder = code_server.root / "private"
    (folder / ".vscode").mkdir(parents=True)
    own = {"codegen-lsp.server.package": str(package), "codegen-lsp.server.pipArguments": ["--no-index", "--no-deps"]}
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings | own), encoding="utf-8")
    moved = clone.rename(clone.with_name("elsewhere")) if clone.exists() else None
    try:
        window = open_window(folder)
        window.edit("a.py", STACK)
        window.until(lambda: "not installed" in window.status(), "the state")
        window.page.locator(".notification-toast .monaco-button", has_text="Install").first.click()
        dialog = window.page.locator(".monaco-dialog-box")
        dialog.wait_for()
        assert str(package) in dialog.inner_text()
        dialog.locator(".monaco-button", has_text="Install").click()
        window.until(lambda: "Codegen is installed" in window.toasts(), "the installation", patience=4)
        window.ready()
        assert suggested(window, "b.py")
        window.command("Codegen: Remove the Private Environment")
        window.page.locator(".monaco-dialog-box .monaco-button", has_text="Remove").click()
        window.until(lambda: "not installed" in window.status(), "the state")
        assert not list((code_server.root / "user").glob("User/globalStorage/*codegen*/environment"))
    finally:
        if moved:
            moved.rename(clone)


def test_an_installation_that_is_cancelled_leaves_nothing(open_window, code_server, clone, settings, tmp_path):
    folder = code_server.root / "cancelled"
    (folder / ".vscode").mkdir(parents=True)
    own = {"codegen-lsp.server.package": str(endless(tmp_path)), "codegen-lsp.server.pipArguments": ["--no-index"]}
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings | own), encoding="utf-8")
    moved = clone.rename(clone.with_name("elsewhere")) if clone.exists() else None
    try:
        window = open_window(folder)
        window.edit("a.py", STACK)
        window.until(lambda: "not installed" in window.status(), "the state")
        window.page.locator(".notification-toast .monaco-button", has_text="Not Now").first.click()
        window.until(lambda: window.toasts() == "", "the question to go")
        window.command("Codegen: Install the Server in a Private Environment")
        window.page.locator(".monaco-dialog-box .monaco-button", has_text="Install").click()
        marker = tmp_path / "begun"
        window.until(marker.exists, "pip to be at work", patience=4)
        window.until(lambda: "Installing codegen-lsp" in window.toasts(), "the progress")
        window.page.locator(".notification-toast .monaco-button", has_text="Cancel").click()
        window.until(lambda: "nothing of it stays" in window.toasts(), "the end")
        assert not list((code_server.root / "user").glob("User/globalStorage/*codegen*/environment"))
        window.until(lambda: not psutil.pid_exists(int(marker.read_text())), "the end of what pip started")
    finally:
        if moved:
            moved.rename(clone)


def endless(folder: Path) -> Path:
    """A package that never gets done installing, and says when that begins."""
    source = folder / "endless"
    source.mkdir()
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (source / "pyproject.toml").write_text(build + '[project]\nname = "codegen-lsp"\nversion = "0.0.1"\n')
    marker = folder / "begun"
    (source / "backend.py").write_text(
        "import os, time\n"
        "def build_wheel(*_, **__):\n"
        f"    with open({str(marker)!r} + '.new', 'w') as file:\n"
        "        file.write(str(os.getpid()))\n"
        f"    os.replace({str(marker)!r} + '.new', {str(marker)!r})\n"
        "    time.sleep(3600)\n"
        "def prepare_metadata_for_build_wheel(*_, **__):\n"
        "    build_wheel()\n"
    )
    return source


def wheel(folder: Path) -> Path:
    """A package named codegen-lsp that leads to this checkout and to what is installed beside it."""
    path = folder / "codegen_lsp-0.0.1-py3-none-any.whl"
    lines = f"{ROOT}\n{sysconfig.get_paths()['purelib']}\n"
    about = "Metadata-Version: 2.1\nName: codegen-lsp\nVersion: 0.0.1\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("codegen_lsp_checkout.pth", lines)
        archive.writestr("codegen_lsp-0.0.1.dist-info/METADATA", about)
        archive.writestr(
            "codegen_lsp-0.0.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("codegen_lsp-0.0.1.dist-info/RECORD", "")
    return path
