"""The whole way: a real editor, the real server, its worker, and a model."""

from __future__ import annotations

import json
import os
import signal
import sys

import psutil
import pytest

SOURCE = "import os\n\n\nclass Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n"


@pytest.fixture
def neovim(start, embedded_build):
    serve = "import sys; from codegen_lsp.editor.serve import serve_stdio; sys.exit(serve_stdio())"
    command = ", ".join(map(json.dumps, [sys.executable, "-c", serve]))
    model = json.dumps(str(embedded_build))
    settings = f"model = {model}, threads = 2, cache = {{ memory_mb = 64 }}, exclude = {{ 'left_*' }}"
    neovim = start(f"require('codegen').setup {{ cmd = {{ {command} }}, settings = {{ {settings} }} }}", columns=250)
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
