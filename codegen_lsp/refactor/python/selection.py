"""What stands at the selection, by syntax alone: what the menu is made from.

The menu has to answer while someone moves the cursor, and parsing a file of some thousand lines takes too long for
that. So only the outermost statement around the selection is parsed, which the margins of the lines tell, and the whole
file only where that statement alone can't be understood.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
import warnings
from collections.abc import Iterator
from functools import cached_property

from attrs import evolve, frozen

from codegen_lsp.refactor.edits import Lines, SelectedSource

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SCOPES = (*DEFINITIONS, ast.Lambda)

_OUTERMOST = re.compile(r"^(?![ \t\f)\]}#]|$|(?:else|elif|except|finally)\b)", re.MULTILINE)


@frozen(slots=False)
class SelectionView:
    """The parsed surroundings of a selection."""

    source: SelectedSource
    tree: ast.Module
    lines: Lines
    """Of `text[first:]`'s own lines, which `tree` counts."""
    first: int
    """Offset at which the parsed text begins."""

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Offsets of a node in the document."""
        start = self.lines.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        end = self.lines.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        return self.first + start, self.first + end

    def line_span(self, node: ast.AST) -> tuple[int, int]:
        """Offsets of the node's whole lines, decorators included."""
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])  # type: ignore[attr-defined]
        start, end = self.lines.whole(first, node.end_lineno)  # type: ignore[attr-defined]
        return self.first + start, self.first + end

    def text_of(self, node: ast.AST) -> str:
        """The node's source."""
        start, end = self.span(node)
        return self.source.text[start:end]

    @cached_property
    def trimmed(self) -> tuple[int, int]:
        """The selection without white space around it."""
        text = self.source.selected
        start = self.source.start + len(text) - len(text.lstrip())
        return start, max(start, self.source.start + len(text.rstrip()))

    @cached_property
    def around(self) -> list[ast.AST]:
        """The nodes that contain the selection, outermost first."""
        start, end = self.trimmed
        found: list[ast.AST] = [self.tree]
        while True:
            inner = next((node for node in _children(found[-1]) if self._contains(node, start, end)), None)
            if inner is None:
                return found
            found.append(inner)

    @cached_property
    def definitions(self) -> list[Definition]:
        """The functions and classes around the selection, outermost first."""
        return [node for node in self.around if isinstance(node, DEFINITIONS)]

    @property
    def function(self) -> Function | None:
        """The innermost definition around the selection, if it is a function."""
        inner = self.definitions[-1] if self.definitions else None
        return None if isinstance(inner, ast.ClassDef) else inner

    @cached_property
    def statement(self) -> ast.stmt | None:
        """The innermost statement around the selection."""
        return next((node for node in reversed(self.around) if isinstance(node, ast.stmt)), None)

    @cached_property
    def header(self) -> Definition | None:
        """The definition on whose head (decorators, signature) the selection is."""
        if not self.definitions:
            return None
        inner = self.definitions[-1]
        start, _ = self.line_span(inner)
        body = self.first + self.lines.starts[inner.body[0].lineno - 1]
        if inner.body[0].lineno == inner.lineno:
            body = self.span(inner.body[0])[0]
        return inner if start <= self.source.start and self.source.end < body else None

    @cached_property
    def expression(self) -> ast.expr | None:
        """The expression that is selected, no more and no less but white space and parentheses around it."""
        start, end = self.trimmed
        text = self.source.text
        while start < end:
            for node in reversed(self.around):
                if isinstance(node, ast.expr) and self.span(node) == (start, end):
                    return node
            if not (text[start] == "(" and text[end - 1] == ")"):
                return None
            inner = text[start + 1 : end - 1]
            start, end = (
                start + 1 + len(inner) - len(inner.lstrip()),
                end - 1 - (len(inner) - len(inner.rstrip())),
            )
            around = evolved(self, start, end).around
            for node in reversed(around):
                if isinstance(node, ast.expr) and self.span(node) == (start, end):
                    return node
        return None

    @cached_property
    def statements(self) -> list[ast.stmt]:
        """The whole statements of one suite that are selected; comments and blank lines among them may be, too."""
        start, end = self.trimmed
        if start == end:
            return []
        for node in reversed(self.around):
            for suite in suites_of(node):
                inside = [one for one in suite if start < self.span(one)[1] and self.line_span(one)[0] < end]
                if inside and self._covers(inside, start, end):
                    return inside
        return []

    @property
    def name(self) -> tuple[str, int] | None:
        """The identifier at the cursor or selected, and its offset."""
        found = identifier_at(self.source)
        return None if found is None or found[0] in _KEYWORDS else found

    def _covers(self, statements: list[ast.stmt], start: int, end: int) -> bool:
        first, last = self.span(statements[0])[0], self.span(statements[-1])[1]
        if getattr(statements[0], "decorator_list", None):
            first = self.line_span(statements[0])[0]
        between = self.source.text[start:first] if start < first else ""
        after = self.source.text[last:end]
        return start <= first and last <= end and _only_comments(between) and _only_comments(after)

    def _contains(self, node: ast.AST, start: int, end: int) -> bool:
        if not hasattr(node, "lineno"):
            return any(self._contains(child, start, end) for child in ast.iter_child_nodes(node))
        first, last = self.span(node)
        if getattr(node, "decorator_list", None):
            first = self.line_span(node)[0]
        if isinstance(node, DEFINITIONS) and start == end:
            # The head's margin belongs to it, and so does the rest of the last line.
            first, last = self.line_span(node)
            return first <= start < last or (start == last == len(self.source.text))
        return first <= start and end <= last


class SyntaxTreeCache:
    """What was parsed of one text, so that moving a cursor in it parses nothing twice."""

    def __init__(self) -> None:
        self._parsed: dict[tuple[int, int], tuple[ast.Module, Lines] | None] = {}

    def view(self, source: SelectedSource) -> SelectionView | None:
        """The surroundings of the selection, or None where nothing there can be parsed."""
        for block in (block_around(source), (0, len(source.text))):
            if block not in self._parsed:
                text = source.text[block[0] : block[1]]
                tree = parse(text)
                self._parsed[block] = None if tree is None else (tree, Lines.of(text))
            if (found := self._parsed[block]) is not None:
                return SelectionView(source, *found, block[0])
        return None


def whole_view(source: SelectedSource) -> SelectionView | None:
    """The same with the whole file parsed."""
    tree = parse(source.text)
    return None if tree is None else SelectionView(source, tree, Lines.of(source.text), 0)


def evolved(view: SelectionView, start: int, end: int) -> SelectionView:
    """The view with another selection."""
    return SelectionView(evolve(view.source, start=start, end=end), view.tree, view.lines, view.first)


def parse(text: str) -> ast.Module | None:
    """The syntax tree, or None when there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def block_around(source: SelectedSource) -> tuple[int, int]:
    """Offsets of the outermost statements that the selection is in, as far as margins tell."""
    text = source.text
    first = _line_start(text, source.start)
    while first > 0 and not _OUTERMOST.match(text, first):
        first = _line_start(text, first - 1)
    while first > 0 and text.startswith("@", above := _line_start(text, first - 1)):
        first = above
    line_end = text.find("\n", source.end)
    after = None if line_end < 0 else _OUTERMOST.search(text, line_end + 1)
    while after is not None and text.startswith("@", _line_start(text, max(0, after.start() - 1))):
        after = _OUTERMOST.search(text, after.end() + 1)
    return first, after.start() if after else len(text)


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


_KEYWORDS = frozenset(keyword.kwlist)
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def identifier_at(source: SelectedSource) -> tuple[str, int] | None:
    """The word that the cursor touches or that is selected, and its offset."""
    text = source.text
    start = source.start
    while start > 0 and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    found = _IDENTIFIER.match(text, start)
    if found is None or found.end() < source.end:
        return None
    if source.start < source.end and (found.start() < source.start or found.end() > source.end):
        return None
    return found.group(), found.start()


def end_of_head(view: SelectionView, node: Definition) -> int:
    """Offset of the colon before a definition's body."""
    start = view.span(node)[0]
    head = view.source.text[start : view.span(node.body[0])[1]]
    lines, depth = Lines.of(head), 0
    for token in tokenize.generate_tokens(io.StringIO(head).readline):
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if token.type == tokenize.OP and token.string == ":" and depth == 0:
            return start + lines.starts[token.start[0] - 1] + token.start[1]
    raise AssertionError("a definition has a colon")


def suites_of(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements directly below a node."""
    for field in ("body", "orelse", "finalbody"):
        suite = getattr(node, field, None)
        if isinstance(suite, list) and suite and isinstance(suite[0], ast.stmt):
            yield suite
    for field in ("handlers", "cases"):
        for inner in getattr(node, field, None) or []:
            yield inner.body


def walk_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without what is inside other functions, classes and lambdas."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, SCOPES):
            yield from walk_scope(child)


def docstring_node(node: ast.AST) -> ast.Expr | None:
    """The statement that is a definition's or module's docstring."""
    body = getattr(node, "body", None)
    if not body or not isinstance(body, list) or not isinstance(body[0], ast.Expr):
        return None
    value = body[0].value
    return body[0] if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def is_stub(function: Definition) -> bool:
    """Whether a function has no body yet: nothing but a docstring, `...`, `pass` or `raise NotImplementedError`."""
    if isinstance(function, ast.ClassDef):
        return False
    rest = [statement for statement in function.body if statement is not docstring_node(function)]
    return all(_is_filler(statement) for statement in rest)


def _is_filler(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant) and statement.value.value is ...
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return False


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno") or isinstance(
            child, ast.arguments | ast.comprehension | ast.withitem | ast.match_case
        ):
            yield child


def _only_comments(text: str) -> bool:
    return all(not line.strip() or line.strip().startswith("#") for line in text.split("\n"))


_HEAD = re.compile(r"^([ \t]*)(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)
_HEAD_LINES = 30


def with_body(source: SelectedSource) -> SelectedSource | None:
    """The source with `pass` under the function's head at the cursor, when that is what it lacks."""
    heads = list(_HEAD.finditer(source.text, 0, _line_end(source.text, source.start)))
    if not heads:
        return None
    head = heads[-1]
    end = head.start()
    for _ in range(_HEAD_LINES):
        end = _line_end(source.text, end)
        if source.text[head.start() : end].rstrip().endswith(":"):
            break
        end += 1
    else:
        return None
    if source.start > len(source.text[:end]) + len(source.text[end:]) - len(source.text[end:].lstrip()):
        return None
    body = f"\n{head.group(1)}    pass"
    rest = max(end, _line_end(source.text, source.start))
    text = source.text[:end] + body + source.text[rest:]
    at = min(source.start, end)
    return evolve(source, text=text, start=at, end=at)


def _line_end(text: str, offset: int) -> int:
    end = text.find("\n", offset)
    return len(text) if end < 0 else end
