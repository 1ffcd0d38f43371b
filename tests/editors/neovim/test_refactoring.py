"""Refactorings in a real editor: the menu, the preview, the edit, and one step to undo it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.editors.scenarios import AREA, EXTRACTED, LOOP

SERVER = Path(__file__).parents[1] / "refactoring_server.py"


def setup(*answers: str) -> str:
    command = ", ".join(map(json.dumps, [sys.executable, str(SERVER), *answers]))
    return f"require('codegen').setup {{ cmd = {{ {command} }} }}\n"


@pytest.fixture
def open_with(start):
    """An editor with a file open, and a model that says this."""

    def begin(text: str, *answers: str):
        neovim = start(setup(*answers), columns=120, rows=30)
        neovim.edit("shapes.py", text)
        ready(neovim)
        # What is asked, in whatever way this version asks, and what the user answers. A dialog that is open would take
        # a test's own messages for answers.
        neovim.lua(
            """_G.offered, _G.asked, _G.wanted, _G.answer = {}, '', nil, 2
            vim.ui.select = function(items, options, choose)
              local titles = {}
              for at, item in ipairs(items) do
                titles[at] = (item.action or item).title or tostring(item)
              end
              if options.kind == 'codeaction' then
                _G.offered = titles
                for at, title in ipairs(titles) do
                  if title == _G.wanted then return choose(items[at], at) end
                end
                return choose(nil)
              end
              _G.asked = (options.prompt or '') .. table.concat(titles, '\\n')
              choose(items[_G.answer], _G.answer)
            end
            vim.fn.inputlist = function(lines)
              _G.asked = table.concat(lines, '\\n')
              return _G.answer
            end
            vim.fn.confirm = function(message)
              _G.asked = message
              return _G.answer
            end"""
        )
        return neovim

    return begin


def ready(neovim) -> None:
    neovim.until(lambda: neovim.lua("return require('codegen').statusline()") == "codegen", "the model", 4)


def act(neovim, first: tuple[int, int], last: tuple[int, int], title: str | None) -> None:
    """Ask for the actions of a selection (lines from 1, columns from 0), and choose one."""
    neovim.lua("_G.offered, _G.wanted = {}, ...", title or "")
    neovim.lua(
        """local first, last = ...
        vim.lsp.buf.code_action { range = { start = first, ['end'] = last } }""",
        list(first),
        list(last),
    )


def offered(neovim) -> list[str]:
    return neovim.until(lambda: neovim.lua("return _G.offered"), "the menu")


def test_menu_apply_and_one_step_to_undo(open_with):
    neovim = open_with(AREA, "surface")
    act(neovim, (2, 10), (2, 15), "Extract variable")
    assert "Extract variable" in offered(neovim)
    extracted = EXTRACTED.splitlines()
    neovim.until(lambda: neovim.text() == extracted, "the edit")
    neovim.command("undo")
    assert neovim.text() == AREA.splitlines()
    neovim.command("redo")
    assert neovim.text() == extracted


def test_nothing_is_written(open_with):
    neovim = open_with(AREA, "surface")
    act(neovim, (2, 10), (2, 15), "Extract variable")
    neovim.until(lambda: "    surface = w * h" in neovim.text(), "the edit")
    assert (neovim.home / "project" / "shapes.py").read_text() == AREA
    assert neovim.lua("return vim.bo.modified") is True


def asked(neovim) -> str:
    return neovim.until(lambda: neovim.lua("return _G.asked"), "a question")


def test_choosing_a_name(open_with):
    neovim = open_with(AREA, "surface", "size")
    act(neovim, (2, 10), (2, 15), "Extract variable: choose…")
    assert "surface" in asked(neovim)
    neovim.until(lambda: "    size = w * h" in neovim.text(), "the edit")
    neovim.command("undo")
    assert neovim.text() == AREA.splitlines()


@pytest.mark.parametrize("answer", [1, 2])
def test_a_rewrite_shows_its_difference_first(open_with, answer):
    neovim = open_with(LOOP, "out = [row.x for row in rows]")
    neovim.lua("_G.answer = ...", answer)
    act(neovim, (2, 0), (5, 25), "Rewrite the selection as its comment says (preview)")
    question = asked(neovim)
    assert "-    out = []" in question
    assert "+    out = [row.x for row in rows]" in question
    if answer == 1:
        neovim.until(lambda: "    out = [row.x for row in rows]" in neovim.text(), "the edit")
        neovim.command("undo")
    assert neovim.text() == LOOP.splitlines()


def test_what_can_not_be_done_is_said(open_with):
    neovim = open_with("def add(a, b):\n    pass\n", "return a + nothing")
    # A message of several lines would wait for Enter, and Neovim would answer no request meanwhile.
    neovim.lua("_G.notified = ''; vim.notify = function(message) _G.notified = message end")
    act(neovim, (1, 4), (1, 4), "Write the body of 'add'")
    neovim.until(lambda: "not defined: nothing" in neovim.lua("return _G.notified"), "the reason")
    assert neovim.text() == ["def add(a, b):", "    pass"]
