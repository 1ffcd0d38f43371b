"""Programs in several turns, in a panel of a real VS Code, with a scripted model and the real sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.editors.install import run_script
from tests.editors.scenarios import PICTURES
from tests.editors.vscode.conftest import CodeServer, Script
from tests.editors.vscode.session_panel import SessionPanel

pytestmark = pytest.mark.usefixtures("sandbox")

TEMPERATURES = "Store the temperatures 12, 15, 19 and 22 as `temps`."
MEAN = "Compute their mean. `temps = [1, 2]` → `1.5`"
TABLE = "Make a table of days and temperatures."
PLOT = "Plot them by day."
WARM = "Count those above `limit`."
LIMIT = "It is 16."
LAST = "Print the warmest day."
BARS = (
    "import matplotlib.pyplot as plt\n\nplt.figure(figsize=(5, 2.2))\n"
    "plt.bar(range(1, len(temps) + 1), temps)\nplt.xlabel('day')\nplt.tight_layout()"
)
TURNS = {
    TEMPERATURES: ["temps = [12, 15, 19, 22]"],
    MEAN: ["temps.mean()", "sum(temps) / len(temps)", "sum(temps)"],
    TABLE: ["[(day, one) for day, one in enumerate(temps, 1)]"],
    PLOT: [BARS],
    f"{WARM}\n{LIMIT}": ["limit = 16\nsum(one > limit for one in temps)"],
    LAST: ["print('day', temps.index(max(temps)) + 1)"],
}
FIRST = f"# {TEMPERATURES}\ntemps = [12, 15, 19, 22]\n"
SECOND = f"\n# {MEAN}\nsum(temps) / len(temps)\n#> 17.0\n"
FIFTH = f"\n# {WARM}\n# {LIMIT}\nlimit = 16\nsum(one > limit for one in temps)\n#> 2\n"


@pytest.fixture
def large_window(window):
    window.page.set_viewport_size({"width": 1360, "height": 900})
    yield window
    window.page.set_viewport_size({"width": 1280, "height": 800})


def test_six_turns_and_their_picture(large_window, script, name, tmp_path):
    """Ask, see, choose, correct, undo, and go on after VS Code was started again."""
    pytest.importorskip("matplotlib", reason="Matplotlib (extra plot) is not installed")
    window = large_window
    script.write_script(turns=TURNS)
    panel = SessionPanel.begin(window, name)
    picture(window, "session-begin", tmp_path)
    panel.ask(TEMPERATURES)
    panel.has(1)
    panel.document_is(FIRST)
    panel.ask(MEAN)
    panel.has(2)
    panel.document_is(FIRST + SECOND)
    assert panel.verdicts(2) == ["1✓", "2✗", "3✗"]

    panel.turn(2).get_by_role("button", name="Candidate 3").click()
    panel.says("A value of the type list has no mean (line 1).", 2)
    assert "#> AttributeError" in panel.text
    picture(window, "session-failed", tmp_path)
    panel.button("Undo").click()
    panel.document_is(FIRST + SECOND)
    panel.says("17.0", 2)
    assert panel.verdicts(2) == ["1✓", "2✗", "3✗"], "it is known what an earlier state did"
    panel.button("Redo").click()
    panel.says("A value of the type list has no mean", 2)
    panel.button("Undo").click()
    panel.document_is(FIRST + SECOND)

    panel.ask(TABLE)
    panel.has(3)
    assert panel.turn(3).locator("td").all_inner_texts() == ["1", "12", "2", "15", "3", "19", "4", "22"]
    panel.act("Edit", 3)
    panel.fill("Code of step 3", "[{'day': day, 'temperature': one} for day, one in enumerate(temps, 1)]")
    panel.button("Save and Run").click()
    panel.says("yours", 3)
    panel.has(3)
    assert panel.turn(3).locator("th").all_inner_texts() == ["day", "temperature"]
    assert "#: edited" in panel.text

    panel.ask(PLOT)
    panel.has(4)
    drawn = panel.turn(4).locator("img")
    panel.until(lambda: drawn.evaluate("(image) => image.naturalWidth") > 100, "the picture")
    picture(window, "vscode-session", tmp_path)
    panel.ask(WARM)
    panel.says("Nothing above defines limit")
    assert WARM not in panel.text, "it asks before it writes"
    picture(window, "session-asked", tmp_path)
    panel.answer("Nothing above defines limit", LIMIT)
    panel.has(5)
    before = panel.save()
    assert before.endswith(FIFTH)

    window.page.reload()
    panel.shown()
    panel.has(5)
    assert panel.text == before
    panel.says("2", 5)
    panel.ask(LAST)
    panel.has(6)
    assert panel.text == before + f"\n# {LAST}\nprint('day', temps.index(max(temps)) + 1)\n#> day 4\n"
    panel.button("Run All").click()
    panel.says("The program ran to its end.")
    assert panel.turn(4).locator("img").count() == 1
    picture(window, "session-again", tmp_path)


def test_earlier_steps_are_changed_and_the_later_ones_written_anew(window, script, name):
    turns = {"Set x to 1.": ["x = 1"], "Set x to 5.": ["x = 5"], "Double it.": ["x * 2"], "Set y.": ["y = 3", "y = 4"]}
    script.write_script(turns=turns | {"Set y. @1": ["y = 6"]})
    text = "# Set x to 1.\nx = 1\n\n# Double it.\nx + x\n#> 2\n#: edited\n\n# Double it.\nx + 1\n#> 2\n"
    panel = SessionPanel.begin(window, name, text)
    panel.has(3)
    panel.act("Change", 1)
    panel.fill("What should step 1 do?", "Set x to 5.")
    panel.says("The later step is written anew.")
    panel.button("Write Anew").click()
    changed = "# Set x to 5.\nx = 5\n\n# Double it.\nx + x\n#> 10\n#: edited\n\n# Double it.\nx * 2\n#> 10\n"
    panel.document_is(changed)

    panel.act("Insert Above", 2)
    panel.fill("What should be done before step 2?", "Set y.")
    panel.button("Insert").click()
    panel.has(4)
    panel.document_is(changed.replace("x = 5\n", "x = 5\n\n# Set y.\ny = 3\n"))
    panel.turn(2).get_by_role("button", name="Candidate 2").click()
    panel.document_is(changed.replace("x = 5\n", "x = 5\n\n# Set y.\ny = 4\n"))
    panel.act("Retry", 2)
    panel.document_is(changed.replace("x = 5\n", "x = 5\n\n# Set y.\ny = 6\n"))
    panel.remove(2)
    panel.has(3)
    # What the later ones did is no longer known.
    panel.document_is(changed.replace("#> 10\n", ""))
    for _ in range(4):
        panel.button("Undo").click()
    panel.document_is(changed)
    panel.button("Undo").click()
    panel.document_is(text)
    panel.button("Undo").click()
    panel.says("There is nothing to undo.")


MISBEHAVING = {
    "import os\nwhile True:\n    os.fork()": "another process",
    "open('/etc/hosts', 'w')": "outside",
    "import socket\nsocket.create_connection(('127.0.0.1', 80), 1)": "network",
    "rows = bytearray(1 << 40)": "memory",
}


def test_a_program_that_misbehaves_is_stopped_and_the_session_goes_on(window, script, name, tmp_path):
    loop = "Count to the end."
    script.write_script(turns={"Do harm.": list(MISBEHAVING), loop: ["while True:\n    pass"], "Say it.": ["print(1)"]})
    panel = SessionPanel.begin(window, name)
    panel.ask("Do harm.")
    panel.has(1)
    panel.says("No candidate does what it should.")
    names = panel.turn(1).locator(".choice").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    for words in MISBEHAVING.values():
        assert any(words in name for name in names), (words, names)
    assert not any("candidate" in name and "it ran" in name for name in names)
    panel.remove(1)
    panel.ask(loop)
    panel.has(1)
    panel.says("It ran for more than 10 s and was stopped.", 1)
    picture(window, "session-loop", tmp_path)
    panel.remove(1)
    panel.ask("Say it.")
    panel.has(1)
    panel.document_is("# Say it.\nprint(1)\n#> 1\n")


def test_stop(window, script, name):
    script.write_script(turns={"Loop.": ["while True:\n    pass"]})
    panel = SessionPanel.begin(window, name)
    panel.ask("Loop.")
    panel.button("Stop").click()
    panel.says("Stopped; nothing was changed.")
    assert (panel.text, panel.turns()) == ("", [])


def test_a_comment_in_a_file_is_gone_on_with(window, script, name):
    """Its other lines stay, though nothing marks them as the user's."""
    script.write_script(turns={"Sum the rows.": ["total = sum(rows)\ntotal"]})
    text = (
        "import os\n\n\n# Rows.\nrows = [1, 2]\n# Sum the rows.\n\n\n# Show them.\nprint(rows)\n\n\n\nprint(os.sep)\n"
    )
    panel = SessionPanel.begin(window, name, text, line=6)
    panel.has(3)
    window.until(lambda: panel.page.locator(":focus").inner_text() == "Write This Step", "the focus")
    window.press("Enter")
    written = text.replace("\n# Sum the rows.\n", "\n\n# Sum the rows.\ntotal = sum(rows)\ntotal\n#> 3\n")
    panel.document_is(written)


def test_a_new_session_goes_on_in_the_file_that_it_is_saved_as(window, script, name):
    script.write_script(turns={"One.": ["1"], "Two.": ["2"]})
    window.ends(window.command("Codegen: New Session"))
    panel = SessionPanel(window, Path("Untitled-1"))
    panel.shown()
    panel.ask("One.")
    panel.has(1)
    path = window.folder / name
    window.page.locator('.tab[data-resource-name="Untitled-1"]').click()
    window.drive("start", "workbench.action.files.saveAs")
    where = window.page.locator(".quick-input-widget input[type=text]")
    window.until(lambda: where.input_value().endswith(".py"), "the name that VS Code proposes")
    where.fill(str(path))
    window.press("Enter")
    window.until(path.exists, "the file")
    panel = SessionPanel(window, path)
    panel.shown()
    panel.ask("Two.")
    panel.has(2)
    panel.document_is("# One.\n1\n#> 1\n\n# Two.\n2\n#> 2\n")


def test_the_keyboard_reaches_everything(window, script, name):
    script.write_script(turns={"One.": ["1", "2"]})
    panel = SessionPanel.begin(window, name)
    panel.ask("One.")
    panel.has(1)
    reached: list[str] = []
    while "Run All" not in reached and len(reached) < 30:
        window.press("Shift+Tab")
        reached.append(panel.page.locator(":focus").evaluate("(e) => e.ariaLabel || e.textContent"))
    tools = ["Edit", "Retry", "Change", "Insert Above", "Remove", "Show in File"]
    for label in [*(f"{tool}, step 1" for tool in tools), "Run All", "Undo", "Redo", "Fold Code", "Code of step 1"]:
        assert label in reached, label
    assert any(label.startswith("Candidate 2: it ran") for label in reached)
    panel.button("Fold Code").focus()
    window.press("Enter")
    panel.until(lambda: not panel.turn(1).locator("pre.code").is_visible(), "folded code")
    panel.turn(1).locator("summary").focus()
    window.press("Space")
    panel.turn(1).locator("pre.code").wait_for()
    panel.turn(1).get_by_role("button", name="Change, step 1").focus()
    window.press("Enter")
    window.until(
        lambda: panel.page.locator(":focus").evaluate("(e) => e.ariaLabel") == "What should step 1 do?", "a field"
    )
    window.press("Escape")
    window.until(lambda: panel.page.locator(":focus").inner_text() == "Change", "the focus to return")


def test_what_programs_print_is_text_and_nothing_is_loaded(window, script, name):
    hostile = "<img src=x onerror=\"document.title='hit'\"><script>document.title='hit'</script>"
    script.write_script(turns={"Print <b>markup</b>.": [f"print({hostile!r})\n[[{hostile!r}, 2], [3, 4]]"]})
    panel = SessionPanel.begin(window, name)
    panel.ask("Print <b>markup</b>.")
    panel.has(1)
    assert panel.turn(1).locator("td").first.inner_text() == hostile
    assert panel.turn(1).locator(".request").inner_text() == "Print <b>markup</b>."
    assert panel.page.locator("main").locator("img, b, script").count() == 0
    refused = """async () => {
      const seen = [];
      document.addEventListener('securitypolicyviolation', (event) => seen.push(event.effectiveDirective));
      await fetch('http://127.0.0.1:9/').catch(() => undefined);
      const image = new Image();
      await new Promise((done) => { image.onerror = done; image.src = 'http://127.0.0.1:9/x.png'; });
      const script = document.createElement('script');
      script.textContent = "document.title = 'hit'";
      document.body.append(script);
      await new Promise((done) => setTimeout(done));
      return [document.title, ...seen];
    }"""
    found = panel.page.locator("body").evaluate(refused)
    assert found == ["Codegen session", "connect-src", "img-src", "script-src-elem"]


def test_without_a_sandbox_nothing_runs_and_it_says_so(window, script, name):
    script.write_script(turns={"One.": ["1"]}, sandbox=False)
    panel = SessionPanel.begin(window, name)
    panel.ask("One.")
    panel.says("Programs can't be confined on this system")
    assert panel.text == ""


@pytest.mark.slow
def test_nothing_runs_in_a_workspace_that_is_not_trusted(vsix, node, tmp_path):
    pytest.importorskip("playwright.sync_api")
    entry = run_script("install_code_server.sh", env=node)
    chromium = run_script("install_chromium.sh", env=node)
    script = Script(tmp_path / "script")
    script.write_script(turns={"Two.": ["2"]})
    own = {"security.workspace.trust.enabled": True, "security.workspace.trust.startupPrompt": "never"}
    server = CodeServer(tmp_path / "server", vsix, entry, chromium, node, own | script.settings(), trusts=False)
    try:
        (folder := tmp_path / "folder").mkdir()
        window = server.window(folder)
        panel = SessionPanel.begin(window, "a.py", "# One.\n1\n")
        panel.has(1)
        panel.says("This workspace is not trusted, so nothing is written or run.")
        assert not panel.page.get_by_label("What should the program do next?").is_enabled()
        for name in ("Run All", "Edit, step 1", "Retry, step 1", "Remove, step 1"):
            assert not panel.button(name).is_enabled()
        # Nor does the extension do what a page asks it to.
        window.until(lambda: script.events("load"), "the server")
        panel.page.locator("article").evaluate(
            "(e) => document.querySelectorAll('button').forEach((b) => (b.disabled = false))"
        )
        panel.button("Run All").click()
        panel.says("The steps are shown as they are.")
        picture(window, "session-untrusted", tmp_path)
        assert panel.text == "# One.\n1\n"
        assert not [one for one in script.events("generate") if one["document"].startswith("synthesis")]
    finally:
        server.close()


def picture(window, name: str, folder: Path) -> None:
    """Take a picture; that of the documentation is kept."""
    window.page.wait_for_timeout(300)
    kept = Path(PICTURES) if PICTURES and name == "vscode-session" else folder
    window.page.screenshot(path=kept / f"{name}.png")
