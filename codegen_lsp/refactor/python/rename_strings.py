"""Names in strings: those that a rename takes along, and those that are a reason not to rename.

Type hints, `cast`, the first argument of `NewType` and its kin, `__all__` and the examples of doctests are code in
strings: the name in them is renamed. A string that may be looked up while the program runs is not understood.
"""

from __future__ import annotations

import ast
import doctest
import io
import re
import tokenize
from collections.abc import Collection, Iterator

from codegen_lsp.refactor.edits import Lines
from codegen_lsp.refactor.python.analysis.escapes import doctest_has, names_in_string
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, docstring_node, parse
from codegen_lsp.refactor.refusal import RefactorError

_MAKERS = frozenset(
    {"NewType", "TypeVar", "ParamSpec", "TypeVarTuple", "TypeAliasType", "namedtuple", "NamedTuple", "TypedDict"}
    | {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "type", "new_class", "make_dataclass", "create_model"}
)
"""Functions that make a type or a variable of types, and take its name as a string."""


def with_strings_renamed(text: str, name: str, new: str) -> str:
    """Return a text in which a definition of a module was renamed, with the strings that name it renamed as well.

    Raises RefactorError where a string names it that can't be renamed.
    """
    tree = ast.parse(text)
    strings = list(_strings_with_code(tree, name, new))
    docs = [node for node in docstrings(tree) if doctest_has(str(node.value), name)]
    if not strings and not docs:
        return text
    if (hidden := _other_variable(tree, name)) is not None:
        raise _refusal(name, hidden, "there is another variable of this name, and strings name one of them")
    lines = Lines.of(text)
    edits = [_edit(text, lines, node, re.sub(rf"\b{name}\b", new, _source(text, lines, node))) for node in strings]
    edits += [_edit(text, lines, node, _doctest_renamed(text, lines, node, name, new)) for node in docs]
    for start, end, changed in sorted(edits, reverse=True):
        text = text[:start] + changed + text[end:]
    if parse(text) is None:
        raise RefactorError("does_not_parse", "The result does not parse.")
    return text


def are_renamed(tree: ast.AST, name: str) -> set[int]:
    """Return the identities of the strings in which `with_strings_renamed` renames a definition."""
    found = {id(node) for node in _strings_with_code(tree, name, name)}
    return found | {id(node) for node in docstrings(tree) if doctest_has(str(node.value), name)}


class StringsRenamedBack(ast.NodeTransformer):
    """Replaces the new name by the old one in all strings; for the comparison of a result with the old program."""

    def __init__(self, new: str, old: str) -> None:
        self._new, self._old = re.compile(rf"\b{new}\b"), old

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if isinstance(node.value, str):
            node.value = self._new.sub(self._old, node.value)
        return node


def _strings_with_code(tree: ast.AST, name: str, new: str) -> Iterator[ast.Constant]:
    """Yield the strings that name the definition where a type or its name is meant; the definition is called `new`."""
    for node in ast.walk(tree):
        places: list[ast.expr | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            places = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            places = [node.returns]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("cast", "assert_type") and node.args:
            places = [node.args[0]]
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("TypeVar", "NewType", "ForwardRef"):
            places = [*node.args[0 if _last_name(node.func) == "ForwardRef" else 1 :], *_keywords(node, "bound")]
        elif isinstance(node, ast.Subscript) and _is_generic(node.value):
            places = [node.slice]
        for place in places:
            yield from _code_below(place, name)
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == new for one in node.targets):
            yield from _made_name(node.value, name)


def _code_below(place: ast.expr | None, name: str) -> Iterator[ast.Constant]:
    for node in ast.walk(place) if place is not None else ():
        # `Literal["a"]` and the second part of `Annotated` are values; nobody calls a type like one by chance.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and name in names_in_string(node.value):
            yield node


def _made_name(value: ast.expr, name: str) -> Iterator[ast.Constant]:
    if isinstance(value, ast.Call) and _last_name(value.func) in _MAKERS:
        for one in [*value.args[:1], *_keywords(value, "name", "typename")]:
            if isinstance(one, ast.Constant) and one.value == name:
                yield one


def _keywords(node: ast.Call, *names: str) -> list[ast.expr]:
    return [one.value for one in node.keywords if one.arg in names]


def _is_generic(node: ast.expr) -> bool:
    """Return whether a subscript of the expression is a type: `list["Node"]`, `Optional["Node"]`."""
    name = _last_name(node)
    return name[:1].isupper() or name in ("list", "dict", "set", "frozenset", "tuple", "type")


def still_named_in_code(tree: ast.Module, name: str, modules: Collection[str], *, binds: bool) -> int | None:
    """Return the line of a string of another file that names the definition in a type or in code, or None.

    Args:
        tree: the file after the rename.
        name: the old name.
        modules: names by which the file imports modules of the workspace.
        binds: the file itself binds the name, so that types in strings mean something else by it.
    """
    types = set() if binds else {id(node) for node in _strings_with_code(tree, name, name)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or name not in node.value:
            continue
        if id(node) in types or ((code := parse(node.value)) is not None and _is_taken(code, name, modules)):
            return node.lineno
    return None


def _is_taken(code: ast.Module, name: str, modules: Collection[str]) -> bool:
    """Return whether code imports a name, or takes it from one of the modules."""
    for node in ast.walk(code):
        if isinstance(node, ast.ImportFrom) and any(one.name == name for one in node.names):
            return True
        if isinstance(node, ast.Attribute) and node.attr == name:
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in modules:
                return True
    return False


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the strings in which doctests are looked for."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *DEFINITIONS)) and (found := docstring_node(node)) is not None:
            assert isinstance(found.value, ast.Constant)
            yield found.value
        elif isinstance(node, ast.Assign) and any(_last_name(one) == "__test__" for one in node.targets):
            yield from (
                one for one in ast.walk(node.value) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )


def _doctest_renamed(text: str, lines: Lines, node: ast.Constant, name: str, new: str) -> str:
    """Return the source of a docstring with the name replaced in its examples. Raises RefactorError."""
    source = _source(text, lines, node)
    quotes = 3 if source[-3:] in ('"""', "'''") else 1
    start = re.match(r"[rRuU]*", source).end() + quotes  # type: ignore[union-attr]
    if source[start:-quotes] != node.value:
        raise _refusal(name, node.lineno, "a doctest with escaped characters uses it")
    rows = source[start:-quotes].split("\n")
    try:
        examples = doctest.DocTestParser().get_examples(node.value)
    except ValueError:
        raise _refusal(name, node.lineno, "a doctest that uses it can't be read") from None
    for example in examples:
        if re.search(rf"\b{name}\b", example.want):
            raise _refusal(name, node.lineno + example.lineno, "a doctest expects it in what is printed")
        count = example.source.count("\n")
        shown = rows[example.lineno : example.lineno + count]
        words = sum(len(re.findall(rf"\b{name}\b", one)) for one in shown)
        if words != _variables_in(example.source, name):
            raise _refusal(name, node.lineno + example.lineno, "a doctest uses it in a string or as an attribute")
        rows[example.lineno : example.lineno + count] = [re.sub(rf"\b{name}\b", new, one) for one in shown]
    return source[:start] + "\n".join(rows) + source[-quotes:]


def _variables_in(source: str, name: str) -> int:
    """Return how often the name is a word of a program that is neither an attribute nor the keyword of a call."""
    count, before = 0, ""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return -1
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == tokenize.NAME and token.string == name and before != ".":
            is_keyword = following is not None and following.string == "=" and before in ("(", ",")
            count += not is_keyword
        before = token.string
    return count


def _other_variable(tree: ast.Module, name: str) -> int | None:
    """Return the line on which something else of this name is bound in a renamed program, or None."""
    for node in ast.walk(tree):
        bound = (
            (isinstance(node, ast.Name) and node.id == name)
            or (isinstance(node, ast.arg) and node.arg == name)
            or (isinstance(node, DEFINITIONS) and node.name == name)
            or (isinstance(node, ast.alias) and (node.asname or node.name) == name)
        )
        if bound:
            return getattr(node, "lineno", 1)
    return None


def _source(text: str, lines: Lines, node: ast.Constant) -> str:
    start, end, _ = _edit(text, lines, node, "")
    return text[start:end]


def _edit(text: str, lines: Lines, node: ast.Constant, new: str) -> tuple[int, int, str]:
    start = lines.offset(node.lineno, node.col_offset)
    end = lines.offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
    return start, end, new


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _refusal(name: str, line: int, why: str) -> RefactorError:
    message = f"{name} can't be renamed safely: on line {line}, {why}."
    return RefactorError(
        "named_in_string", message, "Rename it with your language server for Python, and look it over."
    )
