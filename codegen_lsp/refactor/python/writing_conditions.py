"""Where a docstring, type hints or code can be written, and statements be simplified or rewritten."""

from __future__ import annotations

import ast
import re

from codegen_lsp.refactor.python.analysis.control_flow import leaves_at_end
from codegen_lsp.refactor.python.analysis.scopes import parameters
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Definition, Function, docstring_node, is_stub
from codegen_lsp.refactor.python.selection import SelectionView
from codegen_lsp.source.lines import start_of_line


def docstring_title(view: SelectionView) -> str | None:
    """Return the title for a definition without a docstring; else None."""
    node = view.header
    if node is None or docstring_node(node) is not None or _one_line(node):
        return None
    return f"Write a docstring for '{node.name}'"


def type_hints_title(view: SelectionView) -> str | None:
    """Return the title for a function that lacks type hints; else None."""
    node = view.header
    if node is None or isinstance(node, ast.ClassDef) or not missing_hints(view, node):
        return None
    return f"Add type hints to '{node.name}'"


def body_title(view: SelectionView) -> str | None:
    """Return the title for a function without a body; else None."""
    node = view.function
    if node is None or not is_stub(node) or _is_abstract(view, node):
        return None
    return f"Write the body of '{node.name}'"


def comment_to_code_title(view: SelectionView) -> str | None:
    """Return the title for a comment without code below it; else None."""
    return "Write code for the comment" if comment_above_nothing(view) else None


def simplify_title(view: SelectionView) -> str | None:
    """Return the title for whole statements; else None."""
    return "Simplify the selection" if view.statements else None


def rewrite_title(view: SelectionView) -> str | None:
    """Return the title for whole statements below a comment that describes their replacement; else None."""
    first = view.source.text[view.trimmed[0] : view.trimmed[1]]
    statements = view.statements
    if not first.startswith("#") or not statements or any(isinstance(one, DEFINITIONS) for one in statements):
        return None
    if not leaves_at_end(statements):
        return None
    return "Rewrite the selection as its comment says (preview)"


def missing_hints(view: SelectionView, function: Function) -> list[ast.arg | None]:
    """Return the parameters without a type hint, and None for a result without one."""
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
    """Return the offsets of the comment line at the cursor, if the next line has no code of its block; else None."""
    source = view.source
    if source.selected.strip():
        return None
    start = start_of_line(source.text, source.start)
    end = source.text.find("\n", source.start)
    end = len(source.text) if end < 0 else end
    line = source.text[start:end]
    if not re.match(r"\s*#(?!!)\s*\S+", line):
        return None
    below = source.text[end + 1 :].split("\n", 1)[0]
    margin = len(line) - len(line.lstrip())
    if below.strip() and len(below) - len(below.lstrip()) >= margin:
        return None
    # A line of a string may look like a comment.
    around = view.around[-1]
    return None if isinstance(around, ast.Constant | ast.JoinedStr) else (start, end)


def _one_line(node: Definition) -> bool:
    """Return whether the body stands on the last line of the head."""
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
