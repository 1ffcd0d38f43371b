"""Parse trees of source, by tree-sitter: where definitions begin, what a text is made of, where it does not parse.

The grammars are those of the six languages that CodeGen was trained on; for any other language, and for a text that is
too long or too broken to parse in good time, there is no tree, and who asks goes by single lines instead. How long a
parse may take is counted in the parser's own steps, not in seconds, so that the same text always gives the same answer.
A tree is kept for a few texts: while someone types, the same text is looked at for several reasons.

Grammars are loaded when a tree is first asked for; a server must answer before that.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from attrs import frozen

from codegen_lsp.source.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Node, Parser, Tree

LONGEST = 400_000
"""Characters (about 8,000 lines) beyond which a text is not parsed."""
LEAST_STEPS = 500
BYTES_PER_STEP = 40
"""A parse is given up after `LEAST_STEPS` and one step more for so many bytes. Source that is in order takes one for
200 to 500 bytes; brackets without end take up to a millisecond for each."""
MANY_ERRORS = 64
"""Places that do not parse are not counted beyond this."""

_DEFINITIONS = frozenset(
    {
        *("function_definition", "class_definition", "decorated_definition"),
        *("function_declaration", "generator_function_declaration", "class_declaration", "export_statement"),
        *("method_definition", "method_declaration", "constructor_declaration", "interface_declaration"),
        *("enum_declaration", "record_declaration", "annotation_type_declaration", "type_declaration"),
        *("struct_specifier", "class_specifier", "enum_specifier", "template_declaration", "namespace_definition"),
        *("lexical_declaration", "type_definition", "preproc_ifdef"),
    }
)
_TEXTS = frozenset(
    {
        *("string", "comment", "template_string", "string_literal", "char_literal", "raw_string_literal"),
        *("interpreted_string_literal", "rune_literal", "character_literal", "line_comment", "block_comment"),
        *("concatenated_string", "regex", "system_lib_string"),
    }
)
_CODE_IN_TEXTS = frozenset({"interpolation", "template_substitution"})


@frozen(eq=False)
class ParseTree:
    """A text and its tree. Offsets are code points of the text, wherever a tree's own bytes are not named."""

    text: str
    language: Language
    raw: bytes
    """The text in UTF-8, which the tree counts in."""
    tree: Tree

    def byte(self, offset: int) -> int:
        """The byte at which a code point begins."""
        if len(self.raw) == len(self.text):
            return offset
        return len(_encoded(self.text[:offset]))

    def offset(self, byte: int) -> int:
        """The code point that begins at a byte."""
        if len(self.raw) == len(self.text):
            return byte
        return len(self.raw[:byte].decode("utf-8", "surrogatepass" if _whole(self.raw, byte) else "replace"))


def parsed(text: str, language: Language) -> ParseTree | None:
    """The tree of a text; None where there is no grammar for the language, or the text takes too long."""
    if language.grammar is None or len(text) > LONGEST:
        return None
    return _parsed(text, language)


def edited(source: ParseTree, start: int, end: int, insert: str) -> ParseTree | None:
    """The tree of the text with `text[start:end]` replaced. Only what the edit concerns is parsed anew."""
    text = source.text[:start] + insert + source.text[end:]
    if len(text) > LONGEST:
        return None
    first, last, put = source.byte(start), source.byte(end), _encoded(insert)
    raw = source.raw[:first] + put + source.raw[last:]
    tree = source.tree.copy()
    tree.edit(
        first,
        last,
        first + len(put),
        _point(source.raw, first),
        _point(source.raw, last),
        _point(raw, first + len(put)),
    )
    made = _run(raw, source.language, tree)
    return None if made is None else ParseTree(text, source.language, raw, made)


def errors(source: ParseTree) -> int:
    """How many places do not parse, at most `MANY_ERRORS`."""
    return sum(1 for _ in zip(range(MANY_ERRORS), _broken(source.tree.root_node), strict=False))


def first_error(source: ParseTree, start: int, end: int) -> int | None:
    """Where between two offsets the first place begins that does not parse."""
    first, last = source.byte(start), source.byte(end)
    found = [node.start_byte for node in _broken(source.tree.root_node) if node.end_byte >= first]
    found = [at for at in found if first <= at <= last]
    return source.offset(min(found)) if found else None


def node_at(source: ParseTree, start: int, end: int) -> Node | None:
    """The smallest node that spans `text[start:end]`."""
    return source.tree.root_node.descendant_for_byte_range(source.byte(start), source.byte(end))


def occurrences(source: ParseTree, word: str) -> Iterator[Node]:
    """The smallest nodes that span each occurrence of a word, in their order."""
    needle = _encoded(word)
    for match in re.finditer(rb"(?<!\w)" + re.escape(needle) + rb"(?!\w)", source.raw):
        node = source.tree.root_node.descendant_for_byte_range(match.start(), match.end())
        if node is not None:
            yield node


def text_of(source: ParseTree, node: Node) -> str:
    """The text that a node spans."""
    return source.raw[node.start_byte : node.end_byte].decode("utf-8", "replace")


def in_text(source: ParseTree, offset: int) -> bool:
    """Whether the character before the offset belongs to a string or a comment, and is no code put into a string."""
    node = node_at(source, max(0, offset - 1), offset)
    while node is not None:
        if node.type in _CODE_IN_TEXTS:
            return False
        if node.type in _TEXTS:
            return True
        node = node.parent
    return False


def block_start(source: ParseTree, first: int, last: int) -> int | None:
    """Where the outermost definition or else statement begins whose own line starts in `text[first:last]`.

    None when all that begins there are parts of a statement, or of a string.
    """
    low, high = source.byte(first), source.byte(last)
    node: Node | None = source.tree.root_node
    while node is not None:
        starts = [child for child in node.children if low <= child.start_byte < high and _begins(source, child, low)]
        if starts:
            chosen = next((child for child in starts if child.type in _DEFINITIONS), starts[0])
            return source.offset(_line_start(source.raw, _with_comments(source.raw, chosen, low).start_byte))
        inside = (child for child in node.children if child.start_byte < high and child.end_byte > low)
        node = next((child for child in inside if child.child_count), None)
    return None


def statement_start(source: ParseTree, offset: int) -> int:
    """Where the statement of the outer level begins that stands before an offset, or in which it lies."""
    return source.offset(_last_start(source, source.tree.root_node, source.byte(offset)) or 0)


def member_start(source: ParseTree, offset: int) -> int:
    """The same for the innermost class around the offset: where the member begins; the statement outside of classes.

    On Python only.
    """
    byte = source.byte(offset)
    start, node = 0, source.tree.root_node
    while True:
        found = _last_start(source, node, byte)
        if found is None:
            return source.offset(start)
        start = _line_start(source.raw, found)
        child = next(child for child in node.children if child.start_byte == found)
        if child.type == "decorated_definition":
            child = child.child_by_field_name("definition") or child
        body = child.child_by_field_name("body")
        if child.type != "class_definition" or body is None:
            return source.offset(start)
        node = body


def _last_start(source: ParseTree, parent: Node, byte: int) -> int | None:
    """Where the last child of a node begins that is the first of its line and begins before a byte; no comment."""
    starts = [child.start_byte for child in parent.children if child.start_byte < byte and child.type != "comment"]
    return next((at for at in reversed(starts) if not source.raw[_line_start(source.raw, at) : at].strip()), None)


def _begins(source: ParseTree, node: Node, low: int) -> bool:
    """Whether a node is the first of its line, which starts behind a byte, and can stand at the beginning of a text."""
    start = _line_start(source.raw, node.start_byte)
    if (
        start < low
        or source.raw[start : node.start_byte].strip()
        or not node.is_named
        or node.type == "comment"
        or node.parent is None
    ):
        return False
    return node.type.endswith(_STATEMENTS) or node.type in _DEFINITIONS


_STATEMENTS = ("_statement", "_declaration", "_definition", "preproc_include", "preproc_def", "declaration")


def _with_comments(raw: bytes, node: Node, low: int) -> Node:
    """The first of the comments that stand directly above a node, or the node."""
    above = node.prev_sibling
    while above is not None and above.type in ("comment", "line_comment", "block_comment"):
        if _line_start(raw, above.start_byte) < low or above.end_point.row < node.start_point.row - 1:
            break
        if above.prev_sibling is not None and above.prev_sibling.end_point.row == above.start_point.row:
            break
        node, above = above, above.prev_sibling
    return node


def _broken(root: Node) -> Iterator[Node]:
    """The nodes that stand for what the grammar does not have, outermost only."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.is_error or node.is_missing:
            yield node
        elif node.has_error:
            stack.extend(reversed(node.children))


@lru_cache(maxsize=6)
def _parsed(text: str, language: Language) -> ParseTree | None:
    raw = _encoded(text)
    tree = _run(raw, language, None)
    return None if tree is None else ParseTree(text, language, raw, tree)


def _run(raw: bytes, language: Language, old: Tree | None) -> Tree | None:
    steps = LEAST_STEPS + len(raw) // BYTES_PER_STEP

    # The binding keeps what it is given to read for good (0.26): a text for each parse. Of a view that was released
    # only the shell is left, and one that reaches to the end is seldom asked for twice.
    views: list[memoryview] = []

    def read(byte: int, point: object) -> memoryview:
        views.append(memoryview(raw)[byte:])
        return views[-1]

    def is_too_long(byte: int, has_error: bool) -> bool:
        nonlocal steps
        steps -= 1
        return steps < 0

    assert language.grammar is not None
    parser = _parser(language.grammar)
    try:
        if old is None:
            return parser.parse(read, encoding="utf8", progress_callback=is_too_long)
        return parser.parse(read, old, encoding="utf8", progress_callback=is_too_long)
    except ValueError:
        parser.reset()
        return None
    finally:
        for view in views:
            view.release()


_parsers = threading.local()
"""Parsers of this thread, by grammar. A parser calls back into Python while it works, which lets other threads run, and
it must not be entered twice."""


def _parser(grammar: str) -> Parser:
    """Return this thread's parser for a grammar."""
    import tree_sitter

    parsers: dict[str, Parser] = vars(_parsers)
    if grammar not in parsers:
        parsers[grammar] = tree_sitter.Parser(_loaded(grammar))
    return parsers[grammar]


@cache
def _loaded(grammar: str) -> Grammar:
    import tree_sitter

    return tree_sitter.Language(importlib.import_module(grammar).language())


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _whole(raw: bytes, byte: int) -> bool:
    return byte >= len(raw) or raw[byte] & 0xC0 != 0x80


def _line_start(raw: bytes, byte: int) -> int:
    return raw.rfind(b"\n", 0, byte) + 1


def _point(raw: bytes, byte: int) -> tuple[int, int]:
    return raw.count(b"\n", 0, byte), byte - _line_start(raw, byte)
