"""Ends of lines that something must follow: keywords and operators without what they apply to."""

from __future__ import annotations

import re

from codegen_lsp.source.brackets import code_of, scan
from codegen_lsp.source.languages import Language

_PYTHON_KEYWORDS = (
    "and|as|assert|async|await|class|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|"
    "not|or|raise|return|try|while|with|yield"
)
"""Python's keywords but for the values (`None`) and the statements (`pass`) among them."""
_OTHER_KEYWORDS = (
    "abstract|and|async|await|case|catch|class|const|def|defer|delete|do|elif|else|elsif|enum|export|extends|extern|"
    "final|finally|for|from|func|function|goto|if|implements|import|in|instanceof|interface|let|local|namespace|new|"
    "not|of|or|package|private|protected|public|raise|range|return|select|static|struct|switch|template|throw|throws|"
    "try|type|typedef|typename|typeof|union|unless|until|using|var|while|yield"
)
"""Keywords of the other languages in the table that do not end a statement."""


def _pattern(keywords: str, operator: str) -> re.Pattern[str]:
    return re.compile(rf"(?:(?<![\w.$])(?:{keywords})|{operator})\Z")


_PYTHON = _pattern(_PYTHON_KEYWORDS, r"(?<!\bimport )[-+*/%&|^<>=!~@]|(?<!\.\.)\.")
_OTHER = _pattern(_OTHER_KEYWORDS, r"(?<!\+)\+|(?<!-)-|[*%&|^=!~<]|\s[/?]|[\s>-]>|=>|::|\.")


def ends_open(line: str, language: Language) -> bool:
    """Return true if the code of a line ends in a keyword or an operator that something must follow.

    A line that ends in a string or a comment does not.
    """
    code = code_of(line, language)
    if code != line.rstrip() or any(symbol in language.quotes for symbol in scan(code, language).open):
        return False
    return bool((_PYTHON if language.is_python else _OTHER).search(code))
