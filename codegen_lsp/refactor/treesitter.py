"""Refactorings of C, C++, Go, Java and JavaScript by syntax alone: a documentation comment, and a function's body.

The tree is tree-sitter's, which also parses files that are being written. Refactorings that need to know the meaning of
names (renaming, extracting, inlining) are left to the language server of the language.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor import registry
from codegen_lsp.refactor.backend import MenuEntry
from codegen_lsp.refactor.checks import AllowedChanges, CheckFailure, line_that_would_change
from codegen_lsp.refactor.edits import SelectedSource, margin_of
from codegen_lsp.refactor.generated_code import CODE_CANDIDATES, CODE_LINES, CODE_TOKENS, label_of
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.refactor.registry import RefactoringKind
from codegen_lsp.refactor.results import RefactoringDraft, RefactoringOffer
from codegen_lsp.refactor.sentences import as_sentence
from codegen_lsp.refactor.verification import VerificationPolicy, VerificationResult
from codegen_lsp.source.languages import language_of
from codegen_lsp.source.lines import start_of_line
from codegen_lsp.source.parse_tree import ParseTree, errors, node_at, parsed, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

_FUNCTIONS = frozenset(
    {
        *("function_definition", "function_declaration", "method_declaration", "constructor_declaration"),
        *("method_definition", "generator_function_declaration"),
    }
)
_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_STOP = StopRules(max_tokens=40, max_lines=1, strings=["*/", "\n"])


@frozen
class EnclosingFunction:
    """The innermost function around the selection."""

    language: str
    """LSP language identifier."""
    tree: ParseTree
    node: Node
    body: Node

    @property
    def name(self) -> str:
        """The name of the function, or `function` where the tree does not tell."""
        node = self.node.child_by_field_name("name") or self.node.child_by_field_name("declarator")
        while node is not None and (inner := node.child_by_field_name("declarator")) is not None:
            node = inner
        found = re.search(r"[^\W\d]\w*", text_of(self.tree, node)) if node is not None else None
        return found.group() if found else "function"

    @property
    def declaration(self) -> Node:
        """The function with an `export` or a `template` before it."""
        node = self.node
        while node.parent is not None and node.parent.type in ("export_statement", "template_declaration"):
            node = node.parent
        return node

    @property
    def start(self) -> int:
        """Offset of the declaration."""
        return self.tree.offset(self.declaration.start_byte)

    @property
    def margin(self) -> str:
        """The white space before the declaration."""
        return margin_of(self.tree.text, self.start)

    @property
    def comment_form(self) -> tuple[str, str, str]:
        """The parts of a documentation comment in the style of the file: opening, beginning of the line, closing."""
        margin, text = self.margin, self.tree.text
        if self.language == "go":
            return "", f"{margin}// {self.name} ", "\n"
        if self.language in ("c", "cpp") and re.search(r"^\s*///", text, re.MULTILINE) and "/**" not in text:
            return "", f"{margin}/// ", "\n"
        return f"{margin}/**\n", f"{margin} * ", f"\n{margin} */\n"


Make = Callable[[EnclosingFunction, ModelAssistant, ProgressReport], Awaitable[list[RefactoringDraft]]]
"""Returns possible results. Raises RefactorError, WorkerError and ModelError."""


@frozen
class TreeSitterRefactoring:
    """Where a refactoring applies, and what makes it."""

    kind: RefactoringKind
    applies: Callable[[EnclosingFunction, SelectedSource], str | None]
    """Returns the title of the action at a selection, or None where the refactoring does not apply."""
    make: Make


def enclosing_function(source: SelectedSource) -> EnclosingFunction | None:
    """Return the innermost function around the selection, or None."""
    tree = parsed(source.text, language_of(source.language))
    node = node_at(tree, source.start, source.end) if tree else None
    while tree is not None and node is not None:
        body = node.child_by_field_name("body")
        if node.type in _FUNCTIONS and body is not None:
            return EnclosingFunction(source.language, tree, node, body)
        node = node.parent
    return None


def docstring_title(function: EnclosingFunction, source: SelectedSource) -> str | None:
    """Return the title of the action at the head of a function without a comment above it, or None."""
    if source.end > function.tree.offset(function.body.start_byte):
        return None
    declaration = function.declaration
    above = declaration.prev_sibling
    if above is not None and above.type in _COMMENTS and above.end_point.row + 1 >= declaration.start_point.row:
        return None
    return f"Write a comment for '{function.name}'"


def body_title(function: EnclosingFunction, source: SelectedSource) -> str | None:
    """Return the title of the action in a function with nothing but comments between its braces, or None."""
    if any(child.type not in _COMMENTS for child in function.body.named_children):
        return None
    return f"Write the body of '{function.name}'"


async def docstring(
    function: EnclosingFunction, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    """Return documentation comments above the function. Raises RefactorError, WorkerError and ModelError."""
    text = function.tree.text
    start = start_of_line(text, function.start)
    opening, line, closing = function.comment_form
    report("Writing the comment", 0.2)
    after = f"{closing}{text[start:]}"
    shown = text[:start]
    if not assistant.infill:
        # Without infilling the prompt ends at the comment, so the whole function is put before it.
        shown = f"{text[: function.tree.offset(function.declaration.end_byte)]}\n\n"
    candidates = await assistant.continuations((shown + opening + line).rstrip(" "), after, stop=_STOP, candidates=4)
    sentences = [found for one in candidates if (found := as_sentence(one.text, words=3))]
    if not sentences:
        raise RefactorError("no_sentence", "The model wrote nothing that reads like a comment.")
    drafts = []
    for sentence in dict.fromkeys(sentences):
        # In Go a comment begins with the name of the function.
        shown = sentence[0].lower() + sentence[1:] if function.language == "go" else sentence
        new = f"{text[:start]}{opening}{line}{shown}{closing}{text[start:]}"
        drafts.append(RefactoringDraft(new, sentence, AllowedChanges()))
    return drafts


async def body(
    function: EnclosingFunction, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    """Return bodies for the function. Raises RefactorError, WorkerError and ModelError."""
    text, tree = function.tree.text, function.tree
    start, end = tree.offset(function.body.start_byte) + 1, tree.offset(function.body.end_byte) - 1
    inside = text[start:end].strip()
    inner = function.margin + language_of(function.language).indent
    before = f"{text[:start]}\n" + (f"{inner}{inside}\n" if inside else "")
    rest = f"\n{function.margin}{text[end:]}"
    stop = StopRules(max_tokens=CODE_TOKENS, max_lines=CODE_LINES, min_indent=len(inner.expandtabs(8)))
    report("Writing", 0.2)
    candidates = await assistant.continuations(before + inner, rest, stop=stop, candidates=CODE_CANDIDATES)
    allowed = AllowedChanges(lines=frozenset(range(function.body.start_point.row + 1, function.body.end_point.row + 2)))
    drafts = []
    for one in candidates:
        lines = one.text.rstrip().split("\n")
        code = "\n".join(lines[:-1] if one.finish == "length" and len(lines) > 1 else lines).strip()
        if code and not code.startswith(("//", "/*")):
            drafts.append(RefactoringDraft(f"{before}{inner}{code}{rest}", label_of(code), allowed))
    if not drafts:
        raise RefactorError("no_answer", f"The model wrote no body for {function.name} that could be used.")
    return drafts


REFACTORINGS: tuple[TreeSitterRefactoring, ...] = (
    TreeSitterRefactoring(registry.DOCSTRING, docstring_title, docstring),
    TreeSitterRefactoring(registry.COMPLETE_BODY, body_title, body),
)
"""In the order of the menu."""


class TreeSitterBackend:
    """The refactorings of languages with braces."""

    def menu(self, source: SelectedSource) -> list[MenuEntry]:
        """Implement `Backend.menu`."""
        function = enclosing_function(source)
        if function is None:
            return []
        return [
            MenuEntry(one.kind, title, one.kind.action)
            for one in REFACTORINGS
            if (title := one.applies(function, source))
        ]

    def prepare(self, kind: RefactoringKind, source: SelectedSource) -> PreparedTreeSitterRefactoring:
        """Implement `Backend.prepare`."""
        function = enclosing_function(source)
        refactoring = next((one for one in REFACTORINGS if one.kind is kind), None)
        if function is None or refactoring is None or refactoring.applies(function, source) is None:
            raise RefactorError("not_here", f"{kind.name} does not apply to what is selected.")
        return PreparedTreeSitterRefactoring(function, refactoring.make)


@frozen
class PreparedTreeSitterRefactoring:
    """A refactoring that applies at a selection of a document in a language with braces."""

    function: EnclosingFunction
    maker: Make

    @property
    def text(self) -> str:
        """See `PreparedRefactoring.text`."""
        return self.function.tree.text

    async def make(self, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
        """Implement `PreparedRefactoring.make`."""
        return await self.maker(self.function, assistant, report)

    def check(self, draft: RefactoringDraft) -> CheckFailure | None:
        """Implement `PreparedRefactoring.check`: no more syntax errors, no head, comment or other line changed."""
        old, new = self.function.tree, parsed(draft.text, language_of(self.function.language))
        if new is None or errors(new) > errors(old):
            return CheckFailure("parses", "The result does not parse.")
        if Counter(_heads(old)) != Counter(_heads(new)):
            return CheckFailure("keeps_signatures", "A function's head would change.")
        if lost := Counter(_comments(old)) - Counter(_comments(new)):
            return CheckFailure("keeps_comments", f"A comment would be lost: {min(lost)}")
        if line := line_that_would_change(self.text, draft.text, draft.allowed):
            return CheckFailure("keeps_other_lines", f"Line {line} would change, too.")
        return None

    async def verify(
        self, offers: Sequence[RefactoringOffer], policy: VerificationPolicy, report: ProgressReport
    ) -> list[VerificationResult] | None:
        """Implement `PreparedRefactoring.verify`: there are no tests to run in these languages."""
        return None


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _heads(tree: ParseTree) -> Iterator[str]:
    """Yield the text of each function up to its body, in normal white space."""
    for node in _walk(tree.tree.root_node):
        body = node.child_by_field_name("body")
        if node.type in _FUNCTIONS and body is not None:
            yield " ".join(tree.raw[node.start_byte : body.start_byte].decode("utf-8", "replace").split())


def _comments(tree: ParseTree) -> Iterator[str]:
    for node in _walk(tree.tree.root_node):
        if node.type in _COMMENTS:
            yield text_of(tree, node).strip()
