"""Rename a symbol to the name that the model finds likeliest in all its uses.

rope changes the text; for a definition at the top level of a module, in the other files of the workspace, too. The
result's syntax tree must be the old one with the new name at the uses that the analysis of scopes has found.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import re
from collections.abc import Callable

from attrs import evolve

from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor.checks import AllowedChanges
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python import names
from codegen_lsp.refactor.python.analysis.scopes import RESERVED, identifiers, is_private, variables
from codegen_lsp.refactor.python.ast_nodes import Function, parse
from codegen_lsp.refactor.python.program_checks import definitions
from codegen_lsp.refactor.python.rename_across import RenamedFiles, in_all, rename_in
from codegen_lsp.refactor.python.rename_conditions import BY_HAND, RenamedSymbol, symbol_to_rename
from codegen_lsp.refactor.python.rename_lookups import module_lookup
from codegen_lsp.refactor.python.rename_strings import StringsRenamedBack, with_strings_renamed
from codegen_lsp.refactor.python.rope_backend import rename as rope_rename
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.results import RefactoringDraft


async def rename(view: SelectionView, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Rename the symbol at the cursor. Raises RefactorError, WorkerError and ModelError."""
    assert view.name is not None
    name, offset = view.name
    symbol = symbol_to_rename(view)
    assert isinstance(symbol, RenamedSymbol)
    scope = symbol.around
    text = view.source.text
    report("Finding the uses", 0.1)
    renamed = await asyncio.to_thread(_renamed, view, name, offset, scope)
    base, placeholder = renamed.text, renamed.placeholder
    _check_same(view, symbol, base, placeholder)
    report("Looking for names", 0.3)
    taken = RESERVED | variables(view.tree) | renamed.words | {name}
    at = _definition(base, placeholder)
    before, after = base[:at], base[at + len(placeholder) :]
    wanted = _shape_of(view, name, scope)
    found = await names.suggested(assistant, before, after, _rules(scope, name), taken, shape=wanted)
    lines = frozenset(
        number
        for number, (old, new) in enumerate(zip(text.split("\n"), base.split("\n"), strict=True), start=1)
        if old != new
    )
    drafts = []
    for new in found:
        if new in (name, wanted("value")):
            continue
        owners = _signatures(view, scope, name, new)
        allowed = AllowedChanges(lines=lines, signatures=owners, names=frozenset({name, new}))
        others = [evolve(one, after=one.after.replace(placeholder, new)) for one in renamed.others]
        drafts.append(RefactoringDraft(base.replace(placeholder, new), new, allowed, others))
    if not drafts:
        raise RefactorError("no_name", f"There is no better name for {name} to be had.")
    return drafts


def _renamed(view: SelectionView, name: str, offset: int, scope: Function | ast.Module) -> RenamedFiles:
    """Return the files with a placeholder for the name."""
    source = view.source
    if isinstance(scope, ast.Module) and source.workspace is not None and source.path is not None:
        return rename_in(source.workspace, source.path, source.text, offset, name)
    placeholder = names.numbered("renamed_symbol", identifiers(view.tree))
    text = rope_rename(source.text, offset, placeholder)
    if isinstance(scope, ast.Module):
        text = with_strings_renamed(in_all(text, name, placeholder), name, placeholder)
        module = source.path.stem if source.path is not None else "__main__"
        if (found := module_lookup(ast.parse(text), name, module)) is not None:
            line, why = found
            raise RefactorError("named_in_string", f"{name} can't be renamed safely: on line {line}, {why}.", BY_HAND)
    return RenamedFiles(text, [], placeholder, frozenset())


def _definition(text: str, name: str) -> int:
    """Return the offset of the name where the module defines it, else of its first use."""
    pattern = rf"^(?:(?:async )?def |class )?(?={name}\b)"
    found = re.search(pattern, text, re.MULTILINE)
    return found.end() if found else text.index(name)


def _check_same(view: SelectionView, symbol: RenamedSymbol, base: str, placeholder: str) -> None:
    """Raise RefactorError unless the uses of the symbol, all of them and nothing else, have the new name."""
    name, tree = symbol.name, parse(base)
    if tree is None or base.count("\n") != view.source.text.count("\n"):
        raise RefactorError("does_not_parse", "The result does not parse.")
    memo: dict[int, ast.AST] = {}
    expected = copy.deepcopy(view.tree, memo)
    for one in symbol.scope.uses(name):
        node = memo[id(one.node)]
        value = getattr(node, one.field)
        if one.field == "names":
            setattr(node, one.field, [placeholder if each == name else each for each in value])
        else:
            setattr(node, one.field, placeholder + value.removeprefix(name))
    # The strings that name the symbol are no uses in the sense of the analysis.
    tree = StringsRenamedBack(placeholder, name).visit(tree)
    if ast.dump(tree) != ast.dump(expected):
        raise RefactorError("another_meaning", f"Not every use of {name} in this file can be renamed.")


def _shape_of(view: SelectionView, name: str, scope: Function | ast.Module) -> Callable[[str], str]:
    """Return the function that writes a word as the name of this kind of symbol."""
    is_class = any(isinstance(node, ast.ClassDef) and node.name == name for node in ast.walk(scope))
    lead = "_" if is_private(name) else ""

    def shape(word: str) -> str:
        plain = names.snake(word)
        if is_class:
            return lead + "".join(part.capitalize() for part in plain.split("_"))
        return lead + (plain.upper() if name.strip("_").isupper() and isinstance(scope, ast.Module) else plain)

    return shape


def _rules(scope: ast.AST, name: str) -> list[str]:
    """Return the names that the values assigned to the symbol suggest."""
    found: list[str] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            found += names.of_expression(node.value)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name) and node.target.id == name:
            found += [names.singular(one) for one in names.of_expression(node.iter)]
        if isinstance(node, ast.FunctionDef) and node.name == name:
            found += names.of_statements(node.body, [])
    return found


def _signatures(view: SelectionView, scope: Function | ast.Module, name: str, new: str) -> frozenset[str]:
    """Return the qualified names of the definitions that may change, those within the scope."""
    found: set[str] = set()
    for qualified, node in definitions(view.tree):
        if isinstance(scope, ast.Module) or node is scope or any(node is inner for inner in ast.walk(scope)):
            found |= {qualified, ".".join(new if part == name else part for part in qualified.split("."))}
    return frozenset(found)
