"""Suggestions in the editor: shown where they belong, typed through, accepted, gone when they should be."""

from __future__ import annotations

import json

import pytest

FUNCTION = "def add(a, b):\n    return a + b"


def test_shown_and_accepted(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    screen = neovim.sees("def add(a, b):")
    assert screen[:2] == ["def add(a, b):", "    return a + b"]
    assert neovim.text() == ["def"]
    neovim.keys("<Tab>")
    assert neovim.text() == FUNCTION.split("\n")
    assert neovim.cursor() == (2, 16)
    assert neovim.ghost() == ""
    assert neovim.until(lambda: fake.accepted) == [FUNCTION]


def test_undo_takes_back_what_was_accepted_and_nothing_else(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add")
    neovim.keys("<Tab>")
    neovim.keys(" # x<Esc>")
    assert neovim.text() == ["def add(a, b):", "    return a + b # x"]
    neovim.keys("u")
    assert neovim.text() == FUNCTION.split("\n")
    neovim.keys("u")
    assert neovim.text() == ["def"]
    neovim.keys("<C-r>")
    assert neovim.text() == FUNCTION.split("\n")


def test_typed_through_without_a_request_and_without_flicker(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    before = len(fake.requests)
    for at in range(len(" add(a")):
        neovim.keys(" add(a"[at].replace(" ", "<Space>"))
        assert neovim.screen()[:2] == ["def add(a, b):", "    return a + b"]
    assert neovim.text() == ["def add(a"]
    neovim.settle()
    assert len(fake.requests) == before
    neovim.keys("<Tab>")
    assert neovim.text() == FUNCTION.split("\n")


def test_a_line_break_that_is_typed_asks_anew(neovim, fake):
    fake.script("if x:\n    y", "    other")
    neovim.keys("iif x:")
    neovim.sees("    y")
    neovim.keys("<CR>")
    assert neovim.ghost() == ""
    neovim.keys("o")
    neovim.until(lambda: neovim.ghost() == "ther", "the suggestion of the next line")


def test_hidden_at_once_when_something_else_is_typed(neovim, fake):
    fake.script(FUNCTION, delay=0)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    fake.script()
    neovim.keys(" z")
    assert neovim.ghost() == ""
    assert neovim.screen()[0] == "def z"
    neovim.keys("<Tab>")
    assert neovim.text() == ["def z   "]


def test_typing_on_cancels_and_late_answers_are_not_shown(neovim, fake):
    fake.script("def late", delay=1000)
    neovim.keys("ide")
    neovim.until(lambda: fake.requests, "a request")
    neovim.keys("x")
    neovim.until(lambda: fake.got("$/cancelRequest"), "the cancellation")
    first = next(message for message in fake.log if message.get("method") == "textDocument/inlineCompletion")
    assert fake.got("$/cancelRequest")[0]["id"] == first["id"]
    fake.script("dex there")
    neovim.keys(" ")
    neovim.sees("dex there")
    assert "late" not in neovim.ghost()


def test_by_word_and_by_line(neovim, fake):
    fake.script("x = foo(bar)\ny = 1\nz = 2")
    neovim.keys("ix =")
    neovim.sees("foo(bar)")
    seen = []
    for _ in range(3):
        neovim.keys("<C-j>")
        seen.append(neovim.text()[0])
    assert seen == ["x = foo", "x = foo(", "x = foo(bar"]
    assert neovim.ghost() == ")\ny = 1\nz = 2"
    neovim.keys("<C-l>")
    assert neovim.text() == ["x = foo(bar)"]
    neovim.keys("<C-l>")
    assert neovim.text() == ["x = foo(bar)", "y = 1"]
    assert fake.accepted == []
    neovim.keys("<C-l>")
    assert neovim.text() == ["x = foo(bar)", "y = 1", "z = 2"]
    assert neovim.until(lambda: fake.accepted) == ["x = foo(bar)\ny = 1\nz = 2"]
    assert neovim.cursor() == (3, 5)
    neovim.keys("<Esc>u")
    assert neovim.text() == ["x = foo(bar)", "y = 1"]


def test_cycled(neovim, fake):
    fake.script("def one()", "def two()", "def three()")
    neovim.keys("idef")
    neovim.sees("one()")
    for wanted in ("two() (2/3)", "three() (3/3)", "one() (1/3)"):
        neovim.keys("<M-]>")
        neovim.sees(f"def {wanted}")
    neovim.keys("<M-[>")
    neovim.sees("def three() (3/3)")
    assert [request["context"]["triggerKind"] for request in fake.requests].count(1) == 1
    neovim.keys(" t")
    assert neovim.ghost() == "hree() (3/3)"
    neovim.keys("<Tab>")
    assert neovim.text() == ["def three()"]


def test_typing_the_beginning_of_another_candidate_shows_that_one(neovim, fake):
    fake.script("def one()", "def two()")
    neovim.keys("idef")
    neovim.sees("one()")
    neovim.keys("<M-]>")
    neovim.sees("two()")
    neovim.keys(" o")
    assert neovim.ghost().startswith("ne()")


def test_dismissed_until_something_changes(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    before = len(fake.requests)
    neovim.keys("<C-]>")
    assert neovim.ghost() == ""
    neovim.keys("<Tab>")
    assert neovim.text()[0].strip() == "def"
    neovim.keys("<BS>")
    neovim.sees("add(a, b)")
    assert len(fake.requests) > before


def test_only_in_insert_mode(neovim, fake):
    fake.script(FUNCTION)
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.keys("<Esc>")
    assert neovim.ghost() == ""
    neovim.keys("a<C-o>")
    assert neovim.ghost() == ""
    neovim.keys("$")
    neovim.sees("add(a, b)")


def test_asked_for_by_key(start, fake):
    neovim = start(fake.setup("auto = false"))
    neovim.edit("a.py")
    fake.script("def one()", "def two()")
    neovim.keys("idef")
    neovim.settle()
    assert fake.requests == []
    neovim.keys("<M-\\>")
    neovim.sees("def one()")
    neovim.keys("<M-]>")
    neovim.sees("def two() (2/2)")
    assert len(fake.requests) == 1


def test_closing_brackets_that_the_editor_typed_are_replaced(neovim, fake):
    fake.script("print(f(x), 1)")
    neovim.keys("iprint()<Left>")
    neovim.sees("print(f(x), 1)")
    assert neovim.screen()[0] == "print(f(x), 1)"
    neovim.keys("<Tab>")
    assert neovim.text() == ["print(f(x), 1)"]
    assert neovim.cursor() == (1, 14)


def test_closing_brackets_are_not_doubled_by_parts(neovim, fake):
    fake.script("print(x) + 1")
    neovim.keys("iprint()<Left>")
    neovim.sees("print(x) + 1")
    for wanted in ("print(x)", "print(x)", "print(x) +", "print(x) + 1"):
        neovim.keys("<C-j>")
        assert neovim.text() == [wanted]


def test_closing_bracket_may_be_typed_over(neovim, fake):
    fake.script("print(x) + 1")
    neovim.keys("iprint()<Left>")
    neovim.sees("print(x) + 1")
    neovim.keys("x<Right>")
    assert neovim.text() == ["print(x)"]
    assert neovim.ghost() == " + 1"


def test_several_lines_before_the_end_of_a_line(neovim, fake):
    fake.script("f(\n    one,\n)")
    neovim.keys("if();<Left><Left>")
    neovim.sees("    one,")
    assert neovim.screen()[:3] == ["f(", "    one,", ");"]
    neovim.keys("<Tab>")
    assert neovim.text() == ["f(", "    one,", ");"]


def test_seen_at_the_bottom_of_the_window(neovim, fake):
    fake.script("if deep:\n    one\n    two\n    three")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, [f"line_{number}" for number in range(40)])
    neovim.keys("Go")
    assert neovim.screen()[13].startswith("line_39") or neovim.screen()[12].startswith("line_39")
    neovim.keys("if")
    screen = neovim.sees("    one", "    two", "    three")
    at = screen.index("if deep:")
    assert screen[at + 1 : at + 4] == ["    one", "    two", "    three"]
    neovim.keys("<Tab>")
    assert neovim.text()[-4:] == ["if deep:", "    one", "    two", "    three"]


def test_seen_at_the_bottom_of_the_window_in_the_middle_of_a_file(neovim, fake):
    fake.script("if deep:\n    one\n    two\n    three")
    neovim.command("set winbar=bar wrap")
    lines = [f"line_{number} " + "x" * 100 * (number % 3 == 0) for number in range(60)]
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, lines)
    neovim.keys("20GzbO")
    neovim.keys("if")
    screen = neovim.sees("    one", "    two", "    three")
    at = screen.index("if deep:")
    assert screen[at + 1 : at + 4] == ["    one", "    two", "    three"]


@pytest.mark.parametrize("wide", ["name = '😀'; ", "名前 = '値'; ", "e\u0301 = 'ä'; ", "s = '👩‍👩‍👧'; "])
def test_wide_characters(neovim, fake, wide):
    line = wide + "show('😀 名', x)"
    fake.script(line)
    neovim.keys("i" + wide + "sh")
    neovim.until(lambda: neovim.ghost() == "ow('😀 名', x)", "the suggestion")
    neovim.keys("<C-j>")
    assert neovim.text() == [wide + "show"]
    neovim.keys("('")
    assert neovim.ghost() == "😀 名', x)"
    neovim.keys("<Tab>")
    assert neovim.text() == [line]


def test_tabs_take_the_columns_that_they_will_take(neovim, fake):
    neovim.command("set noexpandtab tabstop=4")
    fake.script("\tif x:\n\t\ta\t= 1\n\t\tb")
    neovim.keys("i<C-v><Tab>if")
    neovim.sees("        b")
    shown = neovim.screen()[:3]
    neovim.keys("<Tab>")
    assert neovim.text() == ["\tif x:", "\t\ta\t= 1", "\t\tb"]
    assert neovim.screen()[:3] == shown


def test_files_with_crlf(neovim, fake):
    path = neovim.edit("dos.py", "one\r\ntwo\r\n")
    assert neovim.lua("return vim.bo.fileformat") == "dos"
    fake.script("def f():\n    pass")
    neovim.keys("Godef")
    neovim.sees("    pass")
    neovim.keys("<Tab><Esc>")
    assert neovim.text() == ["one", "two", "def f():", "    pass"]
    neovim.command("write")
    assert path.read_bytes() == b"one\r\ntwo\r\ndef f():\r\n    pass\r\n"


def test_carriage_returns_of_an_answer_are_not_inserted(neovim, fake):
    fake.script("def f():\r\n    pass")
    neovim.keys("idef")
    neovim.sees("    pass")
    neovim.keys("<Tab>")
    assert neovim.text() == ["def f():", "    pass"]


def test_beside_the_popup_menu_only_the_first_line_is_shown(neovim, fake):
    fake.script("foobar = 1\nsecond\nthird")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["fooled", "foolish", ""])
    neovim.command("set completeopt=menu,menuone,noselect")
    neovim.keys("Gifoo<C-n>")
    neovim.until(lambda: neovim.lua("return vim.fn.pumvisible()") == 1, "the menu")
    screen = neovim.sees("foobar = 1 … +2")
    assert any("foolish" in line for line in screen[3:])
    neovim.keys("<Tab>")
    assert neovim.text()[2:] == ["foobar = 1", "second", "third"]
    assert neovim.lua("return vim.fn.pumvisible()") == 0


def test_the_selected_entry_of_the_popup_menu_is_told_to_the_server(neovim, fake):
    fake.script("foolish = 1")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["foolish", ""])
    neovim.command("set completeopt=menu,menuone,noinsert")
    neovim.keys("Gifoo<C-n>")
    neovim.until(
        lambda: any("selectedCompletionInfo" in request["context"] for request in fake.requests), "a request with it"
    )
    request = [request for request in fake.requests if "selectedCompletionInfo" in request["context"]][-1]
    assert request["context"]["selectedCompletionInfo"] == {
        "text": "foolish",
        "range": {"start": {"line": 1, "character": 0}, "end": {"line": 1, "character": 3}},
    }
    neovim.sees("foolish = 1")
    neovim.keys("<Tab>")
    assert neovim.text() == ["foolish", "foolish = 1"]


def test_an_entry_put_in_by_the_popup_menu_is_continued(neovim, fake):
    fake.script("foolish = 1")
    neovim.request("nvim_buf_set_lines", 0, 0, -1, False, ["foolish", ""])
    neovim.command("set completeopt=menu,menuone")
    neovim.keys("Gifoo<C-n>")
    neovim.until(lambda: neovim.ghost() == " = 1", "the suggestion")
    neovim.keys("<Tab>")
    assert neovim.text() == ["foolish", "foolish = 1"]


def test_beside_the_menu_of_nvim_cmp(neovim, fake):
    """The plugin is played: it is asked whether its menu is open, and tells when that changes."""
    fake.script("foobar = 1\nsecond\nthird")
    neovim.lua(
        """local heard = {}
        _G.cmp_menu = function(open)
          _G.cmp_open = open
          for _, act in ipairs(heard[open and 'menu_opened' or 'menu_closed'] or {}) do act({}) end
        end
        local function on(_, event, act)
          heard[event] = heard[event] or {}
          table.insert(heard[event], act)
        end
        package.loaded.cmp = { visible = function() return _G.cmp_open == true end, event = { on = on } }"""
    )
    neovim.keys("ifoo")
    neovim.until(lambda: neovim.ghost() == "bar = 1\nsecond\nthird", "the whole suggestion")
    neovim.lua("_G.cmp_menu(true)")
    neovim.sees("foobar = 1 … +2")
    neovim.keys("b")
    assert neovim.ghost() == "ar = 1 … +2"
    neovim.lua("_G.cmp_menu(false)")
    neovim.until(lambda: neovim.ghost() == "ar = 1\nsecond\nthird", "the whole suggestion")
    neovim.lua("vim.keymap.set('i', '<Tab>', 'THEIRS', { buffer = 0 })")
    neovim.keys("<Tab>")
    assert neovim.text() == ["foobTHEIRS"]


def test_several_windows(neovim, fake):
    fake.script(FUNCTION)
    neovim.command("vsplit")
    neovim.keys("idef")
    neovim.sees("add(a, b)")
    neovim.command("wincmd w")
    assert neovim.ghost() == ""
    other = neovim.edit("b.py")
    neovim.command("startinsert")
    neovim.keys("def")
    neovim.until(lambda: neovim.ghost() == FUNCTION[3:], "the suggestion")
    neovim.keys("<Tab>")
    assert neovim.text() == FUNCTION.split("\n")
    assert neovim.lua("return vim.fn.expand('%:p')") == str(other)
    assert len(fake.got("initialize")) == 1


def test_macros_are_not_disturbed(neovim, fake):
    fake.script("xy = 1")
    neovim.keys("qqox<Esc>q")
    before = len(fake.requests)
    neovim.keys("5@q")
    assert neovim.text() == ["", *["x"] * 6]
    neovim.settle()
    assert len(fake.requests) == before


def test_nothing_in_files_of_other_types(neovim, fake):
    fake.script(FUNCTION)
    neovim.edit("notes.txt", mode="unattached")
    neovim.keys("idef")
    neovim.keys("<Tab>")
    assert neovim.text() == ["def\t"]
    assert fake.requests == []


def test_buffers_without_a_name_are_served_from_their_name_on(neovim, fake):
    fake.script(FUNCTION)
    neovim.command("enew")
    neovim.command("set filetype=python")
    assert neovim.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 0
    neovim.command(f"file {json.dumps(str(neovim.home / 'new.py'))[1:-1]}")
    neovim.until(lambda: neovim.lua("return #vim.lsp.get_clients({ bufnr = 0 })") == 1, "the server")
