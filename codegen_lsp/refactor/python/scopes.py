"""Which names mean what where, as far as one file tells."""

from __future__ import annotations

import ast
import builtins
import keyword
import symtable
from collections import Counter
from collections.abc import Iterator

from codegen_lsp.refactor.python.selection import DEFINITIONS, Function, walk_scope

BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__path__", "__class__", "__module__", "__qualname__"}
RESERVED = BUILTINS | frozenset(keyword.kwlist) | frozenset(keyword.softkwlist)


def identifiers(node: ast.AST) -> Counter[str]:
    """Every identifier below a node: variables, parameters, definitions, imports, attributes, keywords of calls."""
    found: Counter[str] = Counter()
    for inner in ast.walk(node):
        found.update(_names_in(inner))
    return found


def variables(node: ast.AST) -> set[str]:
    """`identifiers` without attributes and the keywords of calls: what a variable could be confused with."""
    return {
        name
        for inner in ast.walk(node)
        if not isinstance(inner, ast.Attribute | ast.keyword)
        for name in _names_in(inner)
    }


def bound_at_top(tree: ast.Module) -> set[str]:
    """Names that the module's own code binds, imports left out."""
    return {name for node in walk_scope(tree) for name in _bound_by(node)}


def exported(tree: ast.Module) -> set[str]:
    """What other files may use: `__all__` where it is a plain list, else the names without a leading underscore."""
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            try:
                return set(ast.literal_eval(statement.value))  # type: ignore[attr-defined]
            except (ValueError, TypeError):
                break
    return {name for name in bound_at_top(tree) if not is_private(name)}


def is_private(name: str) -> bool:
    """Whether a leading underscore says that other files leave it alone."""
    return name.startswith("_") and not name.endswith("__")


def imported(tree: ast.Module) -> Counter[tuple[str, str, str | None]]:
    """Every import: module, name and alias."""
    found: Counter[tuple[str, str, str | None]] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(("", alias.name, alias.asname) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            found.update(("." * node.level + (node.module or ""), alias.name, alias.asname) for alias in node.names)
    return found


def unknown(text: str) -> set[str]:
    """Names that are used and that nothing in the file or the language defines. Raises SyntaxError."""
    table = symtable.symtable(text, "<text>", "exec")
    known = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables = list(_tables(table))
    for inner in tables:
        known |= {
            symbol.get_name() for symbol in inner.get_symbols() if symbol.is_declared_global() and symbol.is_assigned()
        }
    known |= {child.get_name() for child in table.get_children() if child.get_type() in ("function", "class")}
    used = {
        symbol.get_name()
        for inner in tables
        for symbol in inner.get_symbols()
        if symbol.is_referenced() and (symbol.is_global() or (inner is table and not symbol.is_assigned()))
    }
    return used - known - BUILTINS


def unbound(tree: ast.AST) -> set[str]:
    """Local variables that are read where nothing can have given them a value yet, as `function: name`."""
    return {
        f"{node.name}: {name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in _unbound_in(node)
    }


def _unbound_in(function: Function) -> set[str]:
    nodes = list(walk_scope(function))
    # Of names that are bound in other ways than by plain assignments and loops, nothing is said.
    odd = {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    odd |= {name for node in nodes for name in _bound_by(node) if not isinstance(node, ast.Name)}
    odd |= {name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in _names_in_import(node)}
    inner = [node for node in nodes if isinstance(node, ast.comprehension | ast.NamedExpr)]
    odd |= {one.id for node in inner for one in ast.walk(node.target) if isinstance(one, ast.Name)}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    local = stored - odd - {one.arg for one in parameters(function)}
    found: set[str] = set()
    _read_first(function.body, local, set(), found, sure=True, looping=False)
    return found


def _read_first(
    body: list[ast.stmt], local: set[str], bound: set[str], found: set[str], *, sure: bool, looping: bool
) -> None:
    """Add to `found` what a suite reads before it is in `bound`, which grows by what the suite may bind. `sure`: the
    suite is run before what stands below it, even in the first round of a loop."""
    for statement in body:
        if isinstance(statement, DEFINITIONS):
            continue
        suites = list(_suites(statement))
        inner = {id(node) for suite in suites for one in suite for node in ast.walk(one)}
        names = [node for node in walk_scope(statement) if isinstance(node, ast.Name) and id(node) not in inner]
        if sure:
            # What one part of a `with` binds, the next may read.
            own = {one.id for one in names if isinstance(statement, ast.With | ast.AsyncWith) and not _reads(one)}
            maybe = {id(node) for one in walk_scope(statement) for part in _maybe(one) for node in ast.walk(part)}
            found |= {one.id for one in names if _reads(one) and id(one) not in maybe} & local - bound - own
        bound |= {one.id for one in names if not _reads(one)}
        loop = isinstance(statement, ast.For | ast.AsyncFor | ast.While)
        follows = (loop and not looping) or isinstance(statement, ast.With | ast.AsyncWith | ast.Try)
        for at, suite in enumerate(suites):
            _read_first(suite, local, bound, found, sure=sure and follows and at == 0, looping=looping or loop)


def _maybe(node: ast.AST) -> list[ast.expr]:
    """The parts of an expression that may not be evaluated."""
    if isinstance(node, ast.BoolOp):
        return node.values[1:]
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.Compare):
        return node.comparators[1:]
    return [node] if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) else []


def _reads(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _suites(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    yield getattr(statement, "body", [])
    yield from (one.body for field in ("handlers", "cases") for one in getattr(statement, field, []))
    yield getattr(statement, "orelse", [])
    yield getattr(statement, "finalbody", [])


def _names_in_import(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [(one.asname or one.name).split(".")[0] for one in node.names]


def bindings(function: Function, name: str) -> int:
    """How often a function's own code binds a name; parameters and declarations count, too."""
    arguments = function.args
    own = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    own += [one for one in (arguments.vararg, arguments.kwarg) if one]
    count = sum(one.arg == name for one in own)
    for node in walk_scope(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            count += 2 * (name in node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            count += sum((alias.asname or alias.name.split(".")[0]) == name for alias in node.names)
        else:
            count += sum(bound == name for bound in _bound_by(node))
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal) and node not in function.body:
            count += 2 * (name in node.names)
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            count += 1
    return count


def parameters(function: Function) -> list[ast.arg]:
    """All parameters in order, `*args` and `**kwargs` included."""
    arguments = function.args
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *([arguments.vararg] if arguments.vararg else []),
        *arguments.kwonlyargs,
        *([arguments.kwarg] if arguments.kwarg else []),
    ]


def _bound_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, DEFINITIONS):
        yield node.name
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        yield from [node.name] if node.name else []
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _names_in(node: ast.AST) -> Iterator[str]:
    yield from _bound_by(node)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.arg | ast.keyword) and node.arg:
        yield node.arg
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Global | ast.Nonlocal):
        yield from node.names
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).split(".")[0]


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)
