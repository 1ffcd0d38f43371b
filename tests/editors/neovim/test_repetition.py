"""Neovim repeats what was accepted: `.`, counts, macros; and in a snippet, Tab jumps."""

from __future__ import annotations

import pytest

BLOCK = "if ready:\n    # wait\n    go('、', x)\n\n\treturn"
"""Lines that automatic indentation and comment leaders would change."""
INDENTING = "set autoindent smartindent formatoptions+=ro textwidth=79 shiftwidth=4"


def accept(neovim, typed: str, shown: str, key: str = "<Tab>") -> None:
    neovim.keys(typed)
    neovim.until(lambda: shown in neovim.ghost(), "the suggestion")
    neovim.keys(key)


def test_dot_repeats_all_that_was_inserted(neovim, fake):
    fake.script("value = compute(1)")
    accept(neovim, "ival", "compute")
    neovim.keys(" + 2<Esc>")
    assert neovim.text() == ["value = compute(1) + 2"]
    neovim.keys("o<Esc>0ix<Esc>")  # another change, then the same again
    accept(neovim, "oval", "compute")
    neovim.keys("<Esc>..")
    assert neovim.text() == ["value = compute(1) + 2", "x", *["value = compute(1)"] * 3]


def test_dot_repeats_several_lines_as_they_are(neovim, fake):
    neovim.command(INDENTING)
    fake.script(BLOCK)
    accept(neovim, "iif", "ready")
    neovim.keys("!<Esc>")
    lines = [*BLOCK.split("\n")[:-1], "\treturn!"]
    assert neovim.text() == lines
    neovim.command("call append('$', '')")
    neovim.keys("G.")
    assert neovim.text() == lines * 2
    neovim.keys("u")
    assert neovim.text() == [*lines, ""]


def test_count_repeats_all_that_was_inserted(neovim, fake):
    fake.script("value = compute(1)")
    accept(neovim, "3oval", "compute")
    neovim.keys("<Esc>")
    assert neovim.text() == ["", *["value = compute(1)"] * 3]
    neovim.command("%delete")
    accept(neovim, "3ival", "compute")
    neovim.keys("<Esc>")
    assert neovim.text() == ["value = compute(1)" * 3]


def test_count_repeats_closing_brackets_rightly(neovim, fake):
    neovim.lua("vim.keymap.set('i', '(', '()<C-g>U<Left>')")
    fake.script("print(f(x), 1)")
    accept(neovim, "2oprint(", "f(x")
    neovim.keys("<Esc>")
    assert neovim.text() == ["", "print(f(x), 1)", "print(f(x), 1)"]


def test_dot_repeats_parts(neovim, fake):
    fake.script("x = foo(bar)\ny = 1")
    accept(neovim, "ix =", "foo", "<C-j>")
    neovim.keys("<C-l><Esc>")
    assert neovim.text() == ["x = foo(bar)"]
    neovim.keys("o<Esc>")
    neovim.keys("kyyjp")
    accept(neovim, "ox =", "foo", "<C-l>")
    neovim.keys("<Esc>.")
    assert neovim.text()[-2:] == ["x = foo(bar)"] * 2


@pytest.mark.parametrize("text", ["value = compute(1)", BLOCK.replace("if ready", "value")])
def test_macro_inserts_the_same_text(neovim, fake, text):
    neovim.command(INDENTING)
    fake.script(text)
    accept(neovim, "qqoval", text.split("\n")[0][3:])
    neovim.keys("!<Esc>q")
    lines = (text + "!").split("\n")
    assert neovim.text() == ["", *lines]
    neovim.settle()
    fake.script("value of something else")  # what is suggested now does not matter
    before = len(fake.requests)
    neovim.keys("2@q")
    assert neovim.text() == ["", *lines * 3]
    neovim.settle()
    assert len(fake.requests) == before
    neovim.keys("@@.")
    assert neovim.text() == ["", *lines * 5]


def test_macro_inserts_a_tab_only_where_one_was_typed(neovim, fake):
    neovim.command("set expandtab softtabstop=4 noautoindent indentexpr=")
    fake.script("value = 1")
    neovim.keys("qqo<Tab><Left><Right>ab<Tab><Left>")
    neovim.keys("<Esc>")
    accept(neovim, "oval", "= 1")
    neovim.keys("<Tab>#<Esc>q")
    once = neovim.text()[1:]
    assert once == ["    ab  ", "value = 1   #"]
    neovim.keys("@q")
    assert neovim.text()[1:] == once * 2


def test_macro_with_keys_that_insert_nothing(neovim, fake):
    fake.script("def one()", "def two()")
    accept(neovim, "qqodef", "one()", "<M-]>")
    neovim.until(lambda: "two() (2/2)" in neovim.ghost(), "the other one")
    neovim.keys("<M-[>")
    neovim.until(lambda: "one() (1/2)" in neovim.ghost(), "the first one")
    neovim.keys("<C-]>")
    neovim.keys("<M-\\>")
    neovim.until(lambda: "one()" in neovim.ghost(), "the first one")
    neovim.keys("<C-j><Esc>q")
    assert neovim.text() == ["", "def one"]
    neovim.keys("2@q")
    assert neovim.text() == ["", "def one", "def one", "def one"]


def test_macro_recorded_in_another_text_replaces_no_other_brackets(neovim, fake):
    fake.script("print(f(x), 1)")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["print()", "print(]"])
    accept(neovim, "ggqqf)i", "f(x")
    neovim.keys("<Esc>q")
    assert neovim.text() == ["print(f(x), 1)", "print(]"]
    neovim.keys("j0f]:let @q = substitute(@q, 'f)', '', '')<CR>@q")
    assert neovim.text()[1] == "print(f(x), 1)]"


def test_tab_jumps_in_a_snippet(neovim, fake):
    fake.script("def name(first, second): return first")
    neovim.keys("i")
    neovim.lua("vim.snippet.expand('def name(${1}, ${2:second}): $0')")
    neovim.keys("first")
    neovim.until(neovim.ghost, "a suggestion")
    neovim.keys("<Tab>")
    assert neovim.text() == ["def name(first, second): "]
    assert neovim.lua("return vim.api.nvim_get_mode().mode") == "s"
    neovim.keys("other")
    assert neovim.text() == ["def name(first, other): "]
    neovim.keys("<Tab>")
    neovim.keys("pass")
    assert neovim.text() == ["def name(first, other): pass"]


def test_neovims_own_inline_completion_is_repeated_too(start, fake, program):
    if "0.12" not in str(program):
        pytest.skip("Neovim has its own since 0.12")
    neovim = start(fake.setup("native = true"))
    neovim.edit("a.py")
    neovim.command(INDENTING)
    fake.script(BLOCK)
    neovim.keys("qqoif")
    neovim.sees("go('、', x)")
    neovim.keys("<Tab>")
    neovim.keys("!<Esc>q")
    lines = (BLOCK + "!").split("\n")
    assert neovim.text() == ["", *lines]
    assert neovim.until(lambda: fake.accepted) == [BLOCK]
    neovim.keys(".@q")
    assert neovim.text() == ["", *lines * 3]
