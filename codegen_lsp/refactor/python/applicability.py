"""Where each refactoring applies: from the syntax around the selection to the title of the action, or None.

What is asked here is asked at every move of a cursor, so nothing may be slow. What syntax tells about the meaning (an
operand that is not always evaluated, a variable that is bound twice) is asked here, too, so that the menu doesn't
promise what can't be kept.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.python.scopes import bindings, is_private, parameters
from codegen_lsp.refactor.python.selection import (
    DEFINITIONS,
    SCOPES,
    Definition,
    Function,
    SelectionView,
    docstring_node,
    is_stub,
    parse,
    suites_of,
    walk_scope,
)

PURE = frozenset(
    {"len", "str", "int", "float", "bool", "repr", "abs", "isinstance", "issubclass", "tuple", "min", "max"}
)
"""Built-in functions whose order of evaluation nobody notices."""
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_HOSTS = (
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Return,
    ast.Expr,
    ast.If,
    ast.For,
    ast.With,
    ast.Assert,
    ast.Raise,
)
_FRAME = frozenset({"locals", "vars", "eval", "exec", "globals", "super", "__class__", "__debug__"})


# The kinds


def extract_variable(view: SelectionView) -> str | None:
    """An expression that is evaluated exactly once, when its statement begins, may get a name."""
    node, host = view.expression, view.statement
    if (
        node is None
        or not isinstance(host, _HOSTS)
        or isinstance(node, ast.Name | ast.Starred | ast.Slice | ast.NamedExpr)
    ):
        return None
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or docstring_node_of(view, host, node):
        return None
    if not _begins_its_line(view, host) or _is_elif(view, host):
        return None
    path = path_to(host, node)
    if path is None or not all(_always_evaluated(above, below) for above, below in pairwise(path)):
        return None
    if any(isinstance(inner, ast.NamedExpr | ast.Yield | ast.YieldFrom) for inner in ast.walk(node)):
        return None
    if has_effects(node) and any(has_effects(one) for one in _before(view, host, node)):
        return None
    return "Extract variable"


def extract_function(view: SelectionView) -> str | None:
    """Statements that control flow enters at their start and leaves at their end may become a function."""
    statements = view.statements
    inner = view.definitions[-1] if view.definitions else None
    if not statements or isinstance(inner, ast.ClassDef) or not leaves_at_end(statements):
        return None
    if docstring_node(inner or view.tree) in statements:
        return None
    if all(isinstance(one, ast.Pass | ast.Import | ast.ImportFrom) for one in statements):
        return None
    if any(isinstance(one, DEFINITIONS) for one in statements):
        return None
    if inner is not None and inner in statements:
        return None
    in_method = len(view.definitions) > 1 and isinstance(view.definitions[-2], ast.ClassDef)
    return "Extract method" if in_method else "Extract function"


def inline_variable(view: SelectionView) -> str | None:
    """A variable whose value is the same wherever it is used may give way to it."""
    found = variable_to_inline(view)
    return f"Inline variable '{found[1].targets[0].id}'" if found else None  # type: ignore[attr-defined]


def inline_function(view: SelectionView) -> str | None:
    """A function of this file that nobody else uses, at a call or at its definition."""
    if view.name is None:
        return None
    name, offset = view.name
    text = view.source.text
    if view.source.text[:offset].rstrip(" ").endswith("."):
        return None
    if not is_private(name) or len(re.findall(rf"^def {name}\b", text, re.MULTILINE)) != 1:
        return None
    called = text[offset + len(name) :].startswith("(")
    return f"Inline function '{name}'" if called and _only_returns(text, name) else None


def _only_returns(text: str, name: str) -> bool:
    """Whether a function at the text's margin does nothing but return something."""
    start = re.search(rf"^def {name}\b", text, re.MULTILINE)
    assert start is not None
    end = re.compile(r"^[^\s)#]", re.MULTILINE).search(text, start.end())
    tree = parse(text[start.start() : end.start() if end else len(text)])
    if tree is None or not tree.body or not isinstance(function := tree.body[0], ast.FunctionDef):
        return False
    rest = [one for one in function.body if one is not docstring_node(function)]
    return len(rest) == 1 and isinstance(rest[0], ast.Return) and rest[0].value is not None


def rename(view: SelectionView) -> str | None:
    """A name whose uses can all be found."""
    if view.name is None:
        return None
    name, offset = view.name
    if not _is_variable(view, offset) or (name.startswith("__") and name.endswith("__")):
        return None
    return f"Rename '{name}' to the likeliest name" if scope_of(view, name) is not None else None


def docstring(view: SelectionView) -> str | None:
    """A definition without one."""
    node = view.header
    if node is None or docstring_node(node) is not None or _one_line(node):
        return None
    return f"Write a docstring for '{node.name}'"


def type_hints(view: SelectionView) -> str | None:
    """A function with parameters or a result that have none."""
    node = view.header
    if node is None or isinstance(node, ast.ClassDef) or not missing_hints(view, node):
        return None
    return f"Add type hints to '{node.name}'"


def complete_body(view: SelectionView) -> str | None:
    """A function with nothing to do yet."""
    node = view.function
    if node is None or not is_stub(node) or _is_abstract(view, node):
        return None
    return f"Write the body of '{node.name}'"


def comment_to_code(view: SelectionView) -> str | None:
    """A comment with nothing below it yet."""
    return "Write code for the comment" if comment_above_nothing(view) else None


def simplify(view: SelectionView) -> str | None:
    """Whole statements."""
    return "Simplify the selection" if view.statements else None


def rewrite(view: SelectionView) -> str | None:
    """Whole statements below a comment that says what they should become."""
    first = view.source.text[view.trimmed[0] : view.trimmed[1]]
    statements = view.statements
    if not first.startswith("#") or not statements or any(isinstance(one, DEFINITIONS) for one in statements):
        return None
    if not leaves_at_end(statements):
        return None
    return "Rewrite the selection as its comment says (preview)"


# What they ask


def statement_runs(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Every run of statements that stand one after another below a node."""
    for inner in [node, *walk_scope(node)]:
        for suite in suites_of(inner):
            for first in range(len(suite)):
                for last in range(first, len(suite)):
                    yield suite[first : last + 1]


def path_to(above: ast.AST, node: ast.AST) -> list[ast.AST] | None:
    """The nodes from one to another below it, both included."""
    if above is node:
        return [above]
    for child in ast.iter_child_nodes(above):
        if (path := path_to(child, node)) is not None:
            return [above, *path]
    return None


def _always_evaluated(above: ast.AST, below: ast.AST) -> bool:
    """Whether the lower node is evaluated once whenever the upper one is."""
    if isinstance(above, ast.BoolOp):
        return below is above.values[0]
    if isinstance(above, ast.IfExp):
        return below is above.test
    if isinstance(above, _COMPREHENSIONS):
        return below is above.generators[0]
    if isinstance(above, ast.comprehension):
        return below is above.iter
    if isinstance(above, ast.Compare):
        return below is above.left or below is above.comparators[0]
    if isinstance(above, ast.Assert):
        return below is above.test
    if isinstance(above, ast.If):
        return below is above.test
    if isinstance(above, ast.For):
        return below is above.iter
    if isinstance(above, ast.With):
        return below is above.items[0]
    if isinstance(above, ast.AnnAssign):
        return below is above.value
    return not isinstance(above, ast.Lambda | ast.JoinedStr | ast.FormattedValue | ast.stmt) or isinstance(
        above, ast.Assign | ast.AugAssign | ast.Return | ast.Expr | ast.Raise
    )


def _before(view: SelectionView, host: ast.AST, node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated before the node within its statement."""
    start = view.span(node)[0]
    for inner in ast.walk(host):
        if isinstance(inner, ast.expr) and view.span(inner)[1] <= start:
            yield inner


def has_effects(node: ast.AST) -> bool:
    """Whether evaluating may do something, or depend on what was done: a call of anything but a few built-ins."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return True
        if isinstance(inner, ast.Call) and not (isinstance(inner.func, ast.Name) and inner.func.id in PURE):
            return True
    return False


def leaves_at_end(statements: Sequence[ast.stmt]) -> bool:
    """Whether control flow leaves the statements only at their end, or by an exception, or by a last `return`."""
    returns = 0
    for statement in statements:
        for inner in [statement, *walk_scope(statement)]:
            if isinstance(inner, ast.Yield | ast.YieldFrom | ast.Await | ast.AsyncFor | ast.AsyncWith):
                return False
            if isinstance(inner, ast.Global | ast.Nonlocal | ast.Delete):
                return False
            if isinstance(inner, ast.comprehension) and inner.is_async:
                return False
            if isinstance(inner, ast.Name) and inner.id in _FRAME:
                return False
            returns += isinstance(inner, ast.Return)
        if _jumps_out(statement):
            return False
    return returns == 0 or (returns == 1 and isinstance(statements[-1], ast.Return))


def _jumps_out(node: ast.AST) -> bool:
    """Whether a `break` or `continue` belongs to a loop around the node."""
    if isinstance(node, ast.Break | ast.Continue):
        return True
    if isinstance(node, ast.For | ast.While | ast.AsyncFor):
        return any(_jumps_out(one) for one in node.orelse)
    return not isinstance(node, SCOPES) and any(_jumps_out(child) for child in ast.iter_child_nodes(node))


def variable_to_inline(view: SelectionView) -> tuple[Function, ast.Assign, list[ast.Name]] | None:
    """The variable at the cursor that may be inlined: its function, assignment and uses."""
    function = view.function
    if function is None or view.name is None or not _is_variable(view, view.name[1]):
        return None
    name = view.name[0]
    if bindings(function, name) != 1:
        return None
    assigned = [
        node
        for node in walk_scope(function)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
    ]
    if not assigned:
        return None
    (assignment,) = assigned
    uses = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == name and node is not assignment.targets[0]
    ]
    if not uses or not all(isinstance(use.ctx, ast.Load) for use in uses):
        return None
    if not _same_everywhere(function, assignment, uses) or any(_in_f_string(function, use) for use in uses):
        return None
    return function, assignment, uses


def _same_everywhere(function: Function, assignment: ast.Assign, uses: list[ast.Name]) -> bool:
    """Whether the value, evaluated at each use instead, is the same and is evaluated as often."""
    value = assignment.value
    if isinstance(value, ast.Constant):
        return True
    suite = next((suite for suite in _all_suites(function) if assignment in suite), [])
    after = suite[suite.index(assignment) + 1 :] if assignment in suite else []
    if isinstance(value, ast.Name) or (_is_arithmetic(value) and not has_effects(value)):
        names = {inner.id for inner in ast.walk(value) if isinstance(inner, ast.Name)}
        nodes = [node for node in walk_scope(function) if node is not assignment]
        rebound = {inner.id for inner in nodes if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
        nested = any(isinstance(node, SCOPES) for node in nodes)
        local = {one.arg for one in parameters(function)} | rebound
        return not names & rebound and names <= local and not nested and _within(after, uses)
    if len(uses) != 1 or not after:
        return False
    path = path_to(after[0], uses[0])
    if path is None or not isinstance(after[0], _HOSTS) or isinstance(after[0], ast.AugAssign):
        return False
    if not all(_always_evaluated(above, below) for above, below in pairwise(path)):
        return False
    earlier = [
        inner
        for inner in ast.walk(after[0])
        if isinstance(inner, ast.expr)
        and (inner.end_lineno, inner.end_col_offset) <= (uses[0].lineno, uses[0].col_offset)
    ]
    return not any(has_effects(one) for one in earlier)


def _is_arithmetic(value: ast.expr) -> bool:
    allowed = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    return all(isinstance(inner, allowed) for inner in ast.walk(value))


def _within(after: Sequence[ast.stmt], uses: Sequence[ast.AST]) -> bool:
    below = {id(inner) for statement in after for inner in ast.walk(statement)}
    return all(id(use) in below for use in uses)


def _in_f_string(function: ast.AST, use: ast.AST) -> bool:
    return any(isinstance(node, ast.JoinedStr) for node in path_to(function, use) or [])


def _all_suites(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for inner in [node, *walk_scope(node)]:
        for field in ("body", "orelse", "finalbody"):
            suite = getattr(inner, field, None)
            if isinstance(suite, list):
                yield suite


def scope_of(view: SelectionView, name: str) -> Function | ast.Module | None:
    """Where a name lives whose uses can be found: a function, or the module for what stands at its top level."""
    for function in reversed(view.definitions):
        if isinstance(function, ast.ClassDef):
            continue
        if not bindings(function, name):
            continue
        if any(isinstance(node, ast.Global | ast.Nonlocal) and name in node.names for node in ast.walk(function)):
            return None
        if any(one.arg == name for one in parameters(function)) and not _callers_are_here(view, function):
            return None
        return function
    if _in_class_body(view, name):
        return None
    pattern = rf"^(?:(?:async )?def|class) {name}\b|^{name}\s*(?::[^=\n]+)?=[^=]"
    found = re.search(pattern, view.source.text, re.MULTILINE)
    if found is None:
        return None
    if not is_private(name) and (view.source.workspace is None or _found_by_name(view.source, name, found.start())):
        return None
    return view.tree


def _found_by_name(source: SelectedSource, name: str, start: int) -> bool:
    """Whether somebody may look for a public name by its spelling: a decorator, a test runner, whoever runs it."""
    above = source.text[:start].rpartition("\n\n")[2]
    return name.startswith(("test", "Test", "pytest_")) or name == "main" or bool(re.search("^@", above, re.MULTILINE))


def _in_class_body(view: SelectionView, name: str) -> bool:
    inner = view.definitions[-1] if view.definitions else None
    return isinstance(inner, ast.ClassDef) and inner.name != name


def _callers_are_here(view: SelectionView, function: Function) -> bool:
    """Whether all calls of a function are in this file and give its arguments by position: it is inside another."""
    above = view.definitions[: view.definitions.index(function)]
    if not above or isinstance(above[-1], ast.ClassDef):
        return False
    calls = [node for node in ast.walk(above[-1]) if isinstance(node, ast.Call)]
    return not any(
        isinstance(node.func, ast.Name) and node.func.id == function.name and node.keywords for node in calls
    )


def _is_variable(view: SelectionView, offset: int) -> bool:
    """Whether the word at the offset stands for a variable: no attribute, no name in a call's keywords, no import."""
    for node in ast.walk(view.tree):
        if isinstance(node, ast.Name | ast.arg) and view.span(node)[0] == offset:
            return True
        if isinstance(node, DEFINITIONS) and view.source.text.startswith(node.name, offset):
            start = view.span(node)[0]
            if re.fullmatch(r"(?:async\s+)?(?:def|class)\s+", view.source.text[start:offset]):
                return True
    return False


def missing_hints(view: SelectionView, function: Function) -> list[ast.arg | None]:
    """Parameters without a type hint, and None for the result."""
    own = parameters(function)
    in_class = len(view.definitions) > 1 and isinstance(
        view.definitions[view.definitions.index(function) - 1], ast.ClassDef
    )
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in function.decorator_list)
    if in_class and not static and own:
        own = own[1:]
    missing: list[ast.arg | None] = [one for one in own if one.annotation is None]
    return missing + ([None] if function.returns is None else [])


def comment_above_nothing(view: SelectionView) -> tuple[int, int] | None:
    """Offsets of the comment's text line at the cursor, when no code stands below it at its own indentation."""
    source = view.source
    if source.selected.strip():
        return None
    start = source.text.rfind("\n", 0, source.start) + 1
    end = source.text.find("\n", source.start)
    end = len(source.text) if end < 0 else end
    line = source.text[start:end]
    if not re.match(r"\s*#(?!!)\s*\S+", line):
        return None
    below = source.text[end + 1 :].split("\n", 1)[0]
    margin = len(line) - len(line.lstrip())
    if below.strip() and len(below) - len(below.lstrip()) >= margin:
        return None
    # Inside a string, what looks like a comment is none.
    around = view.around[-1]
    return None if isinstance(around, ast.Constant | ast.JoinedStr) else (start, end)


def docstring_node_of(view: SelectionView, host: ast.AST, node: ast.AST) -> bool:
    """Whether the expression is a docstring."""
    return isinstance(host, ast.Expr) and host.value is node and isinstance(node, ast.Constant)


def _begins_its_line(view: SelectionView, host: ast.stmt) -> bool:
    start = view.span(host)[0]
    return not view.source.text[view.source.text.rfind("\n", 0, start) + 1 : start].strip()


def _is_elif(view: SelectionView, host: ast.stmt) -> bool:
    return isinstance(host, ast.If) and view.source.text.startswith("elif", view.span(host)[0])


def _one_line(node: Definition) -> bool:
    """Whether the body stands on the line of the head."""
    return node.body[0].lineno == max(
        node.lineno, (getattr(node, "args", None) and _last_line_of_head(node)) or node.lineno
    )


def _last_line_of_head(node: Definition) -> int:
    inner = [one for one in ast.walk(getattr(node, "args", ast.Pass())) if hasattr(one, "end_lineno")]
    returns = getattr(node, "returns", None)
    lines: list[int] = [node.lineno, *(one.end_lineno for one in [*inner, *([returns] if returns else [])])]
    return max(lines)


def _is_abstract(view: SelectionView, function: Function) -> bool:
    decorators = {ast.unparse(one).rsplit(".", 1)[-1] for one in function.decorator_list}
    if decorators & {"abstractmethod", "overload"}:
        return True
    owner = view.definitions[-2] if len(view.definitions) > 1 else None
    return isinstance(owner, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in owner.bases)
