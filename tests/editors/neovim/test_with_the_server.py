"""The whole way: a real editor, the real server, its worker, and a model."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from rich.syntax import Syntax

from codegen_lsp.advice.measurement import MeasurementParams, keep
from codegen_lsp.cli.demo import WITHOUT_WEB_FONT
from tests.advice.measured import measurement
from tests.editors.scenarios import PICTURED, PICTURES, STACK

ROOT = Path(__file__).parents[3]


SERVE = ("-c", "import sys; from codegen_lsp.lsp.serve import serve_stdio; sys.exit(serve_stdio())")


def setup(build, arguments=SERVE) -> str:
    """The call of setup() in an init.lua."""
    command = ", ".join(map(json.dumps, [sys.executable, *arguments]))
    model = json.dumps(str(build))
    settings = f"model = {model}, threads = 2, cache = {{ memory_mb = 64 }}, exclude = {{ 'left_*' }}"
    return f"require('codegen').setup {{ cmd = {{ {command} }}, settings = {{ {settings} }} }}"


@pytest.fixture
def neovim(start, embedded_build):
    neovim = start(setup(embedded_build), columns=250)
    neovim.edit("stack.py", STACK)
    ready(neovim)
    return neovim


def ready(neovim):
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") == "codegen", "the model", 4)


def worker(neovim) -> int:
    return neovim.lua("return require('codegen.server').status.workerPid")


def server_of(neovim) -> psutil.Process:
    children = psutil.Process(neovim.process.pid).children(recursive=True)
    return next(child for child in children if "serve_stdio" in " ".join(child.cmdline()))


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
        return done and done.accepted"""
    neovim.until(lambda: neovim.lua(counted) == 1, "the acceptance")


def test_picture(start, embedded_build, tmp_path):
    """The picture of the README: a suggestion that really came, where it belongs, and the state below."""
    neovim = start(setup(embedded_build) + "\nvim.cmd.colorscheme('habamax')", columns=78, rows=17)
    neovim.edit("words.py", PICTURED)
    ready(neovim)
    line = "set laststatus=2 statusline=%f%=%{v:lua.require'codegen'.statusline()}\\ %l:%c"
    neovim.command(line)
    neovim.keys("Gowith open(")
    first, *below = neovim.until(neovim.ghost, "a suggestion").split("\n")
    screen = neovim.screen()
    row = neovim.lua("return vim.fn.screenrow()") - 1
    assert screen[row] == "    with open(" + first
    assert screen[row + 1 : row + 1 + len(below)] == below
    assert any("words.py" in text and "codegen" in text for text in screen)
    console = Console(record=True, width=78, file=io.StringIO(), highlight=False)
    source = Syntax(
        "\n".join([*screen[:row], "    with open("]), "python", theme="ansi_dark", background_color="default"
    )
    code = source.highlight(source.code)
    code.rstrip()
    code.append("\n".join([first, *below]), "italic bright_black")
    console.print(code, *screen[row + 1 + len(below) :], sep="\n")
    picture = console.export_svg(title="Neovim", clear=False, code_format=WITHOUT_WEB_FONT)
    folder = Path(PICTURES) if PICTURES else tmp_path
    (folder / "neovim.svg").write_text(picture, encoding="utf-8")
    assert "codegen" in picture


def test_the_lines_of_the_readme_are_all_it_takes(start_bare, tmp_path):
    """A newcomer: a clone after `make demo`, a home with nothing in it, and what the README says."""
    clone = tmp_path / "codegen-lsp"
    shutil.copytree(ROOT / "editors" / "neovim", clone / "editors" / "neovim")
    server = clone / ".venv" / "bin" / "codegen-lsp"
    server.parent.mkdir(parents=True)
    server.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m codegen_lsp.cli "$@"\n')
    server.chmod(0o755)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```lua\n(.*?)```", readme, re.DOTALL)
    assert len(lines.splitlines()) < 10
    neovim = start_bare(lines.replace("/path/to/codegen-lsp", str(clone)), columns=120)
    neovim.edit("stack.py", STACK)
    ready(neovim)
    shown = suggested(neovim)
    neovim.keys("<Tab>")
    assert "\n".join(neovim.text()[8:]) == "        self." + shown
    assert "rror" not in neovim.messages()


def test_packages_of_another_python(start, embedded_build, tmp_path):
    """PYTHONPATH leads to packages that were made for another Python, as modules for robots and clusters set it."""
    foreign = tmp_path / "foreign"
    for name in (
        "attr",
        "attrs",
        "cattrs",
        "lsprotocol",
        "numpy",
        "pygls",
        "regex",
        "tree_sitter",
        "typing_extensions",
    ):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text(f"raise ImportError('{name} is made for another Python')\n")
    path = f"vim.env.PYTHONPATH = {json.dumps(os.pathsep.join([str(foreign), str(ROOT)]))}\n"
    neovim = start(path + setup(embedded_build, ("-m", "codegen_lsp.cli", "serve")))
    neovim.edit("stack.py", STACK)
    ready(neovim)
    given = psutil.Process(worker(neovim)).parent().environ()["PYTHONPATH"]
    assert given.split(os.pathsep)[0] == str(foreign)
    assert suggested(neovim)


def test_killed_worker(neovim):
    before = worker(neovim)
    os.kill(before, signal.SIGKILL)
    neovim.until(lambda: worker(neovim) not in (None, before), "another worker")
    ready(neovim)
    assert suggested(neovim)


def test_killed_server(neovim):
    server_of(neovim).kill()
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") != "codegen", "the end")
    ready(neovim)
    assert suggested(neovim)


def test_excluded_file(neovim):
    neovim.edit("left_alone.py", STACK)
    neovim.keys("Goself.")
    neovim.command("call timer_start(100, {-> execute('Codegen explain')}, {'repeat': -1})")
    neovim.until(lambda: "`excluded`" in neovim.messages(), "the reason")
    assert neovim.ghost() == ""


def test_the_server_and_its_worker_end_with_the_editor(neovim):
    process = psutil.Process(worker(neovim))
    server = server_of(neovim)
    neovim.close()
    _, alive = psutil.wait_procs([process, server], timeout=30)
    assert alive == []


def test_models_are_listed_with_their_latencies_on_this_machine(neovim, embedded_build, monkeypatch):
    """From a measurement that is kept: `tests/cli` has a real one."""
    params = MeasurementParams(threads=2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(neovim.home / "cache"))
    keep(measurement(key=params.key))
    neovim.lua(
        """vim.ui.select = function(rows, options, chosen)
          lines = { options.prompt }
          for _, row in ipairs(rows) do lines[#lines + 1] = options.format_item(row) end
          for _, row in ipairs(rows) do
            if row.name == 'codegen-350M-mono' then chosen(row) end
          end
        end"""
    )
    neovim.command("Codegen models")
    first, *lines = neovim.until(lambda: neovim.lua("return lines"), "the list")
    assert "qwen2.5-coder-0.5B (for lines, many languages) is the largest model" in first
    assert "`codegen-lsp models pull qwen2.5-coder-0.5B`" in first
    (line,) = (line for line in lines if "codegen-350M-mono" in line)
    assert re.search(r"first token \d+ ms, 16 tokens \d+ ms \(predicted\); within the aims; 797 MB to download", line)
    assert neovim.lua("return vim.fn.getreg('\"')") == "codegen-lsp models pull codegen-350M-mono"
