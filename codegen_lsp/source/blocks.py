"""Beginnings and ends of blocks, judged by single lines of text and by indentation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codegen_lsp.source.brackets import CLOSERS, code_of, scan
from codegen_lsp.source.languages import Language

HEADER_LINES = 30
"""Most lines over which the head of a block (a long signature) is followed upwards."""

_PYTHON_OPENER = re.compile(
    r"\s*(?:(?:async\s+)?(?:def|class|if|elif|else|for|while|try|except|finally|with|match|case)\b.*|[)\]].*):$"
)
_CASE_LABEL = re.compile(r"\s*(?:case\b.*|default\s*):$")
_WORD_OPENER = re.compile(r".*\b(?:do|then|else|repeat|begin)(?:\s*\|[^|]*\|)?$|\s*(?:def|class|module|function)\b.*")
_LITERAL_OPENER = re.compile(r"(?:^|[=:(,\[{]|\breturn|\byield|\bin)\s*[\[{]$")
_PYTHON_CONTINUATION = re.compile(r"\s*(?:[)\]}]|(?:elif|else|except|finally)\b)")
_BRACES_CONTINUATION = re.compile(
    r"\s*(?:[)\]}]|(?:else|catch|finally)\b|(?:case\b.*|default\s*|public\s*|private\s*|protected\s*):)"
)
_WORD_CONTINUATION = re.compile(r"\s*(?:[)\]}]|(?:else|elsif|elif|elseif|rescue|ensure|when|end|fi|done|then|esac)\b)")

_WITHOUT_SEMICOLONS = ("tree_sitter_go", "tree_sitter_javascript")
_UNFINISHED = (",", "(", "[", "{", "=", "+", "-", "*", "/", "%", "&", "|", "<", ">", ".", "?", ":")
_HEAD = re.compile(r"\s*(?:\}\s*)?(?:if|for|while|switch|else|do|try|catch)\b")


def opens_block(line: str, language: Language) -> bool:
    """Return true if a block of statements, or a literal over several lines, begins after this line."""
    code = code_of(line, language)
    if language.is_python:
        return bool(_PYTHON_OPENER.match(code) or _LITERAL_OPENER.search(code)) or _ends_signature(code, language)
    if language.braces:
        return code.endswith("{") or bool(_CASE_LABEL.match(code) or _LITERAL_OPENER.search(code))
    return bool(_WORD_OPENER.match(code))


def head_of(line: str, above: Sequence[str], language: Language) -> str:
    """Return the first line of the statement that ends with `line`; for a long signature, the line with the name."""
    missing = _unmatched_round(line, language)
    for higher in reversed(above[-HEADER_LINES:]):
        if missing <= 0:
            break
        read = scan(higher, language)
        missing += _unmatched_round(higher, language) - sum(symbol in "([" for symbol in read.open)
        line = higher
    return line


def continues_statement(line: str, language: Language) -> bool:
    """Return true for a line that belongs to the statement before it without a deeper indentation: `}`, `else`,
    `except`."""
    if language.is_python:
        return bool(_PYTHON_CONTINUATION.match(line))
    return bool((_BRACES_CONTINUATION if language.braces else _WORD_CONTINUATION).match(line))


def ends_statement(line: str, language: Language) -> bool:
    """Return true if the line ends a statement, so that the next can't be indented deeper than it."""
    code = code_of(line, language)
    if language.is_python:
        return not code.endswith("\\")
    if language.grammar in _WITHOUT_SEMICOLONS:
        return bool(code) and not code.endswith(_UNFINISHED) and not is_head(code)
    return code.endswith((";", "}"))


def is_head(code: str) -> bool:
    """Return true if code without comments begins with a keyword that a statement must follow, and has no body."""
    return bool(_HEAD.match(code)) and not code.endswith((";", "}"))


def only_closers(line: str) -> bool:
    """Return true if the line consists of closing brackets and the punctuation that follows them."""
    stripped = line.strip().rstrip(",;")
    return stripped != "" and all(character in CLOSERS for character in stripped)


def is_comment(line: str, language: Language) -> bool:
    """Return true if the line consists of a comment, or of the end of one."""
    if not line.strip():
        return False
    if (
        language.block_comment
        and line.rstrip().endswith(language.block_comment[1])
        and _only_ends_comment(line, language)
    ):
        return True
    return not code_of(line, language)


def _only_ends_comment(line: str, language: Language) -> bool:
    opening = language.block_comment[0] if language.block_comment else ""
    return line.lstrip().startswith(("*", opening)) and opening not in line.lstrip()[1:]


def _ends_signature(code: str, language: Language) -> bool:
    """Return true for the last line of a Python signature with aligned parameters, such as ` b: int) -> str:`."""
    return code.endswith(":") and _unmatched_round(code, language) > 0


def _unmatched_round(line: str, language: Language) -> int:
    return sum(line[at] in ")]" for at in scan(line, language).unmatched)
