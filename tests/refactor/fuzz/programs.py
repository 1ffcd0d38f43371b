"""The programs of each refactoring, as whole files, with what the model says and the place to begin at."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from codegen_lsp.refactor import registry
from codegen_lsp.refactor.python.analysis.scopes import unknown
from codegen_lsp.refactor.registry import RefactoringKind
from tests.refactor.fuzz.attempt import DOCUMENT, Program
from tests.refactor.fuzz.grammar import Grammar, grammar

GRAMMARS = {
    registry.EXTRACT_VARIABLE: ("common",),
    registry.EXTRACT_FUNCTION: ("common",),
    registry.INLINE_VARIABLE: ("inline-variable",),
    registry.INLINE_FUNCTION: ("inline-function",),
    registry.RENAME: ("rename", "rename", "common", "rename-across"),
    registry.DOCSTRING: ("type-hints",),
    registry.TYPE_HINTS: ("type-hints",),
    registry.SIMPLIFY: ("simplify",),
}
"""The grammars of each refactoring; one that has several draws each in turn."""
ORIGINS = {
    "effects": ("Counter", "boom", "emit", "fuel", "manager"),
    "contextlib": ("suppress",),
    "functools": ("partial", "singledispatch"),
    "operator": ("attrgetter", "methodcaller"),
    "typing": ("TYPE_CHECKING", "NewType", "TypeVar", "cast", "get_type_hints"),
    "collections": ("namedtuple",),
    "unittest.mock": ("patch",),
}
"""Modules of names that programs use without more ado."""
MODULES = ("importlib", "sys", "typing")
"""Modules that programs use in the same way."""
IMPORTED = frozenset(MODULES).union(*ORIGINS.values(), ["unit", "run"])
"""Names that an import brings, or the other file of a program."""
DEFINITIONS = {
    **{
        name: f"{name} = {at}"
        for at, name in enumerate(("LIMIT", "x", "y", "z", "i", "n", "c", "p", "r", "t", "u", "a"))
    },
    **{"b": "b = [1]", "xs": "xs = [1, 2]", "q": "q = [3, 1, 2]", "o": "o = Counter()", "d": "d = {'k': 1}"},
    "g": "def g():\n    return 4\n\n",
    "_scale": "def _scale(x, y=1):\n    return x\n\n",
    "_other": "def _other(x):\n    return x * 2\n\n",
}
"""Definitions in a module of names that a frame does not define."""
NAMES = (
    *("total", "x", "y", "value", "emit", "LIMIT", "len", "q", "a", "T"),
    *("_total", "self", "count", "g", "Case", "unit", "p"),
)
"""Names that the model suggests; some are in use."""
FREE = "surface"
"""A name that the model suggests last, and that is not in use."""
ANSWERS = {
    registry.TYPE_HINTS: ("int", "str", "list[int]", "Case", "x", "None", "Counter", "int | None", "boom(0)"),
    registry.DOCSTRING: (
        *("Return a value.", "Do it.", 'Say "yes"', "A \\d backslash.", 'Quotes """ inside.', "Ends with \\"),
        *(">>> target(1)", "Do several things.\n\n    >>> 1 + 1\n    3\n"),
    ),
}
"""What the model says where it is not asked for a name."""
INDENTS = (*["    "] * 10, "\t", "  ")
PATHS = ("user.py", "user.py", "pkg/user.py", "pkg/__init__.py", "test_document.py")
"""Paths of the other file, where there is one."""


@cache
def programs(kind: RefactoringKind) -> st.SearchStrategy[Program]:
    """Return the strategy of programs around a refactoring."""
    return st.one_of([_programs(kind, name, grammar(name)) for name in GRAMMARS[kind]])


def _programs(kind: RefactoringKind, name: str, forms: Grammar) -> st.SearchStrategy[Program]:
    said = st.lists(st.sampled_from(ANSWERS.get(kind, NAMES)), min_size=1, max_size=3)
    answers = said.map(lambda one: (*one, *(() if kind in ANSWERS else (FREE,))))
    surroundings = st.sampled_from(INDENTS), answers, st.integers(0, 60)
    others: tuple[st.SearchStrategy[Any], ...] = ()
    if name == "rename-across":
        others = forms.of("other"), st.sampled_from(PATHS)
    return st.builds(_program, forms.of("frame"), *surroundings, *others)


def _program(frame: str, unit: str, answers: tuple[str, ...], turn: int, other: str = "", path: str = "") -> Program:
    files = {DOCUMENT: _whole(frame, unit)}
    if other:
        files |= {"pkg/__init__.py": ""} if path.startswith("pkg/") else {}
        files[path] = _whole(other, unit)
    for one in files.values():
        try:
            compile(one, "<program>", "exec", dont_inherit=True)
        except SyntaxError:
            assume(False)
    return Program(files, answers, turn, bool(other))


def _whole(frame: str, unit: str) -> str:
    """Return a frame as a file: with the imports that it needs, and in its indentation."""

    def is_used(name: str) -> bool:
        return bool(re.search(rf"(?<![.\w]){name}\b", frame)) and not re.search(rf"import {name}\b", frame)

    # Names that nothing defines are given to the module: a program does more than fail at the first of them.
    try:
        missing = unknown(frame)
    except SyntaxError:
        assume(False)
    assume(missing <= DEFINITIONS.keys() | IMPORTED)
    definitions = [text for name, text in DEFINITIONS.items() if name in missing]
    frame = "\n".join([*definitions, *(["\n"] if definitions else []), frame])
    imports = [f"import {name}" for name in MODULES if is_used(name)]
    for module, names in ORIGINS.items():
        if used := [name for name in names if is_used(name)]:
            imports.append(f"from {module} import {', '.join(used)}")
    head = "\n".join(imports)
    text = f"{head}\n\n\n{frame}\n" if head else f"{frame}\n"
    margin = re.compile(r"^(?: {4})+", re.MULTILINE)
    return margin.sub(lambda found: unit * (len(found.group()) // 4), text)
