"""The fuzzer sees differences, finds and shrinks a wrong refactoring, and finds nothing wrong with the real ones.

`cases/differences.txt` has programs before and after a change, by `tests/cases.py`:

--- after          the program after
--- renamed A B    the old and the new name of a renamed symbol
--- differs TEXT   the versions differ, and the difference has this text
--- alike          they do not
"""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen_lsp.refactor import registry
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python import simplify
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.results import RefactoringOffer
from tests.cases import Case, cases_of, parametrized
from tests.refactor.fuzz.attempt import DOCUMENT, Laboratory, Program, Tally, difference_of, style_of
from tests.refactor.fuzz.campaign import campaign, laboratory
from tests.refactor.fuzz.interpreter import Interpreter
from tests.refactor.fuzz.places import KINDS
from tests.refactor.fuzz.ruff_findings import RuffFindings

CASES = cases_of(Path(__file__).parent / "cases" / "differences.txt", ("after", "renamed", "differs", "alike"))
PROGRAMS = 100
"""Programs of each refactoring in the suite; `python -m tests.refactor.fuzz` tries more."""
MADE = {
    "extract-variable": 2.0,
    "extract-function": 2.0,
    "inline-variable": 0.8,
    "inline-function": 0.25,
    "rename": 1.0,
    "docstring": 1.2,
    "type-hints": 1.4,
    "simplify": 0.5,
}
"""The fewest refactorings that are made in a program on average, by kind."""


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    with Interpreter() as running:
        yield running


@pytest.fixture(scope="module")
def lab() -> Iterator[Laboratory]:
    with laboratory() as made:
        yield made


@parametrized(CASES)
def test_case(case: Case, interpreter: Interpreter) -> None:
    (after,) = case.all("after")
    names = renamed.argument.split() if (renamed := case.one("renamed")) else []
    before, seen = interpreter.observe([{DOCUMENT: case.source}, {DOCUMENT: after.text}], names)
    difference = difference_of(before, seen) or style_of(case.source, after.text)
    if expected := case.one("differs"):
        assert difference is not None
        assert expected.argument in difference
    else:
        assert case.one("alike")
        assert difference is None


def test_a_program_that_does_not_end_says_nothing(interpreter: Interpreter) -> None:
    endless = "def target(a, b, xs):\n    while True:\n        pass\n"
    assert interpreter.observe([{DOCUMENT: endless}]) == [None]
    assert interpreter.observe([{DOCUMENT: "def target(a, b, xs):\n    return 1\n"}]) != [None]


SIMPLER = (
    "def target(a, b, xs):\n    if not a == b:\n        return list([x for x in xs])\n    else:\n        return None\n",
    "x = 1\n",
    "def target(a, b, xs):\n    é = 'ä' if a == 1 or a == 2 else 'b'; return é, dict(a=1), not (a in xs)\n",
)


def test_ruff_finds_the_same_in_many_texts_at_once() -> None:
    findings = RuffFindings()
    findings.check(SIMPLER)
    lines = frozenset(range(1, 6))
    at_once = [asyncio.run(findings.fixes(text, lines)) for text in SIMPLER]
    assert findings.started == 0
    assert at_once == [asyncio.run(simplify.ruff_fixes(text, lines)) for text in SIMPLER]
    assert [bool(fixes) for fixes in at_once] == [True, False, True]


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_ruff_is_not_started_for_each_program(lab: Laboratory) -> None:
    before = lab.ruff.started
    assert campaign(lab, registry.SIMPLIFY, 6, 2, tally := Tally(), enough=1) == []
    assert lab.ruff.started == before
    assert tally.results > 0


class Careless(Laboratory):
    """Puts a variable's last value in the place of every use, without conditions."""

    async def _offers(self, kind: RefactoringKind, source: SelectedSource, program: Program) -> list[RefactoringOffer]:
        tree = ast.parse(source.text)
        assert source.identifier is not None
        name, _ = source.identifier
        assigned = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
        ]
        if not assigned:
            raise RefactorError("no_value", "There is no assignment.")
        value = assigned[-1].value

        class Uses(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                return value if node.id == name and isinstance(node.ctx, ast.Load) else node

        return [RefactoringOffer(ast.unparse(Uses().visit(tree)) + "\n", name)]


@pytest.mark.slow
def test_a_careless_refactoring_is_found_and_shrunk() -> None:
    with laboratory(Careless) as lab:
        findings = campaign(lab, registry.INLINE_VARIABLE, 2_000, 1, tally := Tally(), enough=1)
    assert tally.changed > 0
    assert len(findings[0].program.files[DOCUMENT].splitlines()) < 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_refactoring_changes_what_a_program_does(kind: RefactoringKind, lab: Laboratory) -> None:
    findings = campaign(lab, kind, PROGRAMS, 1, tally := Tally(), enough=1)
    assert not findings, "\n".join(map(str, findings))
    # Programs whose refactorings are refused test nothing.
    assert tally.made >= MADE[kind.name] * PROGRAMS
    assert tally.unfinished <= tally.results / 5
