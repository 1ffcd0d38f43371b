"""What the extension does besides ghost text: its state, its menu, models, reports, settings, several windows."""

from __future__ import annotations

import contextlib
import json

import psutil
import pytest

from tests.editors.vscode.conftest import OWN_SETTINGS


def told(window, text):
    """Wait for a message with this text, and take it away."""
    window.until(lambda: text in window.toasts(), f"a message with {text!r}")
    window.dismiss()


def suggests(window, script, name):
    """Whether a suggestion comes in a new file."""
    script.set("total = sum((1, 2))")
    window.edit(name)
    window.type("total")
    window.sees(" = sum((1, 2))")


def test_state_model_and_time_are_shown(window, script, name):
    suggests(window, script, name)
    window.until(lambda: window.status().startswith("scripted") and window.status().endswith(" ms"), "the time")


def test_the_server_has_the_environment_of_the_editor(window, script, code_server):
    environment = script.events("started")[-1]["environment"]
    assert environment["HOME"] == str(code_server.root / "home")
    assert "PATH" in environment
    assert environment["PYTHONUTF8"] == "1"


def test_the_package_is_small(vsix):
    assert vsix.stat().st_size < 1_000_000


def test_walkthrough(window, script, name):
    window.edit(name)
    window.command("Codegen: Get Started")
    steps = window.page.locator(".gettingStartedContainer .step-title")
    window.until(lambda: steps.count() == 5, "the steps")
    assert steps.first.inner_text().strip() == "The server"
    steps.nth(4).click()
    window.page.locator(".getting-started-step.expanded", has_text="tells why there was none").wait_for()


def test_commands_are_in_the_palette(window):
    """Other tests run commands by their identifiers. Nothing is chosen here, so asking again does no harm."""
    from playwright.sync_api import TimeoutError

    box = window.page.locator(".quick-input-widget input")
    rows = window.page.locator(".quick-input-list .monaco-list-row")

    def ask():
        window.press("F1")
        with contextlib.suppress(TimeoutError):
            box.fill(">Codegen: Suggest Now", timeout=5000)

    window.repeat(ask, rows.filter(has_text="Codegen: Suggest Now").count, "the command")
    window.press_until("Escape", lambda: not box.is_visible(), "the list to close")


def test_menu_pauses_a_language_and_resumes_it(window, script, name):
    before = len(script.log)
    script.set("total = sum((1, 2))")
    window.edit(name)
    window.page.locator('.statusbar-item[id*="codegen-lsp"] a').click()
    window.choose("Pause for Python")
    window.until(lambda: "off" in window.status(), "the state")
    window.focus()
    window.type("tot")
    window.page.wait_for_timeout(400)
    assert window.ghost() == ""
    assert script.events("generate", before) == []
    window.command("Codegen: Pause or Resume Suggestions for This Language")
    window.ready()
    window.focus()
    window.type("al")
    window.sees(" = sum((1, 2))")


def test_menu_pauses_everywhere_and_resumes(window, script, name):
    window.edit(name)
    window.choose("Pause everywhere", "Codegen: Show Menu")
    window.until(lambda: "off" in window.status(), "the state")
    window.choose("Resume everywhere", "Codegen: Show Menu")
    window.ready()
    suggests(window, script, "again_" + name)


def test_explained(window, script, name):
    suggests(window, script, name)
    window.command("Codegen: Explain the Last Suggestion")
    told(window, "1 suggestion")


def test_model_is_switched(window, script, name):
    window.edit(name)
    window.ends(window.choose("other", "Codegen: Switch Model"))
    window.until(lambda: window.status().startswith("other"), "the other model")
    window.ends(window.choose("scripted", "Codegen: Switch Model"))
    window.until(lambda: window.status().startswith("scripted"), "the first model")


def test_model_is_pulled_and_the_pull_is_stopped(window, script, name):
    window.edit(name)
    before = len(script.log)
    window.choose("big", "Codegen: Pull a Model")
    dialog = window.page.locator(".monaco-dialog-box")
    dialog.wait_for()
    assert "7.0 GB" in dialog.inner_text()
    dialog.locator(".monaco-button", has_text="Download").click()
    window.until(lambda: "Pulling big" in window.toasts() and "Downloading" in window.toasts(), "the progress")
    (pull,) = script.events("pull", before)
    window.page.locator(".notification-toast .monaco-button", has_text="Cancel").click()
    window.until(lambda: not psutil.pid_exists(pull["pid"]), "the end of the download")
    told(window, "was stopped")


def test_packages_that_a_pull_lacks_are_installed_on_request(window, script, name):
    window.edit(name)
    before = len(script.events("pull"))

    def answered(button, *options):
        """Pull, give an answer to the question, and wait for the options of the commands that were run since."""
        window.choose("extra-sized", "Codegen: Pull a Model")
        dialog = window.page.locator(".monaco-dialog-box")
        dialog.locator(".monaco-button", has_text="Download").click()
        dialog.get_by_text("the extra convert").wait_for()
        dialog.locator(".monaco-button", has_text=button).click()
        window.until(lambda: [one["options"] for one in script.events("pull")[before:]] == [*options], "the pulls")

    answered("Cancel", ["--json"])
    answered("Install and Pull", ["--json"], ["--json"], ["--json", "--install"])
    told(window, "extra-sized is installed")


@pytest.fixture
def unmeasured(code_server):
    """Nothing is known of this machine."""
    (code_server.root / "home" / ".cache" / "codegen-lsp" / "machine-speed.json").unlink(missing_ok=True)


def test_the_machine_is_measured_on_request_and_the_measuring_is_stopped(window, script, unmeasured, name):
    window.edit(name)
    before = len(script.log)
    script.write_script(measuring=True)
    window.choose("Which model suits this machine?", "Codegen: Show Menu")
    window.until(lambda: script.events("measure", before), "the measuring")
    window.until(lambda: "Measuring this machine" in window.toasts(), "the progress")
    window.page.locator(".notification-toast .monaco-button", has_text="Cancel").click()
    window.until(lambda: script.events("measuring cancelled", before), "the end of the measuring")
    window.until(lambda: window.toasts() == "", "the end of the progress")
    assert len(script.events("measure", before)) == 1


def test_a_model_that_suits_the_machine_is_taken(window, script, code_server, unmeasured, name):
    script.set()
    window.edit(name)
    before = len(script.log)
    window.command("Codegen: Which Model Suits This Machine?")
    rows = window.page.locator(".quick-input-list .monaco-list-row")
    rows.filter(has_text="codegen-350M-mono").wait_for()
    advice = window.page.locator(".quick-input-widget input").get_attribute("placeholder")
    assert "qwen2.5-coder-0.5B (for lines, many languages) is the largest model" in advice
    row = rows.filter(has_text="codegen-350M-mono").inner_text()
    for word in ("first token", "16 tokens", "predicted", "BSD-3-Clause", "lines of Python", "797 MB to download"):
        assert word in row
    assert len(script.events("measure", before)) == 1
    window.choose("codegen-lsp-python")
    window.choose("In this workspace")
    window.until(lambda: window.status().startswith("codegen-lsp-python"), "the model")
    kept = window.folder / ".vscode" / "settings.json"
    window.until(lambda: '"codegen-lsp.model": "codegen-lsp-python"' in kept.read_text(encoding="utf-8"), "the setting")
    user = code_server.root / "user" / "User" / "settings.json"
    assert "codegen-lsp-python" not in user.read_text(encoding="utf-8")
    window.write_settings({"codegen-lsp.model": None})
    window.ends(window.choose("scripted", "Codegen: Switch Model"))
    window.until(lambda: window.status().startswith("scripted"), "the first model")
    window.until(lambda: "Measuring" not in window.toasts(), "the progress to close")


def test_the_command_for_a_model_that_is_not_installed_is_copied(window, script, name):
    script.set()
    window.edit(name)
    before = len(script.log)
    window.choose("codegen-350M-mono", "Codegen: Which Model Suits This Machine?")
    dialog = window.page.locator(".monaco-dialog-box")
    dialog.wait_for()
    assert "codegen-lsp models pull codegen-350M-mono" in dialog.inner_text()
    dialog.locator(".monaco-button", has_text="Copy Command").click()
    dialog.wait_for(state="detached")
    window.focus()
    window.press_until("Control+V", lambda: "codegen-lsp models pull codegen-350M-mono" in window.text())
    window.choose("codegen-350M-mono", "Codegen: Which Model Suits This Machine?")
    dialog.locator(".monaco-button", has_text="Pull It Now").click()
    dialog.locator(".monaco-button", has_text="Download").click()
    window.until(lambda: [one["name"] for one in script.events("pull", before)] == ["codegen-350M-mono"], "the pull")
    window.page.locator(".notification-toast .monaco-button", has_text="Cancel").click()
    told(window, "was stopped")


def test_reports(window, script, name):
    window.edit(name)
    window.command("Codegen: Run Doctor")
    window.page.locator('.tab.active[data-resource-name="Doctor.txt"]').wait_for()
    window.until(lambda: "codegen-lsp is well" in window.text(), "the report")
    window.command("Codegen: Show Statistics")
    window.until(lambda: "12 suggestions" in window.text(), "the figures")
    window.until(lambda: window.toasts() == "", "the progress to go away")


def test_log_and_restart(window, script, name):
    window.edit(name)
    (before,) = script.events("started")[-1:]
    window.command("Codegen: Restart the Server")
    window.until(lambda: script.events("started")[-1] != before, "another server")
    window.ready()
    window.until(lambda: not psutil.pid_exists(before["pid"]), "the end of the server before")
    window.command("Codegen: Show Log")
    window.page.locator(".part.panel .output-view, .part.panel .monaco-editor").first.wait_for()
    window.press_until("Control+j", window.page.locator(".part.panel").is_hidden, "the panel to close")
    suggests(window, script, name)


def test_a_killed_server_comes_back_unseen(window, script, name):
    suggests(window, script, name)
    before = script.events("started")[-1]
    psutil.Process(before["pid"]).kill()
    window.until(lambda: script.events("started")[-1] != before, "another server")
    window.ready()
    assert window.toasts() == ""
    window.press("Escape")
    window.nudge(" = sum((1, 2))")


@pytest.mark.parametrize("moves", [False, True], ids=["the cursor stays", "the cursor moves"])
def test_what_was_typed_before_the_model_was_ready(window, script, name, moves):
    suggests(window, script, f"ready_{name}")
    window.edit(name, "\n")
    script.write_script(texts=["total = sum((1, 2))"], loading=True)
    (before,) = script.events("started")[-1:]
    window.command("Codegen: Restart the Server")
    window.until(lambda: script.events("started")[-1] != before, "another server")
    window.until(lambda: window.status().startswith("Codegen"), "it to load")
    asked = len(script.events("generate"))
    window.type("total")
    if moves:
        window.press("ArrowUp")
    script.set("total = sum((1, 2))")
    window.ready()
    if moves:
        assert window.selection().startswith("Ln 1")
        window.page.wait_for_timeout(1000)
        assert window.ghost() == ""
        assert len(script.events("generate")) == asked
        return
    window.sees(" = sum((1, 2))")
    # A prefetch may follow.
    made = [one["candidates"] for one in script.events("generate")[asked:] if one["line"] == "total"]
    assert made == [1], "as if it had been typed now"


def test_wrong_settings_are_named(window, script, name):
    window.edit(name)
    window.write_settings({"codegen-lsp.threads": "many"})
    told(window, "codegen-lsp.threads")
    window.write_settings({"codegen-lsp.threads": None})


@pytest.mark.parametrize("program", ["/nowhere/codegen-lsp", "/bin/false"])
def test_a_server_that_can_not_run_is_given_up_without_a_message(code_server, open_window, program):
    name = program.strip("/").replace("/", "-")
    window = open_window(make_folder(code_server, name, {"codegen-lsp.server.command": [program, "serve"]}))
    window.edit("a.py")
    window.until(lambda: "error" in window.status(), "the state")
    window.type("total")
    assert window.toasts() == ""


def test_several_windows_and_folders(window, code_server, open_window, script, name):
    suggests(window, script, name)
    settings = script.settings() | {"codegen-lsp.exclude": ["generated/**"]}
    folders = [make_folder(code_server, f"many/{part}", {}) for part in ("one", "two")]
    place = code_server.root / "many" / "both.code-workspace"
    place.write_text(json.dumps({"folders": [{"path": str(path)} for path in folders], "settings": settings}))
    before = len(script.events("started"))
    other = open_window(place)
    while not has_folders(other):
        other.page.reload()  # now and then code-server opens a workspace without its folders
    for folder in ("one", "two"):
        other.edit(f"{folder}/{name}")
        other.ready()
        other.type("total")
        other.sees(" = sum((1, 2))")
        other.edit(f"{folder}/generated/x_{name}")
        other.type("total")
        other.page.wait_for_timeout(300)
        other.sees("")  # the ghost text of the file before goes when this one is drawn
    assert len(script.events("started")) > before
    window.press("Escape")
    window.focus()
    window.nudge(" = sum((1, 2))")
    assert other.toasts() == ""


def has_folders(window) -> bool:
    """Whether a window shows folders, once it shows that or that there are none."""
    none = window.page.get_by_text("not yet added a folder")
    row = window.page.locator(".explorer-folders-view .monaco-list-row")
    window.until(lambda: none.count() or row.count(), "the explorer")
    return bool(row.count())


def make_folder(code_server, name, settings):
    folder = code_server.root / name
    (folder / ".vscode").mkdir(parents=True)
    (folder / ".vscode" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def one_file_at_a_time(scripted_window):
    yield
    # What a test wrote into the user's settings is not for the next one. VS Code removes it itself: it refuses to write
    # the file after another program did, and says so in a dialog.
    scripted_window.drive("unset", *OWN_SETTINGS)
