"""Programming languages, as a table: how comments, strings and blocks look in text, and how files are recognized.

The six languages that CodeGen was trained on are on by default and have a grammar; the others are here so that a user
can turn them on. A language that is turned on without being in the table is treated as text whose blocks show by
indentation and braces.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from attrs import field, frozen


@frozen
class Language:
    """One language's row of the table. The defaults are those of C's descendants."""

    identifier: str
    """LSP language identifier."""
    name: str
    """For people."""
    suffixes: tuple[str, ...] = ()
    """File name extensions, for files that no editor has identified."""
    grammar: str | None = field(default=None, kw_only=True)
    """Python module with the tree-sitter grammar."""
    default: bool = field(default=False, kw_only=True)
    """Suggestions are on unless the user turns them off."""
    line_comment: str | None = field(default="//", kw_only=True)
    """Opens a comment that ends with the line."""
    block_comment: tuple[str, str] | None = field(default=("/*", "*/"), kw_only=True)
    """Open and close a comment that may span lines."""
    quotes: tuple[str, ...] = field(default=('"', "'"), kw_only=True)
    """String delimiters, longer ones first."""
    long_quotes: frozenset[str] = field(default=frozenset(), kw_only=True)
    """Those of `quotes` whose strings may span lines."""
    braces: bool = field(default=True, kw_only=True)
    """Blocks are closed by `}`; otherwise they end where the indentation does."""
    preprocessor: bool = field(default=False, kw_only=True)
    """Lines that begin with `#` are for the C preprocessor."""
    annotations: bool = field(default=False, kw_only=True)
    """A line that begins with `@` announces a definition."""
    indent: str = field(default="    ", kw_only=True)
    """One level of indentation in a file that has none to copy."""
    top_level: tuple[str, ...] = field(default=(), kw_only=True)
    """Beginnings of lines that start another definition at the outermost level."""

    @property
    def is_python(self) -> bool:
        """True for Python, whose own parser is at hand."""
        return self.identifier == "python"


_BACKTICK: dict[str, Any] = {"quotes": ('"', "'", "`"), "long_quotes": frozenset({"`"})}
_HASH: dict[str, Any] = {"line_comment": "#", "block_comment": None}
_C: dict[str, Any] = {"grammar": "tree_sitter_c", "default": True, "preprocessor": True}
_CPP: dict[str, Any] = {"grammar": "tree_sitter_cpp", "default": True, "preprocessor": True}
_C_TOP_LEVEL = ("#include ", "#define ", "static ", "typedef ")
_JAVASCRIPT_TOP_LEVEL = ("function ", "class ", "export ", "async function ")
_JAVASCRIPT: dict[str, Any] = {
    **_BACKTICK,
    "grammar": "tree_sitter_javascript",
    "default": True,
    "indent": "  ",
    "top_level": _JAVASCRIPT_TOP_LEVEL,
}
_TYPESCRIPT: dict[str, Any] = {
    **_BACKTICK,
    "annotations": True,
    "indent": "  ",
    "top_level": (*_JAVASCRIPT_TOP_LEVEL, "interface ", "type "),
}

_TABLE = (
    Language(
        "python",
        "Python",
        (".py", ".pyi"),
        grammar="tree_sitter_python",
        default=True,
        line_comment="#",
        block_comment=None,
        quotes=('"""', "'''", '"', "'"),
        long_quotes=frozenset({'"""', "'''"}),
        braces=False,
        annotations=True,
        top_level=("def ", "class ", "async def ", "@", "if __name__"),
    ),
    Language("c", "C", (".c", ".h"), **_C, top_level=_C_TOP_LEVEL),
    Language(
        "cpp",
        "C++",
        (".cc", ".cpp", ".cxx", ".hh", ".hpp"),
        **_CPP,
        top_level=(*_C_TOP_LEVEL, "template", "namespace "),
    ),
    Language(
        "go",
        "Go",
        (".go",),
        **_BACKTICK,
        grammar="tree_sitter_go",
        default=True,
        indent="\t",
        top_level=("func ", "type ", "var ", "const "),
    ),
    Language(
        "java",
        "Java",
        (".java",),
        grammar="tree_sitter_java",
        default=True,
        annotations=True,
        top_level=("import ", "public class ", "class ", "interface "),
    ),
    Language("javascript", "JavaScript", (".js", ".cjs", ".mjs"), **_JAVASCRIPT),
    Language("javascriptreact", "JavaScript", (".jsx",), **_JAVASCRIPT),
    Language("typescript", "TypeScript", (".ts",), **_TYPESCRIPT),
    Language("typescriptreact", "TypeScript", (".tsx",), **_TYPESCRIPT),
    Language("csharp", "C#"),
    Language("cuda-cpp", "CUDA C++"),
    Language("objective-c", "Objective-C"),
    Language("kotlin", "Kotlin"),
    Language("scala", "Scala", indent="  "),
    Language("swift", "Swift"),
    Language("rust", "Rust", (".rs",), quotes=('"',), long_quotes=frozenset({'"'})),
    Language("php", "PHP", (".php",)),
    Language("ruby", "Ruby", (".rb",), **_HASH, braces=False, indent="  "),
    Language("lua", "Lua", (".lua",), line_comment="--", block_comment=None, braces=False, indent="  "),
    Language("r", "R", **_HASH, indent="  "),
    Language("julia", "Julia", **_HASH, quotes=('"""', '"'), long_quotes=frozenset({'"""'}), braces=False),
    Language("perl", "Perl", **_HASH),
    Language("shellscript", "Shell", (".sh",), **_HASH, long_quotes=frozenset({'"', "'"}), braces=False, indent="  "),
)

GENERIC = Language("plaintext", "text", line_comment=None, block_comment=None, quotes=('"',))
"""For a language that a user turned on and that is not in the table."""

LANGUAGES = {language.identifier: language for language in _TABLE}
"""By LSP language identifier."""

DEFAULT_LANGUAGES = frozenset(language.identifier for language in _TABLE if language.default)
"""Identifiers of the languages that are on by default."""

EVERY_LANGUAGE = "*"
"""In a set of identifiers: all of them."""

IDENTIFIER_OF_SUFFIX = {suffix: language.identifier for language in _TABLE for suffix in language.suffixes}
"""LSP language identifiers by file name extension."""


def language_of(identifier: str) -> Language:
    """Return the language with this LSP identifier; `GENERIC` for an unknown one."""
    return LANGUAGES.get(identifier, GENERIC)


def identifier_of(path: PurePath) -> str:
    """Return the LSP language identifier that a file's extension suggests; `plaintext` for an unknown one."""
    return IDENTIFIER_OF_SUFFIX.get(path.suffix.lower(), GENERIC.identifier)
