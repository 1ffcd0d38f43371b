"""The syntax around a selection of a Python document, which the menu is made from.

The menu has to answer while the user moves the cursor, and parsing a file of several thousand lines takes too long for
that. So only the outermost statement around the selection is parsed, whose extent the indentation of the lines tells;
the whole file is parsed only where that statement alone can't be understood.
"""

from __future__ import annotations

import ast
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from functools import cached_property

from attrs import evolve, frozen

from codegen_lsp.refactor.edits import Lines, SelectedSource
from codegen_lsp.refactor.python.analysis.facts import ProgramFacts
from codegen_lsp.refactor.python.ast_nodes import DEFINITIONS, Definition, Function, nodes_near, parse, suites_of
from codegen_lsp.source.lines import start_of_line

_OUTERMOST = re.compile(r"^(?![ \t\f)\]}#]|$|(?:else|elif|except|finally)\b)", re.MULTILINE)
_KEYWORDS = frozenset(keyword.kwlist)


@frozen(slots=False)
class SelectionView:
    """A selection and the syntax tree of the text around it."""

    source: SelectedSource
    tree: ast.Module
    lines: Lines
    """The lines of the parsed text, as `tree` counts them."""
    first: int
    """Offset in the document at which the parsed text begins."""
    facts: ProgramFacts
    """The scopes and the control flow of `tree`, computed on demand."""

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the offsets of a node in the document."""
        start = self.lines.offset(node.lineno, node.col_offset)  # type: ignore[attr-defined]
        end = self.lines.offset(node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]
        return self.first + start, self.first + end

    def line_span(self, node: ast.AST) -> tuple[int, int]:
        """Return the offsets of a node's whole lines, decorators included."""
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])  # type: ignore[attr-defined]
        start, end = self.lines.whole(first, node.end_lineno)  # type: ignore[attr-defined]
        return self.first + start, self.first + end

    def text_of(self, node: ast.AST) -> str:
        """Return the source of a node."""
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
        """The expression that is selected exactly, but for white space and parentheses around it."""
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
        """The statements of one suite that are selected as a whole, with or without comments and blank lines."""
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
        """The identifier at the cursor or selected, and its offset; None for a keyword."""
        found = self.source.identifier
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
            # The margin before the head belongs to it, and so does the rest of the last line.
            first, last = self.line_span(node)
            return first <= start < last or (start == last == len(self.source.text))
        return first <= start and end <= last


class SyntaxTreeCache:
    """The syntax trees of the last text, so that nothing is parsed twice while the cursor moves in it."""

    def __init__(self) -> None:
        self._text = ""
        self._parsed: dict[tuple[int, int], tuple[ast.Module, Lines, ProgramFacts] | None] = {}

    def view(self, source: SelectedSource) -> SelectionView | None:
        """Return the view of the selection, or None where nothing around it can be parsed."""
        if source.text != self._text:
            self._text = source.text
            self._parsed.clear()
        for block in (block_around(source), (0, len(source.text))):
            if block not in self._parsed:
                text = source.text[block[0] : block[1]]
                tree = parse(text)
                self._parsed[block] = None if tree is None else (tree, Lines.of(text), ProgramFacts(tree, source.text))
            if (found := self._parsed[block]) is not None:
                tree, lines, facts = found
                return SelectionView(source, tree, lines, block[0], facts)
        return None


def whole_view(source: SelectedSource) -> SelectionView | None:
    """Return the view of the selection with the whole document parsed, or None if it does not parse."""
    tree = parse(source.text)
    return None if tree is None else SelectionView(source, tree, Lines.of(source.text), 0, ProgramFacts(tree))


def evolved(view: SelectionView, start: int, end: int) -> SelectionView:
    """Return the view with another selection."""
    return SelectionView(evolve(view.source, start=start, end=end), view.tree, view.lines, view.first, view.facts)


def block_around(source: SelectedSource) -> tuple[int, int]:
    """Return the offsets of the outermost statements around the selection, judging by indentation."""
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
    return start_of_line(text, offset)


def end_of_head(view: SelectionView, node: Definition) -> int:
    """Return the offset of the colon before a definition's body."""
    start = view.span(node)[0]
    head = view.source.text[start : view.span(node.body[0])[1]]
    lines, depth = Lines.of(head), 0
    for token in tokenize.generate_tokens(io.StringIO(head).readline):
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if token.type == tokenize.OP and token.string == ":" and depth == 0:
            return start + lines.starts[token.start[0] - 1] + token.start[1]
    raise AssertionError("a definition has a colon")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno") or isinstance(
            child, ast.arguments | ast.comprehension | ast.withitem | ast.match_case
        ):
            yield child


def _only_comments(text: str) -> bool:
    return all(not line.strip() or line.strip().startswith("#") for line in text.split("\n"))


def is_variable(view: SelectionView, offset: int) -> bool:
    """Return whether the word at the offset is a variable, parameter or definition.

    Attributes, keywords of calls and imported names are not.
    """
    for node in nodes_near(view.tree, view.lines.line(offset - view.first)):
        if isinstance(node, ast.Name | ast.arg) and view.span(node)[0] == offset:
            return True
        if isinstance(node, DEFINITIONS) and view.source.text.startswith(node.name, offset):
            start = view.span(node)[0]
            if re.fullmatch(r"(?:async\s+)?(?:def|class)\s+", view.source.text[start:offset]):
                return True
    return False
