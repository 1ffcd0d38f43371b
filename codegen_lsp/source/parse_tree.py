"""Parse trees of source by tree-sitter: definitions, strings and comments, and places that do not parse.

There are grammars for the six languages that CodeGen was trained on. For any other language, and for a text that is too
long or too broken to parse in good time, there is no tree, and callers judge by single lines. The time of a parse is
limited in the parser's own steps, so that the same text always gives the same answer. A single step can take long as
well, so there is a limit of processor time, and a text with many tokens is first tried in another process (`trial`).
Only texts made for it fail there; others like them are then not tried for a while. The trees of the last few texts are
kept, since one text is looked at for several reasons while the user types.

Grammars are loaded on first use, since a server must answer before that. Every function may be called from any thread.
"""

from __future__ import annotations

import importlib
import math
import re
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache, partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from attrs import frozen

from codegen_lsp.source import trial
from codegen_lsp.source.languages import Language

if TYPE_CHECKING:
    from tree_sitter import Language as Grammar
    from tree_sitter import Node, Parser, Tree

LONGEST = 400_000
"""Characters (about 8,000 lines) beyond which a text is not parsed."""
LEAST_STEPS = 500
BYTES_PER_STEP = 40
"""A parse is given up after `LEAST_STEPS` steps and one more per `BYTES_PER_STEP` bytes. Valid source takes one step
per 200 to 500 bytes; unclosed brackets take up to a millisecond for each."""
PARSE_SECONDS = 0.5
EDIT_SECONDS = 0.1
"""Processor time of a parse, and of one after an edit. 400,000 characters of valid source take 0.03 to 0.1."""
SUSPICIOUS_STEPS = 80
SUSPICIOUS_BYTES_PER_STEP = 150
"""A text that takes more and smaller steps is tried in another process first: after 80 steps the last one may take a
second, after 400 a minute. One file in 40 of Python's standard library is suspicious (long tables)."""
RETRY_SECONDS = 300.0
"""Wall time before a text is tried again that resembles one that took too long."""
ALIKE = 0.9
"""Share of two texts, at their start and their end, from which they resemble each other."""
MAX_BARE_CONTINUATIONS = 1_000
"""Lines of Python with nothing but a backslash. Each step of the scanner looks at all that follow."""
MANY_ERRORS = 64
"""Places that do not parse are counted up to this number."""

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
    """A text and its tree. Offsets are code points of the text unless bytes of the tree are named."""

    text: str
    language: Language
    raw: bytes
    """The text in UTF-8, whose bytes the tree counts."""
    tree: Tree

    def byte(self, offset: int) -> int:
        """Return the byte at which a code point begins."""
        if len(self.raw) == len(self.text):
            return offset
        return len(_encoded(self.text[:offset]))

    def offset(self, byte: int) -> int:
        """Return the code point that begins at a byte."""
        if len(self.raw) == len(self.text):
            return byte
        return len(self.raw[:byte].decode("utf-8", "surrogatepass" if _whole(self.raw, byte) else "replace"))


def parsed(text: str, language: Language) -> ParseTree | None:
    """Return the tree of a text; None if there is no grammar for the language, or if the text takes too long to
    parse."""
    if language.grammar is None or len(text) > LONGEST or _resembles(text, language, _slow, RETRY_SECONDS):
        return None
    return _parsed(text, language)


def edited(source: ParseTree, start: int, end: int, insert: str) -> ParseTree | None:
    """Return the tree of the text with `text[start:end]` replaced; only the surroundings of the edit are parsed
    again."""
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
    made = _run(raw, source.language, tree, EDIT_SECONDS)
    return None if made is None else ParseTree(text, source.language, raw, made)


def errors(source: ParseTree) -> int:
    """Return the number of places that do not parse, at most `MANY_ERRORS`."""
    return sum(1 for _ in zip(range(MANY_ERRORS), _broken(source.tree.root_node), strict=False))


def first_error(source: ParseTree, start: int, end: int) -> int | None:
    """Return the offset of the first place between two offsets that does not parse; None if there is none."""
    first, last = source.byte(start), source.byte(end)
    found = [node.start_byte for node in _broken(source.tree.root_node) if node.end_byte >= first]
    found = [at for at in found if first <= at <= last]
    return source.offset(min(found)) if found else None


def node_at(source: ParseTree, start: int, end: int) -> Node | None:
    """Return the smallest node that spans `text[start:end]`."""
    return source.tree.root_node.descendant_for_byte_range(source.byte(start), source.byte(end))


def ancestors(source: ParseTree, offset: int) -> list[tuple[str, int]]:
    """Return the kind and the start of each node around a character, innermost first, without the root."""
    node = node_at(source, offset, offset + 1)
    found: list[tuple[str, int]] = []
    while node is not None and node.parent is not None:
        found.append((node.type, source.offset(node.start_byte)))
        node = node.parent
    return found


def occurrences(source: ParseTree, word: str) -> Iterator[Node]:
    """Yield the smallest node that spans each occurrence of a word, in order."""
    needle = _encoded(word)
    for match in re.finditer(rb"(?<!\w)" + re.escape(needle) + rb"(?!\w)", source.raw):
        node = source.tree.root_node.descendant_for_byte_range(match.start(), match.end())
        if node is not None:
            yield node


def text_of(source: ParseTree, node: Node) -> str:
    """Return the text that a node spans."""
    return source.raw[node.start_byte : node.end_byte].decode("utf-8", "replace")


def in_text(source: ParseTree, offset: int) -> bool:
    """Return true if the character before the offset is in a string or a comment, but not in code embedded in a
    string."""
    node = node_at(source, max(0, offset - 1), offset)
    while node is not None:
        if node.type in _CODE_IN_TEXTS:
            return False
        if node.type in _TEXTS:
            return True
        node = node.parent
    return False


def block_start(source: ParseTree, first: int, last: int) -> int | None:
    """Return the offset of the outermost definition, or else statement, whose own line starts in `text[first:last]`.

    None when only parts of a statement or of a string begin there.
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
    """Return the start of the outermost statement that contains an offset or ends before it."""
    return source.offset(_last_start(source, source.tree.root_node, source.byte(offset)) or 0)


def member_start(source: ParseTree, offset: int) -> int:
    """Return the start of the member of the innermost class around an offset; outside of classes, of the outermost
    statement.

    Python only.
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
    """Return the start of a node's last child that is first on its line and begins before a byte; comments do not
    count."""
    starts = [child.start_byte for child in parent.children if child.start_byte < byte and child.type != "comment"]
    return next((at for at in reversed(starts) if not source.raw[_line_start(source.raw, at) : at].strip()), None)


def _begins(source: ParseTree, node: Node, low: int) -> bool:
    """Return true for a node that is first on its line, begins at or after byte `low`, and can begin a text."""
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
    """Return the first of the comments directly above a node; the node if there are none."""
    above = node.prev_sibling
    while above is not None and above.type in ("comment", "line_comment", "block_comment"):
        if _line_start(raw, above.start_byte) < low or above.end_point.row < node.start_point.row - 1:
            break
        if above.prev_sibling is not None and above.prev_sibling.end_point.row == above.start_point.row:
            break
        node, above = above, above.prev_sibling
    return node


def _broken(root: Node) -> Iterator[Node]:
    """Yield the outermost error nodes and missing nodes."""
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
    if language.grammar == "tree_sitter_python" and _bare_continuations(raw) > MAX_BARE_CONTINUATIONS:
        return None
    try:
        tree = _run(raw, language, None, PARSE_SECONDS, tried=_resembles(text, language, _passed))
    except _SuspiciousTextError:
        assert language.grammar is not None
        passed = trial.passes(raw, language.grammar)
        (_passed if passed else _slow).append((time.monotonic(), language, text))
        tree = _run(raw, language, None, PARSE_SECONDS, tried=True) if passed else None
    return None if tree is None else ParseTree(text, language, raw, tree)


_slow: deque[tuple[float, Language, str]] = deque(maxlen=4)
_passed: deque[tuple[float, Language, str]] = deque(maxlen=8)
"""The last texts that took too long, and those that did not in a trial: when, in which language, and which."""


class _SuspiciousTextError(Exception):
    """A text is to be tried in another process first."""


def _resembles(
    text: str, language: Language, known: Iterable[tuple[float, Language, str]], seconds: float = math.inf
) -> bool:
    """Return true if a text is mostly the same as a known one that is not older than this."""
    now = time.monotonic()
    return any(of == language and now - at < seconds and _alike(text, other) for at, of, other in tuple(known))


def _alike(one: str, other: str) -> bool:
    shorter, longer = sorted((len(one), len(other)))
    if shorter < ALIKE * longer:
        return False
    start = bisect_right(range(1, shorter + 1), False, key=lambda length: one[:length] != other[:length])
    end = bisect_right(range(1, shorter - start + 1), False, key=lambda length: one[-length:] != other[-length:])
    return start + end >= ALIKE * longer


def _bare_continuations(raw: bytes) -> int:
    """Return the largest number of lines in a row that have nothing but a backslash."""
    if raw.count(b"\\\n") + raw.count(b"\\\r") <= MAX_BARE_CONTINUATIONS:
        return 0
    return max(sum(1 for _ in lines) for _, lines in groupby(raw.split(b"\n"), lambda line: line.strip() == b"\\"))


def _run(raw: bytes, language: Language, old: Tree | None, seconds: float, *, tried: bool = True) -> Tree | None:
    """Parse a text; None after too many steps, or `seconds` of processor time.

    Raises: _SuspiciousTextError, unless the text was tried.
    """
    most = LEAST_STEPS + len(raw) // BYTES_PER_STEP
    end = time.thread_time() + seconds
    steps, suspicious = 0, False

    def is_too_long(byte: int, has_error: bool) -> bool:
        nonlocal steps, suspicious
        steps += 1
        suspicious = not tried and steps > SUSPICIOUS_STEPS and byte < steps * SUSPICIOUS_BYTES_PER_STEP
        return suspicious or steps > most or time.thread_time() > end

    assert language.grammar is not None
    parser = _parser(language.grammar)
    read = partial(_chunks().read, raw)
    try:
        if old is None:
            return parser.parse(read, encoding="utf8", progress_callback=is_too_long)
        return parser.parse(read, old, encoding="utf8", progress_callback=is_too_long)
    except ValueError:
        parser.reset()
        if suspicious:
            raise _SuspiciousTextError from None
        if time.thread_time() > end and old is None:
            _slow.append((time.monotonic(), language, raw.decode("utf-8", "surrogatepass")))
        return None


class _Chunks:
    """Hands a text to the parser in chunks.

    py-tree-sitter 0.26 never releases what `read` returns. So each chunk is copied to the same place, of which there is
    one view for each length; the parser asks again for what it needs later.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(CHUNK_BYTES)
        self._views: dict[int, memoryview] = {}

    def read(self, raw: bytes, byte: int, point: object) -> memoryview:
        """Return the chunk that begins at a byte; empty at the end."""
        chunk = raw[byte : byte + CHUNK_BYTES]
        self._buffer[: len(chunk)] = chunk
        if len(chunk) not in self._views:
            self._views[len(chunk)] = memoryview(self._buffer)[: len(chunk)]
        return self._views[len(chunk)]


CHUNK_BYTES = 8 * 1024


def _chunks() -> _Chunks:
    """Return this thread's chunks."""
    chunks: _Chunks | None = getattr(_parsers, "chunks", None)
    if chunks is None:
        chunks = _parsers.chunks = _Chunks()
    return chunks


_parsers = threading.local()
"""Parsers of this thread, by grammar. A parser calls back into Python while it works, which lets other threads run, and
it must not be entered twice."""


def _parser(grammar: str) -> Parser:
    """Return this thread's parser for a grammar."""
    import tree_sitter

    parsers: dict[str, Any] = vars(_parsers)
    if grammar not in parsers:
        parsers[grammar] = tree_sitter.Parser(_loaded(grammar))
    parser: Parser = parsers[grammar]
    return parser


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
