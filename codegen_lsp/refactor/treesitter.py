"""C, C++, Go, Java and JavaScript: what is possible by syntax alone, a documentation comment and a body.

The tree is tree-sitter's, which also understands files that are being written. What needs to know what a name means
(renaming, extracting, inlining) is left to the editor's own language server.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.inference.rpc.messages import StopRules
from codegen_lsp.progress import ProgressReport
from codegen_lsp.refactor import sentences as prose
from codegen_lsp.refactor.checks import AllowedChanges, CheckFailure, ProgramText, keeps_other_lines
from codegen_lsp.refactor.draft import RefactoringDraft
from codegen_lsp.refactor.edits import SelectedSource
from codegen_lsp.refactor.model_assistant import ModelAssistant
from codegen_lsp.refactor.python.bodies import BODY_LINES, BODY_TOKENS, CANDIDATES, first_line, margin_of
from codegen_lsp.refactor.refusal import RefactorError
from codegen_lsp.source.languages import language_of
from codegen_lsp.source.parse_tree import Source as Parsed
from codegen_lsp.source.parse_tree import errors, node_at, parsed, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

LANGUAGES = frozenset({"c", "cpp", "go", "java", "javascript", "javascriptreact"})
_FUNCTIONS = frozenset(
    {
        *("function_definition", "function_declaration", "method_declaration", "constructor_declaration"),
        *("method_definition", "generator_function_declaration"),
    }
)
_COMMENTS = frozenset({"comment", "line_comment", "block_comment"})
_SENTENCE = StopRules(max_tokens=40, max_lines=1, strings=["*/", "\n"])


@frozen
class EnclosingFunction:
    """The function around the selection."""

    tree: Parsed
    node: Node
    body: Node

    @property
    def name(self) -> str:
        """The function's own name, as far as the tree tells."""
        node = self.node.child_by_field_name("name") or self.node.child_by_field_name("declarator")
        while node is not None and (inner := node.child_by_field_name("declarator")) is not None:
            node = inner
        found = re.search(r"[^\W\d]\w*", text_of(self.tree, node)) if node is not None else None
        return found.group() if found else "function"

    @property
    def start(self) -> int:
        """Offset of the function, an `export` and a `template` before it included."""
        return self.tree.offset(_outer(self.node).start_byte)

    @property
    def margin(self) -> str:
        """The white space before the function."""
        return margin_of(self.tree.text, self.start)


def place_of(source: SelectedSource) -> EnclosingFunction | None:
    """The function around the selection, or None."""
    tree = parsed(source.text, language_of(source.language)) if source.language in LANGUAGES else None
    node = node_at(tree, source.start, source.end) if tree else None
    while tree is not None and node is not None:
        body = node.child_by_field_name("body")
        if node.type in _FUNCTIONS and body is not None:
            return EnclosingFunction(tree, node, body)
        node = node.parent
    return None


def docstring_title(source: SelectedSource) -> str | None:
    """The title of the action that documents a function, at its head, where it has no comment."""
    place = place_of(source)
    if place is None or source.end > place.tree.offset(place.body.start_byte):
        return None
    above = _outer(place.node).prev_sibling
    if above is not None and above.type in _COMMENTS and above.end_point.row + 1 >= _outer(place.node).start_point.row:
        return None
    return f"Write a comment for '{place.name}'"


def body_title(source: SelectedSource) -> str | None:
    """The title of the action that writes a body, where there is nothing between the braces but comments."""
    place = place_of(source)
    if place is None or any(child.type not in _COMMENTS for child in place.body.named_children):
        return None
    return f"Write the body of '{place.name}'"


async def docstring(
    source: SelectedSource, assistant: ModelAssistant, report: ProgressReport
) -> list[RefactoringDraft]:
    """A documentation comment above the function. Raises RefactorError, WorkerError and ModelError."""
    place = place_of(source)
    assert place is not None
    text = place.tree.text
    start = text.rfind("\n", 0, place.start) + 1
    opening, line, closing = _form(source, place)
    report("Writing the comment", 0.2)
    after = f"{closing}{text[start:]}"
    shown = text[:start] if assistant.infill else f"{text[: place.tree.offset(_outer(place.node).end_byte)]}\n\n"
    candidates = await assistant.continuations(
        (shown + opening + line).rstrip(" "), after, stop=_SENTENCE, candidates=4
    )
    sentences = [found for one in candidates if (found := prose.sentence(one.text, words=3))]
    if not sentences:
        raise RefactorError("no_sentence", "The model wrote nothing that reads like a comment.")
    drafts = []
    for sentence in dict.fromkeys(sentences):
        # Go's comments begin with the name of what they document.
        said = sentence[0].lower() + sentence[1:] if source.language == "go" else sentence
        drafts.append(
            RefactoringDraft(f"{text[:start]}{opening}{line}{said}{closing}{text[start:]}", sentence, AllowedChanges())
        )
    return drafts


async def body(source: SelectedSource, assistant: ModelAssistant, report: ProgressReport) -> list[RefactoringDraft]:
    """Bodies for the function. Raises RefactorError, WorkerError and ModelError."""
    place = place_of(source)
    assert place is not None
    text, tree = place.tree.text, place.tree
    start, end = tree.offset(place.body.start_byte) + 1, tree.offset(place.body.end_byte) - 1
    inside = text[start:end].strip()
    inner = place.margin + language_of(source.language).indent
    before = f"{text[:start]}\n" + (f"{inner}{inside}\n" if inside else "")
    rest = f"\n{place.margin}{text[end:]}"
    stop = StopRules(max_tokens=BODY_TOKENS, max_lines=BODY_LINES, min_indent=len(inner.expandtabs(8)))
    report("Writing", 0.2)
    candidates = await assistant.continuations(before + inner, rest, stop=stop, candidates=CANDIDATES)
    allowed = AllowedChanges(lines=frozenset(range(place.body.start_point.row + 1, place.body.end_point.row + 2)))
    drafts = []
    for one in candidates:
        lines = one.text.rstrip().split("\n")
        code = "\n".join(lines[:-1] if one.finish == "length" and len(lines) > 1 else lines).strip()
        if code and not code.startswith(("//", "/*")):
            drafts.append(RefactoringDraft(f"{before}{inner}{code}{rest}", first_line(code), allowed))
    if not drafts:
        raise RefactorError("no_answer", f"The model wrote no body for {place.name} that could be used.")
    return drafts


def first_failure(source: SelectedSource, after: str, allowed: AllowedChanges) -> CheckFailure | None:
    """The first check that speaks against a result, or None: it parses no worse, keeps every function's head and every
    comment, and leaves all other lines as they are."""
    language = language_of(source.language)
    old, new = parsed(source.text, language), parsed(after, language)
    if old is None or new is None or errors(new) > errors(old):
        return CheckFailure("parses", "The result does not parse.")
    if Counter(_heads(old)) != Counter(_heads(new)):
        return CheckFailure("keeps_signatures", "A function's head would change.")
    if lost := Counter(_comments(old)) - Counter(_comments(new)):
        return CheckFailure("keeps_comments", f"A comment would be lost: {min(lost)}")
    if reason := keeps_other_lines(ProgramText(source.text), ProgramText(after), allowed):
        return CheckFailure("keeps_other_lines", reason)
    return None


def _form(source: SelectedSource, place: EnclosingFunction) -> tuple[str, str, str]:
    """How a documentation comment looks in the file: what opens it, what its line begins with, what closes it."""
    margin, text = place.margin, place.tree.text
    if source.language == "go":
        return "", f"{margin}// {place.name} ", "\n"
    if source.language in ("c", "cpp") and re.search(r"^\s*///", text, re.MULTILINE) and "/**" not in text:
        return "", f"{margin}/// ", "\n"
    return f"{margin}/**\n", f"{margin} * ", f"\n{margin} */\n"


def _outer(node: Node) -> Node:
    """The function with what stands before it as part of the same declaration."""
    while node.parent is not None and node.parent.type in ("export_statement", "template_declaration"):
        node = node.parent
    return node


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _heads(tree: Parsed) -> Iterator[str]:
    for node in _walk(tree.tree.root_node):
        body = node.child_by_field_name("body")
        if node.type in _FUNCTIONS and body is not None:
            yield " ".join(tree.raw[node.start_byte : body.start_byte].decode("utf-8", "replace").split())


def _comments(tree: Parsed) -> Iterator[str]:
    for node in _walk(tree.tree.root_node):
        if node.type in _COMMENTS:
            yield text_of(tree, node).strip()
