"""A file that gets another name or language while it is open: suggestions go on under that, and none stays."""

from __future__ import annotations


def begin(window, script, name):
    """Open a file and type so that a suggestion comes; return the file."""
    script.set("total = sum((1, 2))")
    path = window.edit(name, "import math\n")
    window.type("total")
    window.sees(" = sum((1, 2))")
    return path


def rename(window, path, name):
    """Rename the open file, and return its new path."""
    after = path.with_name(name)
    window.drive("rename", str(path), str(after))
    window.page.locator(f'.tab.active[data-resource-name="{name}"]').wait_for()
    window.until(lambda: not path.exists() and after.exists(), "the new name on disk")
    return after


def test_another_name(window, script, name):
    path = begin(window, script, name)
    window.saves("import math\ntotal")
    script.set("total = max(3, 4)", "summary = [5]")
    after = rename(window, path, f"renamed_{name}")
    window.focus()
    before = len(script.log)
    window.type("\nsummary")
    window.sees(" = [5]")
    asked = script.events("generate", before)
    assert {one["document"].rpartition("/")[2] for one in asked} == {after.name}
    assert any(one["prefix"].endswith("import math\ntotal\nsummary") for one in asked)  # a prefetch may follow
    window.take("Tab")
    window.saves("import math\ntotal\nsummary = [5]")


def test_another_name_with_unsaved_text(window, script, name):
    path = begin(window, script, name)
    after = rename(window, path, f"renamed_{name}")
    window.focus()
    before = len(script.log)
    script.set("totally = [5]")
    window.type("ly")
    window.sees(" = [5]")
    asked = script.events("generate", before)
    assert {one["document"].rpartition("/")[2] for one in asked} == {after.name}
    assert any(one["prefix"].endswith("import math\ntotally") for one in asked)  # a prefetch may follow
    window.take("Tab")
    window.saves("import math\ntotally = [5]")


def test_a_name_that_is_excluded_and_one_that_is_not(window, script, name):
    path = begin(window, script, name)
    path = rename(window, path, f"left_{name}")
    window.sees("")
    window.focus()
    before = len(script.log)
    window.type("ly")
    script.set("totally = [5]")
    window.ends(window.command("Codegen: Suggest Now"))
    window.command("Codegen: Explain the Last Suggestion")
    window.until(lambda: "`excluded`" in window.toasts(), "the reason")
    window.dismiss()
    assert window.ghost() == ""
    assert script.events("generate", before) == []
    rename(window, path, f"kept_{name}")
    window.focus()
    window.nudge(" = [5]")


def test_the_ending_of_another_language(window, script, name):
    path = begin(window, script, name)
    rename(window, path, name.replace(".py", ".txt"))
    window.until(lambda: "off" in window.status(), "the state")
    window.sees("")
    window.focus()
    before = len(script.log)
    window.type("ly")
    window.ends(window.command("Codegen: Suggest Now"))
    assert window.ghost() == ""
    assert script.events("generate", before) == []


def test_another_language(window, script, name):
    begin(window, script, name)
    window.drive("language", "plaintext")
    window.until(lambda: "off" in window.status(), "the state")
    window.sees("")
    window.focus()
    before = len(script.log)
    script.set("totally = [5]")
    window.type("ly")
    window.ends(window.command("Codegen: Suggest Now"))
    assert window.ghost() == ""
    assert script.events("generate", before) == []
    window.drive("language", "python")
    window.ready()
    window.focus()
    window.nudge(" = [5]")
    assert script.events("generate", before)[-1]["prefix"].endswith("import math\ntotally")


def test_another_language_that_is_on(window, script, name):
    begin(window, script, name)
    window.drive("language", "go")
    window.sees("")
    window.focus()
    script.set("totally = [5]")
    window.type("ly")
    window.sees(" = [5]")
