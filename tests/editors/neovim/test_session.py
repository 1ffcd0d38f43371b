"""Programs in several turns in the split: a real editor, the real server and sandbox; a scripted or embedded model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.editors.neovim.test_with_the_server import ready
from tests.editors.neovim.test_with_the_server import setup as setup_with_model

SERVER = Path(__file__).parents[1] / "session_server.py"

ANSWERS = {
    "Set x to [1, 2].": ["x = [1, 2]", "x = (1, 2)"],
    "Set x to [3].": ["x = [3]"],
    "Sum x. `x = [1, 2]` → `3`": ["max(x)", "sum(x)", "1 / 0"],
    "Print `y`.\ny is 2": ["print(2)"],
    "Double x.": ["x = x * 2"],
    "Show x.": ["x"],
    "Loop.": ["while True: pass"],
    "Beep.": ["print('\\x1b[31mred\\x07'); print('a\\rb')"],
    "Open a file outside.": ["open('/etc/x', 'w')"],
    "Make a table.": ["[{'name': 'a', 'age': 1}, {'name': 'bcd', 'age': 23}]"],
    "Draw.": ["open('turn-1-plot.txt', 'w').write('drawn')"],
}

pytestmark = pytest.mark.usefixtures("sandbox")


def setup(folder: Path, *arguments: str) -> str:
    """The call of setup() in an init.lua, for the scripted model."""
    script = folder / "answers.json"
    script.write_text(json.dumps(ANSWERS), encoding="utf-8")
    line = [sys.executable, "-m", "tests.editors.session_server", str(script), *arguments]
    return f"require('codegen').setup {{ cmd = {{ {', '.join(map(json.dumps, line))} }}, auto = false }}\n"


@pytest.fixture
def neovim(start, tmp_path):
    neovim = start(setup(tmp_path), columns=150, rows=40)
    neovim.edit("program.py")
    neovim.command("Codegen session")
    shows(neovim, "Press a")
    return neovim


def split(neovim) -> str:
    """The text of the split."""
    return "\n".join(neovim.lua("return vim.api.nvim_buf_get_lines(vim.fn.bufnr('codegen://session'), 0, -1, false)"))


def program(neovim) -> str:
    """The text of the file."""
    return "\n".join(neovim.lua("return vim.api.nvim_buf_get_lines(vim.fn.bufnr('program.py'), 0, -1, false)"))


def shows(neovim, *texts: str) -> str:
    """Wait until the split has these texts while nothing is written or run, and return its text."""

    def found():
        text = split(neovim)
        return all(part in text for part in texts) and " …" not in text and text

    return neovim.until(found, repr(texts), 2)


def asked(neovim, prompt: str) -> None:
    """Wait until Neovim asks something on the command line."""
    ask = "return vim.api.nvim_get_mode().mode:sub(1, 1) == 'c'"
    neovim.until(lambda: neovim.lua(ask) and any(prompt in line for line in neovim.screen()), prompt)


def say(neovim, key: str, prompt: str, text: str) -> None:
    """Press a key in the split, and type what it asks for."""
    neovim.keys(key)
    asked(neovim, prompt)
    neovim.keys("<C-u>" + text.replace("<", "<lt>") + "<CR>")


SIX = """# Set x to [1, 2].
x = [1, 2]

# Sum x. `x = [1, 2]` → `3`
sum(x)
#> 3

# Print `y`.
# y is 2
print(2)
#> 2

# Double x.
x = x * 2

# Show x.
x
#> [1, 2, 1, 2]

# Make a table.
[{'name': 'a', 'age': 1}, {'name': 'bcd', 'age': 23}]
#> [{'name': 'a', 'age': 1}, {'name': 'bcd', 'age': 23}]"""


def test_six_turns_are_asked_corrected_undone_and_gone_on_with(neovim, start, tmp_path):
    say(neovim, "a", "1 ›", "Set x to [1, 2].")
    found = shows(neovim, "• 1 Set x to [1, 2].")
    assert "▸ 1• x = [1, 2]\n   2• x = (1, 2)" in found
    say(neovim, "a", "2 ›", "Sum x. `x = [1, 2]` → `3`")
    found = shows(neovim, "✓ 2 Sum x.")
    assert "▸ 1✓ sum(x)   3\n   2✗ max(x)   x = [1, 2] → 3, but it gives 2\n   3✗ 1 / 0   ZeroDivisionError" in found
    say(neovim, "a", "3 ›", "Print `y`.")
    asked(neovim, "Nothing above defines y")
    neovim.keys("y is 2<CR>")
    shows(neovim, "• 3 Print `y`.\n    y is 2\n   2")
    for number, request in ((4, "Double x."), (5, "Show x."), (6, "Make a table.")):
        say(neovim, "a", f"{number} ›", request)
        found = shows(neovim, f"• {number} {request}")
    assert "   name  age\n   a     1\n   bcd   23" in found
    assert program(neovim) == SIX

    # Another candidate, and back.
    neovim.command("call search('^. 2 ', 'w')")
    neovim.keys("r")
    shows(neovim, "✓ 2 Sum x.", "1✓ sum(x)")
    neovim.keys("2")
    shows(neovim, "✗ 2 Sum x.", "▸ 2✗")
    assert "max(x)\n#> 2\n" in program(neovim)
    neovim.keys("u")
    neovim.until(lambda: program(neovim) == SIX, "the undo")
    neovim.keys("<C-r>")
    neovim.until(lambda: "max(x)" in program(neovim), "the redo")
    neovim.keys("u")
    neovim.until(lambda: program(neovim) == SIX, "the undo")

    # The person's own code, typed into the file, is kept when an earlier step changes.
    neovim.command("call search('^. 5 ', 'w')")
    neovim.keys("e")
    neovim.keys("ccx[0]<Esc>")
    shows(neovim, "5 Show x.  yours")
    neovim.command("wincmd p")
    neovim.keys("x")
    shows(neovim, "• 5 Show x.  yours\n   1\n")
    neovim.command("call search('^. 1 ', 'w')")
    say(neovim, "c", "1 ›", "Set x to [3].")
    shows(neovim, "• 1 Set x to [3].", "✓ 2 Sum x.", "yours\n   3\n")
    assert "x = [3]\n" in program(neovim)
    assert "x[0]\n#> 3\n#: edited\n" in program(neovim)

    # Going on after a restart.
    neovim.command("call search('^. 6 ', 'w')")
    neovim.keys("d")
    shows(neovim, "yours\n   3\n")
    neovim.until(lambda: "table" not in program(neovim), "the removal")
    neovim.command("wall")
    neovim.close()
    path = neovim.home / "project" / "program.py"
    again = start(setup(tmp_path), columns=150, rows=40)
    again.edit("program.py", path.read_text())
    again.command("Codegen session Show x.")
    found = shows(again, "• 6 Show x.\n   [3, 3]")
    assert "5 Show x.  yours\n   3\n" in found
    assert again.lua("return vim.api.nvim_buf_get_name(0)").endswith("codegen://session")


def test_a_step_is_inserted_and_the_later_ones_are_written_anew(neovim):
    for number, request in ((1, "Set x to [1, 2]."), (2, "Show x.")):
        say(neovim, "a", f"{number} ›", request)
        shows(neovim, f"• {number} {request}")
    say(neovim, "i", "2 ›", "Double x.")
    shows(neovim, "• 2 Double x.", "• 3 Show x.\n   [1, 2, 1, 2]")


def test_the_cursor_stays_on_its_step_when_the_lines_above_change(neovim):
    for number, request in ((1, "Set x to [1, 2]."), (2, "Show x.")):
        say(neovim, "a", f"{number} ›", request)
        shows(neovim, f"• {number} {request}")
    neovim.command("call search('^. 2 ', 'w')")
    neovim.lua("vim.api.nvim_buf_set_lines(vim.fn.bufnr('program.py'), 1, 1, false, { '# Really.' })")
    shows(neovim, "1 Set x to [1, 2].\n    Really.")
    assert "2 Show x." in neovim.request("nvim_get_current_line")


def test_what_misbehaves_is_stopped_with_a_clear_word_and_the_session_goes_on(neovim):
    say(neovim, "a", "1 ›", "Loop.")
    neovim.until(lambda: "writing and running candidates …" in split(neovim), "the work")
    neovim.keys("s")
    shows(neovim, "Stopped; nothing was changed.")
    assert program(neovim) == ""
    say(neovim, "a", "1 ›", "Open a file outside.")
    found = shows(
        neovim, "✗ 1 Open", "it tried to write outside its own folder, which the sandbox does not allow: OSError"
    )
    assert "No candidate is right." in found
    say(neovim, "a", "2 ›", "Beep.")
    shows(neovim, "turn 1: it tried to write outside")
    neovim.command("call search('^. 1 ', 'w')")
    neovim.keys("d")
    shows(neovim, "· 1 Beep.")
    neovim.keys("x")
    found = shows(neovim, "• 1 Beep.")
    assert "   \\x1b[31mred\\x07\n   b\n" in found
    assert not any(ord(sign) < 32 for sign in found + program(neovim) if sign != "\n")
    say(neovim, "a", "2 ›", "Set x to [1, 2].")
    shows(neovim, "• 2 Set x")


def test_pictures_are_saved_beside_the_file(neovim):
    say(neovim, "a", "1 ›", "Draw.")
    shows(neovim, "• 1 Draw.", "program-files/turn-1-plot.txt")
    assert (neovim.home / "project" / "program-files" / "turn-1-plot.txt").read_text() == "drawn"


def test_a_file_goes_on_as_a_session_from_a_comment(start, tmp_path):
    neovim = start(setup(tmp_path), columns=150, rows=40)
    neovim.edit("program.py", "import os\n\n\n# Set x to [1, 2].\n\n# Show x.\nx\n")
    neovim.keys("4G")
    neovim.command("Codegen continue")
    shows(neovim, "• 1 Set x to [1, 2].", "• 2 Show x.\n   [1, 2]")
    assert program(neovim).startswith("import os\n\n\n# Set x to [1, 2].\nx = [1, 2]\n")
    neovim.command("wincmd p")
    neovim.keys("1G")
    neovim.command("Codegen continue")
    shows(neovim, "There is no step here")
    neovim.command("wincmd p")
    neovim.keys("G")
    neovim.command("Codegen continue")
    shows(neovim, "This step has code.")


def test_where_nothing_can_be_confined_nothing_runs(start, tmp_path):
    neovim = start(setup(tmp_path, "--unconfined"), columns=150, rows=40)
    neovim.edit("program.py", "# Set x to [1, 2].\nx = [1, 2]\n")
    neovim.command("Codegen session")
    shows(neovim, "· 1 Set x")
    for key in ("x", "r"):
        neovim.keys(key)
        shows(neovim, "Programs can't be confined on this system: there are no namespaces on darwin.", "--limits-only")
    assert program(neovim) == "# Set x to [1, 2].\nx = [1, 2]"


def test_what_is_no_session_is_said(start, tmp_path):
    neovim = start(setup(tmp_path))
    neovim.edit("a.go", "package a\n")
    neovim.command("Codegen session")
    assert "A session is a Python file." in neovim.messages()
    assert neovim.lua("return #vim.api.nvim_list_wins()") == 1


def test_the_keys_are_shown(neovim):
    neovim.keys("?")
    neovim.sees("take this candidate for the step", "close the split")
    neovim.keys("?")
    assert "close the split" not in split(neovim)
    neovim.keys("q")
    assert neovim.lua("return #vim.api.nvim_list_wins()") == 1
    neovim.command("Codegen session")
    shows(neovim, "Press a")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["0.12"], indirect=True)
def test_six_turns_with_the_embedded_model(start, embedded_build):
    """Whatever the model writes, each step is in the file, can be replaced, run, undone, and gone on with."""
    init = setup_with_model(embedded_build)
    neovim = start(init, columns=150, rows=40)
    neovim.edit("program.py")
    ready(neovim)
    neovim.command("Codegen session")
    shows(neovim, "Press a")
    requests = (
        "Import os.",
        "Set names to a list.",
        "Sort names.",
        "Print names.",
        "Import sys.",
        "Print the version.",
    )
    for number, request in enumerate(requests, 1):
        say(neovim, "a", f"{number} ›", request)
        shows(neovim, f" {number} {request}")
        if number == 2:
            neovim.keys("e")
            neovim.keys("Gonames = ['b', 'a']<Esc>")
            neovim.command("wincmd p")
            shows(neovim, "2 Set names to a list.  yours")
    assert [f"# {request}" in program(neovim) for request in requests] == [True] * 6
    before = program(neovim)
    neovim.keys("u")
    neovim.until(lambda: "# Print the version." not in program(neovim), "the undo")
    neovim.keys("<C-r>")
    neovim.until(lambda: program(neovim) == before, "the redo")
    neovim.keys("x")
    shows(neovim, "6 Print the version.")
    neovim.command("wall")
    path = neovim.home / "project" / "program.py"
    neovim.close()
    again = start(init, columns=150, rows=40)
    again.edit("program.py", path.read_text())
    ready(again)
    again.command("Codegen session")
    shows(again, "6 Print the version.", "yours")
    say(again, "a", "7 ›", "Print names once more.")
    shows(again, "7 Print names once more.")
