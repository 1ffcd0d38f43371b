"""The whole way: a real editor, the real server, its worker, and a model."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

SOURCE = "import os\n\n\nclass Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"


PICTURES = os.environ.get("CODEGEN_LSP_PICTURES")
"""A folder that pictures for the README are written to."""


def setup(build) -> str:
    """The call of setup() in an init.lua."""
    serve = "import sys; from codegen_lsp.editor.serve import serve_stdio; sys.exit(serve_stdio())"
    command = ", ".join(map(json.dumps, [sys.executable, "-c", serve]))
    model = json.dumps(str(build))
    settings = f"model = {model}, threads = 2, cache = {{ memory_mb = 64 }}, exclude = {{ 'left_*' }}"
    return f"require('codegen').setup {{ cmd = {{ {command} }}, settings = {{ {settings} }} }}"


@pytest.fixture
def neovim(start, embedded_build):
    neovim = start(setup(embedded_build), columns=250)
    neovim.edit("stack.py", SOURCE)
    ready(neovim)
    return neovim


def ready(neovim):
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") == "codegen", "the model")


def worker(neovim) -> int:
    return neovim.lua("return require('codegen.server').status.workerPid")


def suggested(neovim) -> str:
    neovim.keys("Goself.")
    return neovim.until(neovim.ghost, "a suggestion")


def test_suggested_and_accepted(neovim):
    shown = suggested(neovim)
    assert ("        self." + shown).split("\n")[0] in neovim.screen()
    neovim.keys("<Tab>")
    assert neovim.text()[8:] == ("        self." + shown).split("\n")
    counted = """local server, done = require('codegen.server'), nil
        local function keep(_, result) done = result end
        server.request(server.client(), 'codegen-lsp/explain', vim.empty_dict(), nil, keep)
        vim.wait(5000, function() return done end, 10)
        return done.accepted"""
    neovim.until(lambda: neovim.lua(counted) == 1, "the acceptance")


def test_picture(start, embedded_build, tmp_path):
    """The picture of the README: a suggestion that really came, where it belongs, and the state below."""
    neovim = start(setup(embedded_build) + "\nvim.cmd.colorscheme('habamax')", columns=78)
    neovim.edit("stack.py", SOURCE)
    ready(neovim)
    line = "set laststatus=2 statusline=%f%=%{v:lua.require'codegen'.statusline()}\\ %l:%c"
    neovim.command(line)
    shown = suggested(neovim).split("\n")[0]
    screen = neovim.screen()
    row = next(number for number, text in enumerate(screen) if text.endswith("self." + shown))
    assert row == neovim.lua("return vim.fn.screenrow()") - 1
    assert any("stack.py" in text and "codegen" in text for text in screen)
    console = Console(record=True, width=78, file=io.StringIO(), highlight=False)
    source = Syntax("\n".join(screen[:row]), "python", theme="ansi_dark", background_color="default")
    console.print(
        source, Text(screen[row].removesuffix(shown)) + Text(shown, "italic bright_black"), *screen[row + 1 :], sep="\n"
    )
    picture = console.export_svg(title="Neovim", clear=False)
    folder = Path(PICTURES) if PICTURES else tmp_path
    (folder / "neovim.svg").write_text(picture, encoding="utf-8")
    assert "codegen" in picture


def test_killed_worker(neovim):
    before = worker(neovim)
    os.kill(before, signal.SIGKILL)
    neovim.until(lambda: worker(neovim) not in (None, before), "another worker")
    ready(neovim)
    assert suggested(neovim)


def test_killed_server(neovim):
    server = psutil.Process(worker(neovim)).parent()
    assert server is not None
    server.kill()
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") != "codegen", "the end")
    ready(neovim)
    assert suggested(neovim)


def test_excluded_file(neovim):
    neovim.edit("left_alone.py", SOURCE)
    neovim.keys("Goself.")
    neovim.command("call timer_start(100, {-> execute('Codegen explain')}, {'repeat': -1})")
    neovim.until(lambda: "`excluded`" in neovim.messages(), "the reason")
    assert neovim.ghost() == ""


def test_the_server_and_its_worker_end_with_the_editor(neovim):
    process = psutil.Process(worker(neovim))
    server = process.parent()
    neovim.close()
    _, alive = psutil.wait_procs([process, server], timeout=30)
    assert alive == []
