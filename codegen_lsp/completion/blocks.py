"""Where blocks begin and end, judged by the text of single lines and by indentation."""

from __future__ import annotations

import re
from collections.abc import Sequence

from codegen_lsp.completion.brackets import CLOSERS, PAIRS, code_of
from codegen_lsp.completion.indentation import columns
from codegen_lsp.completion.languages import Language

_PYTHON_OPENER = re.compile(
    r"\s*(?:(?:async\s+)?(?:def|class|if|elif|else|for|while|try|except|finally|with|match|case)\b.*|\).*):$"
)
_CASE_LABEL = re.compile(r"\s*(?:case\b.*|default\s*):$")
_WORD_OPENER = re.compile(r".*\b(?:do|then|else|repeat|begin)(?:\s*\|[^|]*\|)?$|\s*(?:def|class|module|function)\b.*")
_CONTINUATION = re.compile(
    r"\s*(?:[)\]}]|(?:elif|else|except|finally|catch|case|default|public|private|protected|end|fi|done|then)\b)"
)
_LITERAL_OPENER = re.compile(r"(?:^|[=:(,\[{]|\breturn|\byield|\bin)\s*[\[{]$")


def opens_block(line: str, language: Language) -> bool:
    """Whether a block of statements, or a literal over several lines, begins after this line."""
    code = code_of(line, language)
    if language.name == "Python":
        return bool(_PYTHON_OPENER.match(code) or _LITERAL_OPENER.search(code))
    if language.braces:
        return code.endswith("{") or bool(_CASE_LABEL.match(code) or _LITERAL_OPENER.search(code))
    return bool(_WORD_OPENER.match(code))


def closer_of(line: str, language: Language) -> str:
    """The bracket that ends the block or literal which this line opens; empty when indentation alone ends it."""
    code = code_of(line, language)
    return PAIRS.get(code[-1:], "")


def continues_block(line: str) -> bool:
    """Whether the line belongs to the statement before it although it is indented no deeper: `}`, `else`, `except`."""
    return bool(_CONTINUATION.match(line))


def only_closers(line: str) -> bool:
    """Whether the line holds nothing but closing brackets and the punctuation that follows them."""
    stripped = line.strip().rstrip(",;")
    return stripped != "" and all(character in CLOSERS for character in stripped)


def is_comment(line: str, language: Language) -> bool:
    """Whether the line holds nothing but a comment."""
    stripped = line.lstrip()
    if language.line_comment and stripped.startswith(language.line_comment):
        return True
    return language.block_comment is not None and stripped.startswith((language.block_comment[0], "*"))


def has_body(opener: str, below: Sequence[str]) -> bool:
    """Whether the next line that is not blank is indented deeper than the opener: its block is not empty."""
    following = next((line for line in below if line.strip()), "")
    return columns(following) > columns(opener)
