"""Ask instead of guessing: what a request leaves open, in one line."""

from __future__ import annotations

import builtins
import keyword
import re
import symtable
from typing import Literal

from attrs import frozen

from codegen_lsp.synthesis.dialogue import Dialogue
from codegen_lsp.synthesis.examples import examples_in

NAME = re.compile(r"""[`"'“‘]([A-Za-z_]\w*)[`"'”’]""")
INTRODUCED = re.compile(
    r"\b(?:named?|called?|call|as|to|into|in|define|create|make|introduce|variables?|functions?|class|new)\b"
    r"(?:\s+(?:it|a|an|the|new|variable|function|class|list|dictionary|string|method))*\s*$",
    re.IGNORECASE,
)
"""Words before a name that may introduce it: "store it as `total`"."""
WRITES = re.compile(r"\b(?:function|returns?|compute|calculate|convert|transform|given|write|implement|define)\b", re.I)


@frozen
class Question:
    """Something that a request leaves open."""

    kind: Literal["undefined", "example"]
    text: str
    """One line for the person."""
    name: str = ""
    """The name that nothing defines."""


def questions_about(dialogue: Dialogue, request: str) -> list[Question]:
    """Return what a request, as the next turn of a dialogue, leaves open: undefined names first.

    A name in quotes that nothing above defines and that the request does not introduce is asked about. An example is
    asked for where the request describes a computation and gives none.
    """
    defined = defined_names(dialogue.program)
    found: list[Question] = []
    examples = examples_in(request)
    given = {name for example in examples for name in _words(example.setup or example.expression)}
    for quoted in NAME.finditer(request):
        name = quoted[1]
        known = name in defined or name in given or hasattr(builtins, name) or keyword.iskeyword(name)
        if INTRODUCED.search(request[: quoted.start()]):
            given.add(name)
        elif not known and name not in {question.name for question in found}:
            found.append(
                Question("undefined", f"Nothing above defines {name}. What is it, or what is it called?", name)
            )
    if not examples and WRITES.search(request):
        found.append(Question("example", "What should it give, for example? Such as: f([1, 2]) → 3"))
    return found


def defined_names(program: str) -> set[str]:
    """Return the names that a program binds at its top level; all words in it if it does not parse."""
    try:
        table = symtable.symtable(program, "<program>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _words(program)
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", text))
