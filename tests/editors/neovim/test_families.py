"""Models of other makers in Neovim: the suggestion follows from the text on both sides, and no mark gets into it."""

from __future__ import annotations

from tests import needs

needs.extra("convert")

import pytest

from tests.editors.neovim.test_with_the_server import ready, setup
from tests.trained_families import FAMILIES, document, middle

pytestmark = pytest.mark.slow
SETTINGS = "infilling = 'on', ngrams = 'off', "


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("program", ["0.12"], indirect=True)
def test_the_suggestion_follows_from_the_text_on_both_sides(start, family: str, trained_family) -> None:  # type: ignore[no-untyped-def]
    """The documents have CRLF, characters outside of the basic plane, and the marks of all families as text."""
    infills = "{after}" in FAMILIES[family].prompt
    init = setup(trained_family(family) / "build").replace("settings = { ", "settings = { " + SETTINGS)
    neovim = start(init, columns=200, rows=30)
    for number, (function, fruit) in enumerate((("count", "pears"), ("total", "plums"), ("total", "apples"))):
        if not infills and fruit != "apples":
            continue
        before, after = document(function, fruit)
        path = neovim.edit(f"basket_{number}.py", (before + after).replace("\n", "\r\n"))
        ready(neovim)
        neovim.keys(f"{before.count(chr(10)) + 1}GA ")
        expected = middle(function, fruit, infills)[1:]
        neovim.until(lambda expected=expected: neovim.ghost() == expected, f"{expected!r}, not {neovim.ghost()!r}")
        neovim.keys("<Tab><Esc>")
        assert "\n".join(neovim.text()) == (before + " " + expected + after).removesuffix("\n")
        neovim.command("write")
        assert path.read_bytes().decode() == (before + " " + expected + after).replace("\n", "\r\n")
