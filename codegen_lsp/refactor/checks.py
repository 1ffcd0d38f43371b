"""What every result must hold before anybody sees it, whatever made it.

Each check is a function of the text before and after, and of what the refactoring is meant to change. `CHECKS` lists
them in the order in which they speak; the name of the one that fails is what `codegen-lsp/explain` gives as the rule.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property

from attrs import frozen

from codegen_lsp.refactor.edits import split_lines
from codegen_lsp.refactor.python.scopes import exported, imported, unbound, unknown
from codegen_lsp.refactor.python.selection import DEFINITIONS


@frozen
class AllowedChanges:
    """What a refactoring is meant to change; all else must stay."""

    lines: frozenset[int] = frozenset()
    """Numbers of lines, from 1, that may be changed or removed. New lines may be put in anywhere."""
    names: frozenset[str] = frozenset()
    """Exported names that may come or go."""
    signatures: frozenset[str] = frozenset()
    """Qualified names of definitions that may come, go, or be changed."""
    annotations: frozenset[str] = frozenset()
    """Qualified names of functions that may get type hints."""
    any_new: bool = False
    """Whether new definitions and exports are the point."""


@frozen
class CheckFailure:
    """Why a result may not be offered."""

    check: str
    reason: str


@frozen(slots=False)
class ProgramText:
    """One side of the comparison; what is expensive is worked out once."""

    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Raises SyntaxError or ValueError."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(self.text)

    @cached_property
    def comments(self) -> Counter[str]:
        """All comments."""
        return Counter(
            token.string.rstrip()
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline)
            if token.type == tokenize.COMMENT
        )

    @cached_property
    def unknown(self) -> set[str]:
        """See `scopes.unknown`."""
        return unknown(self.text)

    @cached_property
    def signatures(self) -> dict[str, list[str]]:
        """How each definition can be called, by qualified name; several where it is defined several times."""
        found: dict[str, list[str]] = {}
        for name, node in definitions(self.tree):
            found.setdefault(name, []).append(_signature(node, annotations=True))
        return found

    @cached_property
    def bare_signatures(self) -> dict[str, list[str]]:
        """The same without type hints."""
        found: dict[str, list[str]] = {}
        for name, node in definitions(self.tree):
            found.setdefault(name, []).append(_signature(node, annotations=False))
        return found


Check = Callable[[ProgramText, ProgramText, AllowedChanges], str | None]
"""Gives the reason why the second text may not follow the first, or None."""


def parses(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """The result is a program: what only the compiler forbids (`return` outside a function) counts, too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(after.text, "<result>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"The result does not parse: {getattr(error, 'msg', None) or error}."
    return None


def keeps_imports(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """The same names are imported from the same modules."""
    if (old := imported(before.tree)) != (new := imported(after.tree)):
        changed = sorted({name for _, name, _ in (old - new) + (new - old)})
        return f"Imports would change: {', '.join(changed)}."
    return None


def keeps_exports(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """Other files find the same names."""
    old, new = exported(before.tree), exported(after.tree)
    gone, come = old - new - allowed.names, set() if allowed.any_new else new - old - allowed.names
    if gone or come:
        return f"Names that other files may use would change: {', '.join(sorted(gone | come))}."
    return None


def keeps_signatures(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """Functions and classes are called as before."""
    old, new = before.signatures, after.signatures
    for name in sorted(old.keys() | new.keys()):
        if name in allowed.signatures or (allowed.any_new and name not in old):
            continue
        if name in allowed.annotations:
            if before.bare_signatures.get(name) != after.bare_signatures.get(name):
                return f"The parameters of {name} would change."
        elif old.get(name) != new.get(name):
            return f"The signature of {name} would change."
    return None


def keeps_comments(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """No comment is lost."""
    if lost := before.comments - after.comments:
        return f"A comment would be lost: {min(lost)}"
    return None


def keeps_other_lines(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """Lines that the refactoring has nothing to do with stay as they are and in their order, blank ones included."""
    new = iter(split_lines(after.text))
    for number, line in enumerate(split_lines(before.text), start=1):
        if number not in allowed.lines and not any(line == other for other in new):
            return f"Line {number} would change, too."
    return None


def knows_its_names(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """Nothing is used that isn't defined; what was undefined before may stay so."""
    if new := after.unknown - before.unknown:
        return f"The result uses names that are not defined: {', '.join(sorted(new))}."
    return None


def reads_what_is_bound(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """No local variable is read where nothing can have given it a value."""
    if new := unbound(after.tree) - unbound(before.tree):
        function, _, name = min(new).partition(": ")
        return f"{function} would read {name} before it has a value."
    return None


CHECKS: tuple[Check, ...] = (
    parses,
    keeps_imports,
    keeps_exports,
    keeps_signatures,
    keeps_comments,
    keeps_other_lines,
    knows_its_names,
    reads_what_is_bound,
)


def first_failure(before: ProgramText, after: str, allowed: AllowedChanges) -> CheckFailure | None:
    """The first check that speaks against a result, or None."""
    result = ProgramText(after)
    for check in CHECKS:
        if reason := check(before, result, allowed):
            return CheckFailure(check.__name__, reason)
    return None


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Qualified name and node of every function and class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, DEFINITIONS):
            yield prefix + node.name, node
            yield from definitions(node, f"{prefix}{node.name}.")
        else:
            yield from definitions(node, prefix)


def _signature(node: ast.AST, *, annotations: bool) -> str:
    decorators = [ast.dump(one) for one in getattr(node, "decorator_list", [])]
    if isinstance(node, ast.ClassDef):
        return f"class {[ast.dump(one) for one in [*node.bases, *node.keywords]]} {decorators}"
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = ast.dump(node.args if annotations else _without_annotations(node.args))
    returns = ast.dump(node.returns) if annotations and node.returns else ""
    return f"{type(node).__name__} {arguments} {returns} {decorators}"


def _without_annotations(arguments: ast.arguments) -> ast.arguments:
    def bare(argument: ast.arg) -> ast.arg:
        return ast.arg(argument.arg, None)

    return ast.arguments(
        posonlyargs=[bare(one) for one in arguments.posonlyargs],
        args=[bare(one) for one in arguments.args],
        vararg=bare(arguments.vararg) if arguments.vararg else None,
        kwonlyargs=[bare(one) for one in arguments.kwonlyargs],
        kw_defaults=arguments.kw_defaults,
        kwarg=bare(arguments.kwarg) if arguments.kwarg else None,
        defaults=arguments.defaults,
    )
