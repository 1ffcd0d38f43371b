"""Beside real plugins of others: a menu that draws itself, a plugin that closes brackets, a plugin manager."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[3] / "editors" / "neovim"
FUNCTION = "def add(a, b):\n    return a + b"


def blink(plugins, options="") -> str:
    """Lines of an init.lua with blink.cmp, which completes words of the buffer. Its own matcher would be downloaded."""
    return f"""vim.opt.runtimepath:append({json.dumps(str(plugins / "blink.cmp"))})
require('blink.cmp').setup {{
  fuzzy = {{ implementation = 'lua' }},
  sources = {{ default = {{ 'buffer' }}, providers = {{ buffer = {{ min_keyword_length = 2 }} }} }},
  {options}
}}
"""


@pytest.fixture
def with_blink(start, fake, plugins):
    """An editor with blink.cmp set up before or after this plugin, and an empty file."""

    def begin(options="", *, first=True):
        lines = [blink(plugins, options), fake.setup()]
        neovim = start("".join(lines if first else reversed(lines)))
        neovim.edit("a.py")
        return neovim

    return begin


def menu(neovim) -> bool:
    return neovim.lua("return require('blink.cmp').is_menu_visible() == true")


@pytest.mark.parametrize("first", [True, False])
def test_accepted_by_the_key_that_blink_maps_too(with_blink, fake, first):
    neovim = with_blink(first=first)
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    assert neovim.lua("return vim.fn.maparg('<Tab>', 'i', false, true).desc").startswith("blink.cmp")
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text() == FUNCTION.split("\n"), "the suggestion in the text")


@pytest.mark.parametrize("first", [True, False])
def test_a_key_without_a_suggestion_means_itself(with_blink, fake, first):
    neovim = with_blink(first=first)
    neovim.keys("ix<Tab>y<C-j>z")
    neovim.until(lambda: neovim.text() == ["x   y", "z"], "the keys' own meaning")


def test_beside_blinks_menu(with_blink, fake):
    neovim = with_blink()
    fake.script("foolish = 1\nsecond\nthird")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["fooled", "foolhardy", ""])
    neovim.keys("Gifoo")
    neovim.until(lambda: menu(neovim), "the menu")
    screen = neovim.sees("foolish = 1 … +2")
    assert any("foolhardy" in line for line in screen[3:])
    neovim.keys("<C-e>")
    neovim.until(lambda: not menu(neovim), "the menu to close")
    neovim.until(lambda: neovim.ghost() == "lish = 1\nsecond\nthird", "the whole suggestion")
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text()[2:] == ["foolish = 1", "second", "third"], "the suggestion in the text")


def test_the_suggestion_is_accepted_while_blinks_menu_is_open(with_blink, fake):
    neovim = with_blink()
    fake.script("foolish = 1")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["fooled", "foolhardy", ""])
    neovim.keys("Gifoo")
    neovim.until(lambda: menu(neovim), "the menu")
    neovim.sees("foolish = 1")
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text()[2:] == ["foolish = 1"], "the suggestion in the text")
    neovim.until(lambda: not menu(neovim), "the menu to close")


def test_brackets_that_a_plugin_closes_are_not_doubled(start, fake, plugins):
    folder = json.dumps(str(plugins / "mini.pairs"))
    neovim = start(f"vim.opt.runtimepath:append({folder})\nrequire('mini.pairs').setup {{}}\n" + fake.setup())
    neovim.edit("a.py")
    fake.script("print(len('abc'))")
    neovim.keys("iprint(")
    assert neovim.text() == ["print()"]
    neovim.until(lambda: neovim.screen()[0] == "print(len('abc'))", "the suggestion")
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text() == ["print(len('abc'))"], "the suggestion in the text")


def test_installed_by_a_plugin_manager(start, fake, plugins):
    """As docs/editors.md says it for lazy.nvim."""
    options = fake.setup().partition("setup ")[2].strip()
    neovim = start(
        f"""vim.opt.runtimepath:remove({json.dumps(str(PLUGIN))})
vim.opt.runtimepath:prepend({json.dumps(str(plugins / "lazy.nvim"))})
require('lazy').setup({{
  {{ dir = {json.dumps(str(PLUGIN))}, main = 'codegen', opts = {options} }},
}}, {{
  rocks = {{ enabled = false }},
  change_detection = {{ enabled = false }},
  performance = {{ rtp = {{ reset = false }} }},
}})
"""
    )
    neovim.edit("a.py")
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.keys("<Tab>")
    neovim.until(lambda: neovim.text() == FUNCTION.split("\n"), "the suggestion in the text")
    neovim.keys("<Esc>")
    neovim.command("help codegen-keys")
    assert neovim.lua("return vim.fn.expand('%:t')") == "codegen.txt"
