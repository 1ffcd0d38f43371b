"""Ends of lines that something must follow."""

from __future__ import annotations

import pytest

from codegen_lsp.source.languages import LANGUAGES
from codegen_lsp.source.open_ends import ends_open

OPEN = {
    "python": (
        *("return", "    if not", "x =", "x = a +", "f(a, *", "from m import a as", "for x in", "def f() ->", "else"),
        *("self.", "x = 0.", "from ..", "if a ==", "x = a if b else", "elif", "yield", "f(lambda", "while a <", "x :="),
    ),
    "c": ("return", "x = a +", "char *", "p->", "a &&", "if (a ==", "x ? ", "else", "a.b ."),
    "cpp": ("std::", "std::cout <<", "a >", "a >>", "new", "template"),
    "java": ("return new", "int x =", "this.", "a instanceof", "public"),
    "javascript": ("const", "x =>", "a ||", "return typeof", "!"),
    "go": ("func", "x :=", "for i := range", "defer"),
}
CLOSED = {
    "python": (
        *(
            "returned",
            "pass",
            "return x",
            "x = None",
            "...",
            "from m import *",
            "else:",
            "f(a,",
            "x = [",
            "x.is",
            "x = 1",
        ),
        *("# not", 'x = "if not', "x = 'a ='", "    break", "x = notes.not", "", "    ", "@property", "x.from"),
    ),
    "c": ("i++", "i--;", "#include <a.h>", "// x =", 'printf("a +', "x;", "int x", "a >= b"),
    "cpp": ("std::vector<int>", "public:"),
    "java": ("List<String>", "case A:", "obj.new"),
    "javascript": ("/re/", "`a =", "obj.for", "$new"),
    "go": ("break", "x++"),
}


@pytest.mark.parametrize(("language", "line"), [(name, line) for name, lines in OPEN.items() for line in lines])
def test_open_ends(language: str, line: str) -> None:
    assert ends_open(line, LANGUAGES[language])


@pytest.mark.parametrize(("language", "line"), [(name, line) for name, lines in CLOSED.items() for line in lines])
def test_closed_ends(language: str, line: str) -> None:
    assert not ends_open(line, LANGUAGES[language])
