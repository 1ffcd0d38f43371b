"""Ghost text in VS Code: shown, taken whole and in parts, dropped, typed through, and right in every kind of file."""

from __future__ import annotations

import json

import pytest

FUNCTION = "def add(a, b):\n    return a + b\n"
BODY = "    total = a + b\n    return total"
FLICKER = """() => {
  window.seen = [];
  let waits = false;
  window.watch = new MutationObserver(() => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => {
      waits = false;
      window.seen.push((%s)());
    });
  });
  window.watch.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
"""Keeps the ghost text of each frame that follows a change. To look at every frame keeps a slow machine from typing."""


def begin(window, script, name, *texts, typed, before="", **options):
    """Open a file and type so that a suggestion comes."""
    script.set(*texts, **options)
    window.edit(name, before)
    window.type(typed)


def block(window, script, name, **options):
    """A suggestion of two lines."""
    begin(window, script, name, BODY, before="def add(a, b):\n", typed="    ", anywhere=True, **options)
    window.sees("total = a + b\n    return total")


def test_shown_and_accepted(window, script, name):
    begin(window, script, name, "total = sum((1, 2))", typed="total")
    window.sees(" = sum((1, 2))")
    window.take("Tab")
    window.sees("")
    window.saves("total = sum((1, 2))")


def test_several_lines(window, script, name):
    block(window, script, name)
    left = "(where) => document.querySelector(where).getBoundingClientRect().left"
    below = window.page.evaluate(left, ".suggest-preview-text .view-line > span")
    assert abs(below - window.page.evaluate(left, ".view-lines .view-line > span")) < 1.5
    window.take("Tab")
    window.saves("def add(a, b):\n" + BODY)


def test_accepted_by_word(window, script, name):
    begin(window, script, name, "total = sum((1, 2))", typed="total")
    window.sees(" = sum((1, 2))")
    left = [window.ghost()]
    while "1" in left[-1]:
        window.take("Control+ArrowRight")
        window.until(window.ghost, "the rest")
        left.append(window.ghost())
        window.saves("total = sum((1, 2))".removesuffix(left[-1]))
    assert len(left) > 3


def test_accepted_by_line(window, script, name):
    block(window, script, name)
    window.take("Control+Alt+ArrowRight")
    window.sees("    return total")
    window.saves("def add(a, b):\n    total = a + b\n")
    window.take("Control+Alt+ArrowRight")
    window.sees("")
    window.saves("def add(a, b):\n" + BODY)


def test_cycled(window, script, name):
    begin(window, script, name, "total = sum((1, 2))", "total = 3", "total = 44", typed="total")
    window.sees(" = sum((1, 2))")
    for key, wanted in (("Alt+]", " = 3"), ("Alt+]", " = 44"), ("Alt+[", " = 3")):
        window.press_until(key, lambda wanted=wanted: window.ghost() == wanted, wanted)
    window.take("Tab")
    window.saves("total = 3")


def test_dismissed_and_asked_for_again(window, script, name):
    begin(window, script, name, "total = sum((1, 2))", typed="total")
    window.sees(" = sum((1, 2))")
    window.take("Escape")
    window.sees("")
    window.page.wait_for_timeout(300)
    assert window.ghost() == ""
    window.press_until("Alt+\\", lambda: window.ghost() == " = sum((1, 2))", "the suggestion")
    window.saves("total")


def test_typed_through_without_flicker(window, script, name, ghost_source):
    begin(window, script, name, "total = len('a text')", typed="total")
    window.sees(" = len('a text')")
    before = len(script.log)
    whole = "total = len('a text')"
    window.page.evaluate(FLICKER % ghost_source)
    shown = " = len('a text')"
    for character in " = len('a":
        window.type(character)
        shown = shown.removeprefix(character)
        window.until(lambda rest=shown: rest in window.page.evaluate("window.seen"), repr(shown))
    seen = window.page.evaluate("() => { window.watch.disconnect(); return window.seen; }")
    assert "" not in seen
    assert all(whole.endswith(text) for text in seen)
    # What follows the suggestion is made ahead; for what was typed of it, the model is not asked.
    assert [entry for entry in script.events("generate", before) if not entry["prefix"].startswith(whole)] == []


def test_cancelled_by_typing_on(window, script, name):
    before = len(script.log)
    begin(window, script, name, "total = sum((1, 2))", "tone = 440", typed="to", delay=30.0)
    window.until(lambda: script.events("generate", before), "a request")
    script.set("total = sum((1, 2))", "tone = 440")
    window.type("ne")
    window.sees(" = 440")
    window.until(lambda: script.events("cancelled", before), "the end of the first request")
    assert [entry["line"] for entry in script.events("cancelled", before)][-1] in ("t", "to")


def test_what_does_not_fit_goes_away(window, script, name):
    begin(window, script, name, "total = sum((1, 2))", typed="total")
    window.sees(" = sum((1, 2))")
    window.type("x")
    window.sees("")
    window.press("Backspace")
    window.sees(" = sum((1, 2))")


def test_undone(window, script, name):
    block(window, script, name)
    window.take("Tab")
    window.sees("")
    window.change("Control+z")
    window.saves("def add(a, b):\n    ")
    script.set("    return a - b", anywhere=True)
    window.type("ret")
    window.sees("urn a - b")
    window.take("Tab")
    window.saves("def add(a, b):\n    return a - b")
    window.press("Control+z", "Control+z")
    window.press("Control+Shift+z", "Control+Shift+z")
    window.saves("def add(a, b):\n    return a - b")


def test_crlf(window, script, name):
    script.set(BODY, anywhere=True)
    window.edit(name, "import os\r\n\r\ndef add(a, b):\r\n")
    window.type("    ")
    window.sees("total = a + b\n    return total")
    window.take("Tab")
    window.saves("import os\r\n\r\ndef add(a, b):\r\n    total = a + b\r\n    return total")


def test_tabs(window, script, name):
    script.set("\ttotal = a + b\n\treturn total", anywhere=True)
    window.edit(name, "def one(a):\n\treturn a\n\ndef add(a, b):\n")
    window.press("Tab")
    window.sees("total = a + b\n    return total")
    window.take("Tab")
    window.saves("def one(a):\n\treturn a\n\ndef add(a, b):\n\ttotal = a + b\n\treturn total")


@pytest.mark.parametrize("text", ["'日本語'", "'😀'", "'👩‍👩‍👧'", "'e\u0301'"])
def test_wide_characters_and_emoji(window, script, name, text):
    line = f"s = {text}; print(s, '{text[1:-1]}')"
    script.set(line)
    window.edit(name, f"# {text}\n")
    window.insert(f"s = {text}; pr")
    window.sees(line.removeprefix(f"s = {text}; pr"))
    window.take("Tab")
    window.saves(f"# {text}\n{line}")


def test_brackets_that_the_editor_closed_are_not_doubled(window, script, name):
    script.set("print(len('abc'))")
    window.edit(name)
    settings(window, **{"editor.autoClosingBrackets": "always"})
    window.focus()
    window.type("print(")
    window.sees("len('abc')")
    window.take("Tab")
    window.saves("print(len('abc'))")
    settings(window, **{"editor.autoClosingBrackets": None})


def test_beside_the_suggestion_list(window, script, name):
    script.set("returned = returning(1)")
    window.edit(name, "returned = 1\nreturning = 2\n")
    settings(window, **{"editor.wordBasedSuggestions": "currentDocument"})
    window.type("retu")
    window.press("Control+Space")
    window.page.locator(".suggest-widget.visible .monaco-list-row", has_text="returned").first.wait_for()
    window.until(lambda: window.ghost().endswith(" = returning(1)"), "the entry and what follows it")
    window.press("Escape", "Escape")
    settings(window, **{"editor.wordBasedSuggestions": None})


def test_excluded_file(window, script, name):
    before = len(script.log)
    begin(window, script, f"left_{name}", "total = sum((1, 2))", typed="total")
    window.until(lambda: "`excluded`" in window.explanation(), "the reason")
    assert window.ghost() == ""
    assert script.events("generate", before) == []


def test_language_that_is_off(window, script, name):
    before = len(script.log)
    begin(window, script, name.replace(".py", ".txt"), "total = sum((1, 2))", typed="total")
    window.until(lambda: "off" in window.status(), "the state")
    window.page.wait_for_timeout(400)
    assert script.events("generate", before) == []


def test_untitled_file(window, script):
    script.set("total = sum((1, 2))")
    window.drive("run", "workbench.action.files.newUntitledFile")
    window.page.locator('.tab.active[data-resource-name^="Untitled"]').wait_for()
    window.drive("language", "python")
    window.focus()
    window.type("total")
    window.sees(" = sum((1, 2))")


def test_cell_of_a_notebook_goes_on_from_the_cells_before(window, script, name):
    script.set("total = sum((1, 2))")
    cells = [
        {"cell_type": "code", "source": ["import sums"], "outputs": [], "metadata": {}, "execution_count": None},
        {"cell_type": "markdown", "source": ["# Sums"], "metadata": {}},
        {"cell_type": "code", "source": [], "outputs": [], "metadata": {}, "execution_count": None},
    ]
    metadata = {"language_info": {"name": "python"}}
    path = window.folder / name.replace(".py", ".ipynb")
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    window.open(path, cursor=False)
    window.page.locator(".notebookOverlay .monaco-editor .view-lines").last.click()
    before = len(script.log)
    window.type("total")
    window.sees(" = sum((1, 2))")
    asked = script.events("generate", before)
    assert asked[-1]["prefix"].startswith("import sums\n\n")
    assert "# Sums" not in asked[-1]["prefix"]
    window.take("Tab")
    window.sees("")


def settings(window, **values):
    """Change settings of the workspace by their whole names, and wait until VS Code has read them: a language that is
    switched off along with them shows in the status bar."""
    window.write_settings(values | {"codegen-lsp.languages": {"python": False}})
    window.until(lambda: "off" in window.status(), "the settings")
    window.write_settings({"codegen-lsp.languages": None})
    window.ready()
