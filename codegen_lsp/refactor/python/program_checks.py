"""The checks that every refactored Python program must pass before it is offered.

Each check is a function of the program before and after, and of the changes that are allowed. `CHECKS` lists them in
the order in which they run; the name of the one that fails is the rule that `codegen-lsp/explain` reports.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property

from attrs import frozen

from codegen_lsp.refactor.checks import AllowedChanges, CheckFailure, line_that_would_change
from codegen_lsp.refactor.python.analysis.definite_assignment import unbound
from codegen_lsp.refactor.python.analysis.scopes import exported, imported, unknown
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS


@frozen(slots=False)
class ProgramText:
    """The text of a program, with cached facts about it. Raises SyntaxError or ValueError where it does not parse."""

    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @cached_property
    def comments(self) -> Counter[str]:
        """The comments, with the number of times that each occurs."""
        return Counter(
            token.string.rstrip()
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline)
            if token.type == tokenize.COMMENT
        )

    @cached_property
    def unknown(self) -> set[str]:
        """The names that nothing defines."""
        return unknown(self.text)

    @cached_property
    def signatures(self) -> dict[str, list[str]]:
        """The signatures of each definition by qualified name; a name may be defined several times."""
        found: dict[str, list[str]] = {}
        for name, node in definitions(self.tree):
            found.setdefault(name, []).append(_signature(node, annotations=True))
        return found

    @cached_property
    def bare_signatures(self) -> dict[str, list[str]]:
        """The signatures without type hints."""
        found: dict[str, list[str]] = {}
        for name, node in definitions(self.tree):
            found.setdefault(name, []).append(_signature(node, annotations=False))
        return found


Check = Callable[[ProgramText, ProgramText, AllowedChanges], str | None]
"""Returns the reason why the second program may not replace the first, or None."""


def parses(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """The result compiles; errors that only the compiler finds (`return` outside a function) count, too."""
    try:
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
    """Other files find the same names in the module."""
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
    """Lines outside the allowed ones stay as they are and in their order, blank ones included."""
    line = line_that_would_change(before.text, after.text, allowed)
    return f"Line {line} would change, too." if line is not None else None


def knows_its_names(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """Every name that is used is defined; names that were undefined before may stay so."""
    if new := after.unknown - before.unknown:
        return f"The result uses names that are not defined: {', '.join(sorted(new))}."
    return None


def reads_what_is_bound(before: ProgramText, after: ProgramText, allowed: AllowedChanges) -> str | None:
    """No local variable is read where nothing can have given it a value."""
    if new := unbound(after.tree) - unbound(before.tree):
        # A rename shows as names that appear in place of others; it adds none.
        known = {_without(allowed.names, one) for one in unbound(before.tree)}
        if new := {one for one in new if _without(allowed.names, one) not in known}:
            function, _, name = min(new).partition(": ")
            return f"{function} would read {name} before it has a value."
    return None


def _without(names: frozenset[str], place: str) -> tuple[str, ...]:
    return tuple("" if part in names else part for part in place.split(": "))


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
    """Return the first check that a result fails, or None."""
    result = ProgramText(after)
    for check in CHECKS:
        if reason := check(before, result, allowed):
            return CheckFailure(check.__name__, reason)
    return None


def definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the qualified name and the node of every function and class."""
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
